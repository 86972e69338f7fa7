"""A modelled pool that runs, for the tests of the model."""

from poolwarden_lab.xapi.actions import Answer, PeerResult
from poolwarden_lab.xapi.trees import VmSpec
from poolwarden_lab.xapi.virtual import VirtualPool

VMS = (VmSpec("web", 0), VmSpec("db", 1), VmSpec("mail", 2), VmSpec("spare", None))
UP_MS = 60_000


def running_pool(n: int = 3, **options: object) -> VirtualPool:
    """Everybody up and enabled at UP_MS."""
    options.setdefault("vms", VMS if n >= 3 else ())
    pool = VirtualPool(n, **options)  # type: ignore[arg-type]
    pool.power_on_all()
    pool.run_until(UP_MS)
    return pool


def on_unix(pool: VirtualPool, host: str, method: str, *params: object) -> PeerResult:
    """What a call says that needs no time."""
    return pool.call_now(host, "unix", method, (pool.local_session(host), *params))


def wait_for(pool: VirtualPool, host: str, method: str, *params: object, limit_ms: int = 600_000) -> PeerResult:
    """What a call says in the end."""
    replies: list[PeerResult] = []
    pool.call(host, "unix", method, (pool.local_session(host), *params), replies.append)
    pool.run_while(lambda: not replies, pool.now + limit_ms)
    return replies[0]


def lab_call(pool: VirtualPool, method: str, *params: object) -> object:
    """The value of a call to the master h1, after the time it needs."""
    result = wait_for(pool, "h1", method, *params)
    assert isinstance(result, Answer), result
    return result.value


def promote(pool: VirtualPool, host: str) -> None:
    assert on_unix(pool, host, "pool.emergency_transition_to_master") == Answer("")


def repoint(pool: VirtualPool, host: str, master: str) -> None:
    assert on_unix(pool, host, "pool.emergency_reset_master", pool.hosts[master].address) == Answer("")


def ref_of(pool: VirtualPool, host: str, kind: str, uuid: str) -> str:
    """The reference that the master `host` has for a uuid."""
    found = on_unix(pool, host, f"{kind}.get_by_uuid", uuid)
    assert isinstance(found, Answer), found
    return str(found.value)
