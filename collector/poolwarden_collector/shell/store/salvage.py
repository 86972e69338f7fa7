"""A damaged journal at the start: what can be read goes on, the damaged file stays beside it, and nothing is guessed.

Rules
-----
* A file of up to ``CHECKED_WHOLE`` is checked whole before anything is written to it. Of a larger one the small tables
  are, on which access rests; its entries are checked by being read. Damage that is found later, in a record's entries
  or while the collector runs, leaves a mark (``SUSPECT``), and the next start checks the file whole.
* Every row of every table that can be read is copied, in its order, into a new file; up to which entry some are missing
  stands in it (``LOST``). The damaged file keeps all it had, with its log, as ``journal.db.damaged-TIME``.
* A row that an index has and the table has not is missing, too: a page of earlier days reads without an error. The
  small tables are therefore compared with their indexes, whatever the file's size: a denial that is not found lets in
  whom it denied.
* SQLite takes a log to its first frame that is not whole, and says nothing of those after it (log_damage.py): then
  whatever was written last is missing. So it is where the log is not there, or less of it (running_mark.py).
* The new file takes the journal's place in one rename. After a crash at any point the next start does the same again,
  or ends it.
* safety: where entries are missing, the epoch begins anew below every one that agents obey: so each pool learns
  from its hosts that this journal is not the newest, as with a lost one (core/evidence/journal_gap.py); one of which no
  entry is left does, too. That is over once each record is built on a snapshot from behind the gap, or the pool's hosts
  have said so (``journal-restored``); before that none is folded over the gap.
* What was found stands in the journal in one line until a person has taken note of it: an alert, ``status`` and
  ``doctor`` say it.
* An entry that does not match its checksum (entry_checksum.py) is left out as one that cannot be read. It is found
  where entries are read: by a record's fold, which leaves the mark.
* Nothing but SQLite's own word for damage, and such a mark, begins this: an input or output error may pass.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolwarden_collector.shell.store import log_damage, running_mark
from poolwarden_collector.shell.store.entry_checksum import sound
from poolwarden_collector.shell.store.read_only import read_only

CHECKED_WHOLE = 64 << 20  # bytes
SUSPECT, READABLE = ".suspect", ".readable"  # behind the journal's name
LOST = "lost-after"  # in meta: behind this entry some are missing
TOLD = "damage"  # in meta: what was found, in one line, until somebody has taken note of it
_SMALL = frozenset({"meta", "epochs", "silences", "tokens", "host_keys", "certificates", "denied", "seconded"})
_TOLD_KEPT = 4  # lines
_ACCESS = frozenset({"tokens", "host_keys", "certificates", "denied"})
_ONE_BY_ONE = 20_000  # numbers that are tried within a hole
_HIGHEST = 1 << 40
_JUDGED_ANEW = "every pool is judged as with a restored journal, after its hosts were heard for some minutes"
_BROKEN: tuple[Any, ...] = ("a row that cannot be read",)


@dataclass(frozen=True, slots=True)
class Rescued:
    """What was copied: rows by table, the tables of which some are missing, the last entry before a hole; where to."""

    rows: dict[str, int]
    short: tuple[str, ...]
    lost_after: int | None
    damaged: Path

    def line(self, path: Path, why: str) -> str:
        """One line for the operator, with the next step."""
        missing = f"some of {', '.join(self.short)} could not be" if self.short else "nothing is missing"
        if _ACCESS.intersection(self.short):
            missing += " (certificates that were denied and tokens that were revoked: look at them by hand)"
        safe = _JUDGED_ANEW if self.lost_after is not None else "no pool's state is concerned"
        return (
            f"{path}: was damaged ({why}): {self.rows.get('entries', 0)} entries were read and go on, {missing}; "
            f"{safe}; the damaged file is {self.damaged.name}: look at the disk, compare with the last backup, then "
            "remove it"
        )


def is_damage(error: BaseException) -> bool:
    """Does SQLite say that the file is damaged, and not that it could not be read or written now?"""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT


def suspect(path: Path) -> None:
    """Damage was met: the next start looks at all of the file."""
    with contextlib.suppress(OSError):
        path.with_name(path.name + SUSPECT).touch(mode=0o600)


def damage(path: Path) -> str:
    """Why the file cannot go on as it is; empty: no damage was found. Raises sqlite3.Error, OSError where it fails."""
    if why := log_damage.found(path):
        return why
    mark = path.with_name(path.name + SUSPECT)
    whole = mark.exists() or path.stat().st_size <= CHECKED_WHOLE
    try:
        with read_only(path) as db:
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for what in ("1",) if whole else ():
                if why := _found(db, f"quick_check({what})"):
                    return why
            if mark.exists() and (why := _wrong_entry(db)):
                return why
            # A check of pages and rows says nothing of rows that an index has alone.
            for what in sorted(tables & _SMALL):
                if why := _found(db, f"integrity_check({what})"):
                    return why
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return str(error)
    mark.unlink(missing_ok=True)
    return ""


def _wrong_entry(db: sqlite3.Connection) -> str:
    """The first entry that does not match its checksum, and how many do not; empty: there is none."""
    cursor = db.execute("SELECT * FROM entries")
    names = [column for column, *_ in cursor.description]
    wrong = [row for row in (dict(zip(names, values, strict=True)) for values in cursor) if not sound(row)]
    if not wrong:
        return ""
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"entry {wrong[0]['seq']} of pool {wrong[0]['pool']}{more} does not match its checksum"


def _found(db: sqlite3.Connection, check: str) -> str:
    (said,) = db.execute(f"PRAGMA {check}").fetchone()  # its first finding is enough
    return "" if said == "ok" else " ".join(str(said).split())[:200]


def schema_of(path: Path) -> str:
    """What a damaged file says of its schema. Raises sqlite3.Error where that cannot be read either."""
    with read_only(path) as db:
        db.execute("PRAGMA writable_schema = ON")
        row = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        db.execute("SELECT count(*) FROM (SELECT 1 FROM entries LIMIT 0)")
    return str(row[0]) if row is not None else ""


def finish(path: Path) -> None:
    """Put a file that was rescued in the journal's place, where a crash came before."""
    readable = path.with_name(path.name + READABLE)
    if not readable.exists():
        return
    for tail in ("-wal", "-shm"):
        path.with_name(path.name + tail).unlink(missing_ok=True)
    running_mark.forget(path)  # what it says stands in the readable file
    readable.replace(path)
    path.with_name(path.name + SUSPECT).unlink(missing_ok=True)
    running_mark.sync_folder(path)


def rescue(path: Path, tables: str, why: str) -> None:
    """Copy what can be read of the damaged file into a new one with these tables, and put that in its place.

    ``why``: what is damaged; what was done stands in the new one, in a line (``standing``). Raises sqlite3.Error or
    OSError; then the journal is as it was.
    """
    half = path.with_name(f"{path.name}{READABLE}.new")
    half.unlink(missing_ok=True)
    half.touch(mode=0o600)
    half.chmod(path.stat().st_mode & 0o777)
    damaged = _free_name(path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"))
    with contextlib.closing(sqlite3.connect(half, isolation_level=None)) as new:
        new.executescript(tables)
        # Read-only, for whoever may write folds the log into the damaged file as it closes that.
        with read_only(path) as old:
            # A file that is shorter than it says is read as far as it goes (SQLite's own way of recovery).
            old.execute("PRAGMA writable_schema = ON")
            old.text_factory = lambda raw: raw.decode("utf-8", "replace")
            rows, short, lost_after = _copied(old, new, path)
        note_line(new, Rescued(rows, short, lost_after, damaged).line(path, why))
        (verdict,) = new.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"what was read is not sound: {verdict}")
    with half.open("rb") as file:
        os.fsync(file.fileno())
    for tail in ("", "-wal"):
        if path.with_name(path.name + tail).exists():
            _beside(path.with_name(path.name + tail), damaged.with_name(damaged.name + tail))
    running_mark.sync_folder(path)
    half.replace(path.with_name(path.name + READABLE))
    finish(path)


def _copied(
    old: sqlite3.Connection, new: sqlite3.Connection, path: Path
) -> tuple[dict[str, int], tuple[str, ...], int | None]:
    names = [name for (name,) in new.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    rows, short, lost_after = dict[str, int](), [], None
    new.execute("BEGIN")
    for name in names:
        columns = [column for _, column, *_ in new.execute(f"PRAGMA table_info({name})")]
        wanted = ", ".join(columns)
        marks = ", ".join("?" * (len(columns) + 1))
        reader = _Reader(old, name, wanted)
        for row in reader.rows():
            if name == "entries" and not sound(dict(zip(columns, row[1:], strict=True))):
                reader.holes.append(int(row[0]))
                continue
            done = new.execute(f"INSERT OR IGNORE INTO {name} (rowid, {wanted}) VALUES ({marks})", row)  # noqa: S608
            if done.rowcount == 1:
                rows[name] = rows.get(name, 0) + 1
            else:
                reader.holes.append(int(row[0]))  # twice, or without what its table needs: no row that was written
        reader.holes += _only_in_an_index(old, new, name)
        if reader.holes:
            short.append(name)
            lost_after = max(0, *reader.holes) if name == "entries" else lost_after
    last = _last(new)
    if log_damage.found(path) or running_mark.missing(path, last, running_mark.log_is_gone(path)):
        short.append("what was written last")
        lost_after = max(last, lost_after or 0)
    if lost_after is not None:
        _note_loss(new, lost_after)
    new.execute("COMMIT")
    return rows, tuple(short), lost_after


def note_missing(db: sqlite3.Connection, path: Path, log_was_gone: bool) -> None:
    """Write into the sound journal at ``path`` that entries behind its last one are lost, where its mark says so.

    Raises sqlite3.Error.
    """
    last = _last(db)
    why = running_mark.missing(path, last, log_was_gone)
    if not why:
        return
    line = (
        f"{path}: what was written last is missing ({why}); {_JUDGED_ANEW}; a pause or a refusal that was among it is "
        "not known any more: look at the disk, and at who removes files in its folder"
    )
    with db:
        _note_loss(db, last)
        note_line(db, line)


def note_line(db: sqlite3.Connection, line: str) -> None:
    """Let this line stand beside those that nobody has taken note of. In a transaction of the caller's."""
    told = json.dumps([*standing(db), line][-_TOLD_KEPT:])
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (TOLD, told))


def standing(db: sqlite3.Connection) -> list[str]:
    """What was told of damage and nobody has taken note of, the newest last."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (TOLD,)).fetchone()
    return [str(line) for line in json.loads(row[0])] if row is not None else []


def _last(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0])


def _note_loss(db: sqlite3.Connection, lost_after: int) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (LOST, str(lost_after)))
    # safety: also where every record that is left has no hole: of whole pools nothing may be left.
    db.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', '0')")


def _only_in_an_index(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> list[int]:
    """The highest number that an index of the damaged file has, and no row that was copied; nothing: there is none."""
    known = {number for (number,) in new.execute(f"SELECT rowid FROM {table}")}  # noqa: S608
    highest = 0
    # Those of a table's keys have no text.
    whole = "type = 'index' AND tbl_name = ? AND coalesce(sql, '') NOT LIKE '% WHERE %'"
    for (index,) in new.execute(f"SELECT name FROM sqlite_master WHERE {whole}", [table]).fetchall():  # noqa: S608
        rows = _each(old, f"SELECT rowid FROM {table} INDEXED BY {index}")  # noqa: S608
        while (row := _next(rows)) is not None and row is not _BROKEN:
            if row[0] not in known and highest < row[0] < _HIGHEST:
                highest = int(row[0])
    return [highest] if highest else []


def _each(db: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    yield from db.execute(query)


class _Reader:
    """Every row of a table that can be read, by its number; ``holes``: up to which numbers some are missing."""

    def __init__(self, db: sqlite3.Connection, table: str, columns: str) -> None:
        self._db = db
        self._select = f"SELECT rowid, {columns} FROM {table} NOT INDEXED WHERE rowid"  # noqa: S608
        self.holes: list[int] = []

    def rows(self) -> Iterator[tuple[Any, ...]]:
        at: int | None = 0
        while at is not None:
            rows = self._those(">= ? ORDER BY rowid", at)
            # A page of anything may lead back: numbers that do not rise are damage, too.
            while (row := _next(rows)) is not None and row is not _BROKEN and at <= row[0] < _HIGHEST:
                yield row
                at = int(row[0]) + 1
            at = (yield from self._over(at)) if row is not None else None

    def _those(self, which: str, at: int) -> Iterator[tuple[Any, ...]]:
        """Lazy, from the first row on: SQLite reads it as the query is begun."""
        yield from self._db.execute(f"{self._select} {which}", (at,))

    def _over(self, at: int) -> Generator[tuple[Any, ...], None, int | None]:
        """Single rows within the damage; where the rows go on behind it, None: they do not."""
        step = 1
        while at + step < _HIGHEST and not self._readable(at + step):
            step *= 2
        low, high = at + step // 2, at + step
        while high < _HIGHEST and high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._readable(middle) else (middle, high)
        last = at - 1
        for number in range(at, min(high, at + _ONE_BY_ONE)):
            row = _next(self._those("= ?", number))
            if row is not None and row is not _BROKEN:
                last = number
                yield row
        self.holes.append(high - 1 if high < _HIGHEST else last)
        return high if high < _HIGHEST else None

    def _readable(self, at: int) -> bool:
        return _next(self._those(">= ? ORDER BY rowid LIMIT 1", at)) is not _BROKEN


def _next(rows: Iterator[tuple[Any, ...]]) -> tuple[Any, ...] | None:
    """The next row; None: there is none; ``_BROKEN``: it cannot be read."""
    try:
        return next(rows, None)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return _BROKEN


def _free_name(wanted: Path) -> Path:
    """This one, or with a number: a start that was killed has begun to use it."""
    names = (wanted.with_name(f"{wanted.name}.{number}") for number in itertools.count(2))
    return next(name for name in itertools.chain([wanted], names) if not name.exists())


def _beside(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
