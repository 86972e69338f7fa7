"""What both stores promise, a single collector's file and the etcd of several: each test on each of them."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.cluster import commits
from poolwarden_collector.shell.cluster.commit_text import TooBig, Unreadable
from poolwarden_collector.shell.cluster.commits import Durable, PoolTail
from poolwarden_collector.shell.cluster.etcd import Get, Put, Txn, behind, carry_out
from poolwarden_collector.shell.cluster.etcd_store import EtcdStore
from poolwarden_collector.shell.cluster.ownership import Held, Ownership
from poolwarden_collector.shell.store.journal import Journal, JournalError, Unwritable

from .clusters import ModelCluster, VirtualLoop, on_real_members
from .contract import POOL, Collector, generation, names, seen

ALERT = AlertRaised("k1", "warning", "a title", "a body\nof two lines", {"message": "x"})
REFUSED = (Unwritable, TooBig)
Alerts = Sequence[AlertRaised | AlertResolved]


class Store(Protocol):
    """One activation of a collector after the other, on one store."""

    epoch: int

    async def begin(self) -> None:
        """Another activation, after whatever ended the last one. Raises Taken, and what cannot be read."""

    async def second(self) -> None:
        """One beside it. Raises Taken."""

    async def end(self) -> None: ...

    async def commit(self, entries: Sequence[Entry], alerts: Alerts = ()) -> None:
        """Durable when it returns. Raises one of REFUSED."""

    async def record(self) -> PoolRecord: ...

    async def alerts(self) -> dict[str, int]:
        """The open ones, with their occurrences."""

    async def shorten(self) -> None:
        """What a long journal is read by: a snapshot, a fold."""

    async def spoil(self, unknown: bool) -> None:
        """Put an entry of a later release into the store, or damage one."""


class Taken(Exception):
    """Another process has it."""


class OnSqlite:
    """The journal of one collector."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.epoch = folder, 0
        self._journal: Journal | None = None

    @property
    def journal(self) -> Journal:
        assert self._journal is not None
        return self._journal

    async def begin(self) -> None:
        self._journal = Journal(self._folder, "one", ("log",))
        self.epoch = self.journal.begin_epoch()

    async def second(self) -> None:
        try:
            Journal(self._folder, "two").close()
        except JournalError as error:
            raise Taken(str(error)) from error

    async def end(self) -> None:
        self.journal.close()

    async def commit(self, entries: Sequence[Entry], alerts: Alerts = ()) -> None:
        self.journal.commit(POOL, entries, alerts, "prod")

    async def record(self) -> PoolRecord:
        return self.journal.record(POOL)

    async def alerts(self) -> dict[str, int]:
        return {alert["key"]: alert["occurrence"] for alert in self.journal.alerts(POOL, open_only=True)}

    async def shorten(self) -> None:
        self.journal.keep_snapshots(self.journal.snapshots_of([POOL]))

    async def spoil(self, unknown: bool) -> None:
        with sqlite3.connect(self.journal.path) as db:
            change = "kind = 'of-tomorrow'" if unknown else "data = '{'"
            db.execute(f"UPDATE entries SET {change} WHERE seq = (SELECT max(seq) FROM entries)")
        db.close()


class OnEtcd:
    """The etcd of several, of which one is another's successor."""

    def __init__(self, cluster: Any) -> None:
        self._cluster, self._names, self.epoch = cluster, names(), 0
        self._numbers = itertools.count(1)
        self._one: Collector | None = None
        self._store: EtcdStore | None = None

    async def begin(self) -> None:
        if self._one is None:
            await generation(self._cluster, self._names)
        self._one, owned = await self._owner()
        tail = await self._tail(owned)
        self._store = EtcdStore(self._one.to, self._names, self._cluster.now)
        self._store.take_over(owned, tail)
        self.epoch = owned.epoch

    async def _owner(self) -> tuple[Collector, Ownership]:
        one = await Collector(self._cluster, f"c{next(self._numbers)}", self._names).joined()
        owned = await one.claim()
        if isinstance(owned, Held):
            raise Taken(owned.by)
        assert isinstance(owned, Ownership), owned
        return one, owned

    async def second(self) -> None:
        await self._owner()

    async def end(self) -> None:
        assert self._one is not None
        await carry_out(self._one.to, self._one.member.leave())

    async def commit(self, entries: Sequence[Entry], alerts: Alerts = ()) -> None:
        assert self._store is not None
        if self._store.begin(POOL, entries, alerts):
            assert isinstance(await self._store.attempt(POOL), Durable)

    async def _tail(self, owned: Ownership | None = None) -> PoolTail:
        assert self._one is not None or owned is not None
        found = await carry_out(self._cluster.client("reader"), commits.read(self._names, POOL, owned))
        assert isinstance(found, PoolTail)
        return found

    async def record(self) -> PoolRecord:
        return (await self._tail()).record

    async def alerts(self) -> dict[str, int]:
        return {key: alert.occurrence for key, alert in (await self._tail()).alerts.items()}

    async def shorten(self) -> None:
        assert self._store is not None
        assert isinstance(await self._store.fold(POOL, await self.record()), Durable)

    async def spoil(self, unknown: bool) -> None:
        client, start = self._cluster.client("x"), self._names.journal(POOL)
        kept = (await client.ask(Get(start, behind(start)))).kept[-1]
        value = b"\0" * 40
        if unknown:
            from poolwarden_collector.shell.cluster import commit_text

            said = commit_text._unpacked(kept)
            said["entries"][0]["kind"] = "of-tomorrow"
            value = commit_text._packed(said)
        await client.ask(Txn((), (Put(kept.key, value),)))


# ------------------------------------------------------------------------------------------------ the contract


async def what_is_committed_is_there_after_any_end(store: Store) -> None:
    await store.begin()
    record = PoolRecord(POOL)
    for number in range(1, 6):
        entries = [seen(number), Entry(Kind.POOL_NAMED, "named", {"name": f"name {number}"})]
        await store.commit(entries, (replace(ALERT, key=f"k{number}"),))
        record = fold(record, entries)
        assert await store.record() == record
    alerts = await store.alerts()
    await store.end()
    await store.begin()
    assert await store.record() == record and await store.alerts() == alerts
    assert set(alerts) == {f"k{number}" for number in range(1, 6)}
    await store.end()


async def a_step_is_there_whole_or_not_at_all(store: Store) -> None:
    await store.begin()
    await store.commit([seen(1)])
    before = await store.record()
    for bad in (Entry(Kind.POOL_NAMED, "x", {"name": object()}), Entry(Kind.POOL_NAMED, "x", {"name": {1, 2}})):
        with pytest.raises(REFUSED):
            await store.commit([seen(2), bad, seen(3)], (ALERT,))
    assert await store.record() == before and await store.alerts() == {}
    await store.commit([seen(4)], (ALERT,))
    assert await store.record() == fold(before, [seen(4)]) and set(await store.alerts()) == {"k1"}
    await store.end()


async def an_alert_that_comes_again_is_another_one(store: Store) -> None:
    await store.begin()
    occurrences = []
    for _ in range(3):
        await store.commit([seen(1)], (ALERT,))
        await store.commit([seen(2)], (ALERT,))
        occurrences.append((await store.alerts())["k1"])
        await store.end()
        await store.begin()
        assert (await store.alerts())["k1"] == occurrences[-1]
        await store.commit([seen(3)], (AlertResolved("k1", "over"),))
        assert await store.alerts() == {}
    assert occurrences == sorted(set(occurrences))
    await store.end()


async def one_process_at_a_time(store: Store) -> None:
    await store.begin()
    with pytest.raises(Taken):
        await store.second()
    await store.commit([seen(1)])
    await store.end()
    await store.begin()
    await store.end()


async def each_activation_has_a_higher_epoch(store: Store) -> None:
    epochs = []
    for number in range(4):
        await store.begin()
        epochs.append(store.epoch)
        await store.commit([seen(number)])
        await store.end()
    assert epochs == sorted(set(epochs)) and epochs[0] > 0


async def a_long_journal_reads_as_it_was_written(store: Store) -> None:
    await store.begin()
    record = PoolRecord(POOL)
    for number in range(60):
        entries = [seen(number % 7), Entry(Kind.TERM_OBSERVED, "term", {}, "", number)]
        await store.commit(entries, (replace(ALERT, key=f"k{number % 5}"),))
        record = fold(record, entries)
        if number in (20, 41):
            await store.shorten()
    assert await store.record() == record and len(await store.alerts()) == 5
    await store.end()
    await store.begin()
    assert await store.record() == record and record.term == 59
    await store.end()


async def what_is_not_understood_is_not_passed_over(store: Store) -> None:
    await store.begin()
    await store.commit([seen(1)])
    await store.commit([seen(2)])
    await store.spoil(unknown=True)
    with pytest.raises((JournalError, Unreadable), match="of-tomorrow"):
        await store.record()
    await store.end()


async def damage_is_not_passed_over(store: Store) -> None:
    await store.begin()
    await store.commit([seen(1)])
    await store.spoil(unknown=False)
    with pytest.raises((JournalError, Unreadable)):
        await store.record()
    await store.end()


Test = Callable[[Any], Coroutine[Any, Any, None]]
ALL: tuple[Test, ...] = (
    what_is_committed_is_there_after_any_end,
    a_step_is_there_whole_or_not_at_all,
    an_alert_that_comes_again_is_another_one,
    one_process_at_a_time,
    each_activation_has_a_higher_epoch,
    a_long_journal_reads_as_it_was_written,
    what_is_not_understood_is_not_passed_over,
    damage_is_not_passed_over,
)


@pytest.mark.parametrize("test", ALL, ids=lambda test: test.__name__)
def test_a_single_collectors_file(test: Test, tmp_path: Path) -> None:
    asyncio.run(test(OnSqlite(tmp_path)))


@pytest.mark.parametrize("test", ALL, ids=lambda test: test.__name__)
def test_the_model_of_etcd(test: Test) -> None:
    async def run() -> None:
        await test(OnEtcd(ModelCluster()))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


@pytest.mark.slow
@pytest.mark.needs("etcd")
def test_three_real_members(tmp_path: Path) -> None:
    async def each(cluster: Any) -> None:
        for test in ALL:
            await test(OnEtcd(cluster))

    on_real_members(tmp_path, each)
