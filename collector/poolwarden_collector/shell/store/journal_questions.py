"""The journal's part for what people ask: entries, decisions and alerts, read beside the connection that writes.

Each answer comes within a time or not at all; call these in a thread of their own. Methods raise JournalError.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from sqlite_utils import Database

from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.store import silences
from poolwarden_collector.shell.store.entry_checksum import sound
from poolwarden_collector.shell.store.journal_file import JournalError
from poolwarden_collector.shell.store.journal_rows import DECISION, Row, row_of

Among = frozenset[PoolId] | None  # of these pools alone; None: of all
# What is asked for: the newest first. A text of one form sorts as the instants do.
_WHERE = {
    "pool": "pool = :pool",
    "failover": "failover = :failover AND failover != ''",
    "since": "at >= :since",
    "until": "at <= :until",
    "before": "seq < :before",
}
COPIED = "copied "  # and a pool: the key in ``meta`` of the entries that came with it (archive_calls.py)
_HISTORY = "SELECT * FROM entries WHERE {where} ORDER BY seq DESC LIMIT :limit"
# A time, or some pools: the numbers come from an index alone, and only the rows that are given are read.
_NUMBERS = """SELECT * FROM entries WHERE seq IN (SELECT seq FROM entries INDEXED BY {index} WHERE {where}
              ORDER BY seq DESC LIMIT :limit) ORDER BY seq DESC"""
# Of these pools alone; a JSON list, so that their number is no matter.
_AMONG = "pool IN (SELECT value FROM json_each(:among))"


class Questions:
    """What a journal has of them; ``Journal`` brings the file and its transactions."""

    epoch: int

    if TYPE_CHECKING:

        def _beside(self) -> AbstractContextManager[Database]: ...

    def history(
        self,
        pool: PoolId = "",
        after_seq: int = 0,
        limit: int = 0,
        failover: str = "",
        since: str = "",
        until: str = "",
        before_seq: int = 0,
        among: Among = None,
    ) -> list[Row]:
        """The newest ``limit`` entries (0: 1000) with a number above ``after_seq`` and below ``before_seq`` (0: any).

        They come oldest first, from ``since`` to ``until`` (as ``clock.wall_text`` writes an instant; empty: no bound).
        """
        values = {"after": after_seq, "pool": pool, "failover": failover, "limit": limit or 1000}
        values |= {"since": since, "until": until, "before": before_seq, **_among(among)}
        query = _history_query(values, of_some=among is not None)
        with self._beside() as db:
            return [row_of(row) for row in db.query(query, values)][::-1]

    def newest(self, pool: PoolId, kinds: tuple[str, ...], limit: int) -> list[Row]:
        """The newest entries of these kinds in a pool, oldest first."""
        marks = ", ".join("?" * len(kinds))
        query = f"SELECT * FROM entries WHERE pool = ? AND kind IN ({marks}) ORDER BY seq DESC LIMIT ?"  # noqa: S608
        with self._beside() as db:
            return [row_of(row) for row in db.query(query, [pool, *kinds, limit])][::-1]

    def copied(self) -> dict[PoolId, list[tuple[int, int]]]:
        """Which entries another collector recorded first, by their pools: from this number to that one."""
        with self._beside() as db:
            rows = list(db.query("SELECT key, value FROM meta WHERE key > ? AND key < ?", [COPIED, COPIED + "~"]))
        return {
            row["key"].removeprefix(COPIED): [(one, last) for one, last in json.loads(row["value"])] for row in rows
        }

    def decision(self, wanted: str) -> Row | None:
        """The newest decision with a stored input: by its entry's number, or the last one of a failover."""
        number = wanted.isascii() and wanted.isdigit() and len(wanted) <= 18
        values = {"seq": int(wanted) if number else -1, "failover": wanted or "-"}
        with self._beside() as db:
            row = next(db.query(DECISION, values), None)
        if row is not None and not sound(row):
            raise JournalError(f"entry {row['seq']} is damaged: it does not match its checksum")
        return row_of(row) if row is not None else None

    def alerts(
        self, pool: PoolId = "", open_only: bool = False, limit: int = 0, among: Among = None
    ) -> list[dict[str, Any]]:
        """Alerts, the newest first: each with its ``deliveries`` (rows of the outbox), ``silence`` and ``taken``.

        ``among``: those of these pools alone.
        """
        query = f"""SELECT * FROM alerts WHERE (:pool = '' OR pool = :pool) AND (NOT :open OR resolved_at = '')
                   {f"AND {_AMONG}" if among is not None else ""} ORDER BY raised_at DESC, rowid DESC LIMIT :limit"""  # noqa: S608
        values = {"pool": pool, "open": open_only, "limit": limit or 1000, **_among(among)}
        with self._beside() as db:
            found = list(db.query(query, values))
            for alert in found:
                which = [alert["key"], alert["occurrence"]]
                alert["deliveries"] = list(
                    db.query("SELECT * FROM outbox WHERE key = ? AND occurrence = ? ORDER BY id", which)
                )
            silences.mark(db, found, silences.Clock(self.epoch))
        return found

    def marked(self) -> dict[str, dict[str, Any]]:
        """The open alerts that are silenced or that somebody sees to, by their keys."""
        query = """SELECT * FROM alerts WHERE resolved_at = '' AND (key IN (SELECT key FROM silences)
                   OR (key, occurrence) IN (SELECT key, occurrence FROM acknowledgements))"""
        with self._beside() as db:
            found = list(db.query(query))
            silences.mark(db, found, silences.Clock(self.epoch))
        return {alert["key"]: alert for alert in found}


def _history_query(values: dict[str, Any], of_some: bool) -> str:
    """The query for what is asked; empty text and number 0: not asked for."""
    where = ["seq > :after", *(text for name, text in _WHERE.items() if values[name]), *([_AMONG] if of_some else ())]
    index = "entries_pool" if of_some else "entries_at" if values["since"] or values["until"] else ""
    found = _NUMBERS if index and not values["pool"] and not values["failover"] else _HISTORY
    return found.format(where=" AND ".join(where), index=index)


def _among(pools: Among) -> dict[str, str]:
    return {"among": json.dumps(sorted(pools))} if pools is not None else {}
