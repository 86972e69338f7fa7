"""What a pool comes with from another collector, and what becomes of it when it goes: alerts, hooks, people's marks.

Rules
-----
* What is open is the tail's: an alert that is open here and not there has ended elsewhere, and was told there. One that
  is open there is open here from then on, under its key and occurrence, so that its reminders and its end are told.
* What the last owner has told a channel is ``sent`` here without being told, whatever the other channels took; so is an
  end that was told from here before. Everything else is told again: at worst a channel hears a message twice, under one
  key. An end that nobody is known to have told is told, with the time at which it came.
* Of a pool that goes nothing waits here for a channel or a hook any more: its next owner has it.
* A silence goes on for what is left of it by the wall clocks of two machines, and never for longer than was asked for
  from then on. What waits for a second person likewise.
* Alerts that no engine raises (``LOCAL``) are not the tail's: they are left to whoever raises them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sqlite_utils import Database

from poolwarden_collector.core.catalogue.hosts import KEY_WAITS
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.plain_text import printable
from poolwarden_collector.shell.store import audit, hook_queue, parcels, silences, storms

LOCAL = (KEY_WAITS.id,)
_OWN = "collector/"  # before what an alert about the collector itself is about
ELSEWHERE = "another collector has the pool"
_LONGEST_MS: Ms = silences.LONGEST_MS


class Open(Protocol):
    """An alert as etcd has it (cluster/telling.py, ``OpenAlert``)."""

    @property
    def key(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def body(self) -> str: ...
    @property
    def data(self) -> dict[str, Any]: ...
    @property
    def raised_at(self) -> str: ...
    @property
    def occurrence(self) -> int: ...


@dataclass(frozen=True, slots=True)
class OverAlert:
    """An alert of which not every channel is known to have been told the end.

    ``number``: the commit that ended it; 0: not known, and told to no channel.
    """

    alert: Open
    text: str
    at: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class Occurred:
    """An occasion that no hook is known to have been run for."""

    id: int
    at: str
    event: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a person has said, as its entry has it."""

    kind: str
    text: str
    data: dict[str, Any]
    actor: str
    at: str


@dataclass(frozen=True, slots=True)
class Handed:
    """``told``: up to which commit each channel was told of the alerts."""

    opened: tuple[Open, ...] = ()
    over: tuple[OverAlert, ...] = ()
    occurred: tuple[Occurred, ...] = ()
    marks: tuple[Mark, ...] = ()
    told: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Left:
    """Up to which number of its journal in etcd a pool is recorded here, and who has been told all of that.

    ``free``: those of all ``channels`` for which nothing waits; ``hooks``: have all been run?
    """

    number: int
    channels: tuple[str, ...]
    free: tuple[str, ...]
    hooks: bool


class HandedCalls:
    """A journal's part; ``Journal`` brings the file and its transactions. Methods raise JournalError."""

    epoch: int
    sinks: tuple[str, ...]
    one_of_several = False  # to be set before anything is written
    _name: str

    if TYPE_CHECKING:

        @property
        def routes(self) -> parcels.Routes: ...
        def _transaction(self, what: str) -> AbstractContextManager[Database]: ...
        def _reading(self) -> AbstractContextManager[Database]: ...
        def _payload(self, alert: dict[str, Any], pool_name: str, state: str, body: str) -> dict[str, Any]: ...
        def _end_alert(self, db: Database, alert: dict[str, Any], pool_name: str, text: str, at: str = "") -> None: ...

    def own_key(self, key: str) -> str:
        """The key of an alert about this collector itself: of several each has its own, for their channels are one."""
        own = f"{_OWN}{self._name}/"
        if not self.one_of_several or not key.startswith(_OWN) or key.startswith(own):
            return key
        return own + key.removeprefix(_OWN)

    def give_up(self, pool: PoolId = "") -> None:
        """Another collector has the pool from now on; empty: every pool, as one of several begins."""
        with self._transaction("what was to be told of a pool") as db:
            self._let_go(db, pool)

    def let_alert_go(self, key: str) -> None:
        """Another collector tells of this alert from now on."""
        with self._transaction("an alert that another collector tells") as db:
            for alert in list(db.query("SELECT * FROM alerts WHERE key = ? AND resolved_at = ''", [key])):
                self._let_alert_go(db, alert)
            waits = (
                "UPDATE outbox SET status = 'failed', last_error = ? WHERE status IN ('pending', 'held') AND key = ?"
            )
            db.execute(waits, [ELSEWHERE, key])

    def left_to_tell(self, pool: PoolId) -> Left:
        """How far its channels and hooks are."""
        waits = """SELECT DISTINCT o.sink AS sink FROM outbox o WHERE o.pool = ? AND (o.status IN ('pending', 'held')
                   OR (o.status = 'folded' AND EXISTS (SELECT 1 FROM outbox s WHERE s.key = ? || o.sink
                       AND s.occurrence = o.storm AND s.sink = o.sink AND s.status = 'pending')))"""
        hooks = "SELECT 1 FROM hook_events WHERE pool = ? AND status = 'pending' LIMIT 1"
        with self._reading() as db:
            found = next(db.query("SELECT value FROM meta WHERE key = ?", [SHARED + pool]), None)
            number = int(found["value"]) if found is not None else 0
            waiting = {row["sink"] for row in db.query(waits, [pool, parcels.STORM])}
            channels = self.sinks
            free = tuple(each for each in channels if each not in waiting)
            return Left(number, channels, free, next(db.query(hooks, [pool]), None) is None)

    def recorded(self, pool: PoolId, number: int) -> None:
        """Up to this number the pool's journal in etcd is recorded here."""
        with self._transaction("what is recorded of a pool") as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [SHARED + pool, str(number)])

    # ------------------------------------------------------------------------------------------------ it goes

    def _let_go(self, db: Database, pool: PoolId) -> None:
        where, which = ("pool = ?", [pool]) if pool else ("pool != ''", [])
        query = f"SELECT * FROM alerts WHERE resolved_at = '' AND {where}"  # noqa: S608
        for alert in list(db.query(query, which)):
            self._let_alert_go(db, alert)
        waits = f"UPDATE outbox SET status = 'failed', last_error = ? WHERE status IN ('pending', 'held') AND {where}"  # noqa: S608
        db.execute(waits, [ELSEWHERE, *which])
        db.execute(f"UPDATE hook_events SET status = 'elsewhere' WHERE status = 'pending' AND {where}", which)  # noqa: S608
        for table in ("silences", "seconded"):
            db.execute(f"DELETE FROM {table} WHERE {where}", which)  # noqa: S608

    def _let_alert_go(self, db: Database, alert: dict[str, Any]) -> None:
        """Nobody here tells of it any more. One that was told with others in a storm stays, for that one's end."""
        key, occurrence = which = alert["key"], alert["occurrence"]
        storms.leave(db, *which)
        parcels.drop_reminders(db, *which)
        db.execute("DELETE FROM acknowledgements WHERE key = ? AND occurrence = ?", which)
        told = "SELECT 1 FROM outbox WHERE key = ? AND occurrence = ? AND storm LIMIT 1"
        if next(db.query(told, list(which)), None) is None:
            db.execute("DELETE FROM alerts WHERE key = ? AND occurrence = ?", which)
            db.execute("DELETE FROM outbox WHERE key = ? AND occurrence = ?", which)
            return
        db["alerts"].update(which, {"resolved_at": clock.wall_text()})  # type: ignore[union-attr]
        storms.over(db, key, occurrence, silences.Clock(self.epoch), self.routes)

    # ------------------------------------------------------------------------------------------------ it comes

    def _hand(self, db: Database, pool: PoolId, name: str, handed: Handed) -> None:
        wanted = {(alert.key, alert.occurrence) for alert in handed.opened}
        for alert in list(db.query("SELECT * FROM alerts WHERE pool = ? AND resolved_at = ''", [pool])):
            local = json.loads(alert["data"]).get("message") in LOCAL
            if not local and (alert["key"], alert["occurrence"]) not in wanted:
                self._let_alert_go(db, alert)
        self._take_marks(db, pool, handed)
        for over in handed.over:
            if not _end_is_told(db, over.alert):
                self._take_end(db, pool, name, over, handed)
        for opened in handed.opened:
            self._take_alert(db, pool, name, opened, _told(opened.occurrence, handed))
        self._take_acknowledgements(db, handed)
        for each in handed.occurred:
            hook_queue.take(db, pool, name, self._name, each.id, each.at, each.event, each.facts)

    def _take_end(self, db: Database, pool: PoolId, name: str, over: OverAlert, handed: Handed) -> None:
        """It is over, since it was; channels that have been told of the end are not told again."""
        which = [over.alert.key, over.alert.occurrence]  # the same key may be open anew
        here = "SELECT sink FROM outbox WHERE key = ? AND occurrence = ? AND state = 'resolved' AND status = 'sent'"
        knows = {row["sink"] for row in db.query(here, which)}
        knows |= _told(over.number, handed) if over.number else set()
        self._take_alert(db, pool, name, over.alert, knows | _told(over.alert.occurrence, handed))
        row = next(db.query("SELECT * FROM alerts WHERE key = ? AND occurrence = ?", which))
        self._end_alert(db, row, name, over.text, over.at)
        parcels.end_told_elsewhere(db, over.alert.key, over.alert.occurrence, knows, over.at)

    def _take_alert(self, db: Database, pool: PoolId, name: str, alert: Open, told: set[str]) -> None:
        """It is open here; channels that have been ``told`` of it are not told again."""
        which = [alert.key, alert.occurrence]
        there = next(db.query("SELECT * FROM alerts WHERE key = ? AND occurrence = ?", which), None)
        if there is not None and not there["resolved_at"]:
            return
        row: dict[str, Any] = {
            "key": alert.key,
            "occurrence": alert.occurrence,
            "pool": pool,
            "severity": alert.severity,
            "title": printable(alert.title),
            "body": printable(alert.body, "\n"),
            "data": parcels.dumped(alert.data),
            "raised_at": alert.raised_at,
            "resolved_at": "",
        }
        taken = parcels.taken_by(db, row)
        untaken = "key = ? AND occurrence = ? AND NOT (state = 'firing' AND status = 'sent')"
        db.execute(f"DELETE FROM outbox WHERE {untaken}", which)  # noqa: S608
        db["alerts"].insert(row, pk=("key", "occurrence"), replace=True)  # type: ignore[union-attr]
        now = silences.Clock(self.epoch)
        payload = self._payload(row, name, "firing", row["body"])
        sinks = [sink for sink in self.routes.to(row, name) if sink not in taken]
        held = silences.holds(db, row, now)
        parcels.begin(db, row, payload, [sink for sink in sinks if sink not in told], self.routes, now, held=held)
        parcels.told_elsewhere(db, row, payload, [sink for sink in sinks if sink in told], now)

    # ------------------------------------------------------------------------------------------------ what people said

    def _take_marks(self, db: Database, pool: PoolId, handed: Handed) -> None:
        now = silences.Clock(self.epoch)
        alerts = {alert.key: alert for alert in (*handed.opened, *(each.alert for each in handed.over))}
        for mark in handed.marks:
            left = _left_ms(mark)
            if left and mark.kind == Kind.ALERT_SILENCED.value:
                self._take_silence(db, pool, mark, alerts.get(str(mark.data.get("key", ""))), left, now)
            elif left and mark.kind == Kind.SECOND_AWAITED.value and "request" in mark.data:
                _take_second(db, pool, mark, left, now)

    def _take_silence(
        self, db: Database, pool: PoolId, mark: Mark, alert: Open | None, left: Ms, now: silences.Clock
    ) -> None:
        row = {
            "key": str(mark.data["key"]),
            "pool": pool,
            "severity": str(mark.data.get("severity", "") or (alert.severity if alert is not None else "")),
            "title": str(mark.data.get("title", "") or (alert.title if alert is not None else "")),
            "actor": mark.actor,
            "reason": str(mark.data.get("reason", "")),
            "since": mark.at,
            "until": clock.text_of(clock.wall_ms() + left),
            "lasts_ms": left,
            "ends_ms": now.now + left,
            "clock": now.name,
        }
        db["silences"].insert(row, pk="key", replace=True)  # type: ignore[union-attr]

    def _take_acknowledgements(self, db: Database, handed: Handed) -> None:
        opened: Mapping[str, Open] = {alert.key: alert for alert in handed.opened}
        for mark in handed.marks:
            alert = opened.get(str(mark.data.get("key", "")))
            if mark.kind == Kind.ALERT_ACKNOWLEDGED.value and alert is not None:
                row = {"key": alert.key, "occurrence": alert.occurrence, "actor": mark.actor, "at": mark.at}
                row |= {"reason": str(mark.data.get("reason", ""))}
                db["acknowledgements"].insert(row, pk=("key", "occurrence"), replace=True)  # type: ignore[union-attr]


SHARED = "shared "  # and a pool: the key in ``meta`` of the number of its journal in etcd that is recorded here


def _told(number: int, handed: Handed) -> set[str]:
    """The channels that know what happened up to this commit."""
    return {channel for channel, reached in handed.told.items() if number <= reached}


def _end_is_told(db: Database, alert: Open) -> bool:
    """Has this collector told its end, when it owned the pool before?"""
    which = [alert.key, alert.occurrence]
    there = next(db.query("SELECT resolved_at FROM alerts WHERE key = ? AND occurrence = ?", which), None)
    waits = "SELECT 1 FROM outbox WHERE key = ? AND occurrence = ? AND status IN ('pending', 'held', 'failed') LIMIT 1"
    return there is not None and bool(there["resolved_at"]) and next(db.query(waits, which), None) is None


def _left_ms(mark: Mark) -> Ms:
    """How long what was said still counts; 0: no more. An acknowledgement has no end of its own."""
    lasts, said = mark.data.get("for_ms"), clock.ms_of(mark.at)
    if not isinstance(lasts, int) or said is None:
        return 0
    # safety: by the wall clocks of two machines, and one that is behind makes it no longer than was asked for.
    return max(0, min(lasts, lasts - (clock.wall_ms() - said), _LONGEST_MS))


def _take_second(db: Database, pool: PoolId, mark: Mark, left: Ms, now: silences.Clock) -> None:
    said: Mapping[str, Any] = mark.data
    lasts = int(said["for_ms"])
    waiting = audit.Waiting(
        id=str(said.get("id", "")),
        pool=pool,
        what=str(said.get("what", "")),
        request=str(said["request"]),
        actor=mark.actor,
        person=str(said.get("person", "")),
        source=str(said.get("source", "")),
        asked_ms=now.now - max(0, lasts - left),
        expires_ms=now.now + left,
        clock=now.name,
    )
    audit.take(db, waiting.id)
    audit.wait(db, waiting)
