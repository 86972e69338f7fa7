"""A failover that waits for a person writes when something changes, and once an hour."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest
from tests.core.pool import Guarded
from tests.simulation import test_standstills as standstills

from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.power import Power

HOUR_MS = 3_600_000


class _Reached(Exception):
    """The stand-still is there; with the pool that stands still."""

    def __init__(self, pool: Guarded) -> None:
        super().__init__()
        self.pool = pool


def stood(make: Callable[[], Guarded]) -> Guarded:
    """The pool of a stand-still of the table, at the moment in which it begins."""
    reach = standstills.until

    def until(g: Guarded, blocker: Blocker) -> None:
        reach(g, blocker)
        raise _Reached(g)

    with mock.patch.object(standstills, "until", until), pytest.raises(_Reached) as reached:
        make()
    return reached.value.pool


def needs_human() -> Guarded:
    """NEEDS_HUMAN: nobody can read the old master's power."""
    g = Guarded(devices=False)
    g.cut_power()
    standstills.until(g, Blocker.NEEDS_HUMAN)
    return g


def unreadable() -> Guarded:
    """NEEDS_HUMAN: its device does not answer, and says so in other words each time."""
    g = Guarded()
    g.cut_power()
    g.host(1).power = Power.UNKNOWN
    standstills.until(g, Blocker.NEEDS_HUMAN)
    return g


def asked() -> Guarded:
    """It reads on, is read every few seconds, and nobody answers whether it shall be powered off."""
    g = Guarded()
    g.cut_power()
    g.host(1).power = Power.ON
    g.run(120_000)
    assert g.pool.record.question is not None
    raise _Reached(g)


def no_claim() -> Guarded:
    """NO_CLAIM: it is off, read every few seconds, and no member answers a claim."""
    g = Guarded()
    g.on_order = lambda host, order: None if order.kind_name == "claim" else g.default(host, order)
    g.cut_power()
    standstills.until(g, Blocker.NO_CLAIM)
    return g


AN_HOUR = {"needs-human": needs_human, "unreadable": unreadable}
A_THIRD = {
    "asked": asked,
    "no-claim": no_claim,
    **{blocker.value: make for blocker, make in standstills.IN_THE_CORE.items()},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", AN_HOUR)
def test_an_hour_of_waiting_is_a_line_a_device(name: str) -> None:
    g = stood(AN_HOUR[name])
    settled(g)
    assert len(waited(g, HOUR_MS)) <= len(g.pool.devices)


@pytest.mark.slow
@pytest.mark.parametrize("name", A_THIRD)
def test_a_third_of_it_is_none(name: str) -> None:
    g = stood(A_THIRD[name])
    settled(g)
    assert len(waited(g, HOUR_MS // 3)) == 0


def settled(g: Guarded) -> None:
    """What the stand-still brings about by itself has come: a few lines."""
    before = len(g.journal)
    g.run(600_000, tick=2_000)
    assert len(g.journal) - before < 15


def waited(g: Guarded, ms: int) -> list[Entry]:
    """What is written meanwhile: readings alone."""
    before = len(g.journal)
    g.run(ms, tick=2_000)
    written = g.journal[before:]
    assert [entry.text for entry in written if entry.kind is not Kind.POWER_READING] == []
    return written
