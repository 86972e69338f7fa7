"""The plain story in virtual time: the master loses its power, the pool heals by itself, in pools of every size."""

import pytest

from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.entries import Kind
from poolwarden_lab.virtual.world.pool import Simulation

STEPS = [
    Kind.DECIDED,
    Kind.CLAIM_SENT,
    Kind.CLAIMED,
    Kind.CANDIDATE,
    Kind.PROOF,
    Kind.PROMOTE_INTENT,
    Kind.PROMOTE_ANSWER,
    Kind.PROMOTED,
    Kind.CLOSED,
]


def test_three_hosts_heal_by_themselves() -> None:
    sim = Simulation(3).begin()
    sim.power_off(1)
    sim.run_until(lambda: sim.healed("h2"), 120_000)
    sim.run(60_000)
    assert sim.healed("h2")
    assert sim.promote_calls() == ["h2"]
    assert sim.shots() == []
    kinds = [entry.kind for entry in sim.ledger.entries() if entry.kind in STEPS]
    assert kinds == STEPS
    assert sim.verdict == "Healthy"
    sim.invariants.finish()


def test_the_promote_order_leaves_within_twenty_seconds_with_the_default_policy() -> None:
    """Design budget, with the default policy but for the quiet time, which is over by then anyway."""
    sim = Simulation(3).begin()
    cut = sim.now
    sim.power_off(1)
    sim.run_until(lambda: bool(sim.promote_calls()), 60_000)
    assert sim.now - cut <= 20_000


@pytest.mark.parametrize("hosts", [2, 8, pytest.param(64, marks=pytest.mark.long)])
def test_pools_of_other_sizes_heal_too(hosts: int) -> None:
    sim = Simulation(hosts).begin()
    sim.power_off(1)
    sim.run_until(lambda: sim.has(Kind.PROMOTED), 120_000)
    new = sim.promote_calls()
    assert len(new) == 1
    sim.run_until(lambda: sim.healed(new[0]), 900_000)
    back = {entry.data["host"] for entry in sim.ledger.of(Kind.MEMBER_BACK)}
    assert back == {sim.uuid(i) for i in range(2, hosts + 1)} - {sim.pool.hosts[new[0]].uuid}
    sim.invariants.finish()


def test_the_alert_names_both_masters_the_address_the_proof_and_the_durations() -> None:
    sim = Simulation(3).begin()
    sim.power_off(1)
    sim.run_until(lambda: sim.healed("h2"), 120_000)
    done = [o.alert for o in sim.ledger.outbox if isinstance(o.alert, AlertRaised) and o.alert.key.endswith("/done")]
    assert len(done) == 1
    data = done[0].data
    assert data["pool"] == "lab"
    assert (data["old_master"], data["new_master"], data["address"]) == ("lab-h1", "lab-h2", "10.99.0.12")
    assert data["proof"] == "power"
    durations = data["durations_ms"]
    assert isinstance(durations, dict) and durations["proof to promote-intent"] == 0
    assert durations["silent to decided"] >= 8_000


def test_the_highest_generation_is_promoted_wherever_it_is() -> None:
    sim = Simulation(3).begin()
    disk = sim.host(3).disk
    disk.write("var/lib/xcp/state.db.generation", b"9999")
    sim.run(4_000)
    sim.power_off(1)
    sim.run_until(lambda: sim.has(Kind.PROMOTED), 120_000)
    assert sim.promote_calls() == ["h3"]


def test_a_run_is_deterministic() -> None:
    def story(seed: int) -> str:
        sim = Simulation(3, seed=seed).begin()
        sim.power_off(1)
        sim.run(90_000)
        return sim.story()

    assert story(1) == story(1)


def test_the_old_master_returns_as_a_member() -> None:
    sim = Simulation(3).begin()
    sim.power_off(1)
    sim.run_until(lambda: sim.healed("h2"), 120_000)
    sim.power_on(1)
    sim.run_until(lambda: not sim.record.owed, 300_000)
    sim.run_until(sim.settled, 300_000)
    assert sim.pool.pool_conf("h1") == "slave:10.99.0.12"
    assert sim.masters() == ["h2"]
    assert sim.promote_calls() == ["h2"]
    assert sim.has(Kind.TOMBSTONE_INTENT) and sim.has(Kind.OWED_DONE)
    assert sim.core.live.agents[sim.uuid(1)].facts.tombstone is None


def test_the_old_master_returns_while_its_failover_is_still_under_way() -> None:
    """It boots into a pool that is being taken over: xapi itself makes it yield, Poolwarden finishes what it began."""
    sim = Simulation(3).begin()
    sim.pool.boot_ms = 5_000
    sim.power_off(1)
    sim.run_until(lambda: sim.has(Kind.PROMOTED), 120_000)
    sim.power_on(1)
    sim.run_until(lambda: not sim.record.owed and sim.healed("h2"), 300_000)
    assert sim.masters() == ["h2"]
    assert sim.promote_calls() == ["h2"]


def test_a_returned_master_is_not_marked_again_because_a_probe_is_missing() -> None:
    """A new collector's first settings name no peers: for a moment the returned host has no probe of its new master."""
    sim = Simulation(3).begin()
    sim.pool.boot_ms = 5_000
    sim.power_off(1)
    sim.run_until(lambda: sim.has(Kind.PROMOTED), 120_000)
    sim.power_on(1)
    sim.run_until(lambda: sim.has(Kind.TOMBSTONE_INTENT), 60_000)
    sim.run(1_000)
    sim.kill_collector(restart_after_ms=70_000)
    agent = sim.agent(1)
    start_probes = agent._start_probes
    agent._start_probes = lambda: agent._later(500, start_probes)  # type: ignore[method-assign]
    sim.run_until(lambda: not sim.record.owed, 300_000)
    sim.run_until(sim.settled, 120_000)
    assert agent.side is not None and agent.side.executor.state.tombstone is None
