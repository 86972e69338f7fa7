"""The ledger with its journal: changes one after the other, durable before anybody goes by them.

Rules
-----
* Everything here runs in the collector's event loop; what is slow (the disk, signatures) is awaited in threads.
* ``turn`` is held from the question to the commit, so that a token of one use is used once. What has begun is carried
  out to its end (``whole``), whether or not whoever asked still waits: else the ledger could lack what is durable.
* One of several collectors reads what the others have changed when its turn begins, and each second. Who was overtaken
  by another one nevertheless decides again.
* An entry stands in its pool where that pool is guarded, else it is the collector's own.
* One of several tells of a key that waits where its pool is its own (``tells``), whoever was asked: so each alert has
  one who tells it, and whoever owns the pool next tells its end. Its occurrence is when the key began to wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell.cluster.enrolment_rows import Collector
from poolwarden_collector.shell.enrolment import second_keys
from poolwarden_collector.shell.enrolment.ledger import Ledger
from poolwarden_collector.shell.enrolment.rows import Overtaken, OwnRows, Rows
from poolwarden_collector.shell.enrolment.tokens import Ends
from poolwarden_collector.shell.store.enrolment_tables import WAITING, Change, Denied, Of, Token
from poolwarden_collector.shell.store.journal import Journal, JournalError, Row

LOOK_S = 1.0
CATCH_UP_S = 0.25  # between two reads for strangers
UNREAD_S = 10.0  # without an answer, until that is told
_TRIES = 8

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What enrolment asks of the collector around it, and tells it."""

    write: Callable[..., Awaitable[Any]]  # runs a journal call in the one writer thread
    publish: Callable[[list[Row]], None]  # rows have become durable
    on_alert: Callable[[], None]
    warn: Callable[[str, str], None]  # a text for status, and its topic
    pool_of: Callable[[HostId], PoolId]  # in which this host is on record, if only by its master; empty: in none
    on_record: Callable[[PoolId, HostId], bool]  # is it so in this pool?
    spoke_in: Callable[[HostId], PoolId]  # in which its own agent has spoken; empty: in none
    pool_name: Callable[[PoolId], str | None]  # None: it is not guarded
    machine: Callable[[HostId], dict[str, str]]  # of record, by the names of the contract's MachineIdentity
    serials: Callable[[HostId], set[str]]  # of the certificates of this host's open streams
    close: Callable[[Callable[[str], bool], str], None]  # end the streams whose certificate's serial is such, and why
    tells: Callable[[PoolId], bool] = lambda _pool: True  # does this collector tell what is to be told of this pool?


class Registry:
    """The ledger of a collector; ``collector`` is its name."""

    def __init__(self, journal: Journal, around: Surroundings, collector: str, rows: Rows | None = None) -> None:
        self.ledger = Ledger()
        self.ends = Ends()
        self.around = around
        self.collector = collector
        self._journal = journal
        self._rows = rows or OwnRows(journal, around.write)
        self._lock = asyncio.Lock()
        self._open: set[str] = set()  # keys of open alerts of enrolment
        self._tasks: set[asyncio.Task[Any]] = set()
        self._following: asyncio.Task[None] | None = None
        self._read_at = 0.0  # s on the event loop's clock, when that read was begun
        self._warned = ""

    async def begin(self, messages: Iterable[str]) -> None:
        """Read what the journal has; ``messages``: the alerts that are raised here. Raises JournalError."""
        self._take(Change(tuple(await self._rows.everything())))
        for message in messages:
            self._open.update(await self.around.write(self._journal.open_alerts, message))
        self._read_at = _now()
        if self._rows.shared:
            self._following = asyncio.ensure_future(self._follow())

    @property
    def turn(self) -> AbstractAsyncContextManager[None]:
        """Nobody else here decides meanwhile, on what all collectors know. Raises JournalError."""
        return self._turn()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        async with self._lock:
            await self._refresh()
            yield

    async def _refresh(self) -> None:
        began = _now()
        if (change := await self._rows.refresh()) is not None:
            self._take(change)
            self._close_denied(change)
        self._read_at = began

    @property
    def shared(self) -> bool:
        """Is the ledger that of several collectors?"""
        return self._rows.shared

    @property
    def others(self) -> tuple[Collector, ...]:
        """The other collectors whose orders hosts shall obey, by their names; to be called from any thread."""
        found = self._rows.collectors
        return tuple(found[name] for name in sorted(found) if name != self.collector)

    async def catch_up(self) -> None:
        """Know what the others have done until now, at the cost of one read for all who ask at once."""
        if not self._rows.shared:
            return
        asked = _now()
        await asyncio.sleep(max(0.0, self._read_at + CATCH_UP_S - asked))
        async with self._lock:
            if self._read_at <= asked:
                await self._refresh()

    def _take(self, change: Change) -> None:
        self.ledger.took(change)
        for row in change.put:
            if isinstance(row, Token):
                self.ends.note(row)

    def _close_denied(self, change: Change) -> None:
        """A denial that another collector was asked for ends the streams here as well."""
        found = {row.serial: row for row in change.put if isinstance(row, Denied)}
        if found:
            by = next(iter(found.values()))
            text = f"this certificate was denied by {by.actor}: {by.reason or 'no reason given'}"
            self.around.close(lambda serial: serial in found, text)

    async def _follow(self) -> None:
        """What other collectors change counts here within a second or two; what is to be told of it is told."""
        while True:
            try:
                async with self.turn:
                    await self._tell_waiting()
                self._told_of("")
            except JournalError as error:
                if _now() - self._read_at > UNREAD_S:
                    self._told_of(str(error))
            except Exception:
                _log.exception("enrolment is not followed")
            await asyncio.sleep(LOOK_S)

    def _told_of(self, why: str) -> None:
        if why and not self._warned:
            self.around.warn(why, "enrolment: etcd")
            _log.error("%s", why)
        elif self._warned and not why:
            _log.warning("etcd says again who is enrolled")
        self._warned = why

    async def _tell_waiting(self) -> None:
        """Alerts about keys that wait: raised where their pool is told of here, ended where they wait no more."""
        keys = {second_keys.key_of_alert(key): key for key in self.ledger.keys.values()}
        waiting = {alert for alert, key in keys.items() if key.state == WAITING and self.around.tells(key.pool)}
        for alert in sorted(waiting - self._open):
            key = keys[alert]
            await self._tell(second_keys.raised(key, self.pool(key.pool)), key.pool, key.since_ms)
        for alert in sorted((self._open & keys.keys()) - waiting):
            if not self.around.tells(keys[alert].pool):
                await self.around.write(self._journal.let_alert_go, alert)
                self._open.discard(alert)
            else:
                await self._tell(second_keys.resolved(keys[alert]), keys[alert].pool)

    async def _tell(self, alert: AlertRaised | AlertResolved, pool: PoolId, occurrence: int = 0) -> None:
        name = self.around.pool_name(pool)
        change = Change((), (), (), (alert,), pool if name is not None else "", name or "", occurrence)
        await self._rows.note(change)
        (self._open.add if isinstance(alert, AlertRaised) else self._open.discard)(alert.key)
        self.around.on_alert()

    async def whole(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Carry this out to its end, and wait for it; it is begun again where another collector was faster."""
        return await asyncio.shield(self.begun(self.again(work)))

    async def again(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """This, and once more as long as it is overtaken. Raises JournalError where that does not end."""
        for _ in range(_TRIES):
            with contextlib.suppress(Overtaken):
                return await work()
        return await work()

    def begun(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Carry this out to its end."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # is the asker's, who may have gone

    async def end(self) -> None:
        """Wait for what has begun."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def commit(
        self,
        *put: Of,
        pool: PoolId = "",
        entry: Entry | None = None,
        drop: Iterable[Of] = (),
        alerts: Iterable[AlertRaised | AlertResolved] = (),
    ) -> None:
        """Make this durable, then go by it. An alert that is open already is not raised again. Raises JournalError."""
        name = self.around.pool_name(pool) if pool else None
        raised = alerts if not self._rows.shared or not (put or pool) else ()  # else as _tell_waiting has it
        told = tuple(each for each in raised if isinstance(each, AlertRaised) != (each.key in self._open))
        entries = (entry,) if entry is not None else ()
        change = Change(put, tuple(drop), entries, told, pool if name is not None else "", name or "")
        rows = await (self._rows.write(change) if put or change.drop else self._rows.note(change))
        self._take(change)
        for each in told:
            (self._open.add if isinstance(each, AlertRaised) else self._open.discard)(each.key)
        self.around.publish(rows)
        if told:
            self.around.on_alert()
        if self._rows.shared:
            await _or_later(self._tell_waiting())

    def own_alert(self, key: str) -> str:
        """The key of an alert about this collector itself."""
        return self._journal.own_key(key)

    def is_open(self, alert: str) -> bool:
        """Is there an open alert with this key?"""
        return alert in self._open

    def pool(self, pool: PoolId) -> str:
        """The pool's name for people."""
        return self.around.pool_name(pool) or pool


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _or_later(telling: Coroutine[Any, Any, None]) -> None:
    """What is to be told is told in the next second otherwise; what was done is done."""
    try:
        await telling
    except JournalError as error:
        _log.error("enrolment: an alert is not told yet: %s", error)


def noted(act: str, text: str, actor: str = "poolwarden", **data: str) -> Entry:
    """An entry about enrolment."""
    return Entry(Kind.ENROLMENT, text, {"act": act, **data}, actor=actor)
