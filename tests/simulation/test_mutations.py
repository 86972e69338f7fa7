"""Can the checks fail? Each rule is switched off once, and the story that relies on it must break."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.simulation.test_orders import deliver, promote, stored_term, watched_after_a_claim

from poolwarden_agent.core import order_gate
from poolwarden_collector.core.decision import kill_forecast
from poolwarden_collector.core.devices.power_view import counting
from poolwarden_collector.core.evidence import proof
from poolwarden_collector.core.failover import last_look, promotion
from poolwarden_collector.core.model.entries import Kind
from poolwarden_lab.virtual.checks.invariants import InvariantBroken
from poolwarden_lab.virtual.collector.ledger import Ledger
from poolwarden_lab.virtual.world.bmc import BmcMode
from poolwarden_lab.virtual.world.pool import Simulation
from poolwarden_lab.xapi.actions import Answer

BETWEEN_THE_READINGS_MS = 3_200


def a_stall_with_a_lying_bmc() -> Simulation:
    """dom0 stands still, its BMC says OFF, and it goes on right before the second reading."""
    sim = Simulation(3).begin()
    sim.set_bmc(1, BmcMode.LIES_OFF)
    sim.freeze(1)
    sim.run_until(lambda: sim.has(Kind.POWER_READING), 60_000)
    sim.run(BETWEEN_THE_READINGS_MS)
    sim.thaw(1)
    sim.run(60_000)
    return sim


def test_the_second_reading_is_what_saves_a_stalled_master(monkeypatch: pytest.MonkeyPatch) -> None:
    assert a_stall_with_a_lying_bmc().promote_calls() == []

    def one_is_enough(d: Any, device: Any) -> Any:
        run = [reading for reading in counting(d, device.name) if reading.power.value == "off"]
        return (run[-1], run[-1]) if run else proof.NoProof("POWER_UNKNOWN", "no reading")

    monkeypatch.setattr(proof, "_two_off", one_is_enough)
    monkeypatch.setattr(last_look, "paired_since", lambda d, host: 0)
    with pytest.raises(InvariantBroken, match="I1 "):
        a_stall_with_a_lying_bmc()


def test_the_term_is_what_stops_an_order_of_a_succession_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def an_old_promotion() -> Simulation:
        sim = watched_after_a_claim()
        order = promote(sim, 2)
        order.term = stored_term(sim, 2) - 1
        deliver(sim, 2, order)
        return sim

    assert an_old_promotion().promote_calls() == []
    monkeypatch.setattr(order_gate, "_numbers", lambda state, order: None)
    with pytest.raises(InvariantBroken, match="I2 "):
        an_old_promotion()


def a_master_that_returns_while_nobody_looks() -> Simulation:
    """The collector dies right after the promote intent; until it is back the old master has booted and serves."""
    sim = Simulation(3).begin()
    sim.pool.boot_ms = 5_000
    sim.restart_after_ms = 70_000

    def dies(point: Any) -> bool:
        return point.what == "commit" and point.when == "after" and "promote-intent" in point.names

    assert sim.shell is not None
    sim.shell.saboteur = dies
    sim.power_off(1)
    sim.run_until(lambda: sim.kills_of_collector == 1, 60_000)
    sim.power_on(1)
    sim.run(300_000)
    return sim


def test_the_proof_is_renewed_before_an_order_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sim = a_master_that_returns_while_nobody_looks()
    assert sim.promote_calls() == []
    assert sim.masters() == ["h1"]
    assert sim.has(Kind.SUPERSEDED)
    monkeypatch.setattr(promotion, "renewed", lambda d, failover: True)
    monkeypatch.setattr(promotion, "_outlived", lambda d, failover: None)
    monkeypatch.setattr(promotion, "find_proof", lambda d, failover: failover.proof)
    monkeypatch.setattr(promotion, "looked", lambda d, failover, proof: True)
    monkeypatch.setattr(promotion, "last_look", lambda d, failover, proof: "")
    monkeypatch.setattr(promotion, "unsuperseded_masters", lambda d: ())
    assert a_master_that_returns_while_nobody_looks().promote_calls() == ["h2"]


def power_loss() -> Simulation:
    sim = Simulation(3).begin()
    sim.power_off(1)
    sim.run(90_000)
    return sim


def test_an_effect_before_its_record_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that performs effects without committing first."""
    power_loss()
    commit: Callable[[Ledger, Any], None] = Ledger.commit

    def forgets(self: Ledger, entry: Any) -> None:
        if any(e.kind is Kind.PROMOTE_INTENT for e in entry.entries):
            raise OSError(28, "No space left on device")
        commit(self, entry)

    monkeypatch.setattr(Ledger, "commit", forgets)
    sim = power_loss()
    assert sim.promote_calls() == [] and sim.shell is not None and sim.shell.refused_commits > 0
    monkeypatch.setattr("poolwarden_lab.virtual.collector.shell.SimShell._commit", lambda *_: True)
    with pytest.raises(InvariantBroken, match="I6 "):
        power_loss()


def a_vm_that_started_after_the_copies() -> Simulation:
    """It runs on h3, and the copies on the members do not know it: h3's xapi would terminate it at its next start."""
    sim = Simulation(3).begin()
    session = sim.pool.call_now("h1", "unix", "session.login_with_password", ("root", "", "1.0", "test"))
    assert isinstance(session, Answer)
    vm = ("11111111-0000-4000-8000-000000000000", "new", sim.uuid(3))
    sim.pool.call("h1", "unix", "lab.vm_start", (session.value, *vm), lambda _: None)
    sim.run(6_000)
    sim.power_off(1)
    sim.run(200_000)
    return sim


def test_the_kill_forecast_is_what_saves_a_new_vm(monkeypatch: pytest.MonkeyPatch) -> None:
    sim = a_vm_that_started_after_the_copies()
    assert sim.promote_calls() == [] and list(sim.host(3).domains.domains().values()) == ["new"]
    monkeypatch.setattr(kill_forecast, "kills_on", lambda d, host, loads: ())
    with pytest.raises(InvariantBroken, match="I17 "):
        a_vm_that_started_after_the_copies()


def test_a_lie_that_nobody_can_contradict_is_seen_by_the_simulation_as_two_masters() -> None:
    """A bound BMC lies for as long as the proof takes, about a host that nobody else can see: beyond any proof."""
    sim = Simulation(3).begin()
    sim.set_bmc(1, BmcMode.LIES_OFF)
    sim.isolate(1)
    with pytest.raises(InvariantBroken, match="I1 .* h1 and h2 serve as master"):
        sim.run(120_000)
