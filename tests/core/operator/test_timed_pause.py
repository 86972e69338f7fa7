"""A pause with a time: never over early, over restarts of the collector too, and never made shorter by another one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolwarden_collector.core.engine import step
from poolwarden_collector.core.model.durations import in_words
from poolwarden_collector.core.model.effects import Reply
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.events import Event, OperatorSaid, Tick
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.operator.pauses import LONGEST_MS
from poolwarden_collector.core.report.status import status
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.pool_record import PoolRecord, fold

HOUR = 3_600_000
UUID = "aaaaaaaa-0000-4000-8000-000000000001"


class Paused:
    """One pool and its journal; nobody is heard, which a pause does not ask for."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.site = Site(1, self.now, self.now, clock="boot-1")
        self.pool = Pool(PoolRecord(UUID), Policy())
        self.journal: list[Entry] = []

    def take(self, event: Event) -> Reply | None:
        done = step(self.pool, event, self.now, self.site)
        self.pool = done.pool
        self.journal += done.entries
        return next((effect for effect in done.effects if isinstance(effect, Reply)), None)

    def say(self, verb: str, actor: str = "anna", **args: str) -> Reply:
        reply = self.take(OperatorSaid("1", actor, verb, "", tuple(args.items())))
        assert reply is not None
        return reply

    def pause(self, lasts: int, **args: str) -> Reply:
        return self.say("pause", for_ms=str(lasts), **args)

    def after(self, ms: int) -> bool:
        """Is it paused then?"""
        self.now += ms
        self.take(Tick())
        return self.pool.record.paused is not None

    def restart(self, clock: str, now: int) -> None:
        self.now = now
        self.site = replace(self.site, epoch=self.site.epoch + 1, started_at=now, clock=clock)
        self.pool = Pool(fold(PoolRecord(UUID), self.journal), Policy())

    def told(self, kind: Kind) -> list[Entry]:
        return [entry for entry in self.journal if entry.kind is kind]


@pytest.fixture
def p() -> Paused:
    return Paused()


def test_it_is_over_by_itself_and_not_early(p: Paused) -> None:
    reply = p.pause(2 * HOUR, reason="new switch", until="2026-01-31 12:00 UTC")
    assert reply.accepted and reply.text.startswith("paused for 2 h, until about 2026-01-31 12:00 UTC: ")
    [entry] = p.told(Kind.PAUSED)
    assert entry.actor == "anna"
    assert entry.text == "paused by anna for 2 h, until about 2026-01-31 12:00 UTC: new switch"
    assert p.after(2 * HOUR - 1)
    assert status(p.pool, p.now, p.site).pause_left_ms == 1
    assert not p.after(1)
    [over] = p.told(Kind.RESUMED)
    assert (over.actor, over.text) == ("poolwarden", "resumed by itself: the 2 h of the pause are over")
    assert p.pool.record.pause_end is None and status(p.pool, p.now, p.site).pause_left_ms == 0


def test_a_plain_pause_lasts(p: Paused) -> None:
    assert p.say("pause").accepted
    assert p.after(400 * 24 * HOUR) and status(p.pool, p.now, p.site).pause_left_ms == 0


def test_what_was_paused_before_ends_with_resume_only(p: Paused) -> None:
    """An entry of an earlier version has no end."""
    p.journal.append(Entry(Kind.PAUSED, "paused", {"reason": "work"}))
    p.restart("boot-1", p.now)
    assert p.after(100 * HOUR)


def test_over_a_restart_on_the_same_machine_it_goes_on(p: Paused) -> None:
    p.pause(2 * HOUR)
    p.restart("boot-1", p.now + HOUR)
    assert p.after(HOUR - 1) and not p.after(1)


def test_over_a_restart_of_the_machine_it_counts_anew(p: Paused) -> None:
    """Its clock begins at nought there; nothing tells how much has passed."""
    p.pause(2 * HOUR, reason="new switch")
    p.restart("boot-2", 30_000)
    assert p.after(2 * HOUR - 1)
    first, anew = p.told(Kind.PAUSED)
    assert "count anew" in anew.text and anew.data["reason"] == "new switch"
    p.restart("boot-2", p.now)
    assert not p.after(1)


def test_time_that_a_clock_of_another_boot_shows_ends_nothing(p: Paused) -> None:
    p.pause(2 * HOUR)
    p.restart("boot-2", p.now + 100 * HOUR)
    assert p.after(0)


def test_a_pause_is_made_longer_without_a_gap_and_never_shorter(p: Paused) -> None:
    p.pause(2 * HOUR, reason="new switch")
    refused = p.say("pause", "bert", for_ms=str(HOUR))
    assert not refused.accepted and refused.code == "already-paused"
    assert refused.text == "the pool is paused already, for 2 h more: new switch"
    p.now += HOUR
    assert p.say("pause", "bert", for_ms=str(3 * HOUR)).accepted
    assert p.pool.record.paused == "new switch"
    assert p.after(3 * HOUR - 1)
    assert p.say("pause", "bert").accepted
    assert p.after(1) and p.after(100 * HOUR)
    assert p.say("pause", "bert", for_ms=str(HOUR)).code == "already-paused"
    assert p.say("pause", "bert").code == "already-paused"
    assert not p.told(Kind.RESUMED)


def test_resume_ends_it(p: Paused) -> None:
    p.pause(HOUR)
    assert p.say("resume", "bert").accepted
    assert not p.after(0) and not p.after(2 * HOUR)
    assert [entry.actor for entry in p.told(Kind.RESUMED)] == ["bert"]


def test_longer_than_a_month_is_no_pause(p: Paused) -> None:
    assert p.pause(LONGEST_MS + 1).code == "bad-duration" and p.pool.record.paused is None
    assert p.pause(LONGEST_MS).accepted


@pytest.mark.parametrize(
    ("ms", "words"), [(90_000, "1 min 30 s"), (5_400_000, "1 h 30 min"), (LONGEST_MS, "31 d"), (900, "0 s")]
)
def test_durations_in_words(ms: int, words: str) -> None:
    assert in_words(ms) == words
