"""Rough handling: whatever is called or broken, in whatever order, the model answers or blocks, and never breaks."""

import random

import pytest

from poolwarden_lab.xapi.actions import Answer
from poolwarden_lab.xapi.trees import VmSpec
from poolwarden_lab.xapi.virtual import VirtualPool

VMS = (VmSpec("web", 0), VmSpec("db", 1), VmSpec("mail", 2))


@pytest.mark.parametrize("host", ["h1", "h2"])
def test_every_message_takes_every_kind_of_parameter(host: str) -> None:
    pool = VirtualPool(2)
    pool.power_on_all()
    pool.run_until(60_000)
    listed = pool.call_now("h1", "tcp", "system.listMethods")
    assert isinstance(listed, Answer) and isinstance(listed.value, list)
    junk: list[object] = ["", "OpaqueRef:NULL", True, {"a": "b"}, ["x"], "x" * 1000]
    for method in [*listed.value, "no.such", "nonsense", "", "system.isAlive:"]:
        if method == "host.shutdown_agent":
            continue
        for count in range(5):
            for first in (pool.local_session(host), pool.hosts["h1"].model.secret, "junk"):  # type: ignore[union-attr]
                for door in ("unix", "tcp"):
                    pool.call_now(host, door, str(method), (first, *junk[:count]))  # type: ignore[arg-type]
        if pool.hosts[host].model is not None and pool.hosts[host].model.fuse_lit:  # type: ignore[union-attr]
            pool.kill_xapi(host)
        pool.hosts[host].disk.write(
            "etc/xensource/pool.conf", b"master" if host == "h1" else f"slave:{pool.hosts['h1'].address}".encode()
        )
        pool.run_until(pool.now + 60_000)
    pool.run_until(pool.now + 600_000)


def _mishap(pool: VirtualPool, rng: random.Random, promoted: set[str]) -> None:
    name, other = rng.sample(sorted(pool.hosts), 2)
    host = pool.hosts[name]
    kind = rng.choice(
        ["off", "on", "on", "kill", "restart", "cut", "heal", "freeze", "thaw", "promote", "repoint", "full", "room"]
    )
    if kind == "off":
        pool.power_off(name)
    elif kind == "on":
        pool.power_on(name)
    elif kind == "kill":
        pool.kill_xapi(name)
    elif kind == "restart" and not host.frozen:
        pool.restart_xapi(name)
    elif kind == "cut":
        pool.cut(name, other)
    elif kind == "heal":
        pool.heal_all()
    elif kind == "freeze" and host.power:
        pool.freeze(name)
    elif kind == "thaw":
        pool.thaw(name)
    elif kind in ("full", "room"):
        host.disk.full = kind == "full"
    elif kind in ("promote", "repoint"):
        _transition(pool, name, other, promoted if kind == "promote" else None)


def _transition(pool: VirtualPool, name: str, other: str, promoted: set[str] | None) -> None:
    session = pool.call_now(name, "unix", "session.slave_local_login_with_password", ("root", ""))
    if not isinstance(session, Answer):
        return
    if promoted is None:
        address = pool.hosts[other].address
        pool.call_now(name, "unix", "pool.emergency_reset_master", (session.value, address))
    else:
        pool.call_now(name, "unix", "pool.emergency_transition_to_master", (session.value,))
        promoted.add(name)


@pytest.mark.parametrize("seed", range(40))
def test_no_order_of_mishaps_makes_a_master_that_nobody_promoted(seed: int) -> None:
    rng = random.Random(seed)
    pool = VirtualPool(3, vms=VMS, variant=rng.choice(["A", "B"]), dead_connect_ms=rng.choice([3_000, 127_000]))  # type: ignore[arg-type]
    promoted = {"h1"}
    pool.power_on_all()
    for _ in range(60):
        pool.run_until(pool.now + rng.randrange(1, 60_000))
        _mishap(pool, rng, promoted)
        assert set(pool.acting_masters()) <= promoted
    _end_well(pool)


def _end_well(pool: VirtualPool) -> None:
    """Repair everything and name one master: the pool becomes whole again, whatever was before."""
    pool.heal_all()
    for name, host in pool.hosts.items():
        pool.thaw(name)
        host.disk.full = False
        host.disk.write("etc/xensource/pool.conf", f"slave:{pool.hosts['h2'].address}".encode())
    pool.hosts["h2"].disk.write("etc/xensource/pool.conf", b"master")
    for name in pool.hosts:
        pool.power_off(name)
        pool.power_on(name)
    pool.run_until(pool.now + 900_000)
    assert pool.acting_masters() == ["h2"]
    assert {entry.host for entry in pool.events("init-complete", since_ms=pool.now - 900_000)} == set(pool.hosts)
