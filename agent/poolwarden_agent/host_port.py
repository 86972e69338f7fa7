"""Everything the host side asks of, or does to, the host: one small interface.

``Dom0`` (dom0.py) is its real implementation; a simulation may bring another one without files and sockets. Every call
ends within its own limit; results are plain values. Durable state goes through it too, so that a test can stop the host
side between any two writes.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from poolwarden.xapi_causes import Trouble
from poolwarden_agent.core.boot_gate import Told
from poolwarden_agent.core.findings import Seen
from poolwarden_agent.core.local_policy import ANY, LocalPolicy
from poolwarden_agent.core.memory import User
from poolwarden_agent.core.start_wish import StartWish
from poolwarden_agent.core.storage import Repository, Storage

Identity = NamedTuple(
    "Identity",
    [
        ("host", str),
        ("name", str),
        ("boot_id", str),
        ("system_uuid", str),
        ("system_serial", str),
        ("bmc_address", str),
        ("product_brand", str),
        ("product_version", str),
        ("xapi_version", str),
        ("board_serial", str),
        ("chassis_serial", str),
        ("bmc_guid", str),
        ("vendor", str),
        ("model", str),
    ],
)


class Disk(NamedTuple):
    """A file system of dom0, or a place that may lie on one of its own."""

    mount: str
    total_bytes: int
    free_bytes: int
    total_inodes: int
    free_inodes: int
    own_mount: bool
    read_only: bool = False


# outcome: answered, no answer (hung) or refused (down); flag: the emergency flag, None where it was not answered.
class Emergency(NamedTuple):
    """What the local socket said of the emergency flag; ``accepted`` False: it did not even take a connection.

    ``late_ms``: how long the answer took, where an earlier look had asked for it; 0: it came in time.
    """

    outcome: str
    flag: Optional[bool]
    code: str
    accepted: bool = True
    late_ms: int = 0


class PoolHost(NamedTuple):
    """A host as the serving master sees it."""

    host: str
    name: str
    address: str
    enabled: bool
    live: bool
    unplugged: Tuple[str, ...] = ()  # names of SRs whose PBD there is not attached
    default_unplugged: bool = False
    guidances: Tuple[str, ...] = ()  # what installed updates still need there, e.g. "reboot_host"
    https_only: Optional[bool] = None


class PoolView(NamedTuple):
    """The pool as the serving master sees it."""

    pool: str
    name: str
    master: str
    hosts: Tuple[PoolHost, ...]
    ha_enabled: Optional[bool]
    rolling_upgrade: Optional[bool]
    busy: Tuple[str, ...] = ()  # names of tasks that a restart of xapi would break
    storage: Tuple[Repository, ...] = ()


# outcome: done, failed or unknown (the call did not end within its limit).
Act = NamedTuple("Act", [("outcome", str), ("text", str)])
# What of a toolstack fence is there at this instant; text: what is not, for people.
Toolstack = NamedTuple("Toolstack", [("stopped", bool), ("ports_closed", bool), ("text", str)])
# A piece of a database file; sha256 is of the whole. text: why there is none.
DatabasePiece = NamedTuple(
    "DatabasePiece",
    [
        ("path", str),
        ("generation", int),
        ("total_bytes", int),
        ("offset", int),
        ("chunk", bytes),
        ("sha256", str),
        ("text", str),
    ],
)
# Where a VM could start: (host's UUID, xapi's refusal in words; empty: there). text: why nothing is known of it; its
# owner's wish is None then.
VmPlace = NamedTuple(
    "VmPlace",
    [
        ("vm", str),
        ("name", str),
        ("power_state", str),
        ("hosts", Tuple[Tuple[str, str], ...]),
        ("text", str),
        ("wish", Optional[StartWish]),
    ],
)
HTTP_PORT, TLS_PORT = 80, 443


class PinnedKey(NamedTuple):
    """An order key that this host has pinned: its public half and its name."""

    public: bytes
    key_id: str


class PinnedKeys(NamedTuple):
    """All of them, in the order in which they were pinned; ``trouble``: why they cannot be used, and none counts."""

    keys: Tuple[PinnedKey, ...]
    trouble: str

    @property
    def ids(self) -> Tuple[str, ...]:
        return tuple(each.key_id for each in self.keys)


NO_KEYS = PinnedKeys((), "")
# A run of a fence agent. ``code``: exit status, negative a signal; None: cut off, or (not started) never begun.
FenceRun = NamedTuple(
    "FenceRun",
    [("started", bool), ("code", Optional[int]), ("output", str), ("errors", str), ("text", str)],
)

# How this boot found the host: pool.conf, whether its xapi has been started in it, the other hosts of its pool by its
# database, the management link, the gateway (None: none is configured), and whether any host of the pool answers ARP or
# neighbour discovery (asked where there is no gateway).
BootFacts = NamedTuple(
    "BootFacts",
    [
        ("pool_conf", str),
        ("master", str),
        ("started", bool),
        ("peers", Tuple[str, ...]),
        ("peers_known", bool),
        ("link_up", bool),
        ("gateway", Optional[bool]),
        ("peer_heard", bool),
    ],
)


class HostPort(object):
    """The interface. All limits are milliseconds; all instants are this host's monotonic clock in milliseconds."""

    def mono_ms(self) -> int:
        raise NotImplementedError

    def identity(self) -> Identity:
        """Who this host is; the same for the whole boot."""
        raise NotImplementedError

    def capabilities(self) -> Tuple[str, ...]:
        """The kinds of orders that this host can carry out, of order_kinds.KNOWN, and IN_PLACE where it can do that."""
        raise NotImplementedError

    def look_at_assumptions(
        self, answers: Callable[[], Optional[bool]], placed: Callable[[], Optional[bool]], pids: Tuple[int, ...]
    ) -> Optional[Tuple[Dict[str, Seen], str]]:
        """What a look at this dom0 shows, by the assumptions' ids, and the release; None: it is not looked at here.

        ``answers``: does its xapi answer now; ``placed``: has this agent placed a database; None: not known.
        """
        return None

    def load_learned(self) -> bytes:
        """What was learned of assumptions and stored last; empty: nothing. :raises OSError: it cannot be read."""
        return b""

    def save_learned(self, data: bytes) -> None:
        """Store it. :raises OSError: it could not be; what was stored before stands."""

    def init_complete(self) -> bool:
        """Has the xapi that runs ended its start (/var/run/xapi_init_complete.cookie)?"""
        return False

    def log_end(self) -> Tuple[int, int]:
        """Where systemd's own lines end now, for ``exit_since``."""
        return 0, 0

    def exit_since(self, log: Tuple[int, int]) -> Tuple[str, str]:
        """How xapi's process ended since: ("exited", "123"), ("killed", "9/KILL"); empty: not known."""
        return "", ""

    def linked_to(self, address: str) -> Optional[bool]:
        """Is a connection to TCP 443 of this address established? None: not known."""
        return None

    def collectors(self) -> Tuple[str, ...]:
        """Where agent.conf says that collectors are, HOST:PORT each."""
        return ()

    def order_keys(self) -> PinnedKeys:
        """The order keys that are pinned now; NO_KEYS: none is."""
        return NO_KEYS

    def signature_fits(self, public: bytes, signature: bytes, data: bytes) -> bool:
        """Was this signature made over these bytes by the key with this public half (Ed25519)?"""
        raise NotImplementedError

    def local_policy(self) -> LocalPolicy:
        """This host's own rules, as they are now; a port without a policy.conf is bound by the order gate alone."""
        return LocalPolicy(fence_proxy=True, addresses=ANY, place_database=ANY, orders_per_hour=1000)

    def local_trouble(self) -> str:
        """What of its own files about that cannot be used, in one sentence; empty: nothing."""
        return self.order_keys().trouble

    def pool_hosts(self) -> Optional[Tuple[Tuple[str, str], ...]]:
        """(UUID, address) of every host of the database that would be loaded; None: it cannot be read."""
        return None

    def own_generation(self) -> int:
        """Of the database file that would be loaded if nothing were placed here; 0: there is none."""
        return self.generation()[1]

    def load_state(self) -> bytes:
        """The durable payload, empty if none was saved. :raises SlotError: it cannot be read."""
        raise NotImplementedError

    def state_remark(self) -> str:
        """What the last ``load_state`` has mended, or could not mend; empty: nothing was wrong."""
        return ""

    def save_state(self, payload: bytes) -> None:
        """Durable when it returns. :raises SlotError: it is not."""
        raise NotImplementedError

    def role(self) -> Tuple[str, str]:
        """pool.conf now: role and master address."""
        raise NotImplementedError

    def role_settled(self) -> bool:
        """Did the running xapi start after pool.conf was last written? Only then does it run that role."""
        raise NotImplementedError

    def ha_armed(self) -> Optional[bool]:
        raise NotImplementedError

    def process(self) -> Any:
        """xapi's process as a host_now.Process; NO_PROCESS if none runs."""
        raise NotImplementedError

    def process_age_ms(self) -> Optional[int]:
        raise NotImplementedError

    def startup_cookie(self) -> bool:
        """Has the xapi that runs come far enough to serve (/var/run/xapi_startup.cookie)?"""
        raise NotImplementedError

    def generation(self) -> Tuple[str, int]:
        """Path and generation of the database file that would be loaded; cheap."""
        raise NotImplementedError

    def database(self) -> Any:
        """That file, parsed, as a statedb.View; expensive, bounded."""
        raise NotImplementedError

    def disks(self) -> List[Disk]:
        raise NotImplementedError

    def look_for_fillers(self) -> Any:
        """Begin to look for what fills the disks: a dom0/filling.Filling; None: it cannot be looked for."""
        return None

    def xapi_trouble(self, ended_pid: int, running: bool) -> Optional[Trouble]:
        """Why xapi is not there (``running`` False), or not up; None: it is not looked at here.

        ``ended_pid``: of the process whose end is asked about; 0: not known.
        """
        return None

    def capsules(self) -> Any:
        """Where evidence capsules are kept, a dom0/evidence/folder.CapsuleFolder; None: none are kept here."""
        return None

    def hands_over(self) -> bool:
        """May capsules leave this host for its collector?"""
        return False

    def storage(self) -> Optional[Storage]:
        """What of this host's storage hangs; never waits for it. None: it is not looked at here."""
        return None

    def surroundings(self) -> Any:
        """What surrounds xapi, as a surroundings.Surroundings; None: it is not looked at here."""
        return None

    def wall_ms(self) -> int:
        """This host's wall clock, for people alone; 0: it is not told."""
        return 0

    def database_written_s(self) -> int:
        """When the database file that would be loaded was last written, by that clock; 0: not known."""
        return 0

    def memory(self) -> Tuple[int, int]:
        """Total and available bytes."""
        raise NotImplementedError

    def memory_users(self) -> Tuple[User, ...]:
        """The processes that use most memory, the biggest first, at most five; reads proc alone."""
        return ()

    def domains(self) -> Optional[List[str]]:
        """UUIDs of running domains without domain 0; None: not known."""
        raise NotImplementedError

    def management_address(self) -> str:
        raise NotImplementedError

    def alive_local(self, limit_ms: int) -> Any:
        """Does the own xapi answer on its local TCP port? A judge.ProbeResult."""
        raise NotImplementedError

    def alive_peer(self, address: str, limit_ms: int, port: int = TLS_PORT) -> Any:
        """Does a peer's xapi answer, over TLS or on HTTP_PORT in the clear? A judge.ProbeResult."""
        raise NotImplementedError

    def boot_facts(self) -> Optional[BootFacts]:
        """How this boot found the host; None where nothing holds xapi back at boot."""
        return None

    def let_wait(self) -> str:
        """Why a collector let this boot's gate wait when one was last heard, whichever it was; empty: none did."""
        return ""

    def note_let_wait(self, why: str) -> None:
        """Remember that for this boot, over restarts of the agent; empty: it lets it wait no more.

        :raises OSError: it cannot be noted.
        """

    def ask_role(self, address: str, limit_ms: int) -> Told:
        """Ask a host over TCP 443 and 80 whose member it is, within twice the limit; DB-free calls."""
        raise NotImplementedError

    def ask_roles(self, addresses: Sequence[str], limit_ms: int) -> Dict[str, Told]:
        """The same of several hosts, at the same time where the port can do that."""
        return {address: self.ask_role(address, limit_ms) for address in sorted(set(addresses))}

    def running_master(self, limit_ms: int) -> str:
        """The master that the own *running member* xapi names; empty if it does not say. Never asked of a master."""
        raise NotImplementedError

    def emergency(self, limit_ms: int) -> Emergency:
        raise NotImplementedError

    def pool_view(self, limit_ms: int) -> Optional[PoolView]:
        """The pool through the own session; only ever asked where the running xapi is settled as master."""
        raise NotImplementedError

    def promote(self, limit_ms: int) -> Act:
        raise NotImplementedError

    def repoint(self, address: str, limit_ms: int) -> Act:
        raise NotImplementedError

    def restart_xapi(self, limit_ms: int) -> Act:
        raise NotImplementedError

    def write_member_conf(self, address: str) -> str:
        """Make pool.conf ``slave:<address>``; empty on success, else why not."""
        raise NotImplementedError

    def stop_toolstack(self, limit_ms: int) -> Act:
        """Stop xapi and whatever acts as storage master, and keep them stopped; VMs run on."""
        raise NotImplementedError

    def start_toolstack(self, limit_ms: int) -> Act:
        """Let them start again, and start them. Done: a xapi process is there."""
        raise NotImplementedError

    def hold_gc(self, limit_ms: int) -> Act:
        """End storage's garbage collection on this host and let none begin until the next boot or ``release_gc``."""
        raise NotImplementedError

    def release_gc(self, limit_ms: int) -> Act:
        """Let it begin again."""
        raise NotImplementedError

    def toolstack(self) -> Toolstack:
        """What of the toolstack is stopped, looked at now."""
        raise NotImplementedError

    def read_database(self, path: str, offset: int, limit: int) -> DatabasePiece:
        """At most ``limit`` bytes of the database file that would be loaded (empty path), or of ``path``."""
        raise NotImplementedError

    def restore_generation(self) -> Optional[int]:
        """The generation of the restore_db.db that is there; None: there is none."""
        raise NotImplementedError

    def place_piece(self, piece: Any, chunk: bytes, pool: str) -> Act:
        """Add a Piece; with the last one the whole is verified and takes restore_db.db's name, durably.

        ``pool``: whose database it must be.
        """
        raise NotImplementedError

    def remove_placed(self) -> Act:
        """Delete restore_db.db, its generation and what is half placed."""
        raise NotImplementedError

    def fence_agents(self) -> Tuple[str, ...]:
        """Names of the fence agents that this host's own configuration allows and that are there."""
        return ()

    def run_fence(self, name: str, given: bytes, limit_ms: int, secrets: Sequence[str]) -> FenceRun:
        """Run one of them with this on its stdin; returns after at most the limit and three seconds.

        ``secrets``: values that must not appear in what it prints.
        """
        raise NotImplementedError

    def identify_device(
        self, name: str, parameters: Dict[str, str], limit_ms: int, thorough: bool, secrets: Sequence[str]
    ) -> FenceRun:
        """Ask a device which machine it switches, in the way of this fence agent's kind.

        Exit status 0 and ``uuid=`` and ``serial=`` lines; thorough: its inventory, too.
        """
        raise NotImplementedError

    def serve(self, order: Any, limit_ms: int, late: Callable[[], str]) -> Act:
        """Carry out an order of order_kinds.SERVING through the own session; only ever on a serving master.

        ``late``: asked right before what changes something: why that must not begin any more; empty: it may.
        """
        raise NotImplementedError

    def show_message(self, order: Any, look: bool, limit_ms: int) -> Act:
        """Show the order's message in the own pool through the own session; only ever on a serving master.

        ``look``: done without another call where xapi's list of the last day has one with this key already.
        """
        raise NotImplementedError

    def locate_vms(self, vms: List[str], limit_ms: int) -> List[VmPlace]:
        """Where each of these VMs could start, as far as it can be learnt within the limit; on a serving master."""
        raise NotImplementedError
