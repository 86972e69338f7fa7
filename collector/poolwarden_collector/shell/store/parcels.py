"""The table outbox: what each channel is still to be told, one row for each alert, state and channel.

Rules
-----
* ``status``: *pending* is still to be told; *sent* was taken; *held* and *withheld* are silenced (silences.py);
  *folded* is told by a storm's message (storms.py); *merged* is told by its end, *unwanted* is an end that the channel
  does not want; *dropped* is a reminder that nobody needs any more; *failed* had a channel that is not configured now.
* Per channel and topic (the key of an alert) the oldest pending row goes first, so that an end never overtakes its
  beginning.
* An alert that has begun and ended while its channel took nothing for ``MERGE_AFTER_MS`` becomes one message: that it
  was, and is over. Where it came several times, it is still one.
* What is compared is the clock of silences, which no jump of the wall clock moves; a row of another boot is old.
* Rows of finished alerts are removed ``KEPT_MS`` after their end, by the wall clock; of each alert's key the newest
  stays in the table of alerts, so that occurrences are counted on. What is still to be told is never removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlite_utils import Database

from poolwarden_collector.core.catalogue.two_masters import about_two_masters
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.store import silences
from poolwarden_collector.shell.store.silences import Clock

MERGE_AFTER_MS = 300_000  # a channel that is back within it hears beginning and end, as they were
KEPT_MS = 30 * 86_400_000
LATEST_RETRY_MS = 300_000
STORM = "storm/"  # before the channel's name: the topic of its storms
_MERGED_AT_ONCE = 200
_PRUNED_AT_ONCE = 500  # so that the one writer is free again soon

Row = dict[str, Any]


class Telling(Protocol):
    """How one channel is told (shell/config/alert_channels.py): ``Reach``."""

    @property
    def remind_every(self) -> int: ...
    @property
    def resolved(self) -> bool: ...
    @property
    def fold(self) -> bool: ...


class Routes(Protocol):
    """Which channels an alert reaches (shell/config/alert_routes.py)."""

    def to(self, alert: Mapping[str, Any], pool_name: str) -> tuple[str, ...]:
        """The channels' names, for a row of the table of alerts."""

    def reach(self, sink: str) -> Telling: ...


@dataclass(frozen=True, slots=True)
class Everything:
    """Every alert to every one of these, once."""

    sinks: tuple[str, ...]
    remind_every: int = 0
    resolved: bool = True
    fold: bool = False

    def to(self, alert: Mapping[str, Any], pool_name: str) -> tuple[str, ...]:  # noqa: ARG002
        return self.sinks

    def reach(self, sink: str) -> Telling:  # noqa: ARG002
        return self


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message for one sink that is not delivered yet. ``next_try_ms`` is wall time, 0: at once."""

    id: int
    key: str
    occurrence: int
    state: str  # "firing", "reminder" or "resolved"; payload["state"] is firing or resolved
    sink: str
    pool: PoolId
    payload: dict[str, Any]
    attempts: int
    next_try_ms: int

    @property
    def delivery_key(self) -> str:
        """Stable over retries and restarts; a reminder, the end and the next occurrence have others."""
        state = f"{self.state}-{self.payload['reminder']['number']}" if self.state == "reminder" else self.state
        return f"{self.key}/{self.occurrence}/{state}"


@dataclass(frozen=True, slots=True)
class ChannelState:
    """How a channel does: when it last took something (wall time; "": not known), and what waits for it and why.

    ``waits_ms``: for how long the oldest that was refused has been waiting; None: since before the machine's last boot.
    """

    name: str
    taken_at: str
    waiting: int = 0
    waits_ms: int | None = 0
    error: str = ""


COLUMNS = "id, key, occurrence, state, sink, pool, payload, attempts, next_try_ms"


def parcel(row: Row) -> Parcel:
    """A row with ``COLUMNS``."""
    return Parcel(**{**row, "payload": json.loads(row["payload"])})


def dumped(value: object) -> str:
    """As JSON stands in the journal."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# ------------------------------------------------------------------------------------------------ posting


def taken_by(db: Database, alert: Row) -> set[str]:
    """The channels that have taken the beginning of this alert."""
    query = "SELECT sink FROM outbox WHERE key = ? AND occurrence = ? AND state = 'firing' AND status = 'sent'"
    return {row["sink"] for row in db.query(query, [alert["key"], alert["occurrence"]])}


def begin(
    db: Database,
    alert: Row,
    payload: dict[str, Any],
    sinks: Iterable[str],
    routes: Routes,
    now: Clock,
    *,
    held: bool,
) -> None:
    """An alert has begun: one row for each of these channels; held while it is silenced."""
    alone = never_folded(json.loads(alert["data"]))
    rows = [
        {
            **_common(alert, payload, sink, "firing", now),
            "status": "held" if held else "pending",
            "fold": int(routes.reach(sink).fold and not alone),
        }
        for sink in sinks
    ]
    db["outbox"].insert_all(rows)  # type: ignore[union-attr]


def told_elsewhere(db: Database, alert: Row, payload: dict[str, Any], sinks: Iterable[str], now: Clock) -> None:
    """Another collector has told these channels of its beginning; they are told its end from here."""
    rows = [
        {**_common(alert, payload, sink, "firing", now), "status": "sent", "sent_at": alert["raised_at"]}
        for sink in sinks
    ]
    db["outbox"].insert_all(rows)  # type: ignore[union-attr]


def end_told_elsewhere(db: Database, key: str, occurrence: int, sinks: Iterable[str], at: str) -> None:
    """These channels have been told of its end, in this collector's stead or by it before."""
    which = "state = 'resolved' AND status = 'pending' AND key = ? AND occurrence = ? AND sink = ?"
    for sink in sinks:
        db.execute(f"UPDATE outbox SET status = 'sent', sent_at = ? WHERE {which}", [at, key, occurrence, sink])  # noqa: S608


def end(
    db: Database, alert: Row, payload: dict[str, Any], configured: tuple[str, ...], routes: Routes, now: Clock
) -> None:
    """It is over: one row for each channel that its beginning went to. Its reminders are not needed any more."""
    which = [alert["key"], alert["occurrence"]]
    drop_reminders(db, *which)
    begun = "SELECT sink, status, storm FROM outbox WHERE state = 'firing' AND key = ? AND occurrence = ?"
    status = {"held": "withheld", "folded": "folded", "failed": "unwanted"}
    rows = [
        {
            **_common(alert, payload, row["sink"], "resolved", now),
            "status": status.get(row["status"]) or ("pending" if routes.reach(row["sink"]).resolved else "unwanted"),
            "storm": row["storm"],
        }
        for row in list(db.query(begun, which))
        if row["sink"] in configured
    ]
    db["outbox"].insert_all(rows)  # type: ignore[union-attr]
    silences.withhold(db, *which)


def never_folded(data: Mapping[str, Any]) -> bool:
    """Does an alert with these facts always get a message of its own? Two masters, and what waits for a person."""
    return about_two_masters(data) or str(data.get("message", "")).startswith("blocked-")


def _common(alert: Row, payload: dict[str, Any], sink: str, state: str, now: Clock) -> Row:
    return {
        "key": alert["key"],
        "occurrence": alert["occurrence"],
        "state": state,
        "sink": sink,
        "pool": alert["pool"],
        "payload": dumped(payload),
        "posted_ms": now.now,
        "clock": now.name,
    }


def drop_reminders(db: Database, key: str, occurrence: int) -> None:
    """The reminders of this alert that were not taken yet."""
    drop_all_reminders(db, [(key, occurrence)])


def drop_all_reminders(db: Database, alerts: list[tuple[str, int]]) -> None:
    """The same of these alerts: key and occurrence."""
    db.conn.executemany(
        "UPDATE outbox SET status = 'dropped' WHERE +status = 'pending' AND state = 'reminder' "
        "AND key = ? AND occurrence = ?",
        alerts,
    )
    db.conn.executemany("DELETE FROM told WHERE key = ? AND occurrence = ?", alerts)


# ------------------------------------------------------------------------------------------------ what is due


def oldest(db: Database, limit: int) -> list[Row]:
    """For each sink and topic the oldest pending row."""
    query = f"""SELECT {COLUMNS.replace("id", "min(id) AS id", 1)} FROM outbox
                WHERE status = 'pending' GROUP BY sink, key ORDER BY next_try_ms, id LIMIT ?"""  # noqa: S608
    return list(db.query(query, [limit]))


def next_of(db: Database, sink: str, wall_ms: int, singles: bool) -> Row | None:
    """What this sink is to be told now. ``singles``: also what could be folded into one message with others.

    By the index of what waits, however much that is: the first one that is due, and of whose topic nothing older waits.
    """
    names = ", ".join(f"o.{name}" for name in COLUMNS.split(", "))
    # A wall clock that was set back must not postpone an alert beyond the longest retry.
    for due in ("next_try_ms <= :now", "next_try_ms > :now + :latest"):
        query = f"""SELECT {names} FROM outbox o
                    WHERE status = 'pending' AND sink = :sink AND fold = :fold AND {due} AND NOT EXISTS (
                        SELECT 1 FROM outbox older WHERE older.key = o.key AND older.id < o.id
                        AND +older.sink = o.sink AND +older.status = 'pending')
                    ORDER BY next_try_ms, id LIMIT 1"""  # noqa: S608
        values = {"sink": sink, "now": wall_ms, "latest": LATEST_RETRY_MS}
        found = [row for fold in range(1 + singles) for row in db.query(query, values | {"fold": fold})]
        if found:
            return min(found, key=lambda row: (row["next_try_ms"], row["id"]))
    return None


def still_open(db: Database, sink: str) -> list[Row]:
    """The beginnings that this sink has taken, of alerts and storms that are not over, oldest first."""
    names = ", ".join(f"o.{name}" for name in COLUMNS.split(", "))
    query = f"""SELECT {names} FROM alerts a CROSS JOIN outbox o ON o.key = a.key AND o.occurrence = a.occurrence
                WHERE a.resolved_at = '' AND +o.sink = :sink AND o.state = 'firing' AND +o.status = 'sent'
                UNION ALL
                SELECT {names} FROM outbox o WHERE o.key = :storm AND +o.sink = :sink AND o.state = 'firing'
                AND +o.status = 'sent' AND NOT EXISTS (SELECT 1 FROM outbox r WHERE r.key = o.key
                    AND r.occurrence = o.occurrence AND r.sink = o.sink AND r.state = 'resolved')
                ORDER BY 1"""  # noqa: S608
    return list(db.query(query, {"sink": sink, "storm": STORM + sink}))


def channel_state(db: Database, sink: str, now: Clock) -> ChannelState:
    """What the outbox tells of one channel."""
    sent = next(db.query("SELECT max(sent_at) AS at FROM outbox WHERE sink = ? AND status = 'sent'", [sink]))
    query = """SELECT posted_ms, clock, last_error FROM outbox WHERE sink = ? AND status = 'pending' AND attempts
               ORDER BY id"""
    refused = list(db.query(query, [sink]))
    waiting = next(db.query("SELECT count(*) AS n FROM outbox WHERE sink = ? AND status = 'pending'", [sink]))["n"]
    waits: int | None = max((age_ms(row, now) for row in refused if row["clock"] == now.name), default=0)
    if any(row["clock"] != now.name for row in refused):
        waits = None
    error = next((row["last_error"] for row in reversed(refused) if row["last_error"]), "")
    return ChannelState(sink, sent["at"] or "", waiting, waits, error)


# ------------------------------------------------------------------------------------------------ was, and is over


def merge(db: Database, now: Clock, routes: Routes, under_way: Mapping[str, str]) -> bool:
    """Make one message of what has begun and ended untold, of some of it at once: is there more?

    ``under_way``: the topic that each sink is told just now.
    """
    merged = 0
    query = """SELECT f.id AS id, f.key AS key, f.sink AS sink, f.payload AS began, f.next_try_ms AS next_try_ms,
                      f.attempts AS attempts, f.posted_ms AS posted_ms, f.clock AS clock, r.id AS end_id,
                      r.payload AS ended, f.last_error AS last_error
               FROM outbox f JOIN outbox r ON r.key = f.key AND r.occurrence = f.occurrence AND r.sink = f.sink
               WHERE f.status = 'pending' AND f.state = 'firing' AND r.state = 'resolved'
               AND r.status IN ('pending', 'unwanted')"""
    for row in list(db.query(query)):
        if age_ms(row, now) < MERGE_AFTER_MS or under_way.get(row["sink"]) == row["key"]:
            continue
        ended = _over(json.loads(row["began"]), json.loads(row["ended"]), 1)
        db["outbox"].update(row["id"], {"status": "merged"})  # type: ignore[union-attr]
        changes = {name: row[name] for name in ("next_try_ms", "attempts", "last_error", "posted_ms", "clock")}
        changes |= {"status": "pending", "payload": dumped(ended), "merged": 1}
        changes["fold"] = int(routes.reach(row["sink"]).fold and not row["key"].startswith(STORM))
        db["outbox"].update(row["end_id"], changes)  # type: ignore[union-attr]
        merged += 1
        if merged == _MERGED_AT_ONCE:
            return True
    _collapse(db, under_way)
    return False


def _collapse(db: Database, under_way: Mapping[str, str]) -> None:
    """Of one topic that came and went several times, the newest tells of all."""
    query = """SELECT key, sink, max(id) AS id, sum(merged) AS times FROM outbox
               WHERE status = 'pending' AND merged AND key NOT LIKE ? GROUP BY sink, key HAVING count(*) > 1"""
    for row in list(db.query(query, [f"{STORM}%"])):
        if under_way.get(row["sink"]) == row["key"]:
            continue
        newest = next(db.query("SELECT payload FROM outbox WHERE id = ?", [row["id"]]))
        payload = json.loads(newest["payload"])
        over = payload["over"]
        payload = _over({**payload, "title": over["title"], "body": over["body"]}, over, row["times"])
        db["outbox"].update(row["id"], {"payload": dumped(payload), "merged": row["times"]})  # type: ignore[union-attr]
        others = "status = 'pending' AND merged AND id != ? AND sink = ? AND key = ?"
        db.execute(f"UPDATE outbox SET status = 'merged' WHERE {others}", [row["id"], row["sink"], row["key"]])  # noqa: S608


def _over(began: dict[str, Any], ended: Mapping[str, Any], times: int) -> dict[str, Any]:
    """The message of the end of an alert whose beginning was not told."""
    title, how = str(began.get("title", "")), str(ended.get("how", ended.get("body", "")))
    often = "was" if times == 1 else f"was {times} times"
    body = f"{began.get('body', '')}\n\nBegan {began.get('raised_at', '')}, over {ended.get('resolved_at', '')}: {how}"
    over = {"title": title, "body": began.get("body", ""), "how": how, "resolved_at": ended.get("resolved_at", "")}
    return {
        **began,
        "state": "resolved",
        "title": f"{often}, and is over: {title}",
        "body": body,
        "resolved_at": ended.get("resolved_at", ""),
        "over": over | {"times": times},
    }


def age_ms(row: Row, now: Clock) -> int:
    """How long a row has been waiting; what was posted in another boot has been waiting for long."""
    return now.now - int(row["posted_ms"]) if row["clock"] == now.name else KEPT_MS


# ------------------------------------------------------------------------------------------------ pruning


def prune(db: Database, wall_ms: int) -> bool:
    """Remove rows of alerts that have been over for ``KEPT_MS``, some at once: are there more?"""
    before = clock.text_of(wall_ms - KEPT_MS)
    query = """SELECT key, occurrence, (SELECT max(b.occurrence) FROM alerts b WHERE b.key = a.key) AS newest
               FROM alerts a WHERE resolved_at != '' AND resolved_at < :before AND NOT EXISTS (
                   SELECT 1 FROM outbox o WHERE o.key = a.key AND o.occurrence = a.occurrence
                   AND (o.status IN ('pending', 'held') OR (o.storm AND NOT EXISTS (
                       SELECT 1 FROM outbox s WHERE s.key = :storm || o.sink AND s.occurrence = o.storm
                       AND s.sink = o.sink AND s.state = 'resolved' AND s.status != 'pending'))))
               AND (a.occurrence < newest OR EXISTS (
                   SELECT 1 FROM outbox o WHERE o.key = a.key AND o.occurrence = a.occurrence))
               LIMIT :limit"""
    found = list(db.query(query, {"before": before, "limit": _PRUNED_AT_ONCE, "storm": STORM}))
    for alert in found:
        which = [alert["key"], alert["occurrence"]]
        db.execute("DELETE FROM outbox WHERE key = ? AND occurrence = ?", which)
        if alert["occurrence"] < alert["newest"]:
            db.execute("DELETE FROM alerts WHERE key = ? AND occurrence = ?", which)
            db.execute("DELETE FROM acknowledgements WHERE key = ? AND occurrence = ?", which)
    over = """SELECT occurrence, sink FROM outbox r WHERE key LIKE ? AND state = 'resolved' AND status != 'pending'
              AND NOT EXISTS (SELECT 1 FROM outbox m WHERE m.sink = r.sink AND m.storm = r.occurrence) LIMIT ?"""
    for storm in list(db.query(over, [f"{STORM}%", _PRUNED_AT_ONCE])):
        which = [STORM + storm["sink"], storm["occurrence"], storm["sink"]]
        db.execute("DELETE FROM outbox WHERE key = ? AND occurrence = ? AND sink = ?", which)
    return len(found) == _PRUNED_AT_ONCE
