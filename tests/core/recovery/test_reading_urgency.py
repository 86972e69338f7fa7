"""How urgent each reading of a fence device is, as the engine orders it: what a proof waits for goes first."""

from __future__ import annotations

import pytest
from tests.core.pool import Guarded, Host, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import Effect, Hasten, ReadPower, Urgency
from poolwarden_collector.core.model.power import Power


class Slow(Guarded):
    """The devices in ``held`` answer nothing until the test lets them."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.asked: list[ReadPower] = []
        super().__init__()

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, ReadPower):
            self.asked.append(effect)
            if effect.device in self.held:
                return
        super()._perform(effect)

    def answer(self, host: Host, power: Power | None = None) -> None:
        """The newest reading of this host's device has ended."""
        effect = next(each for each in reversed(self.asked) if each.host == host.uuid)
        self.feed(ev.PowerRead(effect.host, effect.run_id, host.read(effect, self.now, power)))

    def urgencies(self) -> list[Urgency]:
        return [effect.urgency for effect in self.asked if effect.host == uuid(1)]

    def until_asked(self, count: int) -> None:
        for _ in range(400):
            if len(self.urgencies()) >= count:
                return
            self.run(250)
        raise AssertionError(f"asked {len(self.urgencies())} times")


def test_by_day_nobody_waits_for_a_reading() -> None:
    g = Slow()
    assert g.asked and {effect.urgency for effect in g.asked} == {Urgency.ROUTINE}
    assert all(effect.monitor for effect in g.asked)


def test_the_first_reading_is_of_a_suspicion_and_the_second_of_a_proof() -> None:
    g = Slow()
    g.asked.clear()
    g.held, g.auto_answer = {"bmc-1"}, False  # nobody answers a claim, so the failover goes on waiting
    g.cut_power()
    g.until_asked(1)
    assert g.urgencies() == [Urgency.SUSPICION]
    g.answer(g.host(1))
    g.until_asked(2)
    assert g.urgencies()[1] is Urgency.PROOF
    g.answer(g.host(1))
    g.until_asked(3)
    assert g.urgencies()[2] > Urgency.PROOF  # it keeps the proof fresh, and lacks nothing


def test_a_device_that_does_not_tell_is_no_proof_that_lacks_one_reading() -> None:
    g = Slow()
    g.asked.clear()
    g.held = {"bmc-1"}
    g.cut_power()
    g.until_asked(1)
    g.answer(g.host(1), Power.UNKNOWN)
    g.until_asked(2)
    assert g.urgencies()[1] > Urgency.PROOF


@pytest.mark.slow
def test_a_reading_that_was_ordered_by_day_is_hastened_once_where_it_is_waited_for() -> None:
    g = Slow()
    g.held = {"bmc-1"}
    g.asked.clear()
    for _ in range(2_000):
        if g.urgencies():
            break
        g.run(1_000)
    assert g.urgencies() == [Urgency.ROUTINE]
    run = next(effect.run_id for effect in g.asked if effect.host == uuid(1))
    g.effects.clear()
    g.cut_power()
    g.run(25_000)
    hastened = [effect for effect in g.effects if isinstance(effect, Hasten)]
    assert [each.run_id for each in hastened] == [run] and hastened[0].urgency is Urgency.SUSPICION
