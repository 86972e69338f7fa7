"""The journal: what must not be forgotten, one SQLite file, durable before anything is done.

Rules
-----
* One commit is one transaction: the entries of a step, its alerts and one outbox row for each sink, or nothing of it.
  SQLite's WAL with synchronous=FULL syncs the log at each commit, so a commit that returned survives a power cut, and
  one that raised has left nothing behind.
* One collector per journal: a lock on the state directory, held by the process, refuses a second one.
* Which file is opened at all, and how an older one becomes today's: journal_file.py.
* An entry that this version does not know, or that is damaged, ends the reading: it could be the one that matters. The
  error names the entry, its pool, what is unknown in it, which release wrote it and what to do.
* Every error is a ``JournalError`` with one line; whoever gets one may not act on what he wanted to write. What no file
  could hold (``Unwritable``) says nothing about the disk.
* Epochs and terms are unsigned, as in the contract, and stored in SQLite's signed numbers bit by bit. An epoch from
  beyond the contract, which an older version may have stored at one agent's word, was never obeyed by anybody: then the
  highest one of the entries counts.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import HIGHEST, LOT_BITS, after, after_fits
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.state.pool_record import BadEntry, PoolRecord, apply
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.store.journal_file import JournalError as JournalError
from poolwarden_collector.shell.store.journal_file import open_file

FILE = "journal.db"
LOCK = "lock"
_SIGN = 1 << 63


class Unwritable(JournalError):
    """What was to be written fits in no journal; the disk is not to blame, and trying again is of no use."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it stands in the journal. ``at`` is wall time for people, ``mono_ms`` counts within one epoch."""

    seq: int
    at: str
    mono_ms: int
    epoch: int
    term: int
    pool: PoolId
    failover: str
    kind: str
    actor: str
    text: str
    data: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """One alert for one sink that is not delivered yet. ``next_try_ms`` is wall time, 0: at once."""

    id: int
    key: str
    occurrence: int
    state: str  # "firing" or "resolved"
    sink: str
    pool: PoolId
    payload: dict[str, Any]
    attempts: int
    next_try_ms: int

    @property
    def delivery_key(self) -> str:
        """Stable over retries and restarts, different for the end of an alert and for its next occurrence."""
        return f"{self.key}/{self.occurrence}/{self.state}"


class Journal:
    """The journal in ``state_dir``; usable from any thread, one call at a time.

    ``sinks`` names who gets each alert. Raises JournalError where the directory cannot be used or another collector
    holds it.
    """

    def __init__(self, state_dir: Path, collector_name: str = "collector", sinks: tuple[str, ...] = ()) -> None:
        self.path = state_dir / FILE
        self.epoch = 0
        self.sinks = sinks
        self._name = collector_name
        self._guard = threading.Lock()
        self._lock_file = _lock(state_dir)
        try:
            self._db = open_file(self.path)
        except (sqlite3.Error, OSError) as error:
            os.close(self._lock_file)
            raise JournalError(f"{self.path}: {_say(error)}") from error
        except JournalError:
            os.close(self._lock_file)
            raise
        try:
            self.epoch = self._last_epoch()
        except JournalError:
            self.close()
            raise

    def close(self) -> None:
        """Fold the log into the file and let the directory go."""
        with self._guard:
            self._db.conn.close()
            os.close(self._lock_file)

    # ------------------------------------------------------------------------------------------------ writing

    def begin_epoch(self, above: int = 0) -> int:
        """A new epoch, higher than every one before and than ``above``; durable when this returns.

        Drawn partly at random (core/model/epoch.py), so that two collectors with copies of one journal differ.
        """
        with self._transaction("a new epoch") as db:
            epoch = after(max(self.epoch, above), secrets.randbits(LOT_BITS))  # OverflowError: Unwritable
            db.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", [str(epoch)])
            db.execute("INSERT INTO epochs VALUES (?, ?, ?)", [_signed(epoch), release(), clock.wall_text()])
        self.epoch = epoch
        return epoch

    def commit(
        self,
        pool: PoolId,
        entries: Iterable[Entry],
        alerts: Iterable[AlertRaised | AlertResolved] = (),
        pool_name: str = "",
    ) -> list[Row]:
        """One step of one pool, all of it or nothing; the rows as stored, with their numbers."""
        with self._transaction(f"an entry of pool {pool_name or pool}") as db:
            rows = self._add_entries(db, pool, list(entries))
            for alert in alerts:
                self._add_alert(db, pool, pool_name, alert)
        return rows

    def check(self) -> None:
        """Write something small, to learn whether the journal can be written again."""
        with self._transaction("a test record") as db:
            row = {"key": "checked", "value": clock.wall_text()}
            db["meta"].insert(row, pk="key", replace=True)  # type: ignore[union-attr]

    def _add_entries(self, db: Database, pool: PoolId, entries: list[Entry]) -> list[Row]:
        if not entries:
            return []
        last = next(db.query("SELECT coalesce(max(seq), 0) AS last FROM entries"))["last"]
        at, mono = clock.wall_text(), clock.mono_ms()
        rows = [
            Row(last + n, at, mono, self.epoch, e.term, pool, e.failover, e.kind.value, e.actor, e.text, _json(e.data))
            for n, e in enumerate(entries, 1)
        ]
        db["entries"].insert_all([_stored(row) for row in rows])  # type: ignore[union-attr]
        return rows

    def _add_alert(self, db: Database, pool: PoolId, pool_name: str, alert: AlertRaised | AlertResolved) -> None:
        found = list(db.query("SELECT * FROM alerts WHERE key = ? ORDER BY occurrence DESC LIMIT 1", [alert.key]))
        is_open = bool(found) and not found[0]["resolved_at"]
        if isinstance(alert, AlertResolved):
            if is_open:
                row = found[0] | {"resolved_at": clock.wall_text()}
                db["alerts"].update((alert.key, row["occurrence"]), {"resolved_at": row["resolved_at"]})  # type: ignore[union-attr]
                self._post(db, row, pool_name, "resolved", alert.text)
        elif not is_open:
            row = {
                "key": alert.key,
                "occurrence": found[0]["occurrence"] + 1 if found else 1,
                "pool": pool,
                "severity": alert.severity,
                "title": alert.title,
                "body": alert.body,
                "data": _json(alert.data),
                "raised_at": clock.wall_text(),
                "resolved_at": "",
            }
            db["alerts"].insert(row, pk=("key", "occurrence"))  # type: ignore[union-attr]
            self._post(db, row, pool_name, "firing", alert.body)

    def _post(self, db: Database, alert: dict[str, Any], pool_name: str, state: str, body: str) -> None:
        data = json.loads(alert["data"])
        payload = {
            "key": alert["key"],
            "occurrence": alert["occurrence"],
            "state": state,
            "severity": alert["severity"],
            "title": alert["title"],
            "body": body,
            "pool": {"uuid": alert["pool"], "name": pool_name or str(data.get("pool", ""))},
            "collector": self._name,
            "raised_at": alert["raised_at"],
            "resolved_at": alert["resolved_at"],
            "data": data,
        }
        common = {"key": alert["key"], "occurrence": alert["occurrence"], "state": state, "pool": alert["pool"]}
        rows = [{**common, "sink": sink, "payload": _json(payload)} for sink in self.sinks]
        db["outbox"].insert_all(rows)  # type: ignore[union-attr]

    # ------------------------------------------------------------------------------------------------ the outbox

    def parcels(self, limit: int = 64) -> list[Parcel]:
        """For each sink and alert the oldest undelivered parcel, so that an end never overtakes its beginning."""
        query = """SELECT min(id) AS id, key, occurrence, state, sink, pool, payload, attempts, next_try_ms FROM outbox
                   WHERE status = 'pending' GROUP BY sink, key ORDER BY next_try_ms, id LIMIT ?"""
        with self._reading() as db:
            return [Parcel(**{**row, "payload": json.loads(row["payload"])}) for row in db.query(query, [limit])]

    def pending(self) -> int:
        """Parcels not delivered yet."""
        with self._reading() as db:
            return int(next(db.query("SELECT count(*) AS n FROM outbox WHERE status = 'pending'"))["n"])

    def delivered(self, parcel: Parcel, entry: Entry) -> list[Row]:
        """The sink has taken the parcel: both facts in one transaction."""
        changes = {"status": "sent", "attempts": parcel.attempts + 1, "last_error": "", "sent_at": clock.wall_text()}
        with self._transaction("an alert's delivery") as db:
            db["outbox"].update(parcel.id, changes)  # type: ignore[union-attr]
            return self._add_entries(db, parcel.pool, [entry])

    def undelivered(self, parcel: Parcel, error: str, next_try_ms: int) -> None:
        """The sink has not taken the parcel; it is tried again at ``next_try_ms`` (wall time)."""
        changes = {"attempts": parcel.attempts + 1, "last_error": error, "next_try_ms": next_try_ms}
        with self._transaction("an alert's retry") as db:
            db["outbox"].update(parcel.id, changes)  # type: ignore[union-attr]

    def abandon_other_sinks(self) -> None:
        """Parcels for sinks that are not configured any more will never be delivered."""
        marks = ", ".join("?" for _ in self.sinks)
        where = f"status = 'pending' AND sink NOT IN ({marks})"
        with self._transaction("alerts of former sinks") as db:
            db.execute(
                f"UPDATE outbox SET status='failed', last_error='no such sink any more' WHERE {where}", self.sinks
            )

    # ------------------------------------------------------------------------------------------------ reading

    def pools(self) -> list[PoolId]:
        """Every pool that has an entry, in the order of their first ones."""
        with self._reading() as db:
            found = db.query(
                "SELECT pool, min(seq) AS first FROM entries WHERE pool != '' GROUP BY pool ORDER BY first"
            )
            return [row["pool"] for row in found]

    def replay(self, pool: PoolId) -> Iterator[Entry]:
        """The pool's entries from the first one. Raises JournalError on an entry that this version does not know."""
        for row, releases in self._rows_of(pool):
            yield self._entry(row, releases)

    def record(self, pool: PoolId) -> PoolRecord:
        """Where the pool's entries end. Raises JournalError on one that is not known or is damaged."""
        record = PoolRecord(pool)
        for row, releases in self._rows_of(pool):
            entry = self._entry(row, releases)
            try:
                record = apply(record, entry)
            except BadEntry as error:
                raise self._not_understood(row, releases, str(error)) from error
        return record

    def _rows_of(self, pool: PoolId) -> Iterator[tuple[dict[str, Any], dict[int, str]]]:
        with self._reading() as db:
            rows = list(db.query("SELECT * FROM entries WHERE pool = ? ORDER BY seq", [pool]))
            releases = {row["epoch"]: row["release"] for row in db.query("SELECT epoch, release FROM epochs")}
        for row in rows:
            yield row, releases

    def _entry(self, row: dict[str, Any], releases: dict[int, str]) -> Entry:
        if row["kind"] not in _KINDS:
            raise self._not_understood(row, releases, f"its kind {row['kind']!r} is unknown")
        try:
            data = json.loads(row["data"])
        except (ValueError, TypeError, RecursionError) as error:
            raise self._not_understood(row, releases, f"its data is no JSON ({error})") from error
        texts = (row["text"], row["failover"], row["actor"])
        if (
            not isinstance(data, dict)
            or type(row["term"]) is not int
            or not all(isinstance(each, str) for each in texts)
        ):
            raise self._not_understood(row, releases, "its columns are not of their types")
        return Entry(_KINDS[row["kind"]], row["text"], data, row["failover"], _unsigned(row["term"]), row["actor"])

    def _not_understood(self, row: dict[str, Any], releases: dict[int, str], why: str) -> JournalError:
        writer = releases.get(row["epoch"], "")
        if writer and writer != release():
            said, step = f", written by Poolwarden {writer}", f"install Poolwarden {writer} (this is {release()})"
        else:
            said, step = "", "install the release that wrote it, or restore the last backup if the file is damaged"
        which = f"entry {row['seq']} of pool {row['pool']} ({str(row['kind'])[:40]}{said})"
        return JournalError(f"{self.path}: {which} cannot be understood: {why}; {step}")

    def history(self, pool: PoolId = "", after_seq: int = 0, limit: int = 0, failover: str = "") -> list[Row]:
        """The newest ``limit`` entries (0: 1000) with a number above ``after_seq``, oldest first."""
        query = """SELECT * FROM entries WHERE seq > :after AND (:pool = '' OR pool = :pool)
                   AND (:failover = '' OR failover = :failover) ORDER BY seq DESC LIMIT :limit"""
        values = {"after": after_seq, "pool": pool, "failover": failover, "limit": limit or 1000}
        with self._reading() as db:
            return [_row(row) for row in db.query(query, values)][::-1]

    def decision(self, wanted: str) -> Row | None:
        """The newest decision with a stored input: by its entry's number, or the last one of a failover."""
        query = """SELECT * FROM entries WHERE data LIKE '%"input":%' AND (seq = :seq OR failover = :failover)
                   ORDER BY seq DESC LIMIT 1"""
        number = wanted.isascii() and wanted.isdigit() and len(wanted) <= 18
        values = {"seq": int(wanted) if number else -1, "failover": wanted or "-"}
        with self._reading() as db:
            return next((_row(row) for row in db.query(query, values)), None)

    def alerts(self, pool: PoolId = "", open_only: bool = False, limit: int = 0) -> list[dict[str, Any]]:
        """Alerts, the newest first, each with its ``deliveries`` (rows of the outbox)."""
        query = """SELECT * FROM alerts WHERE (:pool = '' OR pool = :pool) AND (NOT :open OR resolved_at = '')
                   ORDER BY raised_at DESC, rowid DESC LIMIT :limit"""
        with self._reading() as db:
            found = list(db.query(query, {"pool": pool, "open": open_only, "limit": limit or 1000}))
            for alert in found:
                which = [alert["key"], alert["occurrence"]]
                alert["deliveries"] = list(
                    db.query("SELECT * FROM outbox WHERE key = ? AND occurrence = ? ORDER BY id", which)
                )
        return found

    def _last_epoch(self) -> int:
        text = self._meta("epoch")
        epoch = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else HIGHEST + 1
        if after_fits(epoch):
            return epoch
        with self._reading() as db:
            found = [_unsigned(row["epoch"]) for row in db.query("SELECT DISTINCT epoch FROM entries")]
        return max((epoch for epoch in found if after_fits(epoch)), default=0)

    def _meta(self, key: str) -> str:
        with self._reading() as db:
            return str(next(db.query("SELECT value FROM meta WHERE key = ?", [key]))["value"])

    @contextmanager
    def _transaction(self, what: str) -> Iterator[Database]:
        with self._guard:
            try:
                with self._db.atomic():
                    yield self._db
            except (OverflowError, ValueError, TypeError, sqlite3.DataError, sqlite3.InterfaceError) as error:
                raise Unwritable(f"{self.path}: {what} cannot be held by any journal: {_say(error)}") from error
            except (sqlite3.Error, OSError) as error:
                raise JournalError(f"{self.path}: {what} cannot be written: {_say(error)}") from error

    @contextmanager
    def _reading(self) -> Iterator[Database]:
        with self._guard:
            try:
                yield self._db
            except (sqlite3.Error, OSError, OverflowError, ValueError, TypeError) as error:
                raise JournalError(f"{self.path}: cannot be read: {_say(error)}") from error


def _lock(state_dir: Path) -> int:
    """An exclusive lock on the directory; it ends with the process, however that ends."""
    try:
        state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(state_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise JournalError(f"{state_dir}: the state directory cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise JournalError(f"{state_dir}: another collector runs on this journal; stop it first") from error
    return descriptor


_KINDS = {kind.value: kind for kind in Kind}


def release() -> str:
    """The installed version; "unknown" where the package is not installed."""
    try:
        return metadata.version("poolwarden")
    except metadata.PackageNotFoundError:
        return "unknown"


def _stored(row: Row) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in Row.__slots__}
    return values | {"epoch": _signed(row.epoch), "term": _signed(row.term)}


def _row(values: dict[str, Any]) -> Row:
    return Row(**{**values, "epoch": _unsigned(values["epoch"]), "term": _unsigned(values["term"])})


def _signed(number: int) -> int:
    """The number of 64 bits without a sign as SQLite's with one. Raises OverflowError."""
    if not 0 <= number <= HIGHEST:
        raise OverflowError(f"{number} is no number of 64 bits")
    return number if number < _SIGN else number - 2 * _SIGN


def _unsigned(number: int) -> int:
    return number if number >= 0 else number + 2 * _SIGN


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _say(error: BaseException) -> str:
    return str(error) or type(error).__name__
