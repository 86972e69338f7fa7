"""Reminders: an alert that stays open is told again to the channels that want that, every ``remind_every``.

Rules
-----
* Only of what the channel has taken, what nobody has acknowledged and what is not silenced; a storm's message while one
  of its alerts is so. An alert that is silenced when its time comes is reminded of one period later.
* Per alert and channel there is at most one reminder that is not taken: the next one takes its place. A collector that
  was away for many periods reminds once.
* The periods are counted by the clock that runs while the machine sleeps, within one boot; in another boot a period
  begins anew. No wall clock takes part; it only says for people since when an alert is open.
* At most ``LIMIT`` a minute to a channel; the others come the minutes after.
"""

from __future__ import annotations

import json
from typing import Any

from sqlite_utils import Database

from poolwarden_collector.core.model.durations import in_words
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.store import silences
from poolwarden_collector.shell.store.parcels import STORM, Routes, Row, dumped, still_open
from poolwarden_collector.shell.store.silences import Clock

LIMIT = 10
WINDOW_MS = 60_000


def due(db: Database, sinks: tuple[str, ...], routes: Routes, now: Clock) -> list[tuple[Row, Row | None]]:
    """Rows of what is to be reminded of, or to be counted from now on, each with what is known of its last telling."""
    found = []
    for sink in sinks:
        every = routes.reach(sink).remind_every
        for row in still_open(db, sink) if every else ():
            last = next(db.query("SELECT * FROM told WHERE key = ? AND occurrence = ? AND sink = ?",
                                 [row["key"], row["occurrence"], sink]), None)  # fmt: skip
            if last is None or last["clock"] != now.name or now.now - last["at_ms"] >= every:
                found.append((row, last))
    return found


def post(db: Database, found: list[tuple[Row, Row | None]], now: Clock) -> None:
    """Post the reminders that are due, as many as a minute allows, and note when each alert was told last."""
    for row, last in found:
        key = {"key": row["key"], "occurrence": row["occurrence"], "sink": row["sink"]}
        told = {**key, "number": 0 if last is None else last["number"], "at_ms": now.now, "clock": now.name}
        if last is not None and last["clock"] == now.name:
            wanted = _wanted(db, row, now)
            if wanted and _posted(db, row["sink"], now) >= LIMIT:
                continue  # it stays due
            if wanted:
                told["number"] = _post(db, row, int(last["number"]), now)
        db["told"].insert(told, pk=("key", "occurrence", "sink"), replace=True)  # type: ignore[union-attr]


def _wanted(db: Database, row: Row, now: Clock) -> bool:
    """Is there one alert behind this message that is open, not silenced and nobody's?"""
    if row["key"].startswith(STORM):
        query = """SELECT a.* FROM alerts a JOIN outbox o ON o.key = a.key AND o.occurrence = a.occurrence
                   WHERE o.sink = ? AND o.storm = ? AND o.state = 'firing' AND a.resolved_at = ''"""
        alerts = list(db.query(query, [row["sink"], row["occurrence"]]))
    else:
        query = "SELECT * FROM alerts WHERE key = ? AND occurrence = ? AND resolved_at = ''"
        alerts = list(db.query(query, [row["key"], row["occurrence"]]))
    silences.mark(db, alerts, now)
    return any(alert["silence"] is None and alert["taken"] is None for alert in alerts)


def _posted(db: Database, sink: str, now: Clock) -> int:
    query = """SELECT count(*) AS n FROM outbox WHERE sink = ? AND posted_ms > ? AND clock = ? AND state = 'reminder'
               AND status IN ('pending', 'sent')"""
    return int(next(db.query(query, [sink, now.now - WINDOW_MS, now.name]))["n"])


def _post(db: Database, row: Row, last: int, now: Clock) -> int:
    """The reminder's row, new or again; its number. One that was not taken yet keeps its number and its tries."""
    which = [row["key"], row["occurrence"], row["sink"]]
    query = "SELECT id, status FROM outbox WHERE state = 'reminder' AND key = ? AND occurrence = ? AND sink = ?"
    there = next(db.query(query, which), None)
    waiting = there is not None and there["status"] == "pending"
    number = last if waiting else last + 1
    changes: dict[str, Any] = {"payload": dumped(_payload(json.loads(row["payload"]), number))}
    if not waiting:
        changes |= {"status": "pending", "attempts": 0, "next_try_ms": 0, "last_error": "", "sent_at": ""}
        changes |= {"posted_ms": now.now, "clock": now.name}
    if there is None:
        common = {name: row[name] for name in ("key", "occurrence", "sink", "pool")}
        db["outbox"].insert({**common, "state": "reminder", **changes})  # type: ignore[union-attr]
    else:
        db["outbox"].update(there["id"], changes)  # type: ignore[union-attr]
    return number


def _payload(began: dict[str, Any], number: int) -> dict[str, Any]:
    raised = clock.ms_of(str(began.get("raised_at", ""))) or clock.wall_ms()
    open_ms = max(0, clock.wall_ms() - raised)
    title = f"reminder {number}, open for {in_words(open_ms // 60_000 * 60_000)}: {began.get('title', '')}"
    return {**began, "title": title, "reminder": {"number": number, "open_ms": open_ms}}
