"""Alerts of which no channel is told for a while, and alerts that somebody sees to; in the journal's own transactions.

Rules
-----
* A silence changes what is delivered and nothing else: the alert is raised, journaled, listed and resolved as before,
  and the engine never hears of it.
* While it lasts, the beginning of the alert is ``held`` in the outbox. When it ends and the alert is still open, what
  is held is delivered; when the alert ends first, beginning and end are ``withheld``. A channel that has taken the
  beginning, before the silence or by a delivery that was under way then, is told the end at once.
* It holds for the alert's key, also when the alert is resolved and raised anew meanwhile, and not for one that comes
  back graver. Alerts about two masters cannot be silenced (core/catalogue/two_masters.py), whenever they come.
* safety: it never lasts longer than asked. Its end is an instant of the clock that runs while the machine sleeps too,
  and holds in one boot of that machine only. In another boot, or on another machine, nothing tells how long it has
  lasted: there it is over. No wall clock takes part.
* An acknowledgement is of one occurrence of an alert. It ends its reminders, as a silence does while it lasts, and
  changes nothing else that is delivered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from poolwarden_collector.core.catalogue.two_masters import about_two_masters
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.report.open_alerts import RANK
from poolwarden_collector.shell import clock

LONGEST_MS = 31 * 86_400_000
_FIRING = "state = 'firing' AND key = ? AND occurrence = ?"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asks for: who, why, and for a silence how long (ms)."""

    by: str
    reason: str = ""
    for_ms: int = 0

    @property
    def why(self) -> str:
        """The reason as it follows a sentence."""
        return f": {self.reason}" if self.reason else ""


class Clock:
    """The clock of silences: ms that go on while the machine sleeps, and the name of this boot.

    ``epoch`` stands for a boot that has no name: then a silence ends with the collector's run.
    """

    def __init__(self, epoch: int) -> None:
        self.name = clock.boot() or f"run {epoch}"
        self.now = clock.awake_or_not_ms()

    def left_ms(self, silence: dict[str, Any]) -> int:
        """How long a silence has still to last; 0: it is over."""
        if silence["clock"] != self.name:
            return 0
        return max(0, min(int(silence["ends_ms"]) - self.now, int(silence["lasts_ms"])))


def begin(db: Database, alert: dict[str, Any], asked: Asked, now: Clock, until: str) -> Entry:
    """Silence an open alert; another silence of it ends. What is not delivered yet is held."""
    row = {
        "key": alert["key"],
        "pool": alert["pool"],
        "severity": alert["severity"],
        "title": alert["title"],
        "actor": asked.by,
        "reason": asked.reason,
        "since": clock.wall_text(),
        "until": until,
        "lasts_ms": asked.for_ms,
        "ends_ms": now.now + asked.for_ms,
        "clock": now.name,
    }
    db["silences"].insert(row, pk="key", replace=True)  # type: ignore[union-attr]
    which = [alert["key"], alert["occurrence"]]
    db.execute(f"UPDATE outbox SET status = 'held' WHERE status = 'pending' AND {_FIRING}", which)  # noqa: S608
    _drop_reminders(db, alert)
    return silenced(alert, asked, until)


def silenced(alert: Mapping[str, Any], asked: Asked, until: str) -> Entry:
    """The entry of a silence."""
    text = f"alert silenced by {asked.by} until about {until}: {alert['title']}{asked.why}"
    data = {"key": alert["key"], "for_ms": asked.for_ms, "reason": asked.reason}
    return Entry(Kind.ALERT_SILENCED, text, data | {"severity": alert["severity"]}, actor=asked.by)


def end(db: Database, silence: dict[str, Any], text: str, actor: str = "poolwarden", reason: str = "") -> Entry:
    """This silence is over: what is held of an alert that is still open is delivered now."""
    db.execute("DELETE FROM silences WHERE key = ?", [silence["key"]])
    db.execute("UPDATE outbox SET status = 'pending' WHERE status = 'held' AND key = ?", [silence["key"]])
    return unsilenced(silence, text, actor, reason)


def unsilenced(silence: Mapping[str, Any], text: str, actor: str = "poolwarden", reason: str = "") -> Entry:
    """The entry of a silence's end."""
    return Entry(Kind.ALERT_UNSILENCED, text, {"key": silence["key"], "reason": reason}, actor=actor)


def ended_by(alert: Mapping[str, Any], asked: Asked) -> Entry:
    """The entry of a silence that a person has ended."""
    return unsilenced(alert, f"silence ended by {asked.by}: {alert['title']}{asked.why}", asked.by, asked.reason)


def take(db: Database, alert: dict[str, Any], asked: Asked) -> Entry:
    """Somebody sees to this occurrence of an alert; the last one who says so counts."""
    row = {"key": alert["key"], "occurrence": alert["occurrence"], "actor": asked.by, "at": clock.wall_text()}
    _drop_reminders(db, alert)
    db["acknowledgements"].insert({**row, "reason": asked.reason}, pk=("key", "occurrence"), replace=True)  # type: ignore[union-attr]
    return taken(alert, asked)


def taken(alert: Mapping[str, Any], asked: Asked) -> Entry:
    """The entry of an acknowledgement."""
    text = f"alert acknowledged by {asked.by}: {alert['title']}{asked.why}"
    return Entry(Kind.ALERT_ACKNOWLEDGED, text, {"key": alert["key"], "reason": asked.reason}, actor=asked.by)


def _drop_reminders(db: Database, alert: dict[str, Any]) -> None:
    db.execute(
        "UPDATE outbox SET status = 'dropped' WHERE status = 'pending' AND state = 'reminder' "
        "AND key = ? AND occurrence = ?",
        [alert["key"], alert["occurrence"]],
    )


def over(db: Database, now: Clock) -> list[tuple[dict[str, Any], str]]:
    """The silences whose time is over, each with why."""
    found = []
    for silence in db.query("SELECT * FROM silences"):
        if now.left_ms(silence):
            continue
        if silence["clock"] == now.name:
            why = "its time is over"
        else:
            why = "the collector's machine has restarted, so nothing tells how long it has lasted"
        found.append((silence, why))
    return found


def holds(db: Database, alert: dict[str, Any], now: Clock) -> bool:
    """Is the beginning of this alert to be held?"""
    if about_two_masters(json.loads(alert["data"])):
        return False
    silence = find(db, alert["key"])
    if silence is None or not now.left_ms(silence):
        return False
    return RANK.get(alert["severity"], 0) >= RANK.get(silence["severity"], 0)  # the gravest is 0


def withhold(db: Database, key: str, occurrence: int) -> None:
    """An alert has ended: who was never told of its beginning, because it was silenced, is not told of it any more."""
    db.execute(f"UPDATE outbox SET status = 'withheld' WHERE status = 'held' AND {_FIRING}", [key, occurrence])  # noqa: S608


def taken_after_all(db: Database, key: str, occurrence: int, sink: str) -> None:
    """A beginning whose delivery was under way when it was held has been taken: then its end is told, too."""
    db.execute(
        "UPDATE outbox SET status = 'pending' WHERE status = 'withheld' AND state = 'resolved' "
        "AND key = ? AND occurrence = ? AND sink = ?",
        [key, occurrence, sink],
    )


def find(db: Database, key: str) -> dict[str, Any] | None:
    """The silence of this key; its time may be over."""
    return next(db.query("SELECT * FROM silences WHERE key = ?", [key]), None)


def mark(db: Database, alerts: list[dict[str, Any]], now: Clock) -> None:
    """Give each alert its ``silence`` (with ``left_ms``) and ``taken``; None: there is none."""
    silences = {row["key"]: row | {"left_ms": now.left_ms(row)} for row in db.query("SELECT * FROM silences")}
    for alert in alerts:
        silence = silences.get(alert["key"]) if not alert["resolved_at"] else None
        lifted = silence is None or not silence["left_ms"] or not holds(db, alert, now)
        alert["silence"] = None if lifted else silence
        which = [alert["key"], alert["occurrence"]]
        query = "SELECT * FROM acknowledgements WHERE key = ? AND occurrence = ?"
        alert["taken"] = next(db.query(query, which), None)
