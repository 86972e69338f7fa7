"""The journal's part for operators' calls and for what waits for a second person (audit.py has what is written)."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlite_utils import Database

from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.store import audit, silences
from poolwarden_collector.shell.store.journal_file import JournalError
from poolwarden_collector.shell.store.journal_rows import Row

_PRUNE_EVERY_MS = 3_600_000


class OperatorCalls:
    """What a journal has of them; ``Journal`` brings the file and its transactions.

    Every method raises JournalError.
    """

    path: Path
    epoch: int
    _prune_calls_at = 0  # on the clock of silences

    if TYPE_CHECKING:

        def _transaction(self, what: str) -> AbstractContextManager[Database]: ...
        def _reading(self) -> AbstractContextManager[Database]: ...
        def _add_entries(self, db: Database, pool: PoolId, entries: list[Entry]) -> list[Row]: ...

    def call_begins(self, called: audit.Called) -> int:
        """An operator's call is about to be served, or was refused; the number of its row."""
        now = silences.Clock(self.epoch).now
        with self._transaction("an operator's call") as db:
            if now >= self._prune_calls_at:
                audit.prune(db, clock.wall_ms())
                self._prune_calls_at = now + _PRUNE_EVERY_MS
            return audit.begin(db, called)

    def call_ended(self, row: int, pool: PoolId, result: str) -> None:
        """What came of it."""
        with self._transaction("what came of an operator's call") as db:
            audit.end(db, row, pool, result)

    def calls(self, pools: frozenset[PoolId] | None, since: str, until: str, limit: int) -> list[dict[str, Any]]:
        """The newest recorded calls, oldest first, read beside the connection that writes; ``pools`` None: of all."""
        try:
            return audit.read(self.path, pools, since, until, limit)
        except (sqlite3.Error, OSError, OverflowError, ValueError) as error:
            raise JournalError(f"{self.path}: cannot be read: {error}") from error

    def second_waits(self, waiting: audit.Waiting, entry: Entry) -> list[Row]:
        """This waits for a second person from now on."""
        with self._transaction("what waits for a second person") as db:
            audit.wait(db, waiting)
            return self._add_entries(db, waiting.pool, [entry])

    def second_over(self, wanted: audit.Waiting, entry: Entry | None = None) -> list[Row] | None:
        """It waits no more, with an entry that says why; None: it was not waiting."""
        with self._transaction("the end of what waits for a second person") as db:
            if not audit.take(db, wanted.id):
                return None
            return self._add_entries(db, wanted.pool, [entry] if entry is not None else [])

    def seconded(self) -> list[tuple[audit.Waiting, int]]:
        """What waits for a second person, each with how long it still does (ms; 0: it is over)."""
        now = silences.Clock(self.epoch)
        with self._reading() as db:
            return [(each, each.left_ms(now)) for each in audit.waiting(db)]
