"""Alerts, silences and occasions of hooks when a pool changes its collector amid them; real SQLite files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core.model import effects as fx
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.occasion import Occasion
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.cluster import telling
from poolwarden_collector.shell.cluster.etcd import Kept, carry_out
from poolwarden_collector.shell.store import silences
from poolwarden_collector.shell.store.audit import Waiting
from poolwarden_collector.shell.store.hook_queue import DONE, HookRun, Outcome
from poolwarden_collector.shell.store.journal import JournalError

from .rig import POOL
from .shared import One, gives, two

pytestmark = pytest.mark.asyncio
KEY = f"{POOL}/storage"
RAISED = fx.AlertRaised(KEY, "critical", "storage is gone", "of h1", {"message": "pool-split"})
OVER = fx.AlertResolved(KEY, "it is back")
TICK = ev.Tick()


def told(one: One, *, but: Iterable[str] = ()) -> list[str]:
    """Deliver all that waits, but for these channels; what was told, by its key for receivers."""
    found = []
    while waiting := [each for each in one.archive.journal.parcels() if each.sink not in but]:
        for parcel in waiting:
            assert parcel.payload["occurrence"] == parcel.occurrence
            one.archive.journal.delivered(parcel, Entry(Kind.ALERT_DELIVERED, "told", {"key": parcel.key}))
            found.append(f"{parcel.sink} {parcel.delivery_key.removeprefix(POOL)}")
    return found


def opened(one: One) -> dict[str, int]:
    with one.archive.journal._reading() as db:
        return {row["key"]: row["occurrence"] for row in db.query("SELECT * FROM alerts WHERE resolved_at = ''")}


@asynccontextmanager
async def owned(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *sinks: str
) -> AsyncIterator[tuple[One, One, Callable[[One, fx.AlertRaised | fx.AlertResolved], Any]]]:
    """Two collectors with these channels, of which the first owns the pool; and how one says something of an alert."""
    async with two(folder, monkeypatch) as (a, b, cluster):
        for each in (a, b):
            each.archive.journal.sinks = sinks or ("mail",)
            each.model = cluster.model  # type: ignore[attr-defined]
            hooks = replace(each.config.hooks, directory=folder)
            each.roster.config = replace(each.roster.config, hooks=hooks)

        async def says(one: One, alert: fx.AlertRaised | fx.AlertResolved) -> None:
            gives(monkeypatch, alerts=(alert,))
            await one.take(TICK)

        await a.owns()
        yield a, b, says


async def goes(a: One, b: One) -> None:
    """Its lease ends, and the other one takes the pool over."""
    await a.service.lose(POOL, "its lease has ended")
    await asyncio.gather(*a.service._beside)
    await carry_out(a.collector.to, a.collector.member.leave())
    await b.owns()
    await a.collector.joined()


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("noted", [False, True])
async def test_what_is_open_is_told_once_more_at_most_and_its_end_by_whoever_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: bool, folded: bool
) -> None:
    async with owned(tmp_path, monkeypatch) as (a, b, says):
        await says(a, RAISED)
        (number,) = opened(a).values()
        assert told(a) == [f"mail /storage/{number}/firing"]
        if noted:
            await a.service.note_told()
        if folded:
            await a.store.fold(POOL, a.roster.pools[POOL].record)
        await goes(a, b)
        assert not opened(a) and opened(b) == {KEY: number}
        assert told(b) == ([] if noted else [f"mail /storage/{number}/firing"])
        await says(b, OVER)
        assert told(b) == [f"mail /storage/{number}/resolved"] and not told(a)


@pytest.mark.slow
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("noted", [False, True])
async def test_an_end_that_nobody_has_told_is_told_by_the_taker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: bool, folded: bool
) -> None:
    """It is in etcd, and its collector dies before its channel took it."""
    async with owned(tmp_path, monkeypatch) as (a, b, says):
        await says(a, RAISED)
        (number,) = opened(a).values()
        told(a)
        await a.service.note_told()
        await says(a, OVER)
        if noted:
            assert told(a) == [f"mail /storage/{number}/resolved"]
            await a.service.note_told()
        if folded:
            await a.store.fold(POOL, a.roster.pools[POOL].record)
        await goes(a, b)
        assert not opened(b)
        assert told(b) == ([] if noted else [f"mail /storage/{number}/resolved"])
        await b.service.note_told()
        await goes(b, a)
        assert not told(a)


async def test_an_alert_that_ended_elsewhere_is_raised_anew_when_it_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with owned(tmp_path, monkeypatch) as (a, b, says):
        await says(a, RAISED)
        (first,) = opened(a).values()
        told(a)
        a.archive.full = True  # also where nothing could be put right when the pool went
        a.archive.journal.give_up = lambda *_: None  # type: ignore[method-assign]
        await goes(a, b)
        assert opened(a) == {KEY: first}
        told(b)
        await says(b, OVER)
        told(b)
        await b.service.note_told()
        a.archive.full = False
        await goes(b, a)
        assert not opened(a) and not told(a)
        await says(a, RAISED)
        (second,) = opened(a).values()
        assert second > first and told(a) == [f"mail /storage/{second}/firing"]


async def test_back_where_it_was_told_it_is_told_nobody_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with owned(tmp_path, monkeypatch) as (a, b, says):
        await says(a, RAISED)
        (number,) = opened(a).values()
        await goes(a, b)
        assert not told(a), "who has lost the pool tells nothing of it"
        assert told(b) == [f"mail /storage/{number}/firing"]
        await b.service.note_told()
        await goes(b, a)
        assert opened(a) == {KEY: number} and not told(a)
        await says(a, RAISED)
        assert opened(a) == {KEY: number}


async def test_who_has_told_the_end_itself_does_not_tell_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was noted of it, and the next owner is gone before he notes anything."""
    async with owned(tmp_path, monkeypatch) as (a, b, says):
        await says(a, RAISED)
        told(a)
        await says(a, OVER)
        assert len(told(a)) == 1
        await goes(a, b)
        assert len(told(b)) == 2
        await goes(b, a)
        assert not told(a) and not opened(a)


async def test_a_channel_that_was_not_told_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One does not take anything at the first owner's; another one is the second owner's alone."""
    async with owned(tmp_path, monkeypatch, "mail", "pager") as (a, b, says):
        await says(a, RAISED)
        (number,) = opened(a).values()
        told(a, but=("pager",))
        await a.service.note_told()
        await goes(a, b)
        assert told(b) == [f"pager /storage/{number}/firing"]
        await b.service.note_told()
        a.archive.journal.sinks = ("mail", "pager", "chat")
        await goes(b, a)
        assert told(a) == [f"chat /storage/{number}/firing"]


def ends(one: One) -> list[str]:
    """When the alerts that are over here ended."""
    return [row["resolved_at"] for row in one.archive.journal._db.query("SELECT * FROM alerts WHERE resolved_at != ''")]


@pytest.mark.slow
@pytest.mark.parametrize("folded", [False, True])
async def test_a_channel_that_takes_nothing_makes_no_other_hear_again_what_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folded: bool
) -> None:
    """Neither at a takeover nor at the next one; the broken one is told all of it once it takes it, as it was."""
    async with owned(tmp_path, monkeypatch, "log", "pager") as (a, b, says):
        numbers = []
        for _ in range(2):
            await says(a, RAISED)
            numbers += opened(a).values()
            await says(a, OVER)
            assert len(told(a, but=("log",))) == 2
            await a.service.note_told()
        over_at = [each.at for each in (await a.tail()).telling.ended]
        assert len(over_at) == 2
        if folded:
            await a.store.fold(POOL, a.roster.pools[POOL].record)
        monkeypatch.setattr(clock, "wall_text", lambda: "2101-01-01T00:00:00.000Z")
        await goes(a, b)
        assert told(b, but=("log",)) == [] and ends(b) == over_at and not opened(b)
        await b.service.note_told()
        await goes(b, a)
        assert told(a, but=("log",)) == [] and ends(a) == over_at
        waiting = [f"log /storage/{number}/{state}" for number in numbers for state in ("firing", "resolved")]
        assert told(a) == waiting
        rows = a.archive.journal._db.query("SELECT payload FROM outbox WHERE sink = 'log' AND state = 'resolved'")
        assert [json.loads(row["payload"])["resolved_at"] for row in rows] == over_at
        await a.service.note_told()
        assert not a.store.journal(POOL).telling.ended  # type: ignore[union-attr]
        await goes(a, b)
        assert not told(b)


async def test_a_channel_that_knows_the_beginning_alone_is_told_the_end_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another one is broken, and knows nothing."""
    async with owned(tmp_path, monkeypatch, "log", "pager") as (a, b, says):
        await says(a, RAISED)
        (number,) = opened(a).values()
        told(a, but=("log",))
        await a.service.note_told()
        await says(a, OVER)
        await goes(a, b)
        assert told(b) == [
            f"log /storage/{number}/firing",
            f"pager /storage/{number}/resolved",
            f"log /storage/{number}/resolved",
        ]


async def test_an_open_alert_is_told_again_to_no_channel_that_knows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with owned(tmp_path, monkeypatch, "log", "pager") as (a, b, says):
        await says(a, RAISED)
        (number,) = opened(a).values()
        told(a, but=("log",))
        await a.service.note_told()
        await goes(a, b)
        assert opened(b) == {KEY: number} and told(b) == [f"log /storage/{number}/firing"]
        await says(b, OVER)
        assert sorted(told(b)) == [f"{sink} /storage/{number}/resolved" for sink in ("log", "pager")]


async def test_who_comes_back_tells_no_end_again_that_it_has_told_while_a_channel_was_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was noted: it knows by itself what its channels took."""
    async with owned(tmp_path, monkeypatch, "log", "pager") as (a, b, says):
        await says(a, RAISED)
        (number,) = opened(a).values()
        await says(a, OVER)
        assert len(told(a, but=("log",))) == 2
        await goes(a, b)
        await goes(b, a)
        assert told(a) == [f"log /storage/{number}/{state}" for state in ("firing", "resolved")]


async def test_what_a_run_left_is_told_by_whoever_has_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was killed; at its start nothing waits, no alert is open, and none is reminded of."""
    async with owned(tmp_path, monkeypatch) as (a, b, says):
        await says(a, RAISED)
        assert opened(a) and a.archive.journal.pending()
        await a.service.begin()
        assert not opened(a) and not a.archive.journal.pending() and not told(a)


@pytest.mark.parametrize("folded", [False, True])
async def test_a_silence_and_who_sees_to_it_go_with_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folded: bool
) -> None:
    async with owned(tmp_path, monkeypatch) as (a, b, says):
        await says(a, RAISED)
        (alert,) = a.archive.journal._db.query("SELECT * FROM alerts")
        asked = silences.Asked("anna", "at work on it", 600_000)
        for call, entry in (
            (a.archive.journal.silence, silences.silenced(alert, asked, "later")),
            (a.archive.journal.take, silences.taken(alert, asked)),
        ):
            until = ("later",) if entry.kind is Kind.ALERT_SILENCED else ()
            await a.service.record(POOL, (entry,), (), call, alert, asked, *until)
        if folded:
            await a.store.fold(POOL, a.roster.pools[POOL].record)
        await goes(a, b)
        assert opened(b) == {KEY: alert["occurrence"]} and not told(b), "it is silenced"
        rows = list(b.archive.journal._db.query("SELECT * FROM alerts"))
        silences.mark(b.archive.journal._db, rows, silences.Clock(1))
        (row,) = rows
        assert row["taken"]["actor"] == "anna" and 590_000 < row["silence"]["left_ms"] <= 600_000
        assert not list(a.archive.journal._db.query("SELECT * FROM silences"))
        entry = silences.unsilenced(dict(row["silence"]), "silence ended by ben", "ben")
        await b.service.record(POOL, (entry,), (), b.archive.journal.unsilence, row, silences.Asked("ben"))
        assert told(b) == [f"mail /storage/{row['occurrence']}/firing"]
        await goes(b, a)
        assert not list(a.archive.journal._db.query("SELECT * FROM silences"))


@pytest.mark.parametrize(("behind_s", "left_s"), [(0, 600), (-400, 200), (-900, 0), (3_600, 600)])
async def test_a_silence_lasts_no_longer_than_was_asked_for_whatever_a_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind_s: int, left_s: int
) -> None:
    async with owned(tmp_path, monkeypatch) as (a, b, says):
        await says(a, RAISED)
        (alert,) = a.archive.journal._db.query("SELECT * FROM alerts")
        asked = silences.Asked("anna", "", 600_000)
        entry = silences.silenced(alert, asked, "later")
        await a.service.record(POOL, (entry,), (), a.archive.journal.silence, alert, asked, "later")
        wall = clock.wall_ms
        monkeypatch.setattr(clock, "wall_ms", lambda: wall() - behind_s * 1_000)
        await goes(a, b)
        found = [row["lasts_ms"] for row in b.archive.journal._db.query("SELECT * FROM silences")]
        assert [round(each / 1_000) for each in found] == ([left_s] if left_s else [])


async def test_while_etcd_does_not_answer_nothing_is_said_of_an_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with owned(tmp_path, monkeypatch) as (a, b, says):
        await says(a, RAISED)
        (alert,) = a.archive.journal._db.query("SELECT * FROM alerts")
        asked = silences.Asked("anna", "", 600_000)
        entry = silences.silenced(alert, asked, "later")
        model: Any = a.model  # type: ignore[attr-defined]
        model.deadline_ms = 50
        model.cut("a")
        with pytest.raises(JournalError, match="no endpoint"):
            await a.service.record(POOL, (entry,), (), a.archive.journal.silence, alert, asked, "later")
        model.heal("a")
        model.lose("a")
        await a.service.record(POOL, (entry,), (), a.archive.journal.silence, alert, asked, "later")
        assert POOL not in a.roster.stalls and len(list(a.archive.journal._db.query("SELECT * FROM silences"))) == 1
        await goes(a, b)
        with pytest.raises(JournalError, match="another collector's: ask that one"):
            await a.service.record(POOL, (entry,), (), a.archive.journal.silence, alert, asked, "later")


async def test_a_pool_that_is_lost_while_something_is_said_of_it_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with owned(tmp_path, monkeypatch) as (a, _, says):
        await says(a, RAISED)
        (alert,) = a.archive.journal._db.query("SELECT * FROM alerts")
        asked = silences.Asked("anna", "", 600_000)
        entry = silences.silenced(alert, asked, "later")
        model: Any = a.model  # type: ignore[attr-defined]
        model.deadline_ms = 20
        model.drop("a", 1_000)
        said = asyncio.ensure_future(
            a.service.record(POOL, (entry,), (), a.archive.journal.silence, alert, asked, "later")
        )
        async with asyncio.timeout(5):
            while POOL not in a.roster.stalls:
                await asyncio.sleep(0.01)
            await a.service.lose(POOL, "its lease has ended")
            with pytest.raises(JournalError, match="its lease has ended"):
                await said
        assert POOL not in a.roster.pools


async def test_what_a_collector_tells_of_itself_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the end of one would end the other's where both tell one receiver."""
    behind = fx.AlertRaised("collector/behind", "warning", "it is behind", "", {"message": "collector-behind"})
    async with owned(tmp_path, monkeypatch) as (a, b, _):
        for each in (a, b):
            each.archive.journal.one_of_several = True
            each.archive.journal.commit("", (), (behind,))
            each.archive.journal.commit("", (), (behind,))
        assert opened(a) == {"collector/a/behind": 1} and opened(b) == {"collector/b/behind": 1}
        assert a.archive.journal.own_key("collector/a/behind") == "collector/a/behind"
        await a.service.begin()
        assert opened(a) == {"collector/a/behind": 1}, "what is its own stays"
        a.archive.journal.commit("", (), (fx.AlertResolved("collector/behind", "it has kept up"),))
        assert not opened(a) and opened(b)
        b.archive.journal.one_of_several = False
        assert b.archive.journal.own_key("collector/behind") == "collector/behind"


# ------------------------------------------------------------------------------------------------ hooks


def queued(one: One) -> list[tuple[int, str]]:
    return [(each.payload["id"], each.event) for each in one.archive.journal.hook_events()]


def ran(one: One) -> None:
    for event in one.archive.journal.hook_events():
        one.archive.journal.hook_ran(event, "dns", Outcome(HookRun(DONE, 1), "done"))
        one.archive.journal.hook_event_over(event.id)


@pytest.mark.slow
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("noted", [False, True])
async def test_an_occasion_of_hooks_goes_with_the_pool_under_its_own_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: bool, folded: bool
) -> None:
    async with owned(tmp_path, monkeypatch) as (a, b, _):
        occasion = Occasion("promoted", {"master": {"uuid": "h1", "name": "h1", "address": "192.0.2.1"}})
        monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.found_occasions", lambda *_: (occasion,))
        gives(monkeypatch)
        await a.take(TICK)
        monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.found_occasions", lambda *_: ())
        ((number, _),) = queued(a)
        assert number == a.store.journal(POOL).last  # type: ignore[union-attr]
        if noted:
            ran(a)
            await a.service.note_told()
        if folded:
            await a.store.fold(POOL, a.roster.pools[POOL].record)
        await goes(a, b)
        assert queued(b) == ([] if noted else [(number, "promoted")]) and not queued(a)
        ran(b)
        await b.service.note_told()
        await goes(b, a)
        assert not queued(a)


async def test_an_alert_of_a_hook_is_one_of_its_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails at the first owner, and succeeds at the second one: whoever was told of it is told its end."""
    async with owned(tmp_path, monkeypatch) as (a, b, _):
        monkeypatch.setattr(
            "poolwarden_collector.shell.loop.engine_loop.found_occasions", lambda *_: (Occasion("closed", {}),)
        )
        gives(monkeypatch)
        await a.take(TICK)
        monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.found_occasions", lambda *_: ())
        key = f"{POOL}/hook-dns"
        failed = Outcome(HookRun("waits", 3), "no", (), (fx.AlertRaised(key, "warning", "it fails", "", {}),))
        (event,) = a.archive.journal.hook_events()
        await a.service.record(POOL, (), failed.alerts, a.archive.journal.hook_ran, event, "dns", failed)
        (number,) = opened(a).values()
        assert number == a.store.journal(POOL).last and told(a) == [f"mail /hook-dns/{number}/firing"]  # type: ignore[union-attr]
        await a.service.note_told()
        await goes(a, b)
        assert opened(b) == {key: number} and not told(b)
        (event,) = b.archive.journal.hook_events()
        done = Outcome(HookRun(DONE, 1), "yes", (), (fx.AlertResolved(key, "it has succeeded"),))
        await b.service.record(POOL, (), done.alerts, b.archive.journal.hook_ran, event, "dns", done)
        assert told(b) == [f"mail /hook-dns/{number}/resolved"] and not (await b.tail()).alerts


@pytest.mark.parametrize("folded", [False, True])
async def test_what_waits_for_a_second_person_goes_with_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folded: bool
) -> None:
    async with owned(tmp_path, monkeypatch) as (a, b, _):
        gives(monkeypatch)
        await a.take(TICK)
        now = silences.Clock(1)
        first = Waiting(
            "ab12", POOL, "confirm h1", "0a0b", "anna", "uid 5", "socket", now.now, now.now + 900_000, now.name
        )
        data = {"id": first.id, "what": first.what, "for_ms": 900_000}
        data |= {"request": first.request, "person": first.person, "source": first.source}
        entry = Entry(Kind.SECOND_AWAITED, "anna asks", data, actor="anna")
        await a.service.record(POOL, (entry,), (), a.archive.journal.second_waits, first, entry)
        if folded:
            await a.store.fold(POOL, a.roster.pools[POOL].record)
        await goes(a, b)
        assert not a.archive.journal.seconded()
        ((there, left),) = b.archive.journal.seconded()
        assert 890_000 < left <= 900_000
        kept = replace(there, asked_ms=first.asked_ms, expires_ms=first.expires_ms)
        assert kept == first
        over = Entry(Kind.SECOND_OVER, "ben too", {"id": first.id}, actor="ben")
        await b.service.record(POOL, (over,), (), b.archive.journal.second_over, there, over)
        await goes(b, a)
        assert not a.archive.journal.seconded()


async def test_an_occasion_that_was_run_by_nobody_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with owned(tmp_path, monkeypatch) as (a, b, _):
        monkeypatch.setattr(
            "poolwarden_collector.shell.loop.engine_loop.found_occasions", lambda *_: (Occasion("closed", {}),)
        )
        gives(monkeypatch)
        await a.take(TICK)
        before = queued(a)
        await goes(a, b)
        await goes(b, a)
        assert queued(a) == before and len(before) == 1


# ------------------------------------------------------------------------------------------------ how it is kept


async def test_what_is_to_be_told_is_bounded_and_read_back_as_it_was() -> None:
    alerts: dict[str, telling.OpenAlert] = {}
    so_far = telling.Telling()
    for number in range(1, 300, 2):
        telling.take_alerts(alerts, [RAISED], "2026-01-01T00:00:00.000Z", number)
        ended = telling.take_alerts(alerts, [OVER], "2026-01-01T00:00:01.000Z", number + 1)
        silenced = Entry(Kind.ALERT_SILENCED, "s", {"key": f"k{number}", "for_ms": 1}, actor="anna")
        so_far = telling.after(so_far, [silenced], ended, [Occasion("closed", {"n": number})], "t", number + 1)
    assert len(so_far.ended) == len(so_far.happened) == len(so_far.said) == telling.MOST
    assert so_far.ended[-1].number == 300 and so_far.ended[-1].alert.occurrence == 299
    assert telling.telling_of(telling.text_of(so_far)) == so_far
    later = telling.text_of(so_far)
    later["ended"][0]["a later field"] = 1
    assert telling.telling_of(later) == so_far
    left = so_far.without(telling.Told(298, ("mail",), 296))
    assert [each.number for each in left.ended] == [300] and [each.number for each in left.happened] == [298, 300]


async def test_an_acknowledgement_ends_with_its_alert_and_a_silence_with_its_end() -> None:
    taken = Entry(Kind.ALERT_ACKNOWLEDGED, "a", {"key": KEY}, actor="anna")
    silenced = Entry(Kind.ALERT_SILENCED, "s", {"key": KEY, "for_ms": 1}, actor="anna")
    waits = Entry(Kind.SECOND_AWAITED, "w", {"id": "ab", "for_ms": 1}, actor="anna")
    alerts: dict[str, telling.OpenAlert] = {}
    telling.take_alerts(alerts, [RAISED], "t", 1)
    so_far = telling.after(telling.Telling(), [taken, silenced, waits], (), (), "t", 2)
    assert len(so_far.said) == 3
    so_far = telling.after(so_far, [], telling.take_alerts(alerts, [OVER], "t", 3), (), "t", 3)
    assert [each.kind for each in so_far.said.values()] == ["alert-silenced", "second-awaited"]
    over = [Entry(Kind.ALERT_UNSILENCED, "", {"key": KEY}), Entry(Kind.SECOND_OVER, "", {"id": "ab"})]
    assert not telling.after(so_far, over, (), (), "t", 4).said


@pytest.mark.parametrize("value", [b"", b"[]", b"7", b'{"alerts": "many"}', b'{"by_channel": [1]}'])
async def test_a_mark_that_cannot_be_read_has_all_told_again(value: bytes) -> None:
    kept: Any = type("Kept", (), {"value": value})()
    assert telling.told_of(kept) == telling.Told() == telling.told_of(None)


async def test_a_mark_goes_by_channel_and_one_of_an_earlier_release_is_read() -> None:
    def read(text: bytes) -> telling.Told:
        return telling.told_of(Kept("k", text, 1, 1, 1))

    before = read(b'{"alerts": 7, "channels": ["log", "pager"], "hooks": 3}')
    assert before == telling.Told(7, ("log", "pager"), 3) and before.each() == {"log": 7, "pager": 7}
    held_up = before.later(9, ("pager",), ("log", "pager"), hooks=False)
    assert (held_up.alerts, held_up.channels, held_up.hooks) == (7, ("log", "pager"), 3)
    assert held_up.each() == {"log": 7, "pager": 9} and read(telling.told_text(held_up)) == held_up
    new = held_up.later(12, ("pager",), ("log", "pager", "chat"), hooks=True)
    assert new.each() == {"log": 7, "pager": 12, "chat": 0} and (new.alerts, new.hooks) == (7, 12)
    assert new.channels == ("log", "pager"), "all up to there was told to these alone"
    mended = new.later(12, ("log", "pager", "chat"), ("log", "pager", "chat"), hooks=True)
    assert mended.alerts == 12 and set(mended.each().values()) == {12}
    assert mended.later(14, ("log",), ("log",), hooks=True).each() == {"log": 14}
    assert telling.Told().later(5, (), (), hooks=True) == telling.Told(5, (), 5)
