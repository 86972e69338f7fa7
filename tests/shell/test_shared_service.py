"""A step counts once etcd has it: doubt, loss, refusals, the archive behind it, pools that go between collectors."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.clusters import ModelCluster, RealCluster

from poolwarden_collector.core import engine
from poolwarden_collector.core.model import effects as fx
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.takeover import Takeover
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.cluster import commits, etcd, etcd_store
from poolwarden_collector.shell.cluster.commits import PoolTail
from poolwarden_collector.shell.cluster.etcd import carry_out
from poolwarden_collector.shell.cluster.handover import NotReleased, Released
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop import shared_service
from poolwarden_collector.shell.loop.stalls import AWAY_MS, RETRY_MS
from poolwarden_collector.shell.queue.happening import Happening
from poolwarden_collector.shell.store import journal_records
from poolwarden_collector.shell.store.archive_calls import reached
from poolwarden_collector.shell.store.journal import JournalError, Unwritable

from .rig import HOSTS, POOL, until
from .shared import ORDER, OTHER, PAUSE, One, Unanswered, gives, quiet, two

pytestmark = pytest.mark.asyncio

# ------------------------------------------------------------------------------------------------ durable in etcd first


async def test_a_step_is_in_etcd_and_then_in_the_archive_before_its_effects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, cluster):
        await a.owns()
        gives(monkeypatch, ORDER)
        before, silence = len(a.archived()), Unanswered(a, monkeypatch)
        await a.take(ev.Tick())
        assert not a.begun and len(a.archived()) == before
        silence.on = False
        await until(lambda: POOL not in a.service._open)
        tail = await a.tail()
        assert [entry.text for entry in tail.entries] == ["host 1 was seen"], (
            "what is this collector's alone is not there"
        )
        assert a.archived()[before:] == ["silence 1", "host 1 was seen"] and a.begun == [ORDER]
        assert tail.record == a.roster.pools[POOL].record
        with a.archive.journal._reading() as db:
            assert reached(db, POOL) == tail.last == 1


async def test_what_need_not_be_shared_does_not_wait_for_etcd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, cluster):
        await a.owns()
        cluster.model.cut("a")
        own = Entry(Kind.AGENT_SILENT, "silence", {"host": "h1", "silent_ms": 1})
        step = lambda pool, event, now, site: engine.StepResult(pool, (own,), (), ())  # noqa: E731
        monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", step)
        await a.take(ev.Tick())
        assert a.archived()[-1] == "silence" and not a.roster.stalls


async def test_an_alert_is_shared_with_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        alert = fx.AlertRaised("k", "warning", "title", "body", {})
        step = lambda pool, event, now, site: engine.StepResult(pool, (), (alert,), ())  # noqa: E731
        monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", step)
        await a.take(ev.Tick())
        assert [*(await a.tail()).alerts] == ["k"]


# ------------------------------------------------------------------------------------------------ doubt


async def test_while_a_steps_end_is_not_known_its_pool_stands_still_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, cluster):
        for pool in (POOL, OTHER):
            await a.owns(pool)
        gives(monkeypatch, ORDER)
        silence = Unanswered(a, monkeypatch)
        began = a.time
        await a.take(ev.Tick())
        assert a.roster.stalls == {POOL: "no answer"} and not a.begun
        assert any("NOTHING IS DECIDED OR DONE in pool" in text for text in a.roster.warnings())
        await a.take(ev.Tick(), OTHER)
        assert a.begun == [ORDER]
        # What comes for the pool waits; its commands are refused; another configuration is refused, and nothing hangs.
        await a.take(ev.AgentGone(HOSTS[0], 1))
        await a.take(PAUSE)
        await until(lambda: a.replies() == [(False, "journal")])
        change = on.Reconfiguration(a.config, {}, "anna")
        refused = await asyncio.wait_for(a.service.reconfigure(change, lambda: None), 5)
        assert refused is not None and "waits for etcd" in refused.why
        # Two minutes later it is known: what it rested on is too old, and what was silent was this collector.
        a.time += 120_000
        silence.on = False
        await until(lambda: POOL not in a.service._open)
        assert not a.roster.stalls and a.begun.count(ORDER) == 1
        assert quiet(a) == a.time and quiet(a, OTHER) == began
        waiting = await asyncio.wait_for(a.inbox.next(), 5)
        assert waiting == Happening(POOL, ev.AgentGone(HOSTS[0], 1))
        assert [entry.text for entry in (await a.tail()).entries] == ["host 1 was seen"]


async def test_a_short_doubt_costs_nothing_but_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        gives(monkeypatch, ORDER)
        began, silence = a.time, Unanswered(a, monkeypatch)
        await a.take(ev.Tick())
        a.time += 1_500
        silence.on = False
        await until(lambda: POOL not in a.service._open)
        assert a.begun == [ORDER] and quiet(a) == began and silence.asked >= 1


@pytest.mark.parametrize("fault", ["lose", "linger", "drop"])
async def test_whatever_becomes_of_an_answer_a_step_is_there_once_and_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, cluster):
        await a.owns()
        gives(monkeypatch, ORDER)
        usual, cluster.model.deadline_ms = cluster.model.deadline_ms, 30
        if fault == "linger":
            cluster.model.linger("a", 40)
        else:
            getattr(cluster.model, fault)("a", 2)
        await a.take(ev.Tick())
        cluster.model.deadline_ms = usual
        await until(lambda: POOL not in a.service._open)
        await a.take(ev.Tick())
        tail = await a.tail()
        assert [entry.text for entry in tail.entries] == ["host 1 was seen", "host 2 was seen"]
        assert a.begun == [ORDER, ORDER] and tail.record == a.roster.pools[POOL].record


async def test_an_etcd_that_was_never_reached_holds_up_its_pools_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, cluster):
        await a.owns()
        gives(monkeypatch, ORDER)
        usual, cluster.model.deadline_ms = cluster.model.deadline_ms, 10
        cluster.model.cut("a")
        gone = ev.AgentGone(HOSTS[0], 1)
        await a.take(gone)
        assert POOL in a.roster.stalls and not a.begun and a.roster.pools[POOL].record == PoolRecord(POOL)
        with monkeypatch.context() as at_rest:
            at_rest.setattr(a.service.loop._rests, "at_rest", lambda *_: True)
            a.service.loop._last_step = a.time + 1_000
            assert a.service.loop.due(a.time + 1_000) == (POOL,), "nobody would try again"
            a.service.loop._last_step = a.time
        await a.take(PAUSE)
        assert a.replies() == [(False, "journal")]
        a.time += RETRY_MS
        await a.take(ev.Tick())  # in vain
        assert POOL in a.roster.stalls
        cluster.model.heal("a")
        cluster.model.deadline_ms = usual
        a.time += AWAY_MS
        await a.take(ev.Tick())
        assert not a.roster.stalls and quiet(a) == a.time
        assert [entry.text for entry in (await a.tail()).entries] == ["host 3 was seen"]
        assert a.begun[-1] == ORDER and a.begun.count(ORDER) == 1


async def test_a_mistake_of_ours_is_neither_yes_nor_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        gives(monkeypatch, ORDER)

        async def broken(*_: object) -> None:
            raise AssertionError("a mistake")

        with monkeypatch.context() as mistaken:
            mistaken.setattr(etcd_store, "carry_out", broken)
            await a.take(ev.Tick())
            assert "a mistake" in a.roster.stalls[POOL] and not a.begun
        await until(lambda: POOL not in a.service._open)
        assert a.begun == [ORDER] and (await a.tail()).last == 1


async def test_nothing_is_begun_in_a_pool_that_is_being_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        gives(monkeypatch, ORDER)
        journal = a.store.journal(POOL)
        assert journal is not None
        journal.close("the pool is being given up")
        await a.take(ev.AgentGone(HOSTS[0], 1))
        assert a.roster.stalls == {POOL: "the pool is being given up"} and not a.begun
        journal.closed = ""  # it was not
        a.time += RETRY_MS
        await a.take(ev.Tick())
        assert a.begun == [ORDER] and not a.roster.stalls


# ------------------------------------------------------------------------------------------------ another's


async def deposed(a: One, b: One, cluster: ModelCluster) -> PoolTail:
    """a's lease is no more, and it has not heard of it; b owns the pool."""
    assert a.collector.member.standing is not None
    cluster.model.let_go(a.collector.member.standing.lease)
    return await b.owns()


@pytest.mark.parametrize("in_doubt", [False, True])
async def test_whoever_is_deposed_does_nothing_more_and_lets_the_pool_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_doubt: bool
) -> None:
    async with two(tmp_path, monkeypatch) as (a, b, cluster):
        for pool in (POOL, OTHER):
            await a.owns(pool)
        gives(monkeypatch, ORDER)
        silence = Unanswered(a, monkeypatch)
        silence.on = in_doubt
        if in_doubt:
            await a.take(PAUSE)
        await deposed(a, b, cluster)
        if in_doubt:
            silence.on = False
        else:
            await a.take(PAUSE)
        await until(lambda: a.lost)
        assert a.replies() == [(False, "stood-down")] and ORDER not in a.begun
        assert a.forgotten == a.lost == [POOL] and POOL not in a.roster.pools and not a.roster.stalls
        assert a.store.journal(POOL) is None and not (await b.tail()).entries
        await b.take(ev.Tick())
        assert b.begun == [ORDER] and b.roster.site(POOL).epoch > a.roster.site(OTHER).epoch


async def test_a_pool_that_is_lost_in_doubt_is_let_go_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        gives(monkeypatch, ORDER)
        Unanswered(a, monkeypatch)
        await a.take(ev.Tick())
        await asyncio.wait_for(a.service.lose(POOL, "its lease is gone"), 5)
        assert not a.begun and a.forgotten == [POOL] and not a.service._open and not a.service._sharing
        await a.service.lose(POOL, "again")
        assert POOL not in a.roster.pools


async def test_a_pool_that_is_lost_before_its_step_is_sent_is_let_go_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        gives(monkeypatch, ORDER)
        async with asyncio.timeout(5):  # in one turn of asyncio
            await a.service.take(Happening(POOL, PAUSE))
            await a.service.lose(POOL, "its lease is gone")
        assert a.replies() == [(False, "stood-down")] and ORDER not in a.begun and a.forgotten == [POOL]
        assert not a.service._open and not a.service._sharing and not (await a.tail()).entries


async def test_what_is_durable_when_its_pool_is_lost_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """etcd has it, the archive is slow: it is written there, and nothing is begun."""
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        gives(monkeypatch, ORDER)
        write, go_on = a.service.write, asyncio.Event()

        async def slow(*args: Any, **named: Any) -> Any:
            await go_on.wait()
            return await write(*args, **named)

        monkeypatch.setattr(a.service, "write", slow)
        await a.service.take(Happening(POOL, ev.Tick()))
        await until(lambda: a.service._writing is not None)
        losing = asyncio.ensure_future(a.service.lose(POOL, "its lease is gone"))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait_for(losing, 5)
        assert ORDER not in a.begun and a.archived()[-1] == "host 1 was seen" and POOL not in a.roster.pools


async def test_a_release_waits_for_the_end_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as (a, b, cluster):
        await a.owns()
        gives(monkeypatch, ORDER)
        silence = Unanswered(a, monkeypatch)
        await a.take(ev.Tick())
        leaving = asyncio.ensure_future(a.service.release(POOL, "it was moved"))
        await until(lambda: silence.asked > 2)
        assert not leaving.done()
        silence.on = False
        await asyncio.wait_for(leaving, 5)
        assert a.begun == [ORDER] and POOL not in a.roster.pools
        assert (await deposed(a, b, cluster)).last == 1


async def test_at_the_end_what_is_not_known_is_left_to_the_next_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        gives(monkeypatch, ORDER)
        Unanswered(a, monkeypatch)
        running = asyncio.ensure_future(a.service.run())
        a.inbox.post(POOL, ev.AgentGone(HOSTS[0], 1))
        await until(lambda: POOL in a.roster.stalls)
        a.inbox.post(POOL, ev.AgentGone(HOSTS[0], 2))
        a.inbox.end()
        await asyncio.wait_for(running, 5)
        assert not a.begun and not a.service._open


async def test_without_the_right_to_act_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        off, read = fx.PowerOff(HOSTS[0], "dev", "run-1"), fx.ReadPower(HOSTS[0], "dev", "run-2")
        gives(monkeypatch, ORDER, off, read)
        a.roster.right = lambda: "its lease was renewed last 7.0 s ago"
        await a.take(ev.Tick())
        assert a.begun == [read] and (await a.tail()).last == 1
        a.roster.right = str
        await a.take(ev.Tick())
        assert a.begun == [read, ORDER, off, read]


# ------------------------------------------------------------------------------------------------ the archive


@pytest.mark.parametrize("error", [JournalError, Unwritable])
async def test_a_step_that_the_archive_cannot_hold_has_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[JournalError]
) -> None:
    async with two(tmp_path, monkeypatch) as (a, b, cluster):
        await a.owns()
        gives(monkeypatch, ORDER)
        await a.take(ev.Tick())
        a.archive.full, a.archive.error = True, error
        await a.take(ev.Tick())
        assert a.begun == [ORDER, ORDER] and not a.roster.stalled and not a.roster.stalls
        assert any("history gets a hole" in text for text in a.roster.warnings()) and not a.service.alive()
        a.archive.full = False
        # As after a crash between the two: whoever takes the pool over again finds what is missing.
        assert (await deposed(a, b, cluster)).last == 2
        await a.take(ev.Tick())
        assert a.lost == [POOL]
        await carry_out(b.collector.to, b.collector.member.leave())
        await a.collector.joined()
        await a.owns()
        assert [text for text in a.archived() if "seen" in text] == ["host 1 was seen", "host 2 was seen"]
        await a.take(ev.Tick())
        assert not a.roster.unarchived and a.service.alive()


async def test_an_archive_that_is_full_keeps_nobody_from_taking_a_pool_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        a.archive.full = True
        await a.owns()
        gives(monkeypatch, ORDER)
        await a.take(ev.Tick())
        assert a.begun == [ORDER] and "disk is full" in a.roster.unarchived


async def test_what_no_etcd_takes_is_dropped_with_its_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        huge = Entry(Kind.HOST_SEEN, "x", {"host": "h", "name": object(), "address": ""})
        step = lambda pool, event, now, site: engine.StepResult(pool, (huge,), (), (ORDER,))  # noqa: E731
        monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", step)
        await a.take(PAUSE)
        assert a.replies() == [(False, "internal-error")] and ORDER not in a.begun and not a.roster.stalls
        gives(monkeypatch, ORDER)
        await a.take(ev.Tick())
        assert a.begun[-1] == ORDER and (await a.tail()).last == 1


async def test_each_archive_takes_in_what_others_have_recorded_once_and_names_what_it_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, b, cluster):
        await a.owns()
        gives(monkeypatch)
        for _ in range(2):
            await a.take(ev.Tick())

        async def goes(of: One, to: One) -> PoolTail:
            await of.service.release(POOL, "it was moved")
            await carry_out(of.collector.to, of.collector.member.leave())
            if to.collector.member.standing is None:
                await to.collector.joined()
            tail = await to.owns()
            assert to.roster.pools[POOL].record == tail.record
            return tail

        await goes(a, b)
        assert [text for text in b.archived() if "seen" in text] == ["host 1 was seen", "host 2 was seen"]
        await b.take(ev.Tick())
        await goes(b, a)
        assert [t for t in a.archived() if "seen" in t] == [f"host {n} was seen" for n in (1, 2, 3)], "none twice"
        await a.take(ev.Tick())
        monkeypatch.setattr(commits, "FOLD_EVERY", 1)
        await a.take(ev.Tick())
        await until(lambda: not a.service._open)
        monkeypatch.undo()
        assert not (await a.tail()).entries, "they are folded"
        await goes(a, b)
        assert b.archived()[-2].startswith("entries 4 to 5 of the pool's journal were recorded by other collectors")
        with pytest.raises(JournalError, match="archive of one of several"):
            b.archive.journal.record(POOL)
        monkeypatch.setattr(journal_records, "SNAPSHOT_EVERY", 1)
        assert POOL not in b.archive.journal.long_tails()[0], "a snapshot would hide the hole"


async def test_what_the_owner_before_may_have_under_way_is_waited_for_and_then_known_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, b, cluster):
        await a.owns()
        shot = Entry(Kind.FENCE_INTENT, "off", {"device": "bmc-1", "attempt": 1, "run": "r1"}, "f1")
        step = lambda pool, event, now, site: engine.StepResult(pool, (shot,), (), ())  # noqa: E731
        monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", step)
        await a.take(ev.Tick())
        await a.service.release(POOL, "its lease is gone")
        await carry_out(a.collector.to, a.collector.member.leave())
        assert (await b.owns()).shots == {("bmc-1", "r1")}
        site, gone = b.roster.site(POOL), 2_000 + 60_000 + 10_000  # that device is not configured here
        assert site.takeover == Takeover(b.time, b.time + 25_000, b.time + gone)
        gives(monkeypatch, ORDER)
        monkeypatch.setattr(commits, "FOLD_EVERY", 1)
        for later, shots in ((gone - 1, {("bmc-1", "r1")}), (1, frozenset())):
            b.time += later
            await b.take(ev.Tick())
            await until(lambda: not b.service._open)
            assert (await b.tail()).shots == shots


@pytest.mark.parametrize("shot", [False, True])
async def test_what_an_owner_before_may_have_under_way_is_handed_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shot: bool
) -> None:
    """Who gets a pool in order waits for nothing: so the promise is not made while something may still land."""
    monkeypatch.setattr(shared_service, "why_stays", lambda *_: "")
    async with two(tmp_path, monkeypatch) as (a, b, _):
        await a.owns()
        seen = Entry(Kind.HOST_SEEN, "seen", {"host": "h1", "name": "h1", "address": "192.0.2.1"})
        off = Entry(Kind.FENCE_INTENT, "off", {"device": "bmc-1", "attempt": 1, "run": "r1"}, "f1")
        entries = (seen, off) if shot else (seen,)

        def step(pool: Pool, event: ev.Event, now: int, site: Site) -> engine.StepResult:
            return engine.StepResult(replace(pool, record=fold(pool.record, entries)), entries, (), ())

        with monkeypatch.context() as stepped:
            stepped.setattr("poolwarden_collector.shell.loop.engine_loop.step", step)
            await a.take(ev.Tick())
        await a.service.release(POOL, "its lease is gone")
        await carry_out(a.collector.to, a.collector.member.leave())
        await b.owns()
        over = 72_000 if shot else 25_000
        for later, why in ((0, "may still"), (over - 1, "may still")):
            b.time += later
            stays = await b.service.hand_over(POOL, "")
            assert isinstance(stays, NotReleased) and why in stays.why and not stays.lost, stays
        b.time += 1
        assert isinstance(await b.service.hand_over(POOL, ""), Released)


async def test_a_pool_that_is_lost_has_its_power_switches_cut_off_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they did is for the next owner to find out: it reads that they were intended, and waits."""
    async with two(tmp_path, monkeypatch) as (a, b, cluster):
        cut: list[str] = []
        a.service.on_stand_down(cut.append)
        await a.owns()
        async with a.service._between_events:  # an event is being taken: the pool is released later
            losing = asyncio.ensure_future(a.service.lose(POOL, "its lease is gone"))
            await asyncio.sleep(0)
            assert cut == [POOL] and a.roster.why_no_act(POOL)
        await losing
        gives(monkeypatch, ORDER)
        await a.owns(OTHER)
        cut.clear()
        await a.service.release(OTHER, "it was moved")
        assert cut == [OTHER]


async def test_entries_are_folded_between_two_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as (a, b, cluster):
        await a.owns()
        gives(monkeypatch, ORDER)
        monkeypatch.setattr(commits, "FOLD_EVERY", 2)
        for count in (1, 2, 3):
            await a.take(ev.Tick())
            await until(lambda: not a.service._open)
            tail = await a.tail()
            assert (tail.last, len(tail.entries)) == (count, count % 2)
            assert tail.record == a.roster.pools[POOL].record
        assert a.begun == [ORDER] * 3
        await deposed(a, b, cluster)
        monkeypatch.setattr(commits, "FOLD_EVERY", 1)
        a.time += 60_000
        # Of a fold it is learned as well that the pool is another's.
        monkeypatch.setattr(
            "poolwarden_collector.shell.loop.engine_loop.step", lambda *_: engine.StepResult(a.roster.pools[POOL])
        )
        await a.take(ev.Tick())
        await until(lambda: a.lost == [POOL])
        assert POOL not in a.roster.pools


# ------------------------------------------------------------------------------------------------ the loop


async def test_a_pool_that_stands_still_says_nothing_of_its_site_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        for pool in (POOL, OTHER):
            await a.owns(pool)
        gives(monkeypatch)
        Unanswered(a, monkeypatch)
        async with asyncio.timeout(10):
            await a.service.take(Happening(POOL, ev.Tick(), a.time))
            await a.service.settled()
            a.inbox.post(POOL, ev.AgentGone(HOSTS[0], 1), a.time)
            a.inbox.post(OTHER, ev.Tick(), a.time)
            assert await a.inbox.next() == Happening(OTHER, ev.Tick(), a.time)
        seen: list[tuple[set[str], int]] = []

        def judged(pools: Any, anchors: Any, asof: int, *_: Any) -> Any:
            seen.append((set(pools), asof))
            return {}

        monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.judge_sites", judged)
        a.time += 60_000
        a.service._judge_sites()
        assert seen == [({OTHER}, a.time)]


# ------------------------------------------------------------------------------------------------ on either etcd


async def goes_from_one_to_the_other(cluster: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool's steps, and an owner that is deposed and does not know it yet."""
    async with two(folder, monkeypatch, cluster) as (a, b, _):
        first = await a.owns()
        assert first.last == 0
        gives(monkeypatch, ORDER, alerts=(fx.AlertRaised("k", "warning", "title", "body", {}),))
        for _ in range(3):
            await a.take(ev.Tick())
        mine = a.store.journal(POOL)
        assert mine is not None and a.begun == [ORDER] * 3
        # Its lease goes, as when it was suspended; it has not heard of that.
        assert a.collector.member.standing is not None
        await carry_out(b.collector.to, ends(a.collector.member.standing.lease))
        theirs = await b.owns()
        assert (theirs.last, [*theirs.alerts], theirs.alerts["k"].occurrence) == (3, ["k"], 1)
        assert b.roster.pools[POOL].record == a.roster.pools[POOL].record
        await a.take(PAUSE)
        assert a.replies() == [(False, "stood-down")] and a.begun.count(ORDER) == 3 and a.lost == [POOL]
        await b.take(ev.Tick())
        assert b.begun == [ORDER] and (await b.tail()).last == 4
        seen = [text for text in b.archived() if "was seen" in text]
        assert seen == ["host 1 was seen", "host 2 was seen", "host 3 was seen", "host 5 was seen"]


def ends(lease: int) -> etcd.Exchange[None]:
    yield etcd.Revoke(lease)


async def test_a_pool_goes_from_one_to_the_other_on_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await goes_from_one_to_the_other(ModelCluster(), tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.needs("etcd")
async def test_a_pool_goes_from_one_to_the_other_on_real_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = RealCluster(tmp_path)
    try:
        await cluster.start()
        await goes_from_one_to_the_other(cluster, tmp_path, monkeypatch)
    finally:
        await cluster.close()
