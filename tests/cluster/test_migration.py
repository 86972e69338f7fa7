"""A single collector's pools go to etcd and come back, whole; what cuts a move off, and what is refused."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from tests.core.pool import Guarded
from tests.core.test_adversarial_proof import until
from tests.shell.rig import write_config

from poolwarden_collector.core.model import epoch
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.occasion import Occasion
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.cluster import commits, enrolment_rows
from poolwarden_collector.shell.cluster.commits import PoolTail
from poolwarden_collector.shell.cluster.enrolment_rows import Changes
from poolwarden_collector.shell.cluster.etcd import Etcd, Get, InDoubt, Request, Txn, behind, carry_out
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import NotClaimed, NotRaised, Ownership, Raised, raise_generation
from poolwarden_collector.shell.config.config import load
from poolwarden_collector.shell.main import serve
from poolwarden_collector.shell.migration import commands, prefix_copy
from poolwarden_collector.shell.migration.place import Place, Refused, Way, look
from poolwarden_collector.shell.migration.to_etcd import Source, Todo, to_etcd
from poolwarden_collector.shell.migration.to_sqlite import to_sqlite
from poolwarden_collector.shell.store.audit import Waiting
from poolwarden_collector.shell.store.enrolment_tables import Change, Denied, Token
from poolwarden_collector.shell.store.journal import Journal, JournalError
from poolwarden_collector.shell.store.silences import Asked, Clock

from .clusters import ModelCluster, RealCluster, VirtualLoop, on_real_members
from .contract import Collector, names, seen

POOL = "aaaaaaaa-0000-4000-8000-000000000001"
OTHER = "bbbbbbbb-0000-4000-8000-000000000002"
ALERT = AlertRaised("k1", "warning", "a title", "a body\nof two lines", {"message": "x", "number": 3})
TOKEN = Token("t1", "aa", POOL, "", 2, 1, 1_000, 2_000, "anna")
DENIED = Denied("0a", "h9", 1_500, "anna", "stolen")
Test = Callable[[Any, Path], Coroutine[Any, Any, None]]


@functools.cache
def failing_over() -> tuple[Entry, ...]:
    """Real entries of a pool in the middle of its failover, a power-off under way."""
    guarded = Guarded()
    guarded.cut_power()
    until(guarded, Kind.DECIDED)
    shot = Entry(Kind.FENCE_INTENT, "off", {"device": "bmc-1", "host": "h", "run": "r-9", "attempt": 1}, "elsewhere")
    return (*guarded.journal, shot)


class Single:
    """A single collector's journal with two pools, and its file."""

    def __init__(self, folder: Path, name: str = "one") -> None:
        self.folder, self.name = folder / name, name
        self.journal = Journal(self.folder, name, ("log", "mail"))
        self.journal.begin_epoch()

    def filled(self) -> Single:
        self.journal.commit(POOL, failing_over(), (ALERT, replace(ALERT, key="k2")), "prod")
        self.journal.commit(POOL, (), (AlertResolved("k2", "over"),), "prod")
        self.journal.commit(POOL, (), (replace(ALERT, key="k2", body="again"),), "prod")
        self.journal.enrol(Change((TOKEN, DENIED)))
        self.journal.commit(OTHER, (seen(1), Entry(Kind.POOL_NAMED, "named", {"name": "other"})))
        return self

    def reopened(self) -> Journal:
        self.journal.close()
        self.journal = Journal(self.folder, self.name, ("log", "mail"))
        return self.journal

    def records(self) -> dict[str, PoolRecord]:
        return {pool: self.journal.record(pool) for pool in self.journal.pools()}

    @property
    def source(self) -> Source:
        return Source(self.journal, self.name, pinned=True)


class CutOff:
    """An etcd that stops answering: its first ``after`` writes are carried out, the next one or not, none more."""

    def __init__(self, to: Etcd, after: int, done: bool) -> None:
        self._to, self.left, self._done = to, after, done

    async def ask(self, request: Request) -> Any:
        if isinstance(request, Txn) and any(not isinstance(op, Get) for op in request.success):
            self.left -= 1
            if self.left < 0:
                if self._done and self.left == -1:
                    await self._to.ask(request)
                raise InDoubt("no answer")
        return await self._to.ask(request)

    async def health(self) -> Any:
        return await self._to.health()


def on_the_model(test: Test, folder: Path) -> None:
    async def run() -> None:
        await test(ModelCluster(), folder)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


async def tails(to: Etcd, at: Names) -> dict[str, PoolTail]:
    found = {}
    for pool in await carry_out(to, commits.known_pools(at)):
        tail = await carry_out(to, commits.read(at, pool))
        assert isinstance(tail, PoolTail)
        found[pool] = tail
    return found


# ------------------------------------------------------------------------------------------------ there and back


async def there_and_back(cluster: Any, folder: Path) -> None:
    """Whole, in every field; what collectors do in between comes back as well."""
    single, at, to = Single(folder).filled(), names(), cluster.client("m")
    before, number = single.records(), single.journal.last_number()
    dry = await to_etcd(to, at, single.source, dry=True)
    assert (dry.todo, set(dry.pools), dry.alerts, dry.shots) == (Todo.ALL, {POOL, OTHER}, 2, 1)
    assert (await to.ask(Get(at.prefix, behind(at.prefix)))).kept == () and not single.journal.in_etcd()
    assert "store to-etcd" in single.journal.why_no_archive()
    done = await to_etcd(to, at, single.source)
    assert done == dry and not single.journal.why_no_archive()
    moved = await tails(to, at)
    assert {pool: tail.record for pool, tail in moved.items()} == before
    assert moved[POOL].shots == {("bmc-1", "r-9")} and moved[OTHER].shots == frozenset()
    assert {key: alert.occurrence for key, alert in moved[POOL].alerts.items()} == {"k1": 1, "k2": 2}
    assert moved[POOL].alerts["k2"].body == "again" and moved[POOL].last == number
    # Nobody starts on the file any more, and what it had is there still.
    with pytest.raises(JournalError, match="archive of one of several"):
        single.reopened().record(POOL)
    assert len(single.journal.history(limit=1_000)) == number
    assert (await to_etcd(to, at, single.source)).todo is Todo.NOTHING
    # A collector owns the pool, with an epoch above the journal's, and its first commit follows the last number.
    other = await Collector(cluster, "b", at).joined()
    journal = await other.owns(POOL)
    assert journal.owned.epoch > single.journal.epoch and not journal.owned.handed_by
    alerts = (AlertResolved("k1", "over"), replace(ALERT, key="k3"))
    assert await other.commit(journal, seen(7), alerts=alerts) == commits.Durable(number + 1, number + 1)
    with pytest.raises(Refused, match="members in etcd: b"):
        await to_sqlite(to, at, single.journal, "one")
    assert other.member.standing is not None
    await carry_out(to, other.member.leave())
    await comes_back(single, cluster, at, before, journal.owned)


async def comes_back(single: Single, cluster: Any, at: Names, before: dict[str, PoolRecord], owned: Ownership) -> None:
    to = cluster.client("m")
    dry = await to_sqlite(to, at, single.journal, "one", dry=True)
    assert (dry.already, set(dry.names), dry.alerts) == (False, {POOL, OTHER}, 2)
    assert single.journal.in_etcd()
    back = await to_sqlite(to, at, single.journal, "one")
    assert not back.already and back.epoch > owned.epoch
    wanted = {POOL: fold(before[POOL], (seen(7),)), OTHER: before[OTHER]}
    assert single.records() == wanted
    single.reopened()
    assert single.records() == wanted and single.journal.epoch >= back.epoch
    assert single.journal.begin_epoch() > owned.epoch
    assert [alert.key for alert in single.journal.leaving(POOL).handed.opened] == ["k2", "k3"]
    # Each channel is told that k1 has ended and that k3 has begun, and nothing of k2 a second time.
    with sqlite3.connect(single.journal.path) as db:
        told = db.execute("SELECT key, occurrence, state, count(*) FROM outbox WHERE sink = 'log' GROUP BY 1, 2, 3")
        rows = {row[:3] for row in told.fetchall()}
    of_k3 = single.journal.leaving(POOL).handed.opened[1].occurrence
    assert rows >= {("k1", 1, "firing"), ("k1", 1, "resolved"), ("k2", 2, "firing"), ("k3", of_k3, "firing")}
    assert ("k2", 2, "resolved") not in rows
    # In etcd nobody owns anything from now on, and no generation is raised there.
    stray = await Collector(cluster, "stray", at).joined()
    assert isinstance(await stray.claim(POOL), NotClaimed)
    assert isinstance(await carry_out(to, raise_generation(at)), NotRaised)
    await carry_out(to, stray.member.leave())
    assert (await to_sqlite(to, at, single.journal, "one")).already
    # And once more to etcd, with what was written meanwhile, above every epoch that there was.
    single.journal.commit(OTHER, (seen(2),))
    again = await to_etcd(to, at, single.source)
    assert again.todo is Todo.ALL and epoch.of_ownership(again.generation, 1, 0) > back.epoch
    assert (await tails(to, at))[OTHER].record == fold(wanted[OTHER], (seen(2),))


def test_there_and_back(tmp_path: Path) -> None:
    on_the_model(there_and_back, tmp_path)


@pytest.mark.slow
@pytest.mark.needs("etcd")
def test_on_three_real_members(tmp_path: Path) -> None:
    async def test(cluster: RealCluster) -> None:
        await there_and_back(cluster, tmp_path)
        await cut_off_anywhere(cluster, tmp_path / "cut", every=5)

    on_real_members(tmp_path, test)


# ------------------------------------------------------------------------------------------------ cut off


async def cut_off_anywhere(cluster: Any, folder: Path, every: int = 1) -> None:
    """After each write, whether that was carried out or not: run again, it ends, and nothing is lost."""
    to = cluster.client("m")
    for done in (False, True):
        for after in range(0, 30, every):
            single, at = Single(folder / f"{done}{after}").filled(), names()
            before, writes = single.records(), CutOff(to, after, done)
            try:
                await to_etcd(writes, at, single.source)
            except InDoubt:
                await ends(cluster, at, single, before)
            single.journal.close()
            if writes.left >= 0:
                break
        else:
            raise AssertionError("it has more writes than that")


async def ends(cluster: Any, at: Names, single: Single, before: dict[str, PoolRecord]) -> None:
    """Either nobody can be an owner in etcd and the file is what it was, or nobody starts on the file."""
    to = cluster.client("m")
    place = await carry_out(to, look(at))
    if not single.journal.in_etcd():
        assert not place.generation and single.records() == before
        single.journal.begin_epoch()  # it is started once more, and something happens
        single.journal.commit(OTHER, (seen(3),))
        before = single.records()
    else:
        assert {pool: tail.record for pool, tail in (await tails(to, at)).items()} == before
    single.reopened()
    assert (await to_etcd(to, at, single.source)).todo in set(Todo)
    assert {pool: tail.record for pool, tail in (await tails(to, at)).items()} == before
    place = await carry_out(to, look(at))
    assert place.mark is None and place.generation and single.journal.in_etcd().keys() == before.keys()


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_move_that_is_cut_off_anywhere_is_ended_by_another_run(every: int, tmp_path: Path) -> None:
    on_the_model(lambda cluster, folder: cut_off_anywhere(cluster, folder, every), tmp_path)


async def back_is_cut_off(cluster: Any, folder: Path) -> None:
    to = cluster.client("m")
    for number, done in enumerate((False, True)):
        single, at = Single(folder / f"{number}").filled(), names()
        before = single.records()
        await to_etcd(to, at, single.source)
        with pytest.raises(InDoubt):
            await to_sqlite(CutOff(to, 0, done), at, single.journal, "one")
        place = await carry_out(to, look(at))
        assert single.journal.in_etcd() and bool(place.generation) is not done
        # From here both ways are open.
        if done:
            assert place.mark is not None and place.mark.way is Way.TO_SQLITE
            again = await to_etcd(to, at, single.source)
            assert again.todo is Todo.OPEN and again.generation == place.mark.generation + 1
        assert not (await to_sqlite(to, at, single.journal, "one")).already
        assert single.records() == before
        single.journal.close()


async def taken_back(cluster: Any, folder: Path) -> None:
    """A first move that was cut off anywhere may be taken back instead of ended."""
    to = cluster.client("m")
    for after in range(30):
        single, at = Single(folder / f"{after}").filled(), names()
        before, writes = single.records(), CutOff(to, after, done=False)
        try:
            await to_etcd(writes, at, single.source)
        except InDoubt:
            if after:
                await to_sqlite(to, at, single.journal, "one")
            assert single.records() == before and not single.journal.in_etcd()
        single.journal.close()
        if writes.left >= 0:
            return
    raise AssertionError("it has more writes than that")


def test_a_move_that_is_cut_off_may_be_taken_back(tmp_path: Path) -> None:
    on_the_model(taken_back, tmp_path)


def test_a_move_back_that_is_cut_off_may_be_ended_or_taken_back(tmp_path: Path) -> None:
    on_the_model(back_is_cut_off, tmp_path)


# ------------------------------------------------------------------------------------------------ who is enrolled


async def enrolled(cluster: Any, folder: Path) -> None:
    single, to, at = Single(folder).filled(), cluster.client("m"), names()
    await to_etcd(to, at, single.source)
    read = enrolment_rows.read(at, Changes())
    found = await carry_out(to, read)
    assert found is not None and set(found.put.values()) == {TOKEN, DENIED}
    # Meanwhile the token is used up, a host is denied, and this file denies one of which etcd has heard nothing.
    used, other, third = replace(TOKEN, used=2), replace(DENIED, serial="0b"), replace(DENIED, serial="0c")
    (part,) = enrolment_rows.parts(at, (used, other), ())
    written = await carry_out(to, enrolment_rows.Write(at, found.changes, "x", part).attempt())
    assert isinstance(written, enrolment_rows.Written)
    single.journal.enrol(Change((third,)))
    await to_sqlite(to, at, single.journal, "one")
    assert set(single.journal.enrolment()) == {used, DENIED, other, third}
    # And to etcd again: what was dropped here is dropped there.
    single.journal.enrol(Change((), (used,)))
    await to_etcd(to, at, single.source)
    found = await carry_out(to, enrolment_rows.read(at, Changes()))
    assert found is not None and set(found.put.values()) == {DENIED, other, third}


def test_who_is_enrolled_goes_with_the_pools(tmp_path: Path) -> None:
    on_the_model(enrolled, tmp_path)


def test_a_generation_that_cannot_be_is_refused_before_it_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --yes as well: what would be done is what --yes does."""
    place = Place(7, 2, None, None, None, ("a",), {"p": "a"}, frozenset({"p"}))
    monkeypatch.setattr(commands, "_settings", lambda _: (None, SimpleNamespace(names=Names("t"))))
    monkeypatch.setattr(commands, "_ask", lambda *_: place)
    for more in ([], ["--yes"]):
        for number, why in (("2", "it only rises"), ("1", "it only rises"), ("255", "above the highest generation")):
            done = CliRunner().invoke(commands.generation, ["raise", "--to", number, *more])
            assert done.exit_code == 1 and why in done.output, done.output
            assert "becomes" not in done.output and "deposed" not in done.output
    done = CliRunner().invoke(commands.generation, ["raise", "--to", "254"])
    assert "generation 2 becomes 254" in done.output and "deposed: a, of 1 pool" in done.output


async def others_enrolled(cluster: Any, folder: Path) -> None:
    """A set-up etcd in which somebody is enrolled already: nothing of that is lost."""
    single, to, at = Single(folder).filled(), cluster.client("m"), names()
    assert await carry_out(to, raise_generation(at)) == Raised(1)
    theirs, more = replace(TOKEN, used=0), replace(TOKEN, id="t2", hash="bb")
    await carry_out(to, enrolment_rows.seed(at, (theirs, more), "x"))
    done = await to_etcd(to, at, single.source)
    assert done.generation == 2
    found = await carry_out(to, enrolment_rows.read(at, Changes()))
    assert found is not None and set(found.put.values()) == {theirs, more, DENIED}


def test_what_others_have_enrolled_stays(tmp_path: Path) -> None:
    on_the_model(others_enrolled, tmp_path)


# ------------------------------------------------------------------------------------------------ what is to be told


async def told(cluster: Any, folder: Path) -> None:
    """Silences, acknowledgements, second persons, ends that wait for a channel and occasions for hooks go along."""
    single, to, at = Single(folder).filled(), cluster.client("m"), names()
    journal, now = single.journal, Clock(single.journal.epoch)
    rows = {key: {"key": key, "pool": POOL, "severity": "warning", "title": "a title"} for key in ("k1", "k2")}
    journal.silence(rows["k1"] | {"occurrence": 1}, Asked("anna", "work", 3_600_000), "later")
    journal.take(rows["k2"] | {"occurrence": 2}, Asked("berta", "mine"))
    waiting = Waiting("s1", POOL, "abort", "aa", "anna", "anna", "cli", now.now, now.now + 60_000, now.name)
    journal.second_waits(waiting, Entry(Kind.SECOND_AWAITED, "anna asks", {"id": "s1"}))
    journal.commit(POOL, (seen(9),), occasions=(Occasion("master-changed", {"host": "h1"}),))
    await to_etcd(to, at, single.source)
    tail = (await tails(to, at))[POOL]
    assert {(each.kind, each.actor) for each in tail.telling.said.values()} == {
        ("alert-silenced", "anna"), ("alert-acknowledged", "berta"), ("second-awaited", "anna"),
    }  # fmt: skip
    assert [each.alert.occurrence for each in tail.telling.ended] == [1] and tail.telling.told.alerts == 0
    assert [each.event for each in tail.telling.happened] == ["master-changed"]
    # A collector on etcd lets all of it go as it begins; whoever takes the pool has it from etcd.
    journal.give_up()
    assert not journal.hook_events() and not journal.seconded()
    await to_sqlite(to, at, journal, "one")
    shown = {alert["key"]: alert for alert in journal.alerts() if not alert["resolved_at"]}
    assert shown["k1"]["silence"]["actor"] == "anna" and 0 < shown["k1"]["silence"]["left_ms"] <= 3_600_000
    assert shown["k2"]["taken"]["reason"] == "mine" and shown["k2"]["silence"] is None
    assert [each.id for each, _ in journal.seconded()] == ["s1"]
    assert [(each.event, each.payload["host"]) for each in journal.hook_events()] == [("master-changed", "h1")]


def test_what_is_to_be_told_goes_with_the_pools(tmp_path: Path) -> None:
    on_the_model(told, tmp_path)


async def nothing_to_tell(cluster: Any, folder: Path) -> None:
    """Channels that know everything are told nothing again by the next owner, nor after the way back."""
    single, to, at = Single(folder).filled(), cluster.client("m"), names()
    while parcels := single.journal.parcels():
        for parcel in parcels:
            single.journal.delivered(parcel, Entry(Kind.ALERT_DELIVERED, "told"))
    await to_etcd(to, at, single.source)
    tail = (await tails(to, at))[POOL]
    assert tail.telling.told.alerts == tail.last and tail.telling.told.channels == ("log", "mail")
    assert not tail.telling.ended
    single.journal.give_up()
    await to_sqlite(to, at, single.journal, "one")
    assert single.journal.parcels() == [] and len(single.journal.taken("log")) == 2


def test_channels_that_know_everything_are_told_nothing_again(tmp_path: Path) -> None:
    on_the_model(nothing_to_tell, tmp_path)


async def nothing_to_tell_but_one(cluster: Any, folder: Path) -> None:
    """A channel that takes nothing is told all, and the other one nothing again, on the way there and back."""
    single, to, at = Single(folder).filled(), cluster.client("m"), names()
    while parcels := [each for each in single.journal.parcels() if each.sink != "log"]:
        for parcel in parcels:
            single.journal.delivered(parcel, Entry(Kind.ALERT_DELIVERED, "told"))
    waited = {(each.delivery_key, each.sink) for each in single.journal.parcels()}
    await to_etcd(to, at, single.source)
    tail = (await tails(to, at))[POOL]
    assert tail.telling.told.each() == {"log": 0, "mail": tail.last} and tail.telling.told.alerts == 0
    assert len(tail.telling.ended) == 1
    single.journal.give_up()
    await to_sqlite(to, at, single.journal, "one")
    assert {(each.delivery_key, each.sink) for each in single.journal.parcels()} == waited


def test_a_channel_that_takes_nothing_has_no_other_told_again(tmp_path: Path) -> None:
    on_the_model(nothing_to_tell_but_one, tmp_path)


# ------------------------------------------------------------------------------------------------ refused


class Noted:
    """What is asked of it."""

    def __init__(self, to: Etcd) -> None:
        self._to = to
        self.writes: list[Txn] = []

    async def ask(self, request: Request) -> Any:
        if isinstance(request, Txn) and any(not isinstance(op, Get) for op in request.success):
            self.writes.append(request)
        return await self._to.ask(request)

    async def health(self) -> Any:
        return await self._to.health()


async def late_writes(cluster: Any, folder: Path) -> None:
    """Whatever of an earlier run etcd carries out later changes nothing."""
    single, to, at = Single(folder).filled(), Noted(cluster.client("m")), names()
    await to_etcd(to, at, single.source)
    there = len(to.writes)
    await to_sqlite(to, at, single.journal, "one")
    back = len(to.writes)
    copy = await carry_out(to, prefix_copy.take(at))
    await to_etcd(to, at, single.source)
    live = len(to.writes)
    before = await carry_out(to, prefix_copy.take(at))
    for late in to.writes[:live]:
        # Who is enrolled is compared with itself; everything else with the run's own mark.
        if not any(getattr(op, "key", "").startswith(at.enrolment_rows) for op in late.success):
            assert not (await to.ask(late)).succeeded, late
    after = await carry_out(to, prefix_copy.take(at))
    assert after.keys == before.keys and there < back < live and copy.keys


def test_nothing_that_arrives_late_changes_anything(tmp_path: Path) -> None:
    on_the_model(late_writes, tmp_path)


@pytest.mark.asyncio
async def test_a_single_collectors_pools_are_not_begun_anew_in_etcd(tmp_path: Path) -> None:
    single = Single(tmp_path, "state").filled()
    single.journal.close()
    store = '[store]\netcd = ["http://127.0.0.1:9"]\nagents = "127.0.0.1:1"\noperators = "127.0.0.1:2"\n'
    config = load(write_config(tmp_path, store, collector='operator_listen = "127.0.0.1:0"'))
    with pytest.raises(JournalError, match="store to-etcd"):
        await asyncio.wait_for(serve(config, asyncio.Event()), 10)


async def refusals(cluster: Any, folder: Path) -> None:
    one, two, to, at = Single(folder, "one").filled(), Single(folder, "two").filled(), cluster.client("m"), names()
    with pytest.raises(Refused, match="no pools of collectors"):
        await to_sqlite(to, at, one.journal, "one")
    await to_etcd(to, at, one.source)
    with pytest.raises(Refused, match="did not come from this journal"):
        await to_etcd(to, at, two.source)
    with pytest.raises(Refused, match="pools of its own"):
        await to_sqlite(to, at, two.journal, "two")
    with pytest.raises(Refused, match="this etcd has none of them"):
        await to_etcd(to, names(), one.source)
    owner = await Collector(cluster, "a", at).joined()
    await owner.owns(POOL)
    for move in (to_etcd(to, at, one.source), to_sqlite(to, at, one.journal, "one")):
        with pytest.raises(Refused, match="members in etcd: a") as refused:
            await move
        assert "systemctl stop" in refused.value.step
    assert owner.member.standing is not None
    await carry_out(to, owner.member.leave())
    await to_sqlite(to, at, one.journal, "one")
    for move in (to_etcd(to, at, two.source), to_sqlite(to, at, two.journal, "two")):
        with pytest.raises(Refused, match="collector one"):
            await move


def test_what_is_refused(tmp_path: Path) -> None:
    on_the_model(refusals, tmp_path)


async def an_older_etcd(cluster: Any, folder: Path) -> None:
    """What the archive has recorded since is not overwritten unsaid."""
    single, to, at = Single(folder).filled(), cluster.client("m"), names()
    await to_etcd(to, at, single.source)
    number = single.journal.last_number()
    single.journal.take_over(POOL, "prod", [(number + 1, seen(4))], number + 1)
    with pytest.raises(Refused, match="etcd was restored"):
        await to_sqlite(to, at, single.journal, "one")
    assert single.journal.in_etcd()
    before = (await tails(to, at))[POOL].record
    await to_sqlite(to, at, single.journal, "one", older=True)
    assert single.journal.record(POOL) == before


def test_an_etcd_that_is_older_than_the_archive_is_told(tmp_path: Path) -> None:
    on_the_model(an_older_etcd, tmp_path)


async def any_machine(cluster: Any, folder: Path) -> None:
    """An empty state directory takes the pools as well."""
    one, two, to, at = Single(folder, "one").filled(), Single(folder, "two"), cluster.client("m"), names()
    before = one.records()
    await to_etcd(to, at, one.source)
    await to_sqlite(to, at, two.journal, "two")
    assert two.records() == before and one.journal.in_etcd()
    with pytest.raises(Refused, match="collector two"):
        await to_etcd(to, at, one.source)


def test_the_pools_come_back_to_any_machine(tmp_path: Path) -> None:
    on_the_model(any_machine, tmp_path)


async def any_machine_cut_off(cluster: Any, folder: Path) -> None:
    """What a move to an empty state directory leaves when it is cut off is not taken for its end."""
    one, two, to, at = Single(folder, "one").filled(), Single(folder, "two"), cluster.client("m"), names()
    before = one.records()
    await to_etcd(to, at, one.source)
    with pytest.raises(InDoubt):
        await to_sqlite(CutOff(to, 0, done=True), at, two.journal, "two")
    with pytest.raises(Refused, match="has begun and not ended") as refused:
        await to_etcd(to, at, two.source)
    assert "store to-sqlite" in refused.value.step and {*await tails(to, at)} == {POOL, OTHER}
    assert not (await to_sqlite(to, at, two.journal, "two")).already
    assert two.records() == before
    assert (await to_sqlite(to, at, two.journal, "two")).already
    await to_etcd(to, at, two.source)
    assert {pool: tail.record for pool, tail in (await tails(to, at)).items()} == before


def test_a_move_to_an_empty_state_directory_that_is_cut_off_is_ended_by_another_run(tmp_path: Path) -> None:
    on_the_model(any_machine_cut_off, tmp_path)
