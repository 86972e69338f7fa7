"""The journal's part for a move between one collector's file and the etcd of several (shell/migration).

Rules
-----
* What leaves is read while this process holds the journal, so nobody writes to it meanwhile.
* From ``leave`` on this file is an archive: each of its pools has the number up to which etcd has it, and no collector
  starts on it by itself any more. All pools go in one transaction.
* ``come_back`` writes each pool's whole record as an entry, behind everything that is there: the archive keeps its
  history, and the record begins anew there (journal_records.py). What is to be told comes as from another owner
  (handed.py).
* The id of a journal is drawn once; a copy of the file has the same one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlite_utils import Database

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.state.decision_input import pack_record
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.store import silences
from poolwarden_collector.shell.store.handed import LOCAL, SHARED, Handed, Left, Mark, Occurred, OverAlert
from poolwarden_collector.shell.store.journal_rows import Row, entry_of

_ID = "journal id"  # the key in ``meta``
_SHARED_END = SHARED[:-1] + "!"
# Of an occasion's payload all but these are its facts (hook_queue.py).
_FRAME = ("version", "event", "id", "at", "collector", "pool")


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert as the table has it."""

    key: str
    severity: str
    title: str
    body: str
    data: dict[str, Any]
    raised_at: str
    occurrence: int


@dataclass(frozen=True, slots=True)
class Leaving:
    """One pool as it leaves. ``fences``: every power-off's intent and result; ``told``: is there anything to tell?"""

    record: PoolRecord
    handed: Handed
    fences: tuple[Entry, ...]
    told: Left


@dataclass(frozen=True, slots=True)
class Coming:
    """One pool as it comes back."""

    record: PoolRecord
    handed: Handed


class MoveCalls:
    """What a journal has of it; ``Journal`` brings the file and its transactions. Methods raise JournalError."""

    path: Path
    epoch: int

    if TYPE_CHECKING:

        def _transaction(self, what: str) -> AbstractContextManager[Database]: ...
        def _reading(self) -> AbstractContextManager[Database]: ...
        def _add_entries(self, db: Database, pool: PoolId, entries: list[Entry]) -> list[Row]: ...
        def _hand(self, db: Database, pool: PoolId, name: str, handed: Handed) -> None: ...
        def pools(self) -> list[PoolId]: ...
        def record(self, pool: PoolId) -> PoolRecord: ...
        def left_to_tell(self, pool: PoolId) -> Left: ...

    def journal_id(self) -> str:
        """Which journal this is, of all that there are."""
        with self._transaction("the journal's id") as db:
            db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", [_ID, secrets.token_hex(16)])
            return str(next(db.query("SELECT value FROM meta WHERE key = ?", [_ID]))["value"])

    def in_etcd(self) -> dict[PoolId, int]:
        """Up to which number each pool's journal in etcd is recorded here; empty: this is no archive."""
        with self._reading() as db:
            rows = list(db.query("SELECT key, value FROM meta WHERE key > ? AND key < ?", [SHARED, _SHARED_END]))
        return {row["key"].removeprefix(SHARED): int(row["value"]) for row in rows}

    def why_no_archive(self) -> str:
        """Why no collector on etcd may begin on this file; empty: one may.

        safety: pools that only this file knows would begin anew in etcd, without their terms and what is owed.
        """
        if self.in_etcd() or not self.pools():
            return ""
        return (
            f"{self.path}: it has a single collector's pools, and [store] names an etcd; move them there: "
            "poolwarden-collector store to-etcd; or use a state directory of its own for this collector"
        )

    # ------------------------------------------------------------------------------------------------ away

    def leaving(self, pool: PoolId) -> Leaving:
        """All of a pool that decides or is to be told, as it stands now."""
        record, told = self.record(pool), self.left_to_tell(pool)
        with self._reading() as db:
            handed = Handed(
                opened=tuple(_open(db, pool)),
                over=tuple(_over(db, pool)),
                occurred=tuple(_occurred(db, pool)),
                marks=tuple(_marks(db, pool, silences.Clock(self.epoch))),
            )
            query = "SELECT * FROM entries WHERE pool = ? AND kind IN (?, ?) ORDER BY seq"
            rows = list(db.query(query, [pool, Kind.FENCE_INTENT.value, Kind.FENCE_RESULT.value]))
        return Leaving(record, handed, tuple(entry_of(self.path, row, {}) for row in rows), told)

    def last_number(self) -> int:
        """No entry, occurrence or occasion has a higher number: a pool's journal in etcd goes on behind it."""
        query = """SELECT max(coalesce((SELECT max(seq) FROM entries), 0),
                              coalesce((SELECT max(occurrence) FROM alerts), 0),
                              coalesce((SELECT max(id) FROM hook_events), 0)) AS n"""
        with self._reading() as db:
            return int(next(db.query(query))["n"])

    def leave(self, pools: Iterable[PoolId], number: int) -> None:
        """From now on etcd has these pools, and this file is an archive of them."""
        with self._transaction("that etcd has the pools now") as db:
            for pool in pools:
                db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [SHARED + pool, str(number)])

    # ------------------------------------------------------------------------------------------------ and back

    def come_back(self, pools: Iterable[Coming], epoch: int, came: Mapping[str, Any]) -> None:
        """From now on this file has these pools. ``epoch``: none of etcd's was higher; ``came``: whence, for people."""
        with self._transaction("the pools that come back from etcd") as db:
            db.execute("DELETE FROM meta WHERE key > ? AND key < ?", [SHARED, _SHARED_END])
            for coming in pools:
                record = coming.record
                text = f"the pool came back from etcd, where its collectors left it: term {record.term}"
                data = {"record": pack_record(record), **came}
                self._add_entries(db, record.pool, [Entry(Kind.RECORD_MOVED, text, data, "", record.term)])
                self._hand(db, record.pool, record.name, coming.handed)
            # safety: the next epoch of this file is above every one that etcd gave.
            highest = max(epoch, self.epoch)
            db.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", [str(highest)])
        self.epoch = highest


def _alert(row: Mapping[str, Any]) -> AlertRow:
    return AlertRow(
        row["key"],
        row["severity"],
        row["title"],
        row["body"],
        json.loads(row["data"]),
        row["raised_at"],
        row["occurrence"],
    )


def _open(db: Database, pool: PoolId) -> Iterator[AlertRow]:
    for row in db.query("SELECT * FROM alerts WHERE pool = ? AND resolved_at = '' ORDER BY key", [pool]):
        if (alert := _alert(row)).data.get("message") not in LOCAL:
            yield alert


def _over(db: Database, pool: PoolId) -> Iterator[OverAlert]:
    """Alerts whose end waits for a channel."""
    query = """SELECT a.*, max(o.payload) AS payload FROM alerts a
               JOIN outbox o ON o.key = a.key AND o.occurrence = a.occurrence
               WHERE a.pool = ? AND a.resolved_at != '' AND o.state = 'resolved' AND o.status IN ('pending', 'held')
               GROUP BY a.key, a.occurrence ORDER BY a.resolved_at"""
    for row in db.query(query, [pool]):
        if (alert := _alert(row)).data.get("message") not in LOCAL:
            yield OverAlert(alert, str(json.loads(row["payload"]).get("body", "")), row["resolved_at"])


def _occurred(db: Database, pool: PoolId) -> Iterator[Occurred]:
    """Occasions that hooks are still to be run for."""
    for row in db.query("SELECT * FROM hook_events WHERE pool = ? AND status = 'pending' ORDER BY id", [pool]):
        payload = json.loads(row["payload"])
        facts = {name: value for name, value in payload.items() if name not in _FRAME}
        yield Occurred(int(payload.get("id", row["id"])), row["at"], row["event"], facts)


def _marks(db: Database, pool: PoolId, now: silences.Clock) -> Iterator[Mark]:
    """What people have said and still counts; for how long is counted from now on."""
    at = clock.wall_text()
    for row in db.query("SELECT * FROM silences WHERE pool = ? ORDER BY key", [pool]):
        if left := now.left_ms(row):
            data = {name: row[name] for name in ("key", "reason", "severity", "title")}
            text = f"alert silenced by {row['actor']}: {row['title']}"
            yield Mark(Kind.ALERT_SILENCED.value, text, data | {"for_ms": left}, row["actor"], at)
    taken = """SELECT k.*, a.title AS title FROM acknowledgements k JOIN alerts a USING (key, occurrence)
               WHERE a.pool = ? AND a.resolved_at = '' ORDER BY k.key"""
    for row in db.query(taken, [pool]):
        data = {"key": row["key"], "reason": row["reason"]}
        text = f"alert acknowledged by {row['actor']}: {row['title']}"
        yield Mark(Kind.ALERT_ACKNOWLEDGED.value, text, data, row["actor"], row["at"])
    for row in db.query("SELECT * FROM seconded WHERE pool = ? ORDER BY id", [pool]):
        left = row["expires_ms"] - now.now if row["clock"] == now.name else 0
        if left > 0:
            data = {name: row[name] for name in ("id", "what", "request", "person", "source")}
            text = f"{row['actor']} asks for what two must want: {row['what']}"
            yield Mark(Kind.SECOND_AWAITED.value, text, data | {"for_ms": left}, row["actor"], at)
