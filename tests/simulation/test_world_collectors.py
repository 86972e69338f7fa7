"""Collectors that stand still, lose their disk, come back with an old journal, or are two."""

from __future__ import annotations

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.epoch import LOT_BITS
from poolwarden_collector.core.model.policy import Policy
from poolwarden_lab.virtual.world.pool import Simulation

SHOOTS = Policy(quiet_time=3_000, auto_fence_running=True, patience=20_000)


def begun(hosts: int = 3, policy: Policy | None = None) -> Simulation:
    return Simulation(hosts, policy=policy).begin()


def test_a_collector_that_was_suspended_is_quiet_before_it_judges() -> None:
    sim = begun()
    sim.collector_gap(120_000)
    sim.run(1_000)
    sim.power_off(1)
    sim.run(119_000)
    woke = sim.now
    sim.run_until(lambda: sim.has(Kind.DECIDED), 60_000)
    assert sim.shell is not None
    assert sim.ledger.when(Kind.DECIDED)[0] >= woke + 3_000
    sim.run_until(lambda: sim.healed("h2"), 200_000)


def test_while_it_stands_still_it_takes_nothing_and_its_streams_end() -> None:
    sim = begun()
    sim.freeze_collector()
    sim.run(10_000)
    assert all(agent.stream is None for agent in sim.agents.values())
    commits = len(sim.ledger.commits)
    sim.power_off(3)
    sim.run(30_000)
    assert len(sim.ledger.commits) == commits
    sim.thaw_collector()
    sim.power_on(3)
    sim.run_until(sim.settled, 200_000)


def test_a_power_off_from_before_a_suspension_has_no_certain_result() -> None:
    sim = begun(policy=SHOOTS)
    sim.set_bmc("h1", "slow", ms=10_000)
    sim.freeze(1)
    sim.run_until(lambda: sim.has(Kind.FENCE_INTENT), 120_000)
    sim.collector_gap(30_000)
    sim.run_until(lambda: sim.has(Kind.FENCE_RESULT), 200_000)
    assert not sim.ledger.of(Kind.FENCE_RESULT)[0].data["certain"]
    sim.run_until(lambda: sim.healed("h2"), 300_000)


def test_with_a_full_disk_nothing_is_decided_and_operators_are_refused() -> None:
    sim = begun()
    sim.collector_disk_full()
    sim.power_off(1)
    sim.run(60_000)
    assert not sim.has(Kind.DECIDED) and sim.promote_calls() == []
    reply = sim.say("pause", reason="x")
    assert reply is not None and reply.code == "journal"
    sim.collector_disk_full(False)
    sim.run_until(lambda: sim.healed("h2"), 200_000)


def test_a_restored_journal_is_noticed_by_the_terms_of_the_agents() -> None:
    sim = begun()
    sim.snapshot_journal()
    sim.power_off(1)
    sim.run_until(lambda: sim.healed("h2"), 200_000)
    term = sim.record.term
    sim.kill_collector()
    sim.restore_journal()
    assert not sim.has(Kind.DECIDED)
    sim.start_collector()
    sim.run(60_000)
    assert sim.has(Kind.RESTORED)
    assert sim.record.term >= term
    assert sim.promote_calls() == ["h2"]


def test_a_lost_last_commit_is_as_if_it_had_not_been() -> None:
    sim = begun()
    sim.power_off(1)
    sim.run_until(lambda: sim.has(Kind.DECIDED), 60_000)
    sim.kill_collector()
    while sim.has(Kind.DECIDED):
        sim.lose_last_commit()
    sim.start_collector()
    sim.run_until(lambda: sim.healed("h2"), 200_000)
    assert len(sim.promote_calls()) == 1
    sim.finish()


def test_the_collector_with_the_lower_epoch_stands_down() -> None:
    sim = begun()
    node = sim.second_collector(hosts=["h2", "h3"])
    sim.run(60_000)
    for host in ("h1", "h2"):
        sim.attach(host, node)
    sim.power_off(1)
    sim.run(120_000)
    sim.attach("h2")
    sim.run(60_000)
    second = sim.stations[node]
    assert second.ledger.epoch >> LOT_BITS > 1
    assert sim.shell is not None and second.shell is not None
    assert sim.shell.roster.stood_down or second.shell.roster.stood_down
    assert len(sim.masters()) <= 1


def test_a_collector_with_a_full_disk_cannot_start_and_tries_again() -> None:
    sim = begun()
    sim.collector_disk_full()
    sim.kill_collector(restart_after_ms=1_000)
    sim.run(30_000)
    assert not sim.station.runs
    sim.collector_disk_full(False)
    sim.run_until(sim.settled, 60_000)


def test_agents_that_change_collectors_tell_each_of_the_other() -> None:
    """Whoever has welcomed an agent is in its next Hello, though it has sent no order yet. Neither promotes anybody by
    itself: to each of them a member that lives is not heard."""
    sim = begun()
    node = sim.second_collector()
    sim.run(20_000)
    sim.attach("h2")
    sim.run(3_000)
    sim.power_off(1)
    sim.run(2_000)
    sim.attach("h3")
    sim.attach("h2", node)
    sim.run(200_000)
    assert sim.promote_calls() == []
    sim.finish()
