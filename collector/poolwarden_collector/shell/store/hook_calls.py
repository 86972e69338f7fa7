"""The journal's part for hooks: their occasions and what came of each (hook_queue.py has what is written)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from sqlite_utils import Database

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.store import hook_queue
from poolwarden_collector.shell.store.journal_rows import Row


class HookCalls:
    """What a journal has of them; ``Journal`` brings the file and its transactions.

    Every method raises JournalError.
    """

    if TYPE_CHECKING:

        def _transaction(self, what: str) -> AbstractContextManager[Database]: ...
        def _reading(self) -> AbstractContextManager[Database]: ...
        def _add_entries(self, db: Database, pool: PoolId, entries: list[Entry]) -> list[Row]: ...
        def _add_alert(
            self, db: Database, pool: PoolId, pool_name: str, alert: AlertRaised | AlertResolved, occurrence: int = 0
        ) -> None: ...

    def hook_events(self) -> list[hook_queue.HookEvent]:
        """Occasions for hooks that are not over, oldest first."""
        with self._reading() as db:
            return hook_queue.waiting(db)

    def failing_hooks(self, message: str) -> dict[str, tuple[PoolId, str]]:
        """The open alerts with this message, by key: pool and hook."""
        with self._reading() as db:
            return hook_queue.failing(db, message)

    def hook_alerts(self, message: str) -> dict[PoolId, tuple[tuple[str, str, str], ...]]:
        """The same of each pool, for people: key, severity, title; the oldest first."""
        with self._reading() as db:
            return hook_queue.open_alerts(db, message)

    def ask_hook_again(self, pool: PoolId, hook: str, actor: str) -> tuple[str, list[Row]]:
        """An operator wants this hook to run again: for what, in a few words (empty: for nothing), and the entry."""
        with self._transaction(f"that hook {hook} is to run again") as db:
            occasion = hook_queue.ask_again(db, pool, hook)
            if occasion is None:
                return "", []
            what = f"{occasion['event']} of {occasion['at'][:10]} {occasion['at'][11:19]} UTC"
            data = {"hook": hook, "id": occasion["number"], "event": occasion["event"]}
            text = f"hook {hook} is to run again for {what}, at the word of {actor}"
            return what, self._add_entries(db, pool, [Entry(Kind.HOOK_ASKED, text, data, actor=actor)])

    def hook_ran(
        self, event: hook_queue.HookEvent, hook: str, outcome: hook_queue.Outcome, occurrence: int = 0
    ) -> list[Row]:
        """What an attempt came to, with its entries and alerts: all of it or nothing."""
        with self._transaction("what a hook came to") as db:
            hook_queue.note(db, event, hook, outcome)
            for alert in outcome.alerts:
                self._add_alert(db, event.pool, event.payload["pool"]["name"], alert, occurrence)
            return self._add_entries(db, event.pool, list(outcome.entries))

    def hook_gone(self, pool: PoolId, over: AlertResolved, occurrence: int = 0) -> list[Row]:  # noqa: ARG002
        """There is no hook any more of which this alert tells."""
        with self._transaction("that a hook is gone") as db:
            self._add_alert(db, pool, "", over)
        return []

    def hook_event_over(self, event: int) -> None:
        """No hook has anything left to do with it."""
        with self._transaction("the end of an occasion for hooks") as db:
            hook_queue.over(db, event)

    def revive_hooks(self) -> None:
        """Try again what was given up, where nothing newer has come in its pool."""
        with self._transaction("another chance for hooks") as db:
            hook_queue.revive(db)
