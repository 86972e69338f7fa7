"""The journal's part for the records of pools: folded from a snapshot and the entries after it, or from all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlite_utils import Database

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.core.state.decision_input import BadInput, unpack_record
from poolwarden_collector.core.state.pool_record import BadEntry, PoolRecord, apply
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.store import retention, salvage, snapshots
from poolwarden_collector.shell.store.archive_calls import reached
from poolwarden_collector.shell.store.journal_file import JournalError
from poolwarden_collector.shell.store.journal_rows import entry_of, not_understood
from poolwarden_collector.shell.store.read_only import read_only

_ARCHIVE = (
    "it is the archive of one of several collectors and may have holes; start it with the [store] that it had, or with "
    "a state directory of its own"
)
SNAPSHOT_EVERY = 100  # entries of a pool
_AT_ONCE = 1_000  # entries in memory
# One step through the index for each pool, however many entries it has.
_POOLS = """WITH RECURSIVE found (pool) AS (
              SELECT min(pool) FROM entries WHERE pool > ''
              UNION ALL SELECT (SELECT min(pool) FROM entries WHERE pool > found.pool) FROM found
              WHERE found.pool IS NOT NULL)
            SELECT pool, (SELECT min(seq) FROM entries WHERE entries.pool = found.pool) AS first FROM found
            WHERE pool IS NOT NULL ORDER BY first"""
_WRITTEN_SINCE = "SELECT DISTINCT pool FROM entries WHERE seq > ? AND pool > ''"
_ROWS = "SELECT * FROM entries WHERE pool = ? AND seq > ? ORDER BY seq LIMIT ?"


class Records:
    """What a journal has of them; ``Journal`` brings the file and its transactions. Methods raise JournalError."""

    path: Path

    if TYPE_CHECKING:

        def _transaction(self, what: str) -> AbstractContextManager[Database]: ...
        def _reading(self) -> AbstractContextManager[Database]: ...

    def pools(self) -> list[PoolId]:
        """Every pool that has an entry, in the order of their first ones."""
        with self._reading() as db:
            return [row["pool"] for row in db.query(_POOLS)]

    def replay(self, pool: PoolId) -> Iterator[Entry]:
        """The pool's entries from the first one. Raises JournalError on an entry that this version does not know."""
        for row, releases in self._rows_of(pool, 0):
            yield entry_of(self.path, row, releases)

    def record(self, pool: PoolId) -> PoolRecord:
        """Where the pool's entries end. Raises JournalError on one that is not known or is damaged, and for an archive
        of one of several collectors.
        """
        with self._reading() as db:
            # safety: an archive may have holes, and what a record is folded to without them looks like any other.
            if reached(db, pool) is not None:
                raise JournalError(f"{self.path}: {_ARCHIVE}")
            seq, record = _base(db, pool)
        return _folded(self.path, record, self._rows_of(pool, seq))[0]

    def _rows_of(self, pool: PoolId, after: int) -> Iterator[tuple[dict[str, Any], dict[int, str]]]:
        with self._reading() as db:
            releases = _releases(db.conn)
        while True:
            with self._reading() as db:
                rows = list(db.query(_ROWS, [pool, after, _AT_ONCE]))
            for row in rows:
                yield row, releases
            if len(rows) < _AT_ONCE:
                return
            after = rows[-1]["seq"]

    def folds_over_a_hole(self) -> bool:
        """Is a record folded over entries that a damaged file has lost (salvage.py)?"""
        with self._reading() as db:
            lost = _lost_after(db.conn)
        return lost >= 0 and (bool(self.short()) or not self.pools())

    def short(self) -> frozenset[PoolId]:
        """The pools of which entries are missing, and neither their hosts nor a person have said more since."""
        with self._reading() as db:
            lost = _lost_after(db.conn)
            known = {row["pool"] for row in db.query("SELECT DISTINCT pool FROM snapshots")} if lost >= 0 else set()
        pools = known.union(self.pools()) if lost >= 0 else known
        return frozenset(pool for pool in pools if self._has_a_hole(pool, lost))

    def _has_a_hole(self, pool: PoolId, lost: int) -> bool:
        with self._reading() as db:
            return snapshots.newest(db.conn, pool)[0] <= lost and not _told_behind(db.conn, pool, lost)

    def long_tails(self, since: int = 0) -> tuple[list[PoolId], int]:
        """The pools with a snapshot due, of those with an entry behind ``since`` (0: of all); and the newest entry."""
        with self._look() as db:
            (last,) = db.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()
            # What has not been written to since its tail was looked at has none that is longer now.
            written = db.execute(_WRITTEN_SINCE, [since]) if since else db.execute(_POOLS)
            lost, known = _lost_after(db), [row["pool"] for row in written]
            known = [pool for pool in known if reached(db, pool) is None]
            return [pool for pool in known if _long_tail(db, pool) and not _over_a_hole(db, pool, lost)], int(last)

    def snapshots_of(self, pools: Iterable[PoolId]) -> list[snapshots.Snapshot]:
        """The records of these as of now, folded beside the writing connection."""
        with self._look() as db:
            releases = _releases(db)
            return [made for pool in pools for made in self._snapshot(db, pool, releases)]

    @contextmanager
    def _look(self) -> Iterator[sqlite3.Connection]:
        try:
            with read_only(self.path) as db:
                db.row_factory = sqlite3.Row
                yield db
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{self.path}: cannot be read: {error}") from error

    def keep_snapshots(self, due: Iterable[snapshots.Snapshot]) -> None:
        """Write them."""
        with self._transaction("snapshots of the pools' records") as db:
            snapshots.put(db, due)

    def old(self, keep_history: Ms, keep_decisions: Ms, most: int) -> retention.Cut:
        """What is older than it is kept (ms before now), ``most`` of each kind; found beside the writing connection."""
        now = clock.wall_ms()
        before = [clock.text_of(max(0, now - kept)) for kept in (keep_history, keep_decisions)]
        try:
            with read_only(self.path) as db:
                return retention.look(db, before[0], before[1], clock.text_of(now), most)
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{self.path}: cannot be read: {error}") from error

    def remove(self, cut: retention.Cut) -> None:
        """One part of it."""
        with self._transaction("what is old") as db:
            retention.remove(db, cut)

    def _snapshot(self, db: sqlite3.Connection, pool: PoolId, releases: dict[int, str]) -> list[snapshots.Snapshot]:
        after, record = _base(db, pool)
        record, seq = _folded(self.path, record, _rows_beside(db, pool, after, releases))
        made = snapshots.made(record, seq)
        return [made] if made is not None else []


def _base(db: Any, pool: PoolId) -> tuple[int, PoolRecord]:
    """What is begun with, and the entry up to which that goes: a snapshot, or nothing before a record that came whole.

    safety: what stands before such a record may have holes, and is not folded.
    """
    seq, record = snapshots.newest(db, pool)
    query = "SELECT coalesce(max(seq), 0) AS seq FROM entries WHERE pool = ? AND kind = ?"
    (moved,) = db.execute(query, [pool, Kind.RECORD_MOVED.value]).fetchone()
    return (int(moved) - 1, PoolRecord(pool)) if moved > seq else (seq, record)


def _long_tail(db: sqlite3.Connection, pool: PoolId) -> bool:
    """Is a snapshot due?"""
    query = "SELECT 1 FROM entries WHERE pool = ? AND seq > ? ORDER BY seq LIMIT 1 OFFSET ?"
    return db.execute(query, [pool, snapshots.reached(db, pool), SNAPSHOT_EVERY - 1]).fetchone() is not None


def _over_a_hole(db: sqlite3.Connection, pool: PoolId, lost: int) -> bool:
    """safety: would a snapshot hide entries that are missing before the pool's hosts have said what they know?"""
    return lost >= 0 and snapshots.newest(db, pool)[0] <= lost and not _told_behind(db, pool, lost)


def _told_behind(db: sqlite3.Connection, pool: PoolId, lost: int) -> bool:
    """Have the pool's hosts said, since entries were lost, that this journal is not the newest, or a person enough?

    A record that came whole is short of nothing that was lost before.
    """
    query = "SELECT 1 FROM entries WHERE pool = ? AND kind IN (?, ?, ?) AND seq > ?"
    which = [pool, Kind.RESTORED.value, Kind.JOURNAL_SHORT_OVER.value, Kind.RECORD_MOVED.value, lost]
    return db.execute(query, which).fetchone() is not None


def _lost_after(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = ?", [salvage.LOST]).fetchone()
    return int(row[0]) if row is not None else -1


def _rows_beside(
    db: sqlite3.Connection, pool: PoolId, after: int, releases: dict[int, str]
) -> Iterator[tuple[dict[str, Any], dict[int, str]]]:
    while rows := db.execute(_ROWS, [pool, after, _AT_ONCE]).fetchall():
        for row in rows:
            yield dict(row), releases
        after = rows[-1]["seq"]


def _folded(
    path: Path, record: PoolRecord, rows: Iterable[tuple[dict[str, Any], dict[int, str]]]
) -> tuple[PoolRecord, int]:
    """The record after these rows, and the number of the last one."""
    last = 0
    for row, releases in rows:
        entry, last = entry_of(path, row, releases), row["seq"]
        try:
            record = unpack_record(entry.data["record"]) if entry.kind is Kind.RECORD_MOVED else apply(record, entry)
        except (BadEntry, BadInput, KeyError) as error:
            raise not_understood(path, row, releases, str(error)) from error
    return record, last


def _releases(db: sqlite3.Connection) -> dict[int, str]:
    return dict(db.execute("SELECT epoch, release FROM epochs").fetchall())
