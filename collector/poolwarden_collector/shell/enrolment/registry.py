"""The ledger with its journal: changes one after the other, durable before anybody goes by them.

Rules
-----
* Everything here runs in the collector's event loop; what is slow (the disk, signatures) is awaited in threads.
* ``turn`` is held from the question to the commit, so that a token of one use is used once. What has begun is carried
  out to its end (``whole``), whether or not whoever asked still waits: else the ledger could lack what is durable.
* An entry stands in its pool where that pool is guarded, else it is the collector's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell.enrolment.ledger import Ledger
from poolwarden_collector.shell.enrolment.tokens import Ends
from poolwarden_collector.shell.store.enrolment_tables import Change, Of, Token
from poolwarden_collector.shell.store.journal import Journal, Row

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


class Registry:
    """The ledger of a collector; ``collector`` is its name."""

    def __init__(self, journal: Journal, around: Surroundings, collector: str) -> None:
        self.ledger = Ledger()
        self.ends = Ends()
        self.around = around
        self.collector = collector
        self.turn = asyncio.Lock()
        self._journal = journal
        self._open: set[str] = set()  # keys of open alerts of enrolment
        self._tasks: set[asyncio.Task[Any]] = set()

    async def begin(self, messages: Iterable[str]) -> None:
        """Read what the journal has; ``messages``: the alerts that are raised here. Raises JournalError."""
        self.ledger.take(await self.around.write(self._journal.enrolment))
        for token in self.ledger.tokens.values():
            self.ends.note(token)
        for message in messages:
            self._open.update(await self.around.write(self._journal.open_alerts, message))

    async def whole(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Carry this out to its end, and wait for it."""
        return await asyncio.shield(self.begun(work))

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
        told = tuple(each for each in alerts if isinstance(each, AlertRaised) != (each.key in self._open))
        entries = (entry,) if entry is not None else ()
        change = Change(put, tuple(drop), entries, told, pool if name is not None else "", name or "")
        rows = await self.around.write(self._journal.enrol, change)
        self.ledger.took(change)
        for row in put:
            if isinstance(row, Token):
                self.ends.note(row)
        for each in told:
            (self._open.add if isinstance(each, AlertRaised) else self._open.discard)(each.key)
        self.around.publish(rows)
        if told:
            self.around.on_alert()

    def is_open(self, alert: str) -> bool:
        """Is there an open alert with this key?"""
        return alert in self._open

    def pool(self, pool: PoolId) -> str:
        """The pool's name for people."""
        return self.around.pool_name(pool) or pool


def noted(act: str, text: str, actor: str = "poolwarden", **data: str) -> Entry:
    """An entry about enrolment."""
    return Entry(Kind.ENROLMENT, text, {"act": act, **data}, actor=actor)
