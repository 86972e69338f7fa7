"""The journal's part as the archive of one of several collectors: what their etcd has is recorded here as well.

Rules
-----
* Up to which number of its journal in etcd a pool is recorded here is written in the transaction that records it.
* What another collector has recorded in etcd since is taken in with the pool; what was folded there meanwhile is in
  that one's archive alone, and an entry says from where to where.
* Which entries came with a pool is remembered, so that a history of all collectors tells each once.
* So an archive may have holes, and no record is folded from it: a pool's record is etcd's. A snapshot would not help,
  it counts for one build alone.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlite_utils import Database

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.store.handed import SHARED, Handed, HandedCalls
from poolwarden_collector.shell.store.journal_questions import COPIED
from poolwarden_collector.shell.store.journal_rows import Row

COPIES_KEPT = 1_000  # takeovers of one pool of which that is remembered


class ArchiveCalls(HandedCalls):
    """What a journal has of it; ``Journal`` brings the file and its transactions. Methods raise JournalError."""

    if TYPE_CHECKING:

        def _add_entries(self, db: Database, pool: PoolId, entries: list[Entry]) -> list[Row]: ...

    def take_over(
        self, pool: PoolId, name: str, entries: Iterable[tuple[int, Entry]], last: int, handed: Handed | None = None
    ) -> list[Row]:
        """A pool comes with the entries that etcd has not folded yet, by their numbers, and stands at ``last``."""
        with self._transaction(f"what others have recorded of pool {name or pool}") as db:
            known, numbered = reached(db, pool) or 0, list(entries)
            missing = [entry for number, entry in numbered if number > known]
            first = min((number for number, _ in numbered), default=last + 1)
            hole = [_hole(known + 1, first - 1)] if known + 1 < first and known < last else []
            self._reached(db, pool, max(known, last))
            self._hand(db, pool, name, handed or Handed())
            rows = self._add_entries(db, pool, hole + missing)
            if missing:
                _copied(db, pool, rows[len(hole)].seq, rows[-1].seq)
            return rows

    def _reached(self, db: Database, pool: PoolId, number: int) -> None:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [SHARED + pool, str(number)])


def _copied(db: Database, pool: PoolId, first: int, last: int) -> None:
    kept = next(db.query("SELECT value FROM meta WHERE key = ?", [COPIED + pool]), None)
    known = json.loads(kept["value"]) if kept is not None else []
    text = json.dumps([*known, (first, last)][-COPIES_KEPT:])
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [COPIED + pool, text])


def reached(db: Database | sqlite3.Connection, pool: PoolId) -> int | None:
    """Up to which number the pool's journal in etcd is recorded here; None: it is no pool of several collectors'."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", [SHARED + pool]).fetchone()
    return int(row[0]) if row is not None else None


def _hole(first: int, last: int) -> Entry:
    text = f"entries {first} to {last} of the pool's journal were recorded by other collectors, in their archives alone"
    return Entry(Kind.FOLDED, text, {"first": first, "last": last})
