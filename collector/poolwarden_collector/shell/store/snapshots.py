"""Snapshots: a pool's record as its entries fold to it up to one of them, so that a start reads the tail alone.

Rules
-----
* A snapshot is never the only copy of anything: no entry that a record is folded from is ever removed (retention.py).
  One that is missing, damaged or of other code is passed over, and the entries are folded from the first one.
* It counts only where the code that folds is byte for byte the code that folded it, where its checksum is right, and
  where the entry stands there up to which it was folded.
* It is read back and compared before it is written. The two newest of a pool are kept.
* Folding is done beside the connection that writes; what is written is one row a pool.
"""

from __future__ import annotations

import functools
import hashlib
import sqlite3
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from sqlite_utils import Database

from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.core.state.record_text import BadRecord, from_text, to_text

KEPT = 2  # of a pool
# Every package that a fold may call.
_FOLDS = ("core.model", "core.catalogue", "core.state")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A pool's record up to the entry ``seq``, and that included."""

    pool: PoolId
    seq: int
    record: bytes
    check: str


@functools.cache
def fold_code() -> str:
    """What tells one version of the fold from every other one: the code itself; empty where it cannot be read."""
    digest = hashlib.sha256()
    try:
        for package in _FOLDS:
            folder = resources.files(f"poolwarden_collector.{package}")
            for file in sorted((each for each in folder.iterdir() if each.name.endswith(".py")), key=lambda e: e.name):
                digest.update(f"{package}/{file.name}\0".encode() + file.read_bytes())
    except OSError:
        return ""
    return digest.hexdigest()


def made(record: PoolRecord, seq: int) -> Snapshot | None:
    """The snapshot of a record; None where it could not be read back as it is."""
    code = fold_code()
    try:
        text = to_text(record)
        if not code or from_text(text) != record:
            return None
    except BadRecord:
        return None
    packed = zlib.compress(text.encode(), 1)
    return Snapshot(record.pool, seq, packed, _check(record.pool, seq, packed))


def put(db: Database, snapshots: Iterable[Snapshot]) -> None:
    """Keep these, and of each pool only the newest ones. In a transaction of the caller's."""
    for each in snapshots:
        row = (each.pool, each.seq, fold_code(), each.check, each.record)
        db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?)", row)
        older = "SELECT seq FROM snapshots WHERE pool = ? ORDER BY seq DESC LIMIT -1 OFFSET ?"
        db.execute(f"DELETE FROM snapshots WHERE pool = ? AND seq IN ({older})", (each.pool, each.pool, KEPT))  # noqa: S608


def newest(db: Any, pool: PoolId) -> tuple[int, PoolRecord]:
    """The newest record that can be built on, and its entry's number; (0, an empty record): every entry is folded."""
    try:
        found = db.execute(
            "SELECT seq, fold, checked, record FROM snapshots WHERE pool = ? ORDER BY seq DESC", [pool]
        ).fetchall()
    except sqlite3.DatabaseError:
        found = []  # a damaged table of copies ends no start; the entries say all of it
    for seq, fold, check, packed in found:
        if not fold or fold != fold_code() or not _stands(db, pool, seq):
            continue
        try:
            if check != _check(pool, seq, packed):
                continue
            record = from_text(zlib.decompress(packed).decode())
        except (BadRecord, TypeError, ValueError, zlib.error):
            continue
        if record.pool == pool:
            return int(seq), record
    return 0, PoolRecord(pool)


def reached(db: Any, pool: PoolId) -> int:
    """Up to which entry the newest snapshot of this code goes; 0: there is none."""
    row = db.execute("SELECT max(seq) FROM snapshots WHERE pool = ? AND fold = ?", [pool, fold_code()]).fetchone()
    return int(row[0] or 0)


def _stands(db: Any, pool: PoolId, seq: int) -> bool:
    return db.execute("SELECT 1 FROM entries WHERE seq = ? AND pool = ?", [seq, pool]).fetchone() is not None


def _check(pool: PoolId, seq: int, packed: bytes) -> str:
    return hashlib.sha256(f"{pool}\0{seq}\0".encode() + packed).hexdigest()
