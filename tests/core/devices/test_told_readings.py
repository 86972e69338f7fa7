"""Which readings the journal is told: what says something else, the first two of a kind, and one an hour."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import Guarded

from poolwarden_collector.core.devices.told_readings import TELL_EVERY_MS, not_told, told
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.power import Power, PowerReading
from poolwarden_collector.core.state.live import PowerState

OFF = PowerReading(Power.OFF, "bmc-1", 0, 1)
ON = replace(OFF, power=Power.ON)
MUTE = replace(OFF, power=Power.UNKNOWN, text="no answer for 5 s")


def written(*readings: PowerReading, every: int = 5_000, failover: str = "f") -> list[int]:
    """Which of these are told, by their place."""
    state, found = PowerState(), []
    for place, reading in enumerate(readings):
        state, tell, _ = told(state, reading, failover, place * every)
        found += [place] if tell else []
    return found


def test_two_that_say_the_same_are_told_and_a_change_at_once() -> None:
    assert written(OFF, OFF, OFF, OFF) == [0, 1]
    assert written(OFF, OFF, OFF, ON, ON, ON, OFF) == [0, 1, 3, 4, 6]
    assert written(OFF, OFF, OFF, replace(OFF, through="h2"), OFF) == [0, 1, 3, 4]


def test_a_device_that_fails_every_other_time_is_not_told_at_each() -> None:
    assert written(OFF, MUTE, OFF, MUTE, OFF, MUTE, OFF, MUTE) == [0, 1, 2, 3]
    assert written(OFF, OFF, OFF, MUTE, OFF, ON) == [0, 1, 3, 5]


def test_a_number_of_seconds_is_no_change_and_another_reason_is() -> None:
    texts = [replace(MUTE, text=f"no answer for {seconds} s") for seconds in (5, 6, 71, 800)]
    assert written(*texts) == [0, 1]
    assert written(*texts, replace(MUTE, text="wrong password")) == [0, 1, 4]


def test_once_an_hour_it_says_how_many_there_were() -> None:
    state, said = PowerState(), []
    for at in range(0, 2 * TELL_EVERY_MS + 20_000, 5_000):
        state, tell, same = told(state, OFF, "f", at)
        said += [same] if tell else []
    assert said == [0, 0, 719, 719]


@pytest.mark.parametrize("failover", ["", "g"])
def test_another_failover_is_told_anew(failover: str) -> None:
    state = PowerState()
    for _ in range(3):
        state, tell, _ = told(state, OFF, "f", 0)
    assert not tell and told(state, OFF, failover, 0)[1]
    assert told(not_told(state), OFF, "f", 0)[1]


@pytest.mark.slow
def test_a_host_that_was_heard_in_between_is_told_anew() -> None:
    g = Guarded(devices=True)

    def readings() -> int:
        return len([entry for entry in g.journal if entry.kind is Kind.POWER_READING])

    g.on_order = lambda host, order: None if order.kind_name == "claim" else g.default(host, order)
    g.cut_power(1)
    g.run(200_000)
    before = readings()
    assert before < 12 and g.pool.live.power["bmc-1"].told.times > 20
    g.run(60_000)
    assert readings() == before
