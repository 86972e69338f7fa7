"""The journal's part for a move between one collector's file and the etcd of several (shell/migration).

Rules
-----
* What leaves is read while this process holds the journal, so nobody writes to it meanwhile.
* From ``leave`` on this file is an archive: each of its pools has the number up to which etcd has it, and no collector
  starts on it by itself any more. All pools go in one transaction.
* ``come_back`` writes each pool's whole record as an entry, behind everything that is there: the archive keeps its
  history, and the record begins anew there (journal_records.py). Alerts that ended elsewhere end here as well, those
  that began elsewhere are told to this file's channels, at worst a second time under the same key.
* The number of this journal's id is drawn once; a copy of the file has the same one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlite_utils import Database

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.state.decision_input import pack_record
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.shell.plain_text import printable
from poolwarden_collector.shell.store import parcels, silences
from poolwarden_collector.shell.store.handed import SHARED
from poolwarden_collector.shell.store.journal_rows import Row, entry_of
from poolwarden_collector.shell.store.parcels import Routes

_ID = "journal id"  # the key in ``meta``
_ELSEWHERE = "it ended while another collector had the pool"


@dataclass(frozen=True, slots=True)
class Leaving:
    """One pool as it leaves. ``alerts``: the open ones, as rows; ``fences``: every power-off's intent and result."""

    record: PoolRecord
    alerts: tuple[dict[str, Any], ...]
    fences: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Coming:
    """One pool as it comes back. ``alerts``: the open ones, as rows."""

    record: PoolRecord
    alerts: tuple[dict[str, Any], ...]


class MoveCalls:
    """What a journal has of it; ``Journal`` brings the file and its transactions. Methods raise JournalError."""

    path: Path
    epoch: int

    if TYPE_CHECKING:
        routes: Routes

        def _transaction(self, what: str) -> AbstractContextManager[Database]: ...
        def _reading(self) -> AbstractContextManager[Database]: ...
        def _add_entries(self, db: Database, pool: PoolId, entries: list[Entry]) -> list[Row]: ...
        def _add_alert(self, db: Database, pool: PoolId, name: str, alert: AlertRaised | AlertResolved) -> None: ...
        def _payload(self, alert: dict[str, Any], pool_name: str, state: str, body: str) -> dict[str, Any]: ...
        def pools(self) -> list[PoolId]: ...
        def record(self, pool: PoolId) -> PoolRecord: ...

    def journal_id(self) -> str:
        """Which journal this is, of all that there are."""
        with self._transaction("the journal's id") as db:
            db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", [_ID, secrets.token_hex(16)])
            return str(next(db.query("SELECT value FROM meta WHERE key = ?", [_ID]))["value"])

    def in_etcd(self) -> dict[PoolId, int]:
        """Up to which number each pool's journal in etcd is recorded here; empty: this is no archive."""
        with self._reading() as db:
            rows = list(db.query("SELECT key, value FROM meta WHERE key > ? AND key < ?", [SHARED, SHARED[:-1] + "!"]))
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
        """All of a pool that decides, as it stands now."""
        record = self.record(pool)
        with self._reading() as db:
            alerts = tuple(db.query("SELECT * FROM alerts WHERE pool = ? AND resolved_at = '' ORDER BY key", [pool]))
            query = "SELECT * FROM entries WHERE pool = ? AND kind IN (?, ?) ORDER BY seq"
            rows = list(db.query(query, [pool, Kind.FENCE_INTENT.value, Kind.FENCE_RESULT.value]))
        opened = tuple({**alert, "data": json.loads(alert["data"])} for alert in alerts)
        return Leaving(record, opened, tuple(entry_of(self.path, row, {}) for row in rows))

    def last_number(self) -> int:
        """No entry and no occurrence of an alert has a higher number: a pool's journal in etcd goes on behind it."""
        with self._reading() as db:
            query = (
                "SELECT max((SELECT coalesce(max(seq), 0) FROM entries), coalesce(max(occurrence), 0)) AS n FROM alerts"
            )
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
            db.execute("DELETE FROM meta WHERE key > ? AND key < ?", [SHARED, SHARED[:-1] + "!"])
            for coming in pools:
                self._come_back(db, coming, came)
            # safety: the next epoch of this file is above every one that etcd gave.
            highest = max(epoch, self.epoch)
            db.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", [str(highest)])
        self.epoch = highest

    def _come_back(self, db: Database, coming: Coming, came: Mapping[str, Any]) -> None:
        record, pool = coming.record, coming.record.pool
        text = f"the pool came back from etcd, where its collectors left it: term {record.term}"
        data = {"record": pack_record(record), **came}
        self._add_entries(db, pool, [Entry(Kind.RECORD_MOVED, text, data, "", record.term)])
        wanted = {alert["key"]: alert for alert in coming.alerts}
        known = list(db.query("SELECT * FROM alerts WHERE pool = ? AND resolved_at = ''", [pool]))
        same = {row["key"] for row in known if _occurrence(wanted, row) == row["occurrence"]}
        for row in known:
            if row["key"] not in same:
                self._add_alert(db, pool, record.name, AlertResolved(row["key"], _ELSEWHERE))
        for alert in coming.alerts:
            if alert["key"] not in same:
                self._put_alert(db, record, alert)

    def _put_alert(self, db: Database, record: PoolRecord, alert: dict[str, Any]) -> None:
        """An open alert with the occurrence that it has."""
        row = {
            "key": alert["key"],
            "occurrence": alert["occurrence"],
            "pool": record.pool,
            "severity": alert["severity"],
            "title": printable(alert["title"]),
            "body": printable(alert["body"], "\n"),
            "data": parcels.dumped(alert["data"]),
            "raised_at": alert["raised_at"],
            "resolved_at": "",
        }
        told = list(db.query("SELECT 1 FROM alerts WHERE key = ? AND occurrence = ?", [row["key"], row["occurrence"]]))
        db["alerts"].insert(row, pk=("key", "occurrence"), replace=True)  # type: ignore[union-attr]
        if told:
            return
        now = silences.Clock(self.epoch)
        payload = self._payload(row, record.name, "firing", row["body"])
        held = silences.holds(db, row, now)
        parcels.begin(db, row, payload, self.routes.to(row, record.name), self.routes, now, held=held)


def _occurrence(wanted: Mapping[str, dict[str, Any]], row: Mapping[str, Any]) -> int:
    alert = wanted.get(row["key"])
    return int(alert["occurrence"]) if alert is not None else -1
