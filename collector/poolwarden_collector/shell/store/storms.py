"""Many alerts that begin together: one message for each channel, told once when they begin and once when all are over.

Rules
-----
* A storm is more than ``LIMIT`` beginnings for one channel within ``WINDOW_MS``, or so many waiting for it, whenever
  they began. Then what waits is gathered for ``SETTLE_MS`` and told as one message, at most one in ``WINDOW_MS``. While
  such a message is not taken yet, it takes in what comes.
* Its topic is the channel's and counted on, so it is the same in each repetition. It says how many alerts of how many
  pools, which ones, the worst first, and which of them are over by now; it is written when it is told. Its end comes
  when all of them are over.
* safety: what is about two masters, and what waits for a person (``blocked-``), is never folded while it is open.
* The order of each topic is kept: an alert of whose topic something older is waiting, which cannot be folded, or of
  whose topic something is being told just now, is not folded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from sqlite_utils import Database

from poolwarden_collector.core.model.durations import in_words
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.report.open_alerts import RANK, SEVERITIES
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.store.parcels import (
    STORM,
    Parcel,
    Routes,
    Row,
    age_ms,
    drop_all_reminders,
    drop_reminders,
)
from poolwarden_collector.shell.store.silences import Clock

LIMIT = 10  # what a person reads one by one; one pool of few hosts that dies tells fewer
WINDOW_MS = 60_000
SETTLE_MS = 10_000  # hosts of one site are found silent within seconds of each other
LISTED = 50
AT_ONCE = 500  # folded in one transaction, for which a commit waits

# What may be folded: the beginnings that wait, and the messages of what was and is over. A plus before a column keeps
# SQLite from looking by it (sqlite.org/optoverview.html, 3.1): the key names few rows, the others very many.
_FOLDABLE = """sink = :sink AND status = 'pending' AND fold = 1 AND key != :busy AND NOT EXISTS (
    SELECT 1 FROM outbox older WHERE +older.sink = o.sink AND older.key = o.key AND older.id < o.id
    AND +older.status = 'pending' AND NOT older.fold)"""


@dataclass(frozen=True, slots=True)
class Gathering:
    """What waits to be folded for one channel: are singles kept back for it, and is it ripe to be told as one?"""

    keeps_back: bool = False
    ripe: bool = False


def gathering(db: Database, sink: str, busy: str, now: Clock) -> Gathering:
    """``busy``: the topic that this channel is told just now, or ""."""
    values = {"sink": sink, "busy": busy, "clock": now.name, "since": now.now - WINDOW_MS, "storm": STORM + sink}
    query = f"SELECT posted_ms, clock FROM outbox o WHERE {_FOLDABLE} LIMIT :some"  # noqa: S608
    waiting = list(db.query(query, values | {"some": LIMIT + 1}))
    if not waiting:
        return Gathering()
    if len(waiting) <= LIMIT and _count(db, values, "fold AND state = 'firing'") <= LIMIT:
        return Gathering()
    if _untaken(db, sink, busy) is not None:
        return Gathering(keeps_back=True, ripe=True)
    settled = max(age_ms(row, now) for row in db.query(query, values | {"some": -1})) >= SETTLE_MS
    if len(waiting) == 1:
        return Gathering(keeps_back=not settled)
    told = _count(db, values, "key = :storm AND state = 'firing'")
    return Gathering(keeps_back=True, ripe=settled and not told)


def _count(db: Database, values: dict[str, Any], which: str) -> int:
    query = f"""SELECT count(*) AS n FROM outbox WHERE sink = :sink AND posted_ms > :since AND clock = :clock
                AND status IN ('pending', 'sent', 'folded') AND {which}"""  # noqa: S608
    return int(next(db.query(query, values))["n"])


def _untaken(db: Database, sink: str, busy: str) -> int | None:
    """The storm of this channel whose beginning can take in more: it is not taken, nor told just now."""
    if busy == STORM + sink:
        return None
    query = """SELECT f.occurrence AS occurrence FROM outbox f LEFT JOIN outbox r
               ON r.key = f.key AND r.occurrence = f.occurrence AND r.sink = f.sink AND r.state = 'resolved'
               WHERE f.key = ? AND +f.sink = ? AND f.state = 'firing' AND (f.status = 'pending'
                   OR (f.status = 'merged' AND r.status = 'pending')) ORDER BY f.id DESC LIMIT 1"""
    row = next(db.query(query, [STORM + sink, sink]), None)
    return None if row is None else int(row["occurrence"])


def fold(db: Database, sink: str, busy: str, now: Clock, routes: Routes) -> bool:
    """Make one message of what waits for this channel, of some of it at once: is there more?"""
    values = {"sink": sink, "busy": busy, "most": AT_ONCE}
    query = f"SELECT id, key, occurrence, state FROM outbox o WHERE {_FOLDABLE} LIMIT :most"  # noqa: S608
    rows = list(db.query(query, values))
    storm = _untaken(db, sink, busy)
    if storm is None:
        storm = _new(db, sink, now)
    else:
        which = [STORM + sink, storm, sink]
        where = "key = ? AND occurrence = ? AND sink = ?"
        db.execute(f"UPDATE outbox SET status = 'pending' WHERE state = 'firing' AND {where}", which)  # noqa: S608
        db.execute(f"DELETE FROM outbox WHERE state = 'resolved' AND {where}", which)  # noqa: S608
    drop_all_reminders(db, [(row["key"], row["occurrence"]) for row in rows])
    db.conn.executemany(
        "UPDATE outbox SET status = 'folded', storm = ? WHERE key = ? AND occurrence = ? AND +sink = ? "
        "AND +status IN ('pending', 'unwanted', 'merged')",
        [(storm, row["key"], row["occurrence"], sink) for row in rows],
    )
    close(db, sink, storm, now, routes)
    return len(rows) == AT_ONCE


def _new(db: Database, sink: str, now: Clock) -> int:
    found = next(db.query("SELECT value FROM meta WHERE key = 'storms'"), None)
    number = int(found["value"]) + 1 if found is not None else 1
    db["meta"].insert({"key": "storms", "value": str(number)}, pk="key", replace=True)  # type: ignore[union-attr]
    db["outbox"].insert(_row(sink, number, "firing", now))  # type: ignore[union-attr]
    return number


def _row(sink: str, number: int, state: str, now: Clock) -> Row:
    common = {"key": STORM + sink, "occurrence": number, "state": state, "sink": sink, "pool": "", "payload": "{}"}
    return common | {"posted_ms": now.now, "clock": now.name}


def close(db: Database, sink: str, storm: int, now: Clock, routes: Routes) -> None:
    """Post the end of this storm if all of its alerts are over."""
    which = [sink, storm]
    query = """SELECT 1 FROM outbox o JOIN alerts a ON a.key = o.key AND a.occurrence = o.occurrence
               WHERE o.sink = ? AND o.storm = ? AND a.resolved_at = '' LIMIT 1"""
    if next(db.query(query, which), None) is None:
        drop_reminders(db, STORM + sink, storm)
        begun = "SELECT status FROM outbox WHERE key = ? AND occurrence = ? AND sink = ? AND state = 'firing'"
        told = next(db.query(begun, [STORM + sink, storm, sink]))["status"] in ("pending", "sent")
        wanted = told and routes.reach(sink).resolved
        row = _row(sink, storm, "resolved", now) | {"status": "pending" if wanted else "unwanted"}
        db["outbox"].insert(row, ignore=True)  # type: ignore[union-attr]


def leave(db: Database, key: str, occurrence: int) -> None:
    """This alert is silenced: it is no part of a message that is not taken yet, and is held by itself."""
    query = """SELECT o.id AS id, o.storm AS storm, o.sink AS sink, s.id AS storms_id FROM outbox o
               JOIN outbox s ON s.sink = o.sink AND s.occurrence = o.storm AND s.key = ? || o.sink
               WHERE o.key = ? AND o.occurrence = ? AND o.state = 'firing' AND o.status = 'folded'
               AND s.state = 'firing' AND s.status = 'pending'"""
    for row in list(db.query(query, [STORM, key, occurrence])):
        db["outbox"].update(row["id"], {"status": "held", "storm": 0})  # type: ignore[union-attr]
        left = "SELECT 1 FROM outbox WHERE sink = ? AND storm = ? LIMIT 1"
        if next(db.query(left, [row["sink"], row["storm"]]), None) is None:
            db["outbox"].delete(row["storms_id"])  # type: ignore[union-attr]


def over(db: Database, key: str, occurrence: int, now: Clock, routes: Routes) -> None:
    """This alert is over: the storms that it was told with may be, too."""
    query = "SELECT sink, storm FROM outbox WHERE key = ? AND occurrence = ? AND state = 'firing' AND storm"
    for row in list(db.query(query, [key, occurrence])):
        close(db, row["sink"], row["storm"], now, routes)


# ------------------------------------------------------------------------------------------------ what it says

_MEMBERS = """FROM outbox f JOIN alerts a ON a.key = f.key AND a.occurrence = f.occurrence
              WHERE f.sink = ? AND f.storm = ? AND f.state = 'firing'"""


@dataclass(frozen=True, slots=True)
class _Storm:
    """The figures of a storm: its alerts, the open ones by severity, its pools, when the first and the last began."""

    alerts: int
    open: dict[str, int]
    worst: str
    pools: tuple[PoolId, ...]
    first: str
    last: str
    ended: str

    @property
    def over(self) -> int:
        return self.alerts - sum(self.open.values())

    @property
    def span(self) -> str:
        """From the first beginning to the last one, whole seconds, at least one; for people only."""
        seconds = -(-((clock.ms_of(self.last) or 0) - (clock.ms_of(self.first) or 0)) // 1000)
        return in_words(max(1, seconds) * 1000)


def written(db: Database, parcel: Parcel, collector: str) -> Parcel:
    """The message of a storm as it is now; any other parcel as it is."""
    if not parcel.key.startswith(STORM):
        return parcel
    storm = _figures(db, parcel.sink, parcel.occurrence)
    if not storm.alerts:
        return parcel
    listed = _listed(db, parcel.sink, parcel.occurrence)
    one_pool = len(storm.pools) == 1
    untold = parcel.state == "resolved" and _merged(db, parcel.id)
    payload = {
        "key": parcel.key,
        "occurrence": parcel.occurrence,
        "state": "resolved" if parcel.state == "resolved" else "firing",
        "severity": storm.worst,
        "title": _title(parcel, storm, listed[0]["pool"]["name"] if one_pool else "", untold, collector),
        "body": _body(parcel.state, storm, listed),
        "pool": listed[0]["pool"] if one_pool else {"uuid": "", "name": ""},
        "collector": collector,
        "raised_at": storm.first,
        "resolved_at": "" if storm.over < storm.alerts else storm.ended,
        "data": {"count": storm.alerts, "alerts": [{name: each[name] for name in _TOLD} for each in listed]},
    }
    if "reminder" in parcel.payload:
        payload["reminder"] = parcel.payload["reminder"]
    return replace(parcel, payload=payload)


_TOLD = ("key", "occurrence", "severity", "title", "pool", "raised_at", "resolved_at")


def _figures(db: Database, sink: str, storm: int) -> _Storm:
    query = f"""SELECT a.severity AS severity, count(*) AS alerts, sum(a.resolved_at = '') AS open,
                min(a.raised_at) AS first, max(a.raised_at) AS last, max(a.resolved_at) AS ended
                {_MEMBERS} GROUP BY a.severity"""  # noqa: S608
    rows = sorted(db.query(query, [sink, storm]), key=lambda row: RANK.get(row["severity"], 0))
    pools = db.query(f"SELECT DISTINCT a.pool AS pool {_MEMBERS}", [sink, storm])  # noqa: S608
    return _Storm(
        sum(row["alerts"] for row in rows),
        {row["severity"]: row["open"] for row in rows if row["open"]},
        rows[0]["severity"] if rows else "",
        tuple(row["pool"] for row in pools),
        min((row["first"] for row in rows), default=""),
        max((row["last"] for row in rows), default=""),
        max((row["ended"] for row in rows), default=""),
    )


def _listed(db: Database, sink: str, storm: int) -> list[dict[str, Any]]:
    """Some alerts of a storm: the open ones first, of these the worst, of each severity the oldest; with ``how``."""
    ranks = " ".join(f"WHEN '{severity}' THEN {rank}" for severity, rank in RANK.items())
    query = f"""SELECT f.id AS id, a.resolved_at AS resolved_at {_MEMBERS}
                ORDER BY a.resolved_at != '', CASE a.severity {ranks} ELSE 0 END, f.id LIMIT ?"""  # noqa: S608
    told = """SELECT f.payload AS began, coalesce(r.payload, '{}') AS ended FROM outbox f LEFT JOIN outbox r
              ON r.key = f.key AND r.occurrence = f.occurrence AND r.state = 'resolved' AND r.sink = f.sink
              WHERE f.id = ?"""
    found = []
    for member in list(db.query(query, [sink, storm, LISTED])):
        row = next(db.query(told, [member["id"]])) | member
        ended = json.loads(row["ended"])
        how = str(ended.get("over", {}).get("how", ended.get("body", "")))
        found.append({**json.loads(row["began"]), "resolved_at": row["resolved_at"], "how": how})
    return found


def _merged(db: Database, row: int) -> bool:
    return bool(next(db.query("SELECT merged FROM outbox WHERE id = ?", [row]))["merged"])


def _title(parcel: Parcel, storm: _Storm, pool: str, untold: bool, collector: str) -> str:
    who = pool or collector
    of = "" if len(storm.pools) == 1 else f" of {len(storm.pools)} pools"
    if parcel.state == "reminder":
        left = f"{storm.alerts - storm.over} of {storm.alerts} alerts{of} are still open"
        return f"{who}: reminder {parcel.payload['reminder']['number']}: {left}, begun together"
    begun = f"{storm.alerts} alert{'s' * (storm.alerts > 1)}{of} began within {storm.span}"
    if untold:
        return f"{who}: was, and is over: {begun}"
    if 0 < storm.over < storm.alerts:
        return f"{who}: {begun}, {storm.over} of them {'is' if storm.over == 1 else 'are'} over"
    return f"{who}: {begun}"


def _body(state: str, storm: _Storm, listed: list[dict[str, Any]]) -> str:
    lines = [_line(alert) for alert in listed]
    if storm.alerts > len(listed):
        lines.append(f"and {storm.alerts - len(listed)} more: poolwarden alerts --all")
    if state == "resolved":
        return "\n".join([f"all {storm.alerts} are over:", *lines])
    left = ", ".join(f"{storm.open[each]} {each}" for each in SEVERITIES if each in storm.open) or "none of them"
    head = (
        "Died: see below; so many at once have a common cause more often than not: power, network, storage.",
        "Did:  told them in one message; what is about two masters, or waits for you, has one of its own.",
        "You:  look at what they have in common, then: poolwarden status",
        f"Open: {left}; poolwarden alerts",
    )
    return "\n".join([*head, "", *lines])


def _line(alert: dict[str, Any]) -> str:
    line = f"[{str(alert['severity']).upper()}] {alert['title']}"
    how = str(alert["how"]).split("\n")[0]
    return f"{line} (over {alert['resolved_at'][11:19]}{f': {how}' * bool(how)})" if alert["resolved_at"] else line
