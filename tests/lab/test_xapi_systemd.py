"""When xapi may start and how it ends: boots and their gate, holds, clean and unclean stops, a process that stays."""

from xapi_pool import UP_MS, lab_call, on_unix, promote, running_pool

from poolwarden_lab.xapi.actions import Answer, Lost
from poolwarden_lab.xapi.clock import Clock
from poolwarden_lab.xapi.virtual import GATE_MS, VirtualPool

ALIVE = ("system.isAlive:x", ("x",), 500, "h2")


def starts(pool: VirtualPool, host: str, since_ms: int = 0) -> list[int]:
    return [entry.ms for entry in pool.events("xapi-start", host, since_ms)]


# ------------------------------------------------------------------------------------ the boot's gate


def test_a_boots_first_start_waits_until_the_gate_lets_it_through() -> None:
    pool = running_pool()
    asked: list[tuple[int, str]] = []
    pool.boot_gate = lambda name: asked.append((pool.now, name)) or pool.now >= UP_MS + 60_000  # type: ignore[func-returns-value]
    pool.boot_ms = 30_000
    pool.power_off("h1")
    pool.power_on("h1")
    pool.run_until(UP_MS + 59_000)
    assert asked[0] == (UP_MS + 30_000, "h1")
    assert [later[0] - sooner[0] for sooner, later in zip(asked, asked[1:], strict=False)] == [GATE_MS] * 29
    assert not pool.hosts["h1"].pid and not starts(pool, "h1", UP_MS)
    pool.run_until(UP_MS + 120_000)
    assert starts(pool, "h1", UP_MS) == [UP_MS + 60_000]
    assert asked[-1] == (UP_MS + 60_000, "h1")
    pool.kill_xapi("h1")
    pool.run_until(UP_MS + 130_000)
    assert len(starts(pool, "h1", UP_MS)) == 2
    assert asked[-1][0] == UP_MS + 60_000  # a restart within a boot is not gated


def test_systemctl_does_not_get_past_a_shut_gate() -> None:
    pool = running_pool()
    pool.boot_gate = lambda _name: False
    pool.power_off("h3")
    pool.power_on("h3")
    pool.restart_xapi("h3")
    pool.run_until(UP_MS + 30_000)
    assert not starts(pool, "h3", UP_MS)


def test_a_gate_that_changes_pool_conf_before_it_opens_keeps_the_old_master_from_storage() -> None:
    pool = running_pool()
    pool.power_off("h1")
    promote(pool, "h2")
    pool.run_until(UP_MS + 60_000)

    def gate(name: str) -> bool:
        pool.hosts[name].disk.write("etc/xensource/pool.conf", f"slave:{pool.hosts['h2'].address}".encode())
        return True

    pool.boot_gate = gate
    pool.power_on("h1")
    pool.run_until(UP_MS + 120_000)
    roles = [entry.event.facts["role"] for entry in pool.events("storage-touched", "h1", UP_MS)]
    assert roles == ["member"]
    assert pool.acting_masters() == ["h2"]


def test_storage_is_touched_only_after_the_check_for_other_masters() -> None:
    pool = running_pool()
    for entry in pool.events("storage-touched", "h1"):
        assert entry.ms > pool.events("no-other-masters", "h1")[0].ms
    assert [entry.event.facts["role"] for entry in pool.events("storage-touched", "h1")] == ["master"]
    pool.power_off("h1")
    promote(pool, "h2")
    pool.run_until(UP_MS + 60_000)
    pool.power_on("h1")
    pool.run_until(UP_MS + 120_000)
    assert "other-master" in {entry.event.name for entry in pool.events(host="h1", since_ms=UP_MS)}
    roles = [entry.event.facts["role"] for entry in pool.events("storage-touched", "h1", UP_MS)]
    assert roles == ["member"]


# ------------------------------------------------------------------------------------ hold and stop


def test_a_held_host_starts_no_xapi_by_any_way_and_keeps_its_domains() -> None:
    pool = running_pool()
    pool.hold("h1")
    assert pool.hosts["h1"].pid  # what runs, runs on
    pool.stop_toolstack("h1")
    pool.restart_xapi("h1")
    pool.run_until(UP_MS + 60_000)
    assert not starts(pool, "h1", UP_MS)
    assert list(pool.hosts["h1"].domains.domains().values()) == ["web"]
    for door in ("tcp", "tls"):
        assert pool.call_now("h1", door, *ALIVE) == Lost("refused")  # type: ignore[arg-type]
    pool.release("h1")
    pool.run_until(UP_MS + 70_000)
    assert not starts(pool, "h1", UP_MS)
    pool.restart_xapi("h1")
    pool.run_until(UP_MS + 120_000)
    assert pool.acting_masters() == ["h1"]
    assert not pool.hosts["h1"].domains.kills


def test_a_killed_xapi_is_not_restarted_while_the_hold_is_there() -> None:
    pool = running_pool()
    pool.hold("h1")
    pool.kill_xapi("h1")
    pool.run_until(UP_MS + 60_000)
    assert not starts(pool, "h1", UP_MS)
    assert pool.events("start-held", "h1")


def test_a_hold_outlives_the_boot_and_a_plain_stop_does_not() -> None:
    pool = running_pool()
    pool.stop_xapi("h2")
    pool.stop_xapi("h3")
    pool.hold("h3")
    for name in ("h2", "h3"):
        pool.power_off(name)
        pool.power_on(name)
    pool.run_until(UP_MS + 60_000)
    assert len(starts(pool, "h2", UP_MS)) == 1
    assert not starts(pool, "h3", UP_MS)


def test_a_clean_stop_flushes_the_masters_database_and_a_kill_does_not() -> None:
    for flush in (True, False):
        pool = running_pool()
        before = pool.hosts["h1"].disk.read("var/lib/xcp/state.db.generation")
        touched = on_unix(pool, "h1", "lab.touch")
        assert isinstance(touched, Answer)
        pool.stop_xapi("h1", flush=flush)
        after = pool.hosts["h1"].disk.read("var/lib/xcp/state.db.generation")
        assert after == (str(touched.value).encode() if flush else before)
        pool.run_until(UP_MS + 60_000)
        assert not starts(pool, "h1", UP_MS)


def test_released_as_member_the_old_master_keeps_its_vms_if_the_new_one_knows_them() -> None:
    pool = running_pool()
    lab_call(pool, "pool.sync_database")
    pool.hold("h1")
    pool.stop_toolstack("h1")
    promote(pool, "h2")
    pool.run_until(UP_MS + 60_000)
    pool.hosts["h1"].disk.write("etc/xensource/pool.conf", f"slave:{pool.hosts['h2'].address}".encode())
    pool.release("h1")
    pool.restart_xapi("h1")
    pool.run_until(UP_MS + 180_000)
    assert pool.events("init-complete", "h1", UP_MS)
    assert list(pool.hosts["h1"].domains.domains().values()) == ["web"]


def test_a_stuck_xapi_serves_on_whatever_is_done_to_it() -> None:
    pool = running_pool()
    pool.stick_xapi("h1")
    pool.hold("h1")
    pool.stop_toolstack("h1")
    pool.stop_xapi("h1", flush=False)
    pool.kill_xapi("h1")
    pool.run_until(UP_MS + 10_000)
    for door in ("tcp", "tls"):
        assert pool.call_now("h1", door, *ALIVE) == Answer("x")  # type: ignore[arg-type]
    pool.power_off("h1")
    assert not pool.hosts["h1"].stuck


def test_a_toolstack_restart_closes_443_of_an_orphan_and_a_plain_restart_does_not() -> None:
    pool = running_pool()
    pool.power_off("h1")
    pool.restart_xapi("h2")
    pool.restart_toolstack("h3")
    pool.run_until(UP_MS + 60_000)
    assert pool.hosts["h2"].doors == {"unix", "tcp", "tls"}
    assert pool.hosts["h3"].doors == {"unix", "tcp"}


def test_two_pools_share_a_clock() -> None:
    clock = Clock()
    pools = [VirtualPool(2, pool_name=name, clock=clock) for name in ("a", "b")]
    for pool in pools:
        pool.power_on_all()
    pools[0].run_until(UP_MS)
    assert [pool.now for pool in pools] == [UP_MS, UP_MS]
    assert all(pool.acting_masters() == ["h1"] for pool in pools)
