"""The evidence capsules that hosts have handed over: a file each below ``state_dir/capsules``, with an index in SQLite.

Rules
-----
* Nothing depends on them: no decision reads one, and an error here costs a capsule, never more.
* No host fills this disk. A capsule has at most 4 MiB, a host 8 of them, a pool 256 MiB, all together 2 GiB; and none
  is begun that would leave the file system less than 1 GiB. Where a bound is reached the oldest of the same host goes,
  then the oldest of the host that has most in that pool, then what was begun and left, then the oldest of the pool that
  has most: no pool pushes out another's while it has more itself.
* They are kept 90 days from when they were handed over.
* What is under way is a file of its own (``.part``): it goes on after a broken stream or a restart where it was. It
  counts against the bound of all, a host has two at most, and what nobody goes on with is given up after a day. It
  takes its name when all of it is there and its digest fits, and not before.
* A name on disk is made of a host's UUID by its certificate and an id of 32 hex digits: nothing that a host says else
  becomes part of a path.
* Every method waits for the disk: they are called in threads, several at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell import clock

FOLDER, INDEX = "capsules", "index.db"
MIB = 1 << 20
BIGGEST = 4 * MIB
OF_HOST = 8
OF_POOL = 256 * MIB
IN_ALL = 2_048 * MIB
LEAST_FREE = 1_024 * MIB
KEEP_MS = 90 * 24 * 3_600_000
PARTS_OF_HOST = 2  # that are not whole
LEFT_MS = 300_000  # untouched for so long nobody is at it
PART_MS = 24 * 3_600_000  # after which one that nobody went on with is given up
ID = re.compile(r"[0-9a-f]{32}")
DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_LISTED = 10_000

_TABLES = """
CREATE TABLE IF NOT EXISTS capsules (
    host TEXT NOT NULL, id TEXT NOT NULL, pool TEXT NOT NULL, at_ms INTEGER NOT NULL, taken_ms INTEGER NOT NULL,
    trigger TEXT NOT NULL, text TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (host, id));
CREATE INDEX IF NOT EXISTS capsules_at ON capsules (at_ms);
"""


@dataclass(frozen=True, slots=True)
class Offered:
    """A capsule that a host holds. ``at_ms``: when it was begun, by this collector's wall clock as far as is known."""

    id: str
    size: int
    sha256: str
    at_ms: int
    trigger: str
    text: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A capsule that is here whole."""

    host: HostId
    id: str
    pool: PoolId
    at_ms: int
    taken_ms: int
    trigger: str
    text: str
    size: int
    sha256: str


class NoRoom(Exception):
    """It is not taken now; one sentence."""


class Capsules:
    """The folder ``state_dir/capsules``. What cannot be read or written raises OSError or sqlite3.Error."""

    def __init__(self, state_dir: Path, now: Callable[[], int] = clock.wall_ms) -> None:
        self._folder = state_dir / FOLDER
        self._now = now
        self._lock = threading.Lock()

    # ------------------------------------------------------------------------------------------------ taking

    def begin(self, pool: PoolId, host: HostId, offered: Offered) -> int | None:
        """How many bytes of it are here already; None: all of it is. Raises NoRoom."""
        with self._lock, self._index() as db:
            if db.execute("SELECT 1 FROM capsules WHERE host = ? AND id = ?", (host, offered.id)).fetchone():
                return None
            part = self._part(host, offered)
            if part.exists():
                os.utime(part)
                return min(part.stat().st_size, offered.size)
            self._make_room(db, pool, host, offered.size)
            part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part.touch(0o600)
            return 0

    def append(self, host: HostId, offered: Offered, offset: int, chunk: bytes) -> None:
        """The piece at this offset has come."""
        with self._part(host, offered).open("r+b") as file:
            file.truncate(offset)
            file.seek(offset)
            file.write(chunk)

    def finish(self, pool: PoolId, host: HostId, offered: Offered) -> bool:
        """All pieces are here: does the digest fit? Then it is kept, else nothing of it is."""
        part = self._part(host, offered)
        with part.open("rb") as file:
            fits = hashlib.file_digest(file, "sha256").hexdigest() == offered.sha256
        if not fits or part.stat().st_size != offered.size:
            part.unlink()
            return False
        with self._lock, self._index() as db:
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.rename(self._path(host, offered.id))
            row = (host, offered.id, pool, offered.at_ms, self._now(), offered.trigger, offered.text)
            db.execute(
                "INSERT OR REPLACE INTO capsules VALUES (?,?,?,?,?,?,?,?,?)", (*row, offered.size, offered.sha256)
            )
        return True

    def _make_room(self, db: sqlite3.Connection, pool: PoolId, host: HostId, size: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free - size < LEAST_FREE:
            raise NoRoom(f"{self._folder} has {free >> 20} MiB left, and {LEAST_FREE >> 20} stay free there")
        for left in [each for each in self._parts() if each.parent.name == host][: 1 - PARTS_OF_HOST]:
            left.unlink()
        while self._count(db, host) >= OF_HOST:
            self._drop_oldest(db, "WHERE host = ?", (host,))
        while self._size(db, "WHERE pool = ?", (pool,)) + size > OF_POOL:
            most = "(SELECT host FROM capsules WHERE pool = ? GROUP BY host ORDER BY sum(size) DESC, host LIMIT 1)"
            self._drop_oldest(db, f"WHERE pool = ? AND host = {most}", (pool, pool))
        while self._size(db, "", ()) + self._under_way() + size > IN_ALL:
            most = "(SELECT pool FROM capsules GROUP BY pool ORDER BY sum(size) DESC, pool LIMIT 1)"
            if not self._drop_left() and not self._drop_oldest(db, f"WHERE pool = {most}", ()):
                raise NoRoom("too much is under way")

    def _under_way(self) -> int:
        """Bytes of what is not whole yet; those that are being taken count as if they were."""
        return sum(BIGGEST if self._fresh(part) else part.stat().st_size for part in self._parts())

    def _drop_left(self) -> bool:
        """Give up what somebody has begun to hand over and left; what is whole is worth more."""
        left = next((part for part in self._parts() if not self._fresh(part)), None)
        if left is not None:
            left.unlink()
        return left is not None

    def _fresh(self, part: Path) -> bool:
        return self._now() - part.stat().st_mtime * 1000 < LEFT_MS

    def _drop_oldest(self, db: sqlite3.Connection, where: str, given: tuple[str, ...]) -> bool:
        row = db.execute(f"SELECT host, id FROM capsules {where} ORDER BY taken_ms, id LIMIT 1", given).fetchone()
        if row is not None:
            self._drop(db, *row)
        return row is not None

    def _drop(self, db: sqlite3.Connection, host: HostId, capsule: str) -> None:
        self._path(host, capsule).unlink(missing_ok=True)
        db.execute("DELETE FROM capsules WHERE host = ? AND id = ?", (host, capsule))

    def _count(self, db: sqlite3.Connection, host: HostId) -> int:
        return int(db.execute("SELECT count(*) FROM capsules WHERE host = ?", (host,)).fetchone()[0])

    def _size(self, db: sqlite3.Connection, where: str, given: tuple[str, ...]) -> int:
        return int(db.execute(f"SELECT coalesce(sum(size), 0) FROM capsules {where}", given).fetchone()[0])

    # ------------------------------------------------------------------------------------------------ keeping

    def tidy(self) -> None:
        """What is too old goes, and what was begun and left; so does an entry whose file is gone."""
        if not self._folder.exists():
            return
        with self._lock, self._index() as db:
            old = db.execute("SELECT host, id FROM capsules WHERE taken_ms < ?", (self._now() - KEEP_MS,)).fetchall()
            all_of_them = db.execute("SELECT host, id FROM capsules").fetchall()
            gone = [(host, capsule) for host, capsule in all_of_them if not self._path(host, capsule).exists()]
            for host, capsule in {*old, *gone}:
                self._drop(db, host, capsule)
            for part in self._parts():
                if self._now() - part.stat().st_mtime * 1000 > PART_MS:
                    part.unlink()
            known = {self._path(host, capsule) for host, capsule in all_of_them}
            for stray in set(self._folder.glob("*/*.tar")) - known:  # named, and the index had not taken it up yet
                stray.unlink()

    def listed(
        self, among: frozenset[PoolId] | None, pool: PoolId, since_ms: int | None, until_ms: int | None, limit: int
    ) -> list[Kept]:
        """The newest so many of these pools (None: of all), the oldest first."""
        if not (self._folder / INDEX).exists():
            return []
        query = "SELECT * FROM capsules WHERE at_ms BETWEEN ? AND ? ORDER BY at_ms DESC, taken_ms DESC"
        with self._index() as db:
            rows = db.execute(query, (since_ms or 0, until_ms if until_ms is not None else 1 << 53))
            found: list[Kept] = []
            for row in rows:
                kept = Kept(*row)
                if pool in ("", kept.pool) and (among is None or kept.pool in among):
                    found.append(kept)
                if len(found) >= min(limit, _MOST_LISTED):
                    break
        return found[::-1]

    def find(self, host: HostId, capsule: str) -> tuple[Kept, Path] | None:
        """One of them, and its file."""
        if not (self._folder / INDEX).exists():
            return None
        with self._index() as db:
            row = db.execute("SELECT * FROM capsules WHERE host = ? AND id = ?", (host, capsule)).fetchone()
        return (Kept(*row), self._path(host, capsule)) if row is not None else None

    def _path(self, host: HostId, capsule: str) -> Path:
        return self._folder / host / f"{capsule}.tar"

    def _part(self, host: HostId, offered: Offered) -> Path:
        return self._folder / host / f"{offered.id}-{offered.sha256[:16]}-{offered.size}.part"

    def _parts(self) -> list[Path]:
        """What is under way or was left, the longest untouched first."""
        return sorted(self._folder.glob("*/*.part"), key=lambda part: part.stat().st_mtime)

    @contextlib.contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        db: Any = sqlite3.connect(self._folder / INDEX, timeout=5.0)
        try:
            db.executescript(_TABLES)
            with db:
                yield db
        finally:
            db.close()
