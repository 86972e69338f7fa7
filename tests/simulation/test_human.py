"""Stories in which a person decides: the BMC died with its host, or nobody has a device."""

from poolwarden_collector.core.model.entries import Kind
from poolwarden_lab.virtual.world.bmc import BmcMode
from poolwarden_lab.virtual.world.pool import Simulation


def blocked() -> Simulation:
    sim = Simulation(3).begin()
    sim.set_bmc(1, BmcMode.UNREACHABLE)
    sim.power_off(1)
    sim.run_until(lambda: sim.record.failover is not None and bool(sim.record.failover.standstill.blocker), 180_000)
    return sim


def test_an_unreachable_bmc_blocks_and_names_the_blocker() -> None:
    sim = blocked()
    failover = sim.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_NEEDS_HUMAN"
    assert "Connection timed out" in failover.standstill.why
    sim.run(600_000)
    assert sim.promote_calls() == []
    assert len(sim.ledger.of(Kind.DECIDED)) == 1


def test_a_confirmation_completes_the_same_failover() -> None:
    sim = blocked()
    failover = sim.record.failover
    reply = sim.confirm_fenced(1)
    assert reply is not None and reply.accepted
    sim.run_until(lambda: sim.healed("h2"), 120_000)
    closed = sim.record.failover
    assert closed is not None and failover is not None and closed.id == failover.id
    assert sim.ledger.of(Kind.PROOF)[-1].data["kind"] == "human"
    assert sim.ledger.of(Kind.HUMAN_CONFIRMED)[-1].actor == "alice"
    assert sim.promote_calls() == ["h2"]


def test_a_confirmation_of_a_host_that_lives_is_refused() -> None:
    sim = Simulation(3).begin()
    reply = sim.confirm_fenced(1)
    assert reply is not None and not reply.accepted and reply.code == "agent-alive"


def test_a_confirmation_against_a_reading_of_on_needs_a_second_word() -> None:
    sim = Simulation(3).begin()
    sim.freeze(1)
    sim.run(60_000)
    reply = sim.confirm_fenced(1)
    assert reply is not None and not reply.accepted and reply.code == "power-on"
    sim.run(60_000)
    assert sim.promote_calls() == []


def test_a_master_that_answers_after_the_confirmation_stops_it() -> None:
    """The operator was wrong: the machine only stood still. Its agent comes back before the last look is over."""
    sim = Simulation(3).begin()
    sim.set_bmc(1, BmcMode.UNREACHABLE)
    sim.freeze(1)
    sim.run_until(lambda: sim.record.failover is not None and bool(sim.record.failover.standstill.blocker), 180_000)
    reply = sim.confirm_fenced(1)
    assert reply is not None and reply.accepted
    sim.thaw(1)
    sim.run(120_000)
    assert sim.promote_calls() == []
    assert sim.masters() == ["h1"]
    assert sim.verdict == "Healthy"


def test_a_confirmation_does_not_outlive_the_collector() -> None:
    """After a restart nobody knows how old it is: it has to be said again."""
    sim = blocked()
    sim.confirm_fenced(1)
    sim.kill_collector(restart_after_ms=1_000)
    sim.run(120_000)
    assert sim.promote_calls() == []
    reply = sim.confirm_fenced(1)
    assert reply is not None and reply.accepted
    sim.run_until(lambda: sim.healed("h2"), 120_000)
    assert len(sim.ledger.of(Kind.DECIDED)) == 1


def test_the_bmc_comes_back_and_nobody_needs_to_be_asked() -> None:
    sim = blocked()
    sim.set_bmc(1, BmcMode.TRUE)
    sim.run_until(lambda: sim.healed("h2"), 180_000)
    assert sim.ledger.of(Kind.PROOF)[-1].data["kind"] == "power"
