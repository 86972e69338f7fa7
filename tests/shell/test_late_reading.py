"""A collector that is late with reading: what it has not read is nobody's silence, wherever it waits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from poolwarden_collector.core.model.events import AgentReported, GateAsked, Tick
from poolwarden_collector.core.model.host_facts import HostFacts
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.shell.agents.budgets import FOLD_MS
from poolwarden_collector.shell.agents.gateway import TRANSIT_MS, Gateway
from poolwarden_collector.shell.queue.inbox import Inbox

from .rig import HOSTS, POOL

OTHER = "aaaaaaaa-0000-4000-8000-000000000002"
NOW = 100_000


@pytest.mark.asyncio
async def test_an_event_carries_until_when_the_streams_had_been_read_as_it_came() -> None:
    """A tick that comes while reports wait unread stands before them: later reading makes it no newer."""
    inbox = Inbox(lambda: NOW)
    inbox.streams_read(NOW - 4_000)
    inbox.post(POOL, Tick())
    inbox.streams_read(NOW)
    inbox.post(OTHER, Tick())
    assert inbox.oldest() == NOW - 4_000 and inbox.age() == 4_000
    assert inbox.waited() == 0, "the engine has not kept it waiting"
    first, second = await inbox.next(), await inbox.next()
    assert first is not None and second is not None
    assert (first.at, second.at, inbox.oldest()) == (NOW - 4_000, NOW, None)


@pytest.mark.asyncio
async def test_of_a_pool_one_of_whose_streams_is_late_less_has_been_read() -> None:
    inbox = Inbox(lambda: NOW)
    inbox.streams_read(NOW - 100, {POOL: NOW - 7_000})
    for pool in (POOL, OTHER):
        inbox.post(pool, Tick())
    assert [(await inbox.next()).at for _ in (POOL, OTHER)] == [NOW - 7_000, NOW - 100]  # type: ignore[union-attr]


class Door:
    """A gateway of which only what it has read is looked at."""

    def __init__(self) -> None:
        self.posted: list[Any] = []
        inbox = SimpleNamespace(post=lambda pool, event: self.posted.append((pool, event)) or True)
        self.gateway = Gateway(SimpleNamespace(now=lambda: NOW, one_of_several=False), inbox, None, None)  # type: ignore[arg-type]

    def read(self, *transits: int, pool: str = POOL, at: int = NOW) -> None:
        known = len(self.gateway._transits)
        self.gateway._transits |= {known + n: (at, transit, pool) for n, transit in enumerate(transits)}


def test_how_late_it_reads_is_told_by_most_streams_and_of_a_pool_by_each() -> None:
    door = Door()
    assert door.gateway.lag() == (0, {})
    door.read(10, 20, 9_000)
    assert door.gateway.lag() == (20, {POOL: 9_000}), "one of few: it may be slow by itself, or lie"
    door.read(8_000, pool=OTHER)
    assert door.gateway.lag() == (8_000, {POOL: 9_000, OTHER: 8_000})
    door.read(*[5] * 96, pool="c")
    assert door.gateway.lag()[0] == 5 and door.gateway.lag()[1][POOL] == 9_000


def test_what_was_read_long_ago_tells_nothing_and_no_stamp_holds_a_pool_for_long() -> None:
    door = Door()
    door.read(9_000, 9_000, at=NOW - TRANSIT_MS - 1)
    assert door.gateway.lag() == (0, {})
    door.read(10, 10**9)
    assert door.gateway.lag() == (10, {POOL: TRANSIT_MS})


@pytest.mark.parametrize(("ago", "handed_on"), [(FOLD_MS - 1, 0), (FOLD_MS, 1), (FOLD_MS + 5_000, 1)])
def test_a_report_that_is_kept_back_is_handed_on_when_its_wait_is_over(ago: int, handed_on: int) -> None:
    door = Door()
    report = AgentReported(HOSTS[0], 1, HostFacts())
    session: Any = SimpleNamespace(folded=report, reported_at=NOW - ago, pool=POOL, state=SimpleNamespace(stream=1))
    door.gateway._folding[1] = session
    door.gateway.hand_on_due()
    assert door.posted == [(POOL, report)] * handed_on


@pytest.mark.parametrize(("untaken", "waited", "late"), [(200, 500, True), (200, 300, False), (20, 9_000, False)])
def test_agents_come_in_unless_many_events_wait_for_long(untaken: int, waited: int, late: bool) -> None:
    """That hosts of a pool wait at the door makes its events old, and must not keep them there."""
    now = NOW
    inbox = Inbox(lambda: now)
    inbox.streams_read(NOW, {POOL: NOW - 60_000})
    for n in range(untaken):
        inbox.post(POOL, GateAsked(f"h{n}", 1, "b", Role.MASTER, ""))
    now += waited
    gateway = Gateway(SimpleNamespace(now=lambda: now, one_of_several=False), inbox, None, None)  # type: ignore[arg-type]
    assert inbox.age() == 60_000 + waited and gateway._is_late() is late


@pytest.mark.parametrize(("unread", "waited", "late"), [(60, 500, True), (60, 300, False), (8, 9_000, False)])
def test_agents_come_in_unless_many_messages_wait_for_long(unread: int, waited: int, late: bool) -> None:
    door = Door()
    door.gateway._inbox = Inbox(lambda: NOW)
    door.gateway._reading._line |= {n: SimpleNamespace(arrived=NOW - waited) for n in range(unread)}  # type: ignore[misc]
    assert door.gateway._is_late() is late
    assert door.gateway._reading.oldest() == NOW - waited


def test_a_host_of_which_a_message_waits_is_not_silent_since_the_one_before() -> None:
    """gRPC gives the next message at once when one was read: by when it was given here it has come just now."""
    door = Door()
    door.gateway._roster.pools = {}  # type: ignore[misc,assignment]
    door.read(0, at=NOW - 20_000)
    door.read(0, pool=OTHER, at=NOW - 9_000)
    door.read(0, pool=OTHER, at=NOW - 15_000)
    assert door.gateway.unread() == (0, {})
    door.gateway._reading._line |= {  # type: ignore[misc]
        n: SimpleNamespace(arrived=NOW - 500) for n in (0, 1, 7)
    }
    assert door.gateway.unread() == (500, {POOL: 20_000, OTHER: 9_000}), "one has said nothing before"
