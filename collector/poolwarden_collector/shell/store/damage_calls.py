"""The journal's part for damage that was found in it: it is told until a person has taken note of it."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from sqlite_utils import Database

from poolwarden_collector.core.catalogue.journal import JOURNAL_DAMAGED
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.store import salvage, silences
from poolwarden_collector.shell.store.journal_rows import Row

KEY = "collector/journal-damaged"


class DamageCalls:
    """What a journal has of it; ``Journal`` brings the file and its transactions. Methods raise JournalError."""

    damage: str  # what stands, in one line with the next step; empty: nothing

    if TYPE_CHECKING:

        def _transaction(self, what: str) -> AbstractContextManager[Database]: ...
        def _reading(self) -> AbstractContextManager[Database]: ...
        def _add_entries(self, db: Database, pool: PoolId, entries: list[Entry]) -> list[Row]: ...
        def own_key(self, key: str) -> str: ...
        def _add_alert(
            self, db: Database, pool: PoolId, pool_name: str, alert: AlertRaised | AlertResolved
        ) -> None: ...

    def standing_damage(self) -> str:
        """What was found and nobody has taken note of, in one line."""
        with self._reading() as db:
            return "; ".join(salvage.standing(db.conn))

    def tell_damage(self, name: str) -> None:
        """Raise the alert of what stands, anew where there is more of it; ``name``: the collector's."""
        with self._reading() as db:
            open_now = "SELECT data FROM alerts WHERE key = ? AND resolved_at = ''"
            told = next((row["data"] for row in db.query(open_now, [self.own_key(KEY)])), None)
        data: dict[str, object] = {"message": JOURNAL_DAMAGED.id, "why": self.damage}
        if not self.damage or (told is not None and json.loads(told).get("why") == self.damage):
            return
        words = JOURNAL_DAMAGED.told({"pool": name, "why": self.damage})
        alert = AlertRaised(KEY, words.severity, words.title, words.body(self.damage), data)
        with self._transaction("the alert of a damaged journal") as db:
            if told is not None:
                self._add_alert(db, "", name, AlertResolved(KEY, "there is more of it"))
            self._add_alert(db, "", name, alert)

    def note_damage(self, alert: dict[str, Any], asked: silences.Asked, name: str) -> list[Row]:
        """A person has taken note of it: alert and line are over."""
        with self._transaction("the end of what is told of damage") as db:
            rows = self._add_entries(db, "", [silences.take(db, alert, asked)])
            db.execute("DELETE FROM meta WHERE key = ?", [salvage.TOLD])
            self._add_alert(db, "", name, AlertResolved(KEY, f"{asked.by} has taken note of it"))
        self.damage = ""
        return rows
