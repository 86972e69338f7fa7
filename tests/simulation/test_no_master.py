"""xapi itself can leave a pool without any master; then nothing may be called healthy or done."""

from poolwarden_collector.core.journal import Kind
from poolwarden_lab.simulation.world import Simulation


def test_two_masters_that_yield_to_each_other_are_not_a_healthy_pool() -> None:
    """The successor and the returned old master start at the same time; each finds the other and makes way."""
    sim = Simulation(3).begin()
    sim.power_off(1)
    sim.run_until(lambda: sim.has(Kind.PROMOTE_ANSWER), 60_000)
    sim.pool.boot_ms = 0
    sim.run_until(lambda: len(sim.pool.events("xapi-start", "h2")) == 2, 60_000)
    sim.power_on(1)
    sim.run(120_000)
    assert sim.masters() == [], "the story does not lead to a pool without a master any more"
    since = sim.now
    sim.run(300_000)
    later = [commit for commit in sim.ledger.commits if commit.ms > since]
    assert sim.verdict != "Healthy"
    assert not any(entry.kind is Kind.CLOSED for commit in later for entry in commit.entries)
    assert sim.record.open_alerts
