"""xapi itself can leave a pool without any master; then every host's word together is what a successor may rest on."""

from poolwarden_collector.core.model.entries import Kind
from poolwarden_lab.virtual.world.pool import Simulation


def yielded() -> Simulation:
    """The successor and the returned old master start at the same time; each finds the other and makes way."""
    sim = Simulation(3, boot_gate=False).begin()  # an agent without a gate
    sim.power_off(1)
    sim.run_until(lambda: sim.has(Kind.PROMOTE_ANSWER), 60_000)
    sim.pool.boot_ms = 0
    sim.run_until(lambda: len(sim.pool.events("xapi-start", "h2")) == 2, 60_000)
    sim.power_on(1)
    sim.run(20_000)
    assert sim.masters() == [], "the story does not lead to a pool without a master any more"
    return sim


def test_two_masters_that_yield_to_each_other_are_succeeded_by_everybodys_word() -> None:
    sim = yielded()
    sim.run_until(lambda: sim.verdict == "Healthy" and not sim.record.owed, 300_000)
    proofs = [entry.data["kind"] for entry in sim.ledger.of(Kind.PROOF)]
    assert proofs == ["power", "roles"] and len(sim.masters()) == 1
    assert not sim.record.devices.quarantined  # the device told the truth: the old master came back in another boot


def test_while_one_host_is_not_heard_nobody_is_promoted() -> None:
    sim = yielded()
    sim.isolate(3)
    sim.run(300_000)
    assert sim.masters() == [] and sim.verdict != "Healthy"
    assert not any(entry.data["kind"] == "roles" for entry in sim.ledger.of(Kind.PROOF))
    assert sim.record.open_alerts
