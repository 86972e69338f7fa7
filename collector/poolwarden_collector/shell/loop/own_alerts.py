"""Alerts that one of several collectors writes into its own journal alone, because they are of no pool's."""

from __future__ import annotations

from collections.abc import Iterable

from poolwarden_collector.core.catalogue.message import Message
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.shell.loop.shared_service import SharedService
from poolwarden_collector.shell.store.journal import Journal


class OwnAlerts:
    """Those with one of these messages. What the journal does not take stays as it was: it is written again."""

    def __init__(self, service: SharedService, journal: Journal, messages: tuple[Message, ...]) -> None:
        self._service, self._journal, self._messages = service, journal, messages
        self._open: dict[str, str] | None = None  # message by key; None: not read yet

    async def read(self) -> dict[str, str]:
        """The open ones: message by key. Raises JournalError."""
        if self._open is None:
            known: dict[str, str] = {}
            for message in self._messages:
                found = await self._service.write(self._journal.open_alerts, message.id)
                known |= dict.fromkeys(found, message.id)
            self._open = known
        return self._open

    async def write(self, alerts: Iterable[AlertRaised | AlertResolved]) -> None:
        """One by one, so that channels have each as soon as it is written. Raises JournalError."""
        known = await self.read()
        for alert in alerts:
            await self._service.write(self._journal.commit, "", (), (alert,), "")
            if isinstance(alert, AlertRaised):
                known[alert.key] = str(alert.data["message"])
            else:
                del known[alert.key]
            self._service.alerted()
