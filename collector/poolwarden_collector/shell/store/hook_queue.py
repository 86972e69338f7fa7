"""Occasions for hooks in the journal: written with the step that is one, kept until each hook has run for it.

Rules
-----
* An occasion is committed with the entries that it is about, so none is lost and none is told that did not happen.
* What came of it is kept for each hook by its name: ``done``, ``given-up``, or the next try. A hook that is done with
  an occasion is never run for it again, whatever another hook does.
* An occasion is over (``done``) when no hook of the directory has anything left to do with it.
* Functions of an open database, each called within one of the journal's transactions or readings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlite_utils import Database

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.occasion import Occasion
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell import clock

VERSION = 1  # of what a hook reads; docs/hook.schema.json
DONE, WAITS, GIVEN_UP = "done", "waits", "given-up"


@dataclass(frozen=True, slots=True)
class HookRun:
    """What came of a hook for an occasion until now. ``next_try_ms``: wall time."""

    status: str = WAITS
    attempts: int = 0
    next_try_ms: int = 0

    @property
    def over(self) -> bool:
        """Is nothing left to do?"""
        return self.status != WAITS


@dataclass(frozen=True, slots=True)
class HookEvent:
    """An occasion that is not over. ``payload``: what a hook reads, but for the number of the attempt."""

    id: int
    pool: PoolId
    event: str
    payload: dict[str, Any]
    runs: dict[str, HookRun] = field(default_factory=dict)

    def run_of(self, hook: str) -> HookRun:
        """What came of this hook until now."""
        return self.runs.get(hook, HookRun())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt changes, all of it in one transaction."""

    run: HookRun
    said: str
    entries: tuple[Entry, ...] = ()
    alerts: tuple[AlertRaised | AlertResolved, ...] = ()


def add(
    db: Database, pool: PoolId, pool_name: str, collector: str, occasions: Iterable[Occasion], first: int = 0
) -> None:
    """Queue these occasions of one step, in their order.

    ``first``: the number of the first of them, where several collectors have agreed on it; 0: it is counted here.
    """
    for number, each in enumerate(occasions, first):
        _queue(db, pool, pool_name, collector, number if first else 0, clock.wall_text(), each.event, each.facts)


def take(
    db: Database, pool: PoolId, pool_name: str, collector: str, number: int, at: str, event: str, facts: dict[str, Any]
) -> None:
    """Queue an occasion of another collector's time, of which no hook is known to be done with it."""
    query = "SELECT id, status FROM hook_events WHERE pool = ? AND json_extract(payload, '$.id') = ?"
    there = next(db.query(query, [pool, number]), None)
    if there is None:
        _queue(db, pool, pool_name, collector, number, at, event, facts)
    elif there["status"] == "elsewhere":
        db.execute("UPDATE hook_events SET status = 'pending' WHERE id = ?", [there["id"]])


def _queue(
    db: Database, pool: PoolId, pool_name: str, collector: str, number: int, at: str, event: str, facts: dict[str, Any]
) -> None:
    """``number``: what hooks are given as ``id``; 0: the row's own."""
    last = next(db.query("SELECT coalesce(max(id), 0) AS last FROM hook_events"))["last"]
    payload = {
        "version": VERSION,
        "event": event,
        "id": number or last + 1,
        "at": at,
        "collector": collector,
        "pool": {"uuid": pool, "name": pool_name or pool},
        **facts,
    }
    row = {"id": last + 1, "at": at, "pool": pool, "event": event, "payload": json.dumps(payload)}
    db["hook_events"].insert(row)  # type: ignore[union-attr]


def waiting(db: Database) -> list[HookEvent]:
    """Every occasion that is not over, oldest first."""
    runs: dict[int, dict[str, HookRun]] = {}
    for row in db.query(
        "SELECT r.* FROM hook_runs r JOIN hook_events e ON e.id = r.occasion WHERE e.status = 'pending'"
    ):
        run = HookRun(row["status"], row["attempts"], row["next_try_ms"])
        runs.setdefault(row["occasion"], {})[row["hook"]] = run
    found = db.query("SELECT * FROM hook_events WHERE status = 'pending' ORDER BY id")
    return [
        HookEvent(row["id"], row["pool"], row["event"], json.loads(row["payload"]), runs.get(row["id"], {}))
        for row in found
    ]


def note(db: Database, event: HookEvent, hook: str, outcome: Outcome) -> None:
    """Remember what an attempt came to."""
    row = {
        "occasion": event.id,
        "hook": hook,
        "status": outcome.run.status,
        "attempts": outcome.run.attempts,
        "next_try_ms": outcome.run.next_try_ms,
        "said": outcome.said,
        "at": clock.wall_text(),
    }
    db["hook_runs"].insert(row, pk=("occasion", "hook"), replace=True)  # type: ignore[union-attr]


def over(db: Database, event: int) -> None:
    """No hook has anything left to do with this occasion."""
    db.execute("UPDATE hook_events SET status = 'done' WHERE id = ?", [event])


def revive(db: Database) -> None:
    """Hooks that were given up get another chance with the newest occasion of each pool."""
    newest = f"""SELECT occasion FROM hook_runs WHERE status = '{GIVEN_UP}'
                 AND occasion IN (SELECT max(id) FROM hook_events GROUP BY pool)"""
    db.execute(f"UPDATE hook_events SET status = 'pending' WHERE id IN ({newest})")
    db.execute(f"DELETE FROM hook_runs WHERE status = '{GIVEN_UP}' AND occasion IN ({newest})")


def ask_again(db: Database, pool: PoolId, hook: str) -> dict[str, Any] | None:
    """This hook is to run again for the pool's newest occasion, which is returned; None: it never had one.

    A hook that has come into the directory since then runs for that occasion, too.
    """
    number = "json_extract(payload, '$.id') AS number"
    query = f"SELECT id, event, at, {number} FROM hook_events WHERE pool = ? ORDER BY id DESC LIMIT 1"  # noqa: S608
    newest = next(db.query(query, [pool]), None)
    if newest is None:
        return None
    db.execute(
        "UPDATE hook_runs SET next_try_ms = 0 WHERE hook = ? AND status = ? "
        "AND occasion IN (SELECT id FROM hook_events WHERE pool = ? AND status = 'pending')",
        [hook, WAITS, pool],
    )
    db.execute("DELETE FROM hook_runs WHERE occasion = ? AND hook = ?", [newest["id"], hook])
    db.execute("UPDATE hook_events SET status = 'pending' WHERE id = ?", [newest["id"]])
    return newest


def failing(db: Database, message: str) -> dict[str, tuple[PoolId, str]]:
    """The open alerts with this message: their key, pool and hook."""
    query = "SELECT key, pool, data FROM alerts WHERE resolved_at = '' AND json_extract(data, '$.message') = ?"
    return {
        row["key"]: (row["pool"], str(json.loads(row["data"]).get("hook", ""))) for row in db.query(query, [message])
    }


def open_alerts(db: Database, message: str) -> dict[PoolId, tuple[tuple[str, str, str], ...]]:
    """The same, of each pool: key, severity and title, the oldest first."""
    query = """SELECT pool, key, severity, title FROM alerts WHERE resolved_at = ''
               AND json_extract(data, '$.message') = ? ORDER BY raised_at, rowid"""
    found: dict[PoolId, tuple[tuple[str, str, str], ...]] = {}
    for row in db.query(query, [message]):
        found[row["pool"]] = (*found.get(row["pool"], ()), (row["key"], row["severity"], row["title"]))
    return found
