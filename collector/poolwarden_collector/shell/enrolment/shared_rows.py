"""The rows of enrolment of one of several collectors: durable in etcd, with a copy in the own journal.

Rules
-----
* Each decision begins with a read of etcd that a majority confirms. Where that is not answered nobody new is certified,
  and what was certified or denied before stays so: streams are judged by the copy.
* The copy is what a collector begins with that does not reach etcd.
* safety: a denial is never taken back. Where etcd has lost one (it was restored from a backup), each collector that has
  heard of it goes on to refuse, and writes it there again.
* Each collector says there which public keys its orders are signed with, and where agents reach it: every host that
  enrols pins all of them. What it has said stays when it is away; who is gone for good is removed by a person.
* What was done stands as an entry in the journal of the collector that was asked.
* A copy that cannot be written costs nothing but the copy: it is read anew at the next start.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from poolwarden_collector.shell.cluster import enrolment_rows
from poolwarden_collector.shell.cluster.enrolment_rows import (
    Changes,
    Collector,
    Difference,
    Doubtful,
    InEtcd,
    UnreadableRow,
    Write,
)
from poolwarden_collector.shell.cluster.etcd import Etcd, EtcdError, Exchange, Op, carry_out
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.enrolment.rows import Overtaken
from poolwarden_collector.shell.store.enrolment_tables import DENIED, Change, Denied, HostKey, Of
from poolwarden_collector.shell.store.journal import Journal, JournalError, Row

DOUBT_S = 10.0  # that a write is sent again
AGAIN_S = 0.5
_UNREAD = "etcd does not say who is enrolled, so nobody new is"
_UNWRITTEN = "etcd does not take what is to be changed about enrolment, so nothing is"
_STEP = "ask again once it answers; poolwarden doctor, at the collector"
_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class SharedRows:
    """In etcd below ``names``. ``run`` runs a call of ``journal``, the archive, in the one writer thread.

    ``me``: what this collector says of itself.
    """

    shared = True

    def __init__(
        self,
        etcd: Etcd,
        names: Names,
        journal: Journal,
        run: Callable[..., Awaitable[Any]],
        me: Collector | None = None,
    ) -> None:
        self.collectors: dict[str, Collector] = {}  # whose orders hosts shall obey
        self._me = me
        self._etcd, self._names = etcd, names
        self._journal, self._run = journal, run
        self._changes = Changes()
        self._known: dict[str, Of] = {}  # as of these changes
        self._denied: dict[str, Of] = {}  # for good, whatever etcd says
        self._lost: dict[str, Of] = {}  # denials that etcd has to be given again

    async def everything(self) -> list[Of]:
        """The copy, as the last run left it."""
        rows: list[Of] = await self._run(self._journal.enrolment)
        self._known = {self._key(row): row for row in rows}
        self._keep_denied(self._known)
        return rows

    async def refresh(self) -> Change | None:
        """What has been changed in etcd. Raises JournalError where etcd does not say."""
        found = await self._asked(enrolment_rows.read(self._names, self._changes), _UNREAD)
        if (found.changes if found is not None else self._changes).revision == 0:
            self._changes, self.collectors = Changes(), {}
            seeded = bool(self._known) and await self._seeded()
            found = None if seeded else await self._asked(enrolment_rows.read(self._names, Changes()), _UNREAD)
        change = self._taken(found) if found is not None else None
        if change is not None:
            await self._copy(change)
        if self._lost:
            await self._put_back()
        if self._me is not None and self.collectors.get(self._me.name) != self._me:
            await self._say_who(self._me)
        return change

    async def _say_who(self, me: Collector) -> None:
        try:
            await self._put((), (), me)
        except JournalError as error:
            _log.info("what this collector signs its orders with is not told yet: %s", error)

    async def _seeded(self) -> bool:
        """etcd has never had any rows: it is given those of the copy; false: another collector has done that."""
        exchange = enrolment_rows.seed(self._names, self._known.values(), secrets.token_hex(8))
        outcome = await self._asked(exchange, _UNREAD)
        if isinstance(outcome, enrolment_rows.Overtaken):
            return False
        _log.warning("etcd has had nobody enrolled: it is given what this collector knows, %d rows", len(self._known))
        self._changes = outcome.changes
        return True

    def _taken(self, found: Difference) -> Change | None:
        """What that changes here."""
        there = {key: row for key, row in found.put.items() if not isinstance(row, Collector)}
        named = {row.name: row for row in found.put.values() if isinstance(row, Collector)}
        gone_key = {self._key(row): name for name, row in self.collectors.items()}
        self.collectors = named if found.whole else self.collectors | named
        for key in found.gone:
            self.collectors.pop(gone_key.get(key, ""), None)
        self._keep_denied(there)
        expected = self._denied if found.whole else {key: self._denied[key] for key in there if key in self._denied}
        self._lost |= {key: row for key, row in expected.items() if not _denies(there.get(key))}
        there |= expected
        gone = [key for key in self._known if key not in there] if found.whole else found.gone
        dropped = tuple(self._known.pop(key) for key in gone if key in self._known and key not in self._denied)
        put = tuple(row for key, row in there.items() if self._known.get(key) != row)
        self._known |= there
        self._changes = found.changes
        return Change(put, dropped) if put or dropped else None

    async def _put_back(self) -> None:
        _log.warning("etcd has lost %d denials: they are written there again", len(self._lost))
        try:
            await self._put(tuple(self._lost.values()), ())
        except JournalError as error:
            _log.error("the denials that etcd has lost are not there yet: %s", error)
        else:
            self._lost.clear()

    def _keep_denied(self, rows: Mapping[str, Of]) -> None:
        self._denied |= {key: row for key, row in rows.items() if _denies(row)}

    async def write(self, change: Change) -> list[Row]:
        """Into etcd, then into the copy with its entries. Raises Overtaken, JournalError."""
        await self._put(change.put, change.drop)
        try:
            return await self._copied(change)
        except JournalError as error:
            # safety: it is durable in etcd; to call it failed would have it done twice.
            _log.error("enrolment: the own journal does not take what has been changed: %s", error)
            return []

    async def note(self, change: Change) -> list[Row]:
        """In the own journal."""
        rows: list[Row] = await self._run(self._journal.enrol, replace(change, put=(), drop=()))
        return rows

    async def _put(self, put: tuple[Of, ...], drop: tuple[Of, ...], who: Collector | None = None) -> None:
        first: list[InEtcd] = [*sorted(put, key=lambda row: not _denies(row)), *([who] if who is not None else [])]
        for part in enrolment_rows.parts(self._names, first, drop):
            self._changes = await self._written(part)
        self.collectors |= {who.name: who} if who is not None else {}
        there = {self._key(row): row for row in put}
        self._keep_denied(there)
        self._known |= there
        for row in drop:
            self._known.pop(self._key(row), None)

    async def _written(self, part: tuple[Op, ...]) -> Changes:
        write = Write(self._names, self._changes, secrets.token_hex(8), part)
        try:
            async with asyncio.timeout(DOUBT_S):
                while isinstance(outcome := await self._asked(write.attempt(), _UNWRITTEN), Doubtful):
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            text = f"etcd has not said within {DOUBT_S:g} s whether it has this"
            raise JournalError(f"{text}: look at what is there before you ask again") from None
        if isinstance(outcome, enrolment_rows.Overtaken):
            raise Overtaken("other collectors change enrolment again and again: ask again")
        return outcome.changes

    async def _asked(self, exchange: Exchange[_T], why: str) -> _T:
        try:
            return await carry_out(self._etcd, exchange)
        except (EtcdError, UnreadableRow) as error:
            raise JournalError(f"{why}: {error}; {_STEP}") from error

    async def _copy(self, change: Change) -> None:
        try:
            await self._copied(change)
        except JournalError as error:
            _log.error("enrolment: the own journal does not take what others have changed: %s", error)

    async def _copied(self, change: Change) -> list[Row]:
        rows: list[Row] = await self._run(self._journal.enrol, change)
        return rows

    def _key(self, row: InEtcd) -> str:
        return enrolment_rows.key_of_row(self._names, row)


def _denies(row: Of | None) -> bool:
    return isinstance(row, Denied) or (isinstance(row, HostKey) and row.state == DENIED)
