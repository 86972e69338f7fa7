"""The record of operators' calls, and what waits for a second person; in the journal's file and transactions.

Rules
-----
* A call that changes something has its row before it is begun; what came of it is written into that row. A row without
  a result is of a call during which the collector ended.
* What is not printable is escaped here, as in every entry of the journal.
* No row is changed in any other way, and none is removed before it is ``KEPT_DAYS`` old by the wall clock. Of those
  that are, no more than ``_AT_ONCE`` go in an hour: a clock that is wrong for a while does not empty the record.
* What waits for a second person is over at an instant of the clock that runs while the machine sleeps too, and in
  another boot, where nothing tells how long it has waited.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.plain_text import printable
from poolwarden_collector.shell.store.read_only import read_only
from poolwarden_collector.shell.store.silences import Clock

KEPT_DAYS = 400
MOST = 10_000  # rows that are given at once
_AT_ONCE = 1_000
_COLUMNS = ("id", "at", "actor", "source", "role", "method", "pool", "request", "result", "reason")


@dataclass(frozen=True, slots=True)
class Called:
    """One call, for the record: all of it is text for people; ``request`` is a JSON object without secrets."""

    actor: str
    source: str
    role: str
    method: str
    request: str
    reason: str = ""
    pool: PoolId = ""
    result: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one person has asked for and two must want. ``request``: serialized, in hex; times in ms of ``clock``."""

    id: str
    pool: PoolId
    what: str
    request: str
    actor: str
    person: str
    source: str
    asked_ms: int
    expires_ms: int
    clock: str

    def left_ms(self, now: Clock) -> int:
        """How long it still waits; 0: it is over."""
        return max(0, self.expires_ms - now.now) if self.clock == now.name else 0


def begin(db: Database, called: Called) -> int:
    """The row of a call that is about to be served, or was refused; its number."""
    values = {"at": clock.wall_text(), **{name: printable(text) for name, text in asdict(called).items()}}
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    cursor = db.execute(f"INSERT INTO audit ({names}) VALUES ({marks})", values)  # noqa: S608
    return int(cursor.lastrowid or 0)


def end(db: Database, row: int, pool: PoolId, result: str) -> None:
    """What came of it, and which pool it was found to be about."""
    db.execute("UPDATE audit SET pool = ?, result = ? WHERE id = ? AND result = ''", [pool, printable(result), row])


def prune(db: Database, wall_ms: int) -> None:
    """Remove what is older than is kept, a part at a time."""
    before = clock.text_of(max(0, wall_ms - KEPT_DAYS * 86_400_000))
    query = "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ? ORDER BY id LIMIT ?)"
    db.execute(query, [before, _AT_ONCE])


def read(path: Path, pools: frozenset[PoolId] | None, since: str, until: str, limit: int) -> list[dict[str, Any]]:
    """The newest rows, oldest first, beside the connection that writes; ``pools``: only of these.

    Raises sqlite3.Error.
    """
    where, values = ["1"], list[Any]()
    if pools is not None:
        where.append(f"pool IN ({', '.join('?' * len(pools))})")
        values += sorted(pools)
    for sign, instant in ((">=", since), ("<=", until)):
        if instant:
            where.append(f"at {sign} ?")
            values.append(instant)
    query = f"SELECT {', '.join(_COLUMNS)} FROM audit WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?"  # noqa: S608
    with read_only(path) as db:
        found = list(db.execute(query, [*values, min(limit or 1_000, MOST)]))
    return [dict(zip(_COLUMNS, row, strict=True)) for row in reversed(found)]


# ------------------------------------------------------------------------------------------------ a second person


def wait(db: Database, waiting: Waiting) -> None:
    """Keep it until it is taken, withdrawn or over."""
    db["seconded"].insert(asdict(waiting), pk="id")  # type: ignore[union-attr]


def waiting(db: Database) -> list[Waiting]:
    """All of them, the oldest first, over or not."""
    return [Waiting(**row) for row in db.query("SELECT * FROM seconded ORDER BY rowid")]


def take(db: Database, wanted: str) -> bool:
    """It waits no more; False: it did not, or somebody else was first."""
    return bool(db.execute("DELETE FROM seconded WHERE id = ?", [wanted]).rowcount)


def over(rows: Iterable[Waiting], now: Clock) -> list[Waiting]:
    """Those that nobody has seconded in time."""
    return [each for each in rows if not each.left_ms(now)]
