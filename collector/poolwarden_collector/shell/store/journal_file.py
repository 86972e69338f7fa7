"""The journal's file: its tables, how an older one becomes today's, and which one is refused.

Rules
-----
* Nothing is written to a file before it is known to be a journal of this schema or an older one. A newer one is refused
  with what to do: an entry that is not understood could be the one that matters.
* ``SCHEMA`` is raised where tables change, and only there; ``MIGRATIONS`` has one step for each number. A new kind of
  entry, or a new key in one, changes no table (core/model/entries.py says what holds for those).
* Older files are copied first, whole and checked, beside the journal (``journal.db.schema-N``); then all steps and the
  new number are one transaction. After a crash at any point the file is the old one or the new one.
* A damaged file is looked for first, and what can be read of it goes on (salvage.py). So is what was durable and is
  not there, without any damage (running_mark.py).
* A step is written once and never changed afterwards. tests/shell/schemas keeps a file of each schema that was ever in
  use, with what folding it gives.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from sqlite_utils import Database

from poolwarden_collector.shell.store import running_mark, salvage

SCHEMA = 7
_BUSY_S = 2.0

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, at TEXT NOT NULL, mono_ms INTEGER NOT NULL, epoch INTEGER NOT NULL, term INTEGER NOT NULL,
    pool TEXT NOT NULL, failover TEXT NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL, text TEXT NOT NULL,
    data TEXT NOT NULL);
CREATE INDEX entries_pool ON entries (pool, seq);
CREATE TABLE alerts (
    key TEXT NOT NULL, occurrence INTEGER NOT NULL, pool TEXT NOT NULL, severity TEXT NOT NULL, title TEXT NOT NULL,
    body TEXT NOT NULL, data TEXT NOT NULL, raised_at TEXT NOT NULL, resolved_at TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (key, occurrence));
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, occurrence INTEGER NOT NULL, state TEXT NOT NULL, sink TEXT NOT NULL,
    pool TEXT NOT NULL, payload TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0, next_try_ms INTEGER NOT NULL DEFAULT 0,
    last_error TEXT NOT NULL DEFAULT '', sent_at TEXT NOT NULL DEFAULT '',
    UNIQUE (key, occurrence, state, sink));
CREATE INDEX outbox_pending ON outbox (status, sink, id);
"""

# Occasions for hooks, and what came of each hook (hook_queue.py).
_HOOKS = """
CREATE TABLE hook_events (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, pool TEXT NOT NULL, event TEXT NOT NULL, payload TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending');
CREATE INDEX hook_events_pending ON hook_events (status, id);
CREATE TABLE hook_runs (
    occasion INTEGER NOT NULL, hook TEXT NOT NULL, status TEXT NOT NULL, attempts INTEGER NOT NULL,
    next_try_ms INTEGER NOT NULL, said TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (occasion, hook));
"""

# Tokens (only their hashes), the keys of hosts, their certificates, and those that nobody may use any more.
_ENROLMENT = """
CREATE TABLE tokens (
    id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, pool TEXT NOT NULL, host TEXT NOT NULL, uses INTEGER NOT NULL,
    used INTEGER NOT NULL DEFAULT 0, created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, actor TEXT NOT NULL,
    revoked_ms INTEGER NOT NULL DEFAULT 0);
CREATE TABLE host_keys (
    key TEXT PRIMARY KEY, pool TEXT NOT NULL, host TEXT NOT NULL, host_name TEXT NOT NULL, machine TEXT NOT NULL,
    csr TEXT NOT NULL, token TEXT NOT NULL, state TEXT NOT NULL, since_ms INTEGER NOT NULL, actor TEXT NOT NULL,
    text TEXT NOT NULL, seen_ms INTEGER NOT NULL DEFAULT 0);
CREATE INDEX host_keys_host ON host_keys (host);
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY, key TEXT NOT NULL, pool TEXT NOT NULL, host TEXT NOT NULL, issued_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL, authority TEXT NOT NULL, pem TEXT NOT NULL);
CREATE INDEX certificates_host ON certificates (host);
CREATE TABLE denied (
    serial TEXT PRIMARY KEY, host TEXT NOT NULL, at_ms INTEGER NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL);
"""

# Every call of an operator that changes something, and what waits for a second person.
_AUDIT = """
CREATE TABLE audit (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, actor TEXT NOT NULL, source TEXT NOT NULL, role TEXT NOT NULL,
    method TEXT NOT NULL, pool TEXT NOT NULL, request TEXT NOT NULL, result TEXT NOT NULL, reason TEXT NOT NULL);
CREATE INDEX audit_pool ON audit (pool, id);
CREATE TABLE seconded (
    id TEXT PRIMARY KEY, pool TEXT NOT NULL, what TEXT NOT NULL, request TEXT NOT NULL, actor TEXT NOT NULL,
    person TEXT NOT NULL, source TEXT NOT NULL, asked_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
    clock TEXT NOT NULL);
"""

# From each schema to the next one.
MIGRATIONS: dict[int, str] = {
    # Which release wrote in which epoch, so that an entry that is not understood can say whose it is.
    1: "CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, release TEXT NOT NULL, begun_at TEXT NOT NULL);",
    # Which alerts are silenced until when, and which ones somebody sees to.
    2: """
CREATE TABLE silences (
    key TEXT PRIMARY KEY, pool TEXT NOT NULL, severity TEXT NOT NULL, title TEXT NOT NULL, actor TEXT NOT NULL,
    reason TEXT NOT NULL, since TEXT NOT NULL, until TEXT NOT NULL, lasts_ms INTEGER NOT NULL,
    ends_ms INTEGER NOT NULL, clock TEXT NOT NULL);
CREATE TABLE acknowledgements (
    key TEXT NOT NULL, occurrence INTEGER NOT NULL, actor TEXT NOT NULL, at TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (key, occurrence));
""",
    # When a row was posted (on the clock of silences), with which others it is told, and when each was told last.
    3: """
ALTER TABLE outbox ADD COLUMN posted_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN clock TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN fold INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN merged INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN storm INTEGER NOT NULL DEFAULT 0;
CREATE INDEX outbox_posted ON outbox (sink, posted_ms);
CREATE INDEX outbox_storm ON outbox (sink, storm);
CREATE INDEX alerts_open ON alerts (key) WHERE resolved_at = '';
CREATE TABLE told (
    key TEXT NOT NULL, occurrence INTEGER NOT NULL, sink TEXT NOT NULL, number INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, clock TEXT NOT NULL, PRIMARY KEY (key, occurrence, sink));
"""
    + _HOOKS,
    # Enrolment, the record of operators' calls.
    4: _ENROLMENT + _AUDIT,
    # Records folded up to an entry (snapshots.py), what people ask by (a failover, kinds, a time), what a channel is to
    # be told next (parcels.py).
    5: """
CREATE TABLE snapshots (
    pool TEXT NOT NULL, seq INTEGER NOT NULL, fold TEXT NOT NULL, checked TEXT NOT NULL, record BLOB NOT NULL,
    PRIMARY KEY (pool, seq));
CREATE INDEX entries_failover ON entries (failover, seq) WHERE failover != '';
CREATE INDEX entries_kind ON entries (pool, kind, seq);
CREATE INDEX entries_at ON entries (at);
CREATE INDEX outbox_next ON outbox (sink, fold, next_try_ms, id) WHERE status = 'pending';
""",
    # Of each entry a checksum of what decides in it (journal_rows.py); those written before have none.
    6: "ALTER TABLE entries ADD COLUMN checked INTEGER;",
}


class JournalError(Exception):
    """The journal cannot be opened, read or written; one line that says why."""


def open_file(path: Path) -> Database:
    """Today's journal at ``path``: made, brought up from an older schema, or rescued from damage.

    Raises JournalError for a file that is none or is a newer one, sqlite3.Error and OSError for one that fails.
    """
    salvage.finish(path)
    gone = running_mark.log_is_gone(path)
    found = _sound_schema_of(path)
    if found is not None and found > SCHEMA:
        older = copy_of(path, SCHEMA)
        back = f", or put {older.name} in its place, which is from before that upgrade" if older.exists() else ""
        raise JournalError(
            f"{path}: has schema {found}, this Poolwarden knows {SCHEMA}; install the newer one again{back}"
        )
    if found is not None and found < SCHEMA:
        _copy(path, copy_of(path, found))
    connection = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # safety: FULL, not NORMAL: in WAL mode only FULL syncs at every commit, and effects follow commits.
        connection.execute("PRAGMA synchronous = FULL")
        if found is None:
            _change(connection, _TABLES + _steps(1), "INSERT INTO meta VALUES ('epoch', '0'), ('schema', ?)")
        elif found < SCHEMA:
            _change(connection, _steps(found), "UPDATE meta SET value = ? WHERE key = 'schema'")
        if found is not None:
            salvage.note_missing(connection, path, gone)
    except BaseException:
        connection.close()
        raise
    return Database(connection, execute_plugins=False)


def copy_of(path: Path, schema: int) -> Path:
    """Where the copy of a journal of an older schema stands."""
    return path.with_name(f"{path.name}.schema-{schema}")


def _sound_schema_of(path: Path) -> int | None:
    """As ``_schema_of``, of a file in which no damage is left."""
    try:
        found = _schema_of(path)
        why = salvage.damage(path) if found is not None and found <= SCHEMA else ""
    except sqlite3.DatabaseError as error:
        if not salvage.is_damage(error):
            raise
        why = str(error)
    if not why:
        return found
    try:
        schema = int(salvage.schema_of(path))
        if not 1 <= schema <= SCHEMA:
            raise ValueError(f"its schema is {schema}")
        salvage.rescue(path, _TABLES + _steps(1, schema), why)
    except (sqlite3.Error, OSError, ValueError) as error:
        raise JournalError(
            f"{path}: is damaged ({why}), and what is readable cannot be taken over ({error}); keep a copy of it and "
            "restore the last backup"
        ) from error
    return _schema_of(path)


def _schema_of(path: Path) -> int | None:
    """The file's schema; None: there is no file, or nothing in it yet. Writes nothing to it."""
    if not path.exists() or not path.stat().st_size:
        return None
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return None
        if not {"meta", "entries"} <= tables:
            raise JournalError(
                f"{path}: is no journal of Poolwarden's: its tables are {', '.join(sorted(tables))[:200]}"
            )
        row = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    try:
        number = int(row[0])
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        said = "says no schema" if row is None else f"says that its schema is {row[0]!r}"
        raise JournalError(f"{path}: it {said}; it is damaged: restore the last backup")
    return number


def _steps(found: int, to: int = SCHEMA) -> str:
    return "\n".join(MIGRATIONS[number] for number in range(found, to))


def _change(connection: sqlite3.Connection, script: str, number: str) -> None:
    """All these statements and the new schema number, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in (part for part in script.split(";") if part.strip()):
            connection.execute(statement)
        connection.execute(number, [str(SCHEMA)])
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _copy(path: Path, target: Path) -> None:
    """A checked copy, durable before anything is changed."""
    half = target.with_name(f"{target.name}.new")
    try:
        half.unlink(missing_ok=True)
        half.touch(mode=0o600)
        with (
            contextlib.closing(sqlite3.connect(path, timeout=_BUSY_S)) as read,
            contextlib.closing(sqlite3.connect(half)) as written,
        ):
            read.backup(written)
            (verdict,) = written.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise JournalError(f"{path}: is not sound, so it is not brought up to schema {SCHEMA}: {verdict}")
        with half.open("rb") as file:
            os.fsync(file.fileno())
        half.replace(target)
        running_mark.sync_folder(target)
    except (OSError, sqlite3.Error) as error:
        why = f"a copy of it cannot be made first ({error}); make room in {path.parent}"
        raise JournalError(f"{path}: is not brought up to schema {SCHEMA}: {why}") from error
