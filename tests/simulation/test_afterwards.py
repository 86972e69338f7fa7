"""After a promotion, and beside it: the dead host, its VMs, detached members, planned switchovers, pushes."""

from dataclasses import replace

import pytest

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.state.alert_book import settling
from poolwarden_collector.core.state.alert_topic import parse
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_lab.virtual.world.pool import QUIET_MS, Simulation
from poolwarden_lab.xapi.trees import VmSpec

VMS = (VmSpec("web", 0), VmSpec("db", 0), VmSpec("near", 0, storage="local"), VmSpec("files", 1))


def lost(sim: Simulation) -> dict[str, str]:
    return {vm.name: vm.state for vm in sim.record.after.lost.values()}


def runs_on(sim: Simulation, name: str) -> list[str]:
    """Hosts on which a domain of this VM runs."""
    uuids = {each.name: each.vm for each in sim.record.after.lost.values()}
    return [host.name for host in sim.pool.hosts.values() if host.power and uuids[name] in host.domains.domains()]


def dead() -> Simulation:
    """A pool whose master lost its power, after it was declared dead."""
    sim = Simulation(3, vms=VMS).begin()
    sim.power_off(1)
    sim.run_until(lambda: sim.has(Kind.DECLARED_DEAD), 900_000)
    return sim


def test_the_dead_host_is_declared_dead_and_its_vms_wait_for_a_word() -> None:
    sim = dead()
    assert lost(sim) == {"web": "lost", "db": "lost", "near": "lost"}
    assert not [item for item in sim.record.owed if item.what is OwedWork.DECLARE_DEAD]
    sim.run(60_000)
    assert not sim.has(Kind.START_INTENT)


def test_lost_vms_start_where_they_can_and_the_others_say_why_not() -> None:
    sim = dead()
    sim.run(60_000)
    sim.say("start-lost")
    sim.run_until(lambda: lost(sim).get("web") == lost(sim).get("db") == "started", 120_000)
    assert len(runs_on(sim, "web")) == len(runs_on(sim, "db")) == 1
    assert lost(sim)["near"] in ("lost", "failed") and runs_on(sim, "near") == []
    assert sim.vms_killed() == []


@pytest.mark.slow
def test_starts_that_take_long_are_ordered_one_after_another() -> None:
    """The master's agent carries out one after another; what waits there for another start is late when that ends."""
    vms = [VmSpec(name, 0, tags=("poolwarden:start",)) for name in ("web", "db", "more")]
    sim = Simulation(3, policy=Policy(quiet_time=QUIET_MS, start_lost="tagged"), vms=vms).begin()
    sim.pool.times = replace(sim.pool.times, vm_start_ms=20_000)
    sim.power_off(1)
    sim.run_until(lambda: sim.has(Kind.DECLARED_DEAD), 900_000)
    for host in sim.pool.hosts.values():
        if host.model is not None:
            host.model.times = sim.pool.times
    sim.run_until(lambda: len(sim.ledger.of(Kind.START_RESULT)) == 3, 300_000)
    assert [entry.data["state"] for entry in sim.ledger.of(Kind.START_RESULT)] == ["started"] * 3, sim.story()


def test_the_old_master_that_returns_starts_none_of_them_again() -> None:
    sim = dead()
    sim.run(60_000)
    sim.say("start-lost")
    sim.run_until(lambda: lost(sim).get("web") == lost(sim).get("db") == "started", 120_000)
    sim.power_on(1)
    sim.run_until(sim.settled, 900_000)
    assert sim.masters() == ["h2"] and len(runs_on(sim, "web")) == 1
    assert sim.vms_killed() == []


def test_an_old_master_that_is_switched_on_first_is_not_declared_dead() -> None:
    sim = Simulation(3, vms=VMS).begin()
    sim.power_off(1)
    sim.run_until(lambda: sim.has(Kind.LOST_VMS), 300_000)
    sim.power_on(1)
    sim.run_until(sim.settled, 900_000)
    assert not sim.has(Kind.DECLARED_DEAD)


def test_a_planned_switchover_moves_the_role_and_touches_no_vm() -> None:
    sim = Simulation(3, vms=VMS).begin()
    term = sim.record.term
    assert sim.say("failover-to", 2) is None, "what the restarts would kill is read first"
    sim.run_until(lambda: sim.has(Kind.DESIGNATE_RESULT), 300_000)
    assert sim.ledger.of(Kind.DESIGNATE_RESULT)[-1].data["outcome"] == "done", sim.story()
    sim.run_until(sim.settled, 300_000)
    assert sim.masters() == ["h2"] and sim.record.term == term + 1
    assert sim.promote_calls() == [] and sim.vms_killed() == [] and not sim.has(Kind.DECIDED)


def test_the_role_handed_back_to_the_repaired_old_master_stays_there_over_its_next_boot() -> None:
    sim = Simulation(3).begin()
    sim.power_off(1)
    sim.run_until(lambda: sim.healed("h2"), 300_000)
    sim.power_on(1)
    sim.run_until(sim.settled, 900_000)
    sim.say("designate", 1)
    sim.run_until(lambda: sim.masters() == ["h1"] and sim.settled(), 300_000)
    sim.crash_xapi(1)
    sim.run_until(lambda: sim.masters() == ["h1"] and sim.settled(), 300_000)
    assert not sim.record.owed


def test_the_database_is_pushed_to_every_member() -> None:
    sim = Simulation(3, policy=Policy(quiet_time=QUIET_MS, sync_interval=120_000)).begin()
    sim.run_until(lambda: sim.has(Kind.SYNC_RESULT), 200_000)
    assert sim.ledger.of(Kind.SYNC_RESULT)[-1].data["outcome"] == "done"
    sim.run(5_000)
    generations = {agent.facts.database.generation for agent in sim.core.live.agents.values()}
    assert len(generations) <= 2 and not sim.record.after.sync_failure


def test_a_member_with_another_masters_address_is_repointed() -> None:
    sim = Simulation(3, vms=VMS).begin()
    host = sim.host(3)
    host.disk.write("etc/xensource/pool.conf", b"slave:10.99.0.99")
    sim.pool.restart_xapi("h3")
    sim.run_until(lambda: sim.has(Kind.REPAIRED), 400_000)
    sim.run_until(sim.settled, 120_000)
    assert sim.masters() == ["h1"] and sim.vms_killed() == []
    assert not sim.has(Kind.DECIDED)


def test_a_members_hung_xapi_is_restarted() -> None:
    sim = Simulation(3, vms=VMS).begin()
    sim.hang_xapi(3)
    sim.run_until(lambda: sim.has(Kind.REPAIRED), 600_000)
    sim.run_until(sim.settled, 120_000)
    assert [e.data["host"] for e in sim.ledger.of(Kind.RESTART_INTENT)] == [sim.uuid(3)]
    assert sim.vms_killed() == []


def test_a_member_whose_network_is_cut_is_left_running() -> None:
    sim = Simulation(3).begin()
    sim.cut_both("h1", "h3")
    sim.run(400_000)
    assert not sim.has(Kind.RESTART_INTENT) and not sim.has(Kind.REPOINT_INTENT)
    assert any("/repair-" in key for key in sim.record.open_alerts)
    sim.heal("h1", "h3")
    sim.run_until(sim.settled, 400_000)
    sim.run(10_000 + settling(parse("repair-h3")))  # a report, and the time until it is over
    assert not any("/repair-" in key for key in sim.record.open_alerts)
