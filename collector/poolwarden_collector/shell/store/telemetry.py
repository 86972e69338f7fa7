"""Telemetry: the newest facts of each host and a thin history, in a file of its own that nothing depends on.

Rules
-----
* Numbers are cut to what SQLite holds; nobody decides by them.
* It never blocks and never fails the collector: facts go into a bounded queue (the oldest are dropped), a thread of its
  own writes them in batches with synchronous=NORMAL, and an error there is logged once and tried again later.
* What a pool tells afterwards of times when nobody listened is kept up to 16 MiB an hour, which is all that 64 hosts
  can have kept; what is more is counted, and the next line that is kept says how many were left out.
* It stays small: the newest facts of a host at most every 10 s, and of all hosts at most a hundred a second (of 10,000
  hosts they are a hundred seconds old at most); a line of history every 5 min, kept for 30 days and never more than
  eight million lines (1,000 hosts: 8.6 million in 30 days, about 90 bytes each).
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.host_facts import HostFacts
from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.tally import Tally

FILE = "telemetry.db"
LATEST_EVERY_MS = 10_000
LATEST_MS_A_HOST = 10  # of all hosts a hundred a second
HISTORY_EVERY_MS = 300_000
KEEP_MS = 30 * 24 * 3_600_000
KEEP_ROWS = 8_000_000
KEEP_LATE = 1_000_000
LATE_BYTES = 16 << 20  # of a pool in an hour
_HOUR_MS = 3_600_000
_QUEUE = 4_096
_BATCH_S = 1.0
_BESIDE = 150  # bytes of a line beside its text
_PRUNE_EVERY = 600  # batches

_MOST = (1 << 53) - 1
_NAMES: dict[type, tuple[str, ...]] = {}  # of the fields of each part of the facts

_log = logging.getLogger(__name__)

_TABLES = """
CREATE TABLE IF NOT EXISTS latest (host TEXT PRIMARY KEY, pool TEXT, at_ms INTEGER, facts TEXT);
CREATE TABLE IF NOT EXISTS history (
    host TEXT, at_ms INTEGER, generation INTEGER, xapi TEXT, root_free INTEGER, memory_available INTEGER, vms INTEGER);
CREATE INDEX IF NOT EXISTS history_at ON history (at_ms);
CREATE INDEX IF NOT EXISTS history_of ON history (host, at_ms);
CREATE TABLE IF NOT EXISTS late (
    host TEXT, pool TEXT, boot TEXT, mono_ms INTEGER, at_ms INTEGER, heard_ms INTEGER, kind TEXT, text TEXT,
    dropped INTEGER, PRIMARY KEY (host, boot, mono_ms, kind, text));
CREATE INDEX IF NOT EXISTS late_heard ON late (heard_ms);
"""


@dataclass(frozen=True, slots=True)
class _Sample:
    pool: PoolId
    host: HostId
    facts: HostFacts
    at_ms: Ms  # wall
    history: bool


class Telemetry:
    """The file ``state_dir/telemetry.db`` and its writer; ``note`` may be called from the event loop."""

    def __init__(self, state_dir: Path, tally: Tally | None = None) -> None:
        self._path = state_dir / FILE
        self._queue: deque[_Sample] = deque(maxlen=_QUEUE)
        self._late: deque[tuple[object, ...]] = deque(maxlen=_QUEUE)
        self._last: dict[HostId, tuple[Ms, Ms]] = {}  # newest facts, history: when they were queued
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._failing = ""
        self._room: dict[PoolId, tuple[float, Ms]] = {}  # bytes that are left, and when that was
        self._left_out: dict[HostId, int] = {}
        self._tally = tally or Tally()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued and end the thread; waits at most 5 s. Nothing to do if it was never started."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def note(self, pool: PoolId, host: HostId, facts: HostFacts, now: Ms) -> None:
        """These are the host's facts at ``now`` (collector's monotonic clock); most calls drop them at once."""
        newest, history = self._last.get(host, (None, None))
        if newest is not None and now - newest < max(LATEST_EVERY_MS, LATEST_MS_A_HOST * len(self._last)):
            return
        due = history is None or now - history >= HISTORY_EVERY_MS
        self._last[host] = (now, now if due or history is None else history)
        self._queue.append(_Sample(pool, host, facts, clock.wall_ms(), due))

    def late(self, pool: PoolId, host: HostId, told: pb.Late) -> None:
        """What a host kept while this collector was out of its reach; told twice, it is kept once."""
        now = clock.wall_ms()
        if told.WhichOneof("item") == "event":
            kind, text = told.event.kind, told.event.text
        else:
            kind, text = "sample", json.dumps(_sample_of(told.sample), separators=(",", ":"))
        if not self._has_room(pool, len(text) + len(kind) + _BESIDE, clock.mono_ms()):
            self._left_out[host] = self._left_out.get(host, 0) + 1
            self._tally.telemetry += 1
            return
        at, dropped = now - _held(told.age_ms) if told.age_ms else None, told.dropped + self._left_out.pop(host, 0)
        line = (host, pool, told.boot_id, _held(told.mono_ms), at, now, kind[:40], text[:1000], _held(dropped))
        self._late.append(line)

    def _has_room(self, pool: PoolId, size: int, now: Ms) -> bool:
        left, before = self._room.get(pool, (float(LATE_BYTES), now))
        left = min(float(LATE_BYTES), left + LATE_BYTES * max(0, now - before) / _HOUR_MS)
        self._room[pool] = (left - size if left >= size else left, now)
        return left >= size

    def told_late(self, host: HostId, samples: bool, limit: int) -> list[dict[str, Any]]:
        """The newest such lines of a host, the oldest first; to be called in a thread. Raises sqlite3.Error."""
        if not self._path.exists():
            return []
        wanted = "" if samples else "AND kind != 'sample'"
        query = f"SELECT * FROM late WHERE host = ? {wanted} ORDER BY heard_ms DESC, mono_ms DESC LIMIT ?"
        db = _open(self._path)
        try:
            return list(db.query(query, [host, limit]))[::-1]
        finally:
            db.conn.close()

    def trends(self, hosts: Iterable[HostId], since_ms: Ms) -> dict[HostId, list[tuple[Ms, int]]]:
        """When each of these hosts had how many bytes free on ``/``, from that instant of the wall clock on; to be
        called in a thread. Raises sqlite3.Error."""
        if not self._path.exists():
            return {}
        query = (
            "SELECT at_ms, root_free FROM history WHERE host = ? AND at_ms >= ? AND root_free NOT NULL ORDER BY at_ms"
        )
        db = _open(self._path)
        try:
            return {host: db.execute(query, [host, since_ms]).fetchall() for host in hosts}
        finally:
            db.conn.close()

    def _run(self) -> None:
        db: Database | None = None
        batches = 0
        while not self._stop.wait(_BATCH_S) or self._queue or self._late:
            try:
                db = db or _open(self._path)
                self._write(db)
                batches += 1
                if batches % _PRUNE_EVERY == 1:
                    _prune(db)
                self._failing = ""
            except Exception as error:  # whatever a batch holds: it is lost, and the next one is tried
                self._complain(str(error))
                if self._stop.is_set():
                    break
        if db is not None:
            db.conn.close()

    def _write(self, db: Database) -> None:
        batch: list[_Sample] = []
        while self._queue and len(batch) < _QUEUE:
            batch.append(self._queue.popleft())
        told: list[tuple[object, ...]] = []
        while self._late and len(told) < _QUEUE:
            told.append(self._late.popleft())
        if told:
            with db.atomic():
                db.conn.executemany("INSERT OR IGNORE INTO late VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", told)
        if not batch:
            return
        latest = {sample.host: sample for sample in batch}
        with db.atomic():
            db["latest"].upsert_all([_latest(sample) for sample in latest.values()], pk="host")  # type: ignore[union-attr]
            db["history"].insert_all([_line(sample) for sample in batch if sample.history])  # type: ignore[union-attr]

    def _complain(self, text: str) -> None:
        if text != self._failing:
            _log.warning("telemetry: %s: %s; facts are lost, nothing else is", self._path, text)
        self._failing = text


def _open(path: Path) -> Database:
    db = Database(sqlite3.connect(path, timeout=2.0), execute_plugins=False)
    db.enable_wal()
    db.execute("PRAGMA synchronous = NORMAL")
    db.conn.executescript(_TABLES)
    return db


def _prune(db: Database) -> None:
    with db.atomic():
        db.execute("DELETE FROM history WHERE at_ms < ?", [clock.wall_ms() - KEEP_MS])
        db.execute("DELETE FROM late WHERE heard_ms < ?", [clock.wall_ms() - KEEP_MS])
        _prune_late(db)
        newest = next(db.query("SELECT coalesce(max(rowid), 0) AS n FROM history"))["n"]
        db.execute("DELETE FROM history WHERE rowid <= ?", [newest - KEEP_ROWS])


def _prune_late(db: Database) -> None:
    """Too many lines are the oldest of the pool that has the most: no pool's hosts push another's out."""
    over = next(db.query("SELECT count(*) AS n FROM late"))["n"] - KEEP_LATE
    if over <= 0:
        return
    pool = next(db.query("SELECT pool FROM late GROUP BY pool ORDER BY count(*) DESC LIMIT 1"))["pool"]
    oldest = "SELECT rowid FROM late WHERE pool = ? ORDER BY rowid LIMIT ?"
    db.execute(f"DELETE FROM late WHERE rowid IN ({oldest})", [pool, over])


def _held(number: int) -> int:
    """The number, or the highest that SQLite and every reader of JSON hold."""
    return max(-_MOST, min(number, _MOST))


def _latest(sample: _Sample) -> dict[str, Any]:
    facts = json.dumps(sample.facts, default=_plain, separators=(",", ":"))
    return {"host": sample.host, "pool": sample.pool, "at_ms": sample.at_ms, "facts": facts}


def _line(sample: _Sample) -> dict[str, Any]:
    f = sample.facts
    root = next((disk.free_bytes for disk in f.disks if disk.mount == "/"), None)
    return {
        "host": sample.host,
        "at_ms": sample.at_ms,
        "generation": _held(f.database.generation),
        "xapi": f.xapi.liveness.value,
        "root_free": None if root is None else _held(root),
        "memory_available": _held(f.memory_available),
        "vms": None if f.domains is None else len(f.domains),
    }


def _sample_of(m: pb.LateSample) -> dict[str, Any]:
    return {
        "generation": m.generation,
        "xapi": m.xapi,
        "root_free": m.root_free_bytes,
        "log_free": m.log_free_bytes,
        "memory_available": m.memory_available_bytes,
        "vms": m.running_vms if m.running_vms_known else None,
    }


def _plain(value: object) -> object:
    """What JSON has no form for; a part of the facts by its fields, without the copies of ``asdict``."""
    if isinstance(value, Enum):
        return value.value
    names = _NAMES.get(type(value))
    if names is None:
        names = _NAMES[type(value)] = tuple(each.name for each in fields(value)) if is_dataclass(value) else ()
    return {name: getattr(value, name) for name in names} if names else str(value)
