"""The journal's part for silenced and acknowledged alerts (silences.py has what is written)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from sqlite_utils import Database

from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.store import silences, storms
from poolwarden_collector.shell.store.journal_rows import Row


class SilenceCalls:
    """What a journal has of them; ``Journal`` brings the file and its transactions.

    Every method raises JournalError.
    """

    epoch: int

    if TYPE_CHECKING:

        def _transaction(self, what: str) -> AbstractContextManager[Database]: ...
        def _reading(self) -> AbstractContextManager[Database]: ...
        def _add_entries(self, db: Database, pool: PoolId, entries: list[Entry]) -> list[Row]: ...

    def silence(self, alert: dict[str, Any], asked: silences.Asked, until: str) -> list[Row]:
        """No channel is told of this open alert for a while; ``until``: about when that ends, for people."""
        with self._transaction("an alert's silence") as db:
            entry = silences.begin(db, alert, asked, silences.Clock(self.epoch), until)
            storms.leave(db, alert["key"], alert["occurrence"])
            return self._add_entries(db, alert["pool"], [entry])

    def unsilence(self, alert: dict[str, Any], asked: silences.Asked) -> list[Row]:
        """End the silence of an alert; nothing where there is none."""
        with self._transaction("the end of an alert's silence") as db:
            silence = silences.find(db, alert["key"])
            if silence is None:
                return []
            entry = silences.ended_by(alert, asked)
            silences.end(db, silence, entry.text, asked.by, asked.reason)
            return self._add_entries(db, alert["pool"], [entry])

    def take(self, alert: dict[str, Any], asked: silences.Asked) -> list[Row]:
        """Somebody sees to this open alert."""
        with self._transaction("an alert's acknowledgement") as db:
            return self._add_entries(db, alert["pool"], [silences.take(db, alert, asked)])

    def end_silences(self) -> list[Row]:
        """End the silences whose time is over; the rows that say so."""
        now = silences.Clock(self.epoch)
        with self._reading() as db:
            found = silences.over(db, now)
        if not found:
            return []
        rows = []
        with self._transaction("the end of an alert's silence") as db:
            for silence, why in found:
                entry = silences.end(db, silence, f"silence by {silence['actor']} ended, {why}: {silence['title']}")
                rows += self._add_entries(db, silence["pool"], [entry])
        return rows
