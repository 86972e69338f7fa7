"""Policy ``auto_fence_running``: a machine that reads ON is switched off after patience, and read back."""

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_lab.virtual.world.bmc import BmcMode
from poolwarden_lab.virtual.world.pool import QUIET_MS, Simulation

SHOOTS = Policy(quiet_time=QUIET_MS, auto_fence_running=True)


def test_a_hung_machine_is_shot_after_patience_and_the_pool_heals() -> None:
    sim = Simulation(3, policy=SHOOTS).begin()
    hung_at = sim.now
    sim.freeze(1)
    sim.run_until(lambda: bool(sim.shots()), 200_000)
    assert sim.now - hung_at >= SHOOTS.patience - SHOOTS.report_interval
    sim.run_until(lambda: sim.healed("h2"), 120_000)
    assert sim.shots() == ["bmc-h1"]
    assert sim.ledger.when(Kind.FENCE_INTENT) < sim.ledger.when(Kind.FENCE_RESULT) < sim.ledger.when(Kind.PROOF)
    promote = next(entry.ms for entry in sim.pool.events("promote-call"))
    assert promote - hung_at <= SHOOTS.patience + 25_000  # design budget


def test_an_off_that_is_acknowledged_and_not_done_is_no_proof() -> None:
    sim = Simulation(3, policy=SHOOTS).begin()
    sim.set_bmc(1, BmcMode.STUCK)
    sim.freeze(1)
    sim.run(600_000)
    assert sim.promote_calls() == []
    assert 1 <= len(sim.shots()) <= 2
    failover = sim.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_POWER_ON"


def test_a_machine_that_comes_back_right_before_the_shot_is_not_shot() -> None:
    sim = Simulation(3, policy=SHOOTS).begin()
    sim.freeze(1)
    sim.run(98_000)
    sim.thaw(1)
    sim.run(120_000)
    assert sim.shots() == []
    assert sim.masters() == ["h1"]


def test_a_shot_machine_that_is_switched_on_again_stays_succeeded() -> None:
    sim = Simulation(3, policy=SHOOTS).begin()
    sim.freeze(1)
    sim.run_until(lambda: sim.has(Kind.PROMOTED), 200_000)
    sim.power_on(1)
    sim.run_until(lambda: not sim.record.owed and sim.healed("h2"), 400_000)
    assert sim.masters() == ["h2"]


def test_a_collector_that_dies_with_its_shot_under_way_reads_before_it_concludes() -> None:
    """The `off` outlives the collector; the next one waits out the run, reads OFF, and does not shoot again."""
    sim = Simulation(3, policy=SHOOTS).begin()
    sim.freeze(1)
    sim.run_until(lambda: sim.has(Kind.FENCE_INTENT), 200_000)
    sim.kill_collector(restart_after_ms=1_000)
    sim.run_until(lambda: sim.healed("h2"), 300_000)
    assert sim.shots() == ["bmc-h1"]
    assert sim.promote_calls() == ["h2"]
