"""Agents that hang, leave, change their version or their story; their slots and clocks."""

from __future__ import annotations

import pytest

from poolwarden_collector.core.model.entries import Kind
from poolwarden_lab.virtual.agent.slot import SlotFault
from poolwarden_lab.virtual.world.pool import PoolSpec, Simulation, World


def begun(hosts: int = 3) -> Simulation:
    return Simulation(hosts).begin()


def test_an_agent_that_stands_still_is_lost_and_its_xapi_is_not() -> None:
    sim = begun()
    sim.hang_agent("h1")
    sim.run(20_000)
    assert sim.verdict == "AgentLost" and sim.masters() == ["h1"]
    sim.resume_agent("h1")
    sim.run_until(sim.settled, 60_000)


def test_a_stopped_agent_says_goodbye_and_stays_away_until_it_is_started() -> None:
    sim = begun()
    sim.stop_agent("h2")
    sim.run(30_000)
    assert sim.core.live.agents[sim.uuid(2)].goodbye == "agent_stop"
    assert sim.agents["h2"].side is None
    sim.start_agent("h2")
    sim.run_until(sim.settled, 60_000)


def test_an_upgraded_agent_comes_back_with_another_version() -> None:
    sim = begun()
    sim.upgrade_agent("h2", "0.9.0")
    sim.run(500)
    assert sim.core.live.agents[sim.uuid(2)].goodbye == "agent_upgrade"
    sim.run_until(sim.settled, 60_000)
    assert sim.core.live.agents[sim.uuid(2)].hello.agent_version == "0.9.0"


def test_a_member_whose_agent_cannot_promote_is_not_chosen() -> None:
    sim = begun()
    sim.old_version("h2", ("promote",))
    sim.run_until(sim.settled, 60_000)
    assert "promote" not in sim.core.live.agents[sim.uuid(2)].hello.capabilities
    sim.power_off(1)
    sim.run_until(lambda: sim.healed("h3"), 200_000)
    assert sim.promote_calls() == ["h3"]


def test_a_host_without_an_agent_is_known_from_the_pool_alone() -> None:
    w = World([PoolSpec("lab", 3, absent=["h3"])])
    w.begin(settle=False)
    w.run(40_000)
    pool = w.of()
    uuid = pool.pool.hosts["h3"].uuid
    assert uuid in pool.record.hosts and uuid not in pool.core.live.agents


def test_an_agent_of_another_pool_is_refused_and_freezes_its_own() -> None:
    w = World([PoolSpec("A", 2), PoolSpec("B", 2)])
    w.begin()
    w.wrong_pool("A/h2", "B")
    w.run(20_000)
    assert w.of("A").verdict == "IdentityConflict"
    w.power_off("A/h1")
    w.run(60_000)
    assert w.of("A").promote_calls() == [] and w.of("B").verdict == "Healthy"


def test_a_clone_of_a_host_freezes_the_pool() -> None:
    sim = begun()
    sim.clone_uuid("h3", "h2")
    sim.run(30_000)
    assert sim.verdict == "IdentityConflict"
    sim.power_off(1)
    sim.run(60_000)
    assert sim.promote_calls() == []


@pytest.mark.parametrize("fault", [SlotFault.ENOSPC, SlotFault.EIO, SlotFault.READ_ONLY])
def test_an_agent_that_cannot_store_obeys_nothing_and_another_member_succeeds(fault: SlotFault) -> None:
    sim = begun()
    sim.slot_fault("h2", fault)
    sim.power_off(1)
    sim.run_until(lambda: "h3" in sim.masters(), 200_000)
    assert sim.promote_calls() == ["h3"]


def test_a_torn_write_leaves_the_state_before_it() -> None:
    sim = begun()
    before = sim.agents["h2"].slot.payload
    sim.slot_fault("h2", "torn")
    sim.power_off(1)
    sim.run_until(lambda: sim.agents["h2"].crashes == 1, 60_000)
    assert sim.agents["h2"].slot.payload == before
    sim.run_until(lambda: len(sim.masters()) == 1 and sim.verdict == "Healthy", 300_000)
    assert len(sim.promote_calls()) == 1


def test_a_slot_from_a_backup_is_an_older_one_and_nothing_old_is_obeyed_by_the_collector() -> None:
    sim = begun()
    sim.snapshot_slot("h3")
    sim.power_off(1)
    sim.run_until(lambda: sim.healed("h2"), 200_000)
    term = sim.record.term
    sim.restore_slot("h3")
    sim.run(30_000)
    assert sim.record.term == term and sim.verdict == "Healthy"


def test_a_clock_that_runs_too_fast_makes_no_evidence_old() -> None:
    sim = begun()
    for host, ppm in (("h1", 200), ("h2", -200)):
        sim.drift(host, ppm)
    sim.offset("h3", 400_000_000)
    sim.reboot("h3")
    sim.run(1_200_000)
    assert sim.verdict == "Healthy" and not sim.has(Kind.DECIDED)
    assert sim.agents["h3"].mono() > 400_000_000
    sim.power_off(1)
    sim.run_until(lambda: sim.healed(sim.name_of(sim.record.master)) and len(sim.promote_calls()) == 1, 200_000)


def test_a_read_only_root_stops_the_agents_slot_as_well() -> None:
    sim = begun()
    sim.root_read_only("h2")
    sim.power_off(1)
    sim.run_until(lambda: sim.healed("h3") or "h3" in sim.masters(), 200_000)
    assert sim.promote_calls() == ["h3"]
