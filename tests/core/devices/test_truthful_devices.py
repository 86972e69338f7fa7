"""A device that told the truth is not called a liar for what happened after its reading began."""

from __future__ import annotations

import pytest
from tests.core.pool import QUIET, Guarded

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power


@pytest.mark.parametrize("boots_for, truthful", [(40_000, True), (25_000, True), (5_000, False)])
def test_a_xapi_that_answers_a_boot_later_makes_no_liar(boots_for: int, truthful: bool) -> None:
    """h1 was off; a person switches it on; its xapi answers the members before its agent is heard."""
    g = Guarded(policy=Policy(quiet_time=QUIET, mode="ask"))
    g.cut_power()
    g.run(40_000)
    assert not g.promoted() and g.pool.record.question is not None
    g.host(1).power = Power.ON
    g.run(boots_for)
    if not truthful:
        g.host(1).power = Power.OFF  # it reads OFF again, and seconds later its xapi answers: it lies
        g.run(20_000)
        g.host(1).power = Power.ON
    g.host(1).answers = True
    g.run(6_000)
    assert g.has(Kind.CONTRARY) and g.has(Kind.DEVICE_QUARANTINED) != truthful
    readings = g.pool.live.power["bmc-1"].readings
    assert not any(reading.power is Power.OFF for reading in readings), "void either way"


@pytest.mark.slow
def test_it_is_heard_in_its_new_boot_and_bound_again() -> None:
    g = Guarded(policy=Policy(quiet_time=QUIET, mode="ask"))
    g.cut_power()
    g.run(40_000)
    g.host(1).power = Power.ON
    g.run(40_000)
    g.host(1).answers = True
    g.run(6_000)
    g.host(1).boot, g.host(1).agent = "another-boot", True
    g.connect(g.host(1))
    g.run(400_000)
    bond = g.pool.record.devices.bonds["bmc-1"]
    assert bond.boot_id == "another-boot" and not g.pool.record.devices.quarantined
