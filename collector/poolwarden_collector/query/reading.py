"""One query against the collector's files, which it can only read.

Rules
-----
* The files are opened with ``mode=ro`` and ``query_only``; besides, an authorizer lets through nothing but reading, so
  that what writes, attaches another file or changes a setting is refused before it runs, with one line.
* A query ends after its time limit and gives no more rows than its row limit. The collector's own connection waits for
  none of it; its log alone cannot be folded into the file meanwhile.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from poolwarden_collector.cli.errors import BadInput, CollectorFault
from poolwarden_collector.query.views import VIEWS

FILES = {"journal": "journal.db", "telemetry": "telemetry.db"}
LONGEST_VALUE = 64 << 20  # bytes; a query that makes a longer text is ended
BUSY_S = 2.0
_STEPS = 10_000  # of SQLite's machine between two looks at the clock
_MAY = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_MAY_ASK = {"table_info", "table_xinfo", "table_list", "database_list"}
_LOOK = "poolwarden query, without SQL, lists the views"


@dataclass(frozen=True, slots=True)
class Answer:
    """Columns and rows; ``more``: there were more rows than the limit."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    more: bool


def ask(state: Path, sql: str, limit: int, within_s: float) -> Answer:
    """Run one query. Raises BadInput for one that is no query, and CollectorFault for files that cannot be read."""
    with _opened(state) as db:
        until = time.monotonic() + within_s
        db.set_authorizer(_authorize)
        db.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
        try:
            cursor = db.execute(sql)
            rows = tuple(cursor.fetchmany(limit + 1))
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
            raise _in_words(error, within_s, state) from None
        if cursor.description is None:
            raise BadInput("that is no query", _LOOK)
        return Answer(tuple(column[0] for column in cursor.description), rows[:limit], len(rows) > limit)


@contextlib.contextmanager
def _opened(state: Path) -> Iterator[sqlite3.Connection]:
    """A connection that sees both files, as far as they are there, and the views."""
    if not (state / FILES["journal"]).is_file():
        hint = "is it this machine's collector, and may you look there? --config FILE, or --state DIR for a backup"
        raise BadInput(f"there is no {FILES['journal']} in {state}", hint)
    with contextlib.closing(sqlite3.connect(":memory:", uri=True, timeout=BUSY_S, isolation_level=None)) as db:
        there = [name for name, file in FILES.items() if (state / file).is_file()]
        try:
            for name in there:
                db.execute(f"ATTACH ? AS {name}", [f"{(state / FILES[name]).resolve().as_uri()}?mode=ro"])
                db.execute(f"SELECT count(*) FROM {name}.sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise CollectorFault(f"{state}: {error}", "run it as root or as the user poolwarden") from None
        for view in VIEWS:
            if view.of in there:
                db.execute(f"CREATE TEMP VIEW {view.name} ({', '.join(view.columns)}) AS {view.select}")
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        db.execute("PRAGMA query_only = ON")
        yield db


def _authorize(action: int, first: str | None, second: str | None, _: str | None, __: str | None) -> int:
    if action in _MAY or (action == sqlite3.SQLITE_PRAGMA and first in _MAY_ASK):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _in_words(error: Exception, within_s: float, state: Path) -> BadInput:
    said = str(error)
    lacking = {f"no such table: {view.name}" for view in VIEWS if not (state / FILES[view.of]).is_file()}
    if said in lacking:
        return BadInput(f"there is no {FILES['telemetry']} yet: it begins with the first facts of an agent", _LOOK)
    if "not authorized" in said or "prohibited" in said or "readonly" in said or "read-only" in said:
        return BadInput("refused: query only reads, nothing was changed", _LOOK)
    if "one statement at a time" in said:
        return BadInput("refused: one query at a time, nothing was run", "give a single SELECT")
    if "interrupted" in said:
        return BadInput(f"ended after {within_s:g} s", "narrow it down, or give it longer: --timeout 60s")
    return BadInput(f"SQLite says: {said}", _LOOK)
