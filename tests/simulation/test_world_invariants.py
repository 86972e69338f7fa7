"""The checks can fail: each is shown a world in which its rule does not hold, and one in which it does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model import orders as out
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_lab.virtual.checks.invariants import InvariantBroken
from poolwarden_lab.virtual.world.pool import PoolSpec, Simulation, World
from poolwarden_lab.xapi.database import RESTORE_DB, STATE_DB
from poolwarden_lab.xapi.pool_conf import POOL_CONF
from poolwarden_lab.xapi.trees import VmSpec


def begun() -> Simulation:
    return Simulation(3, vms=[VmSpec("web", 1), VmSpec("db", 0)]).begin()


def test_two_masters_by_hand_are_seen_at_once() -> None:
    sim = begun()
    sim.isolate("h2")
    sim.promote_by_hand("h2")
    with pytest.raises(InvariantBroken, match="I1 "):
        sim.run(60_000)


def test_two_masters_are_those_of_one_pool() -> None:
    w = World([PoolSpec("A", 2), PoolSpec("B", 2)])
    w.begin()
    assert sorted(name for pool in w.pools.values() for name in pool.masters()) == ["A/h1", "B/h1"]
    w.run(5_000)


def test_a_promotion_that_nobody_decided_is_no_ones() -> None:
    sim = begun()
    sim.power_off(1)
    sim.kill_collector()
    sim.invariants.by_hand.clear()
    sim.xe("h2", "pool.emergency_transition_to_master")
    with pytest.raises(InvariantBroken, match="I2 "):
        sim.run(1_000)


def test_a_shot_needs_its_intent_and_a_silent_host() -> None:
    sim = begun()
    shell = sim.shell
    assert shell is not None
    shot = effects.PowerOff(sim.uuid(1), "bmc-h1", "run-1")
    with pytest.raises(InvariantBroken, match="I6 "):
        sim.invariants.on_effect(shell, shot)
    sim.invariants.opinion("collector")._remember(Entry(Kind.FENCE_INTENT, "text", {"run": "run-1"}))
    with pytest.raises(InvariantBroken, match="I7 "):
        sim.invariants.on_effect(shell, shot)
    sim.invariants.heard_at["h1"] = sim.now - 16_000
    sim.invariants.on_effect(shell, shot)


@pytest.mark.parametrize(
    "kind",
    [out.Promote(), out.RestartXapi(), out.ToolstackFence(), out.SyncDatabase(), out.StartVm("vm", "host")],
)
def test_an_order_needs_its_intent(kind: out.OrderKind) -> None:
    sim = begun()
    assert sim.shell is not None
    order = out.Order("order-1", sim.uuid(2), "boot", 1, kind, 15_000)
    with pytest.raises(InvariantBroken, match="I6 "):
        sim.invariants.on_effect(sim.shell, effects.SendOrder(order))


def test_the_engines_record_is_the_fold_of_its_ledger() -> None:
    sim = begun()
    shell = sim.shell
    assert shell is not None
    known = shell.pools[sim.lab.uuid]
    shell.pools[sim.lab.uuid] = replace(known, record=replace(known.record, term=99))
    with pytest.raises(InvariantBroken, match="I6 "):
        sim.invariants.on_effect(shell, effects.SendChallenge(sim.uuid(1), "nonce"))


def test_numbers_of_an_agent_never_fall() -> None:
    sim = begun()
    sim.invariants.on_numbers("h1", 1 << 60, 7)
    with pytest.raises(InvariantBroken, match="I5 "):
        sim.invariants.on_numbers("h1", 1 << 60, 6)


def test_a_host_with_power_is_not_declared_dead_and_a_running_vm_not_started() -> None:
    sim = begun()
    opinion = sim.invariants.opinion("collector")
    assert sim.shell is not None
    web = sim.vm_uuid("web")
    for kind, intent in (
        (out.DeclareHostDead(sim.uuid(3)), Kind.DEAD_INTENT),
        (out.StartVm(web, "h"), Kind.START_INTENT),
    ):
        opinion._remember(Entry(intent, "text", {"order": "order-1"}))
        order = out.Order("order-1", sim.uuid(1), "boot", 1, kind, 15_000)
        with pytest.raises(InvariantBroken, match="I10 "):
            sim.invariants.on_effect(sim.shell, effects.SendOrder(order))


def test_a_kill_by_a_promotion_is_ours_and_an_operators_word_covers_it() -> None:
    sim = begun()
    sim.power_off(1)
    sim.run_until(lambda: sim.healed("h2"), 200_000)
    domains = sim.host(2).domains
    domains.kill(sim.vm_uuid("web"), "unknown-to-database")
    with pytest.raises(InvariantBroken, match="I17 "):
        sim.invariants._killed("h2")
    sim.invariants.opinion("collector").accepted["a failover"] = 1
    sim.invariants._killed("h2")


def test_a_xapi_that_crashed_by_itself_kills_without_us() -> None:
    sim = begun()
    sim.run(400_000)
    sim.start_vm("young", "h1")
    sim.run(5_000)
    assert sim.vm_hosts("young") == ["h1"]
    sim.crash_xapi("h1")
    sim.run(60_000)
    assert sim.vms_killed() == ["young"], "the master's file was older than its memory"


def test_silence_about_a_pool_without_a_master_is_a_failure() -> None:
    sim = begun()
    sim.power_off(1)
    sim.set_bmc("h1", "unreachable")
    sim.run(300_000)
    sim.finish()
    shell = sim.shell
    assert shell is not None
    known = shell.pools[sim.lab.uuid]
    shell.pools[sim.lab.uuid] = replace(known, record=replace(known.record, open_alerts=()))
    with pytest.raises(InvariantBroken, match="I13 "):
        sim.finish()


def test_healthy_means_that_everybody_follows() -> None:
    sim = begun()
    sim.run(200_000)
    sim.finish()
    sim.host(3).disk.write(POOL_CONF, b"slave:10.99.0.200")
    with pytest.raises(InvariantBroken, match="I15 "):
        sim.finish()


def test_a_fence_device_is_asked_for_nothing_else() -> None:
    sim = begun()
    sim.bmc(1).log.append((sim.now, "reboot", "ok"))
    with pytest.raises(InvariantBroken, match="I9 "):
        sim.finish()


def _place(sim: Simulation, host: str) -> None:
    disk = sim.pool.hosts[host].disk
    disk.write(RESTORE_DB, disk.read(STATE_DB))
    disk.write(RESTORE_DB + ".generation", b"5000")


def test_a_database_that_nobody_meant_for_a_xapi_is_not_loaded() -> None:
    sim = begun()
    _place(sim, "h1")
    sim.pool.restart_xapi("h1")
    with pytest.raises(InvariantBroken, match="I19 .* loads a restore_db.db of generation 5000"):
        sim.run(30_000)


def test_a_database_that_nobody_accounts_for_is_left_behind() -> None:
    sim = begun()
    _place(sim, "h2")
    with pytest.raises(InvariantBroken, match="I19 .* has lain on h2"):
        sim.run(90_000)
