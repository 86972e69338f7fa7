"""Where alerts go, and the outbox before that (shell/alerts/outbox.py): tried at once, then later and later, for ever.

An alert is in the outbox because it was committed; it leaves only when the webhook has taken it. A collector that dies
meanwhile tries again when it starts. Nothing of the engine waits for any of it.
"""

from __future__ import annotations

from collections.abc import Callable

from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.shell.alerts.outbox import retry_after_ms
from poolwarden_lab.virtual.collector.ledger import Ledger, Outgoing

At = Callable[[int, Callable[[], None]], None]


class Webhook:
    """One receiver for all collectors; ``taken`` is told each delivery: its attempts, and its title and body."""

    def __init__(self, later: At, taken: Callable[[int, str], None]) -> None:
        self.reachable = True
        self._later, self._taken = later, taken
        self._under_way: set[int] = set()

    def nudge(self, ledger: Ledger, alive: Callable[[], bool]) -> None:
        """There is something new in this outbox, or its collector has just started."""
        for outgoing in ledger.outbox:
            if not outgoing.deliveries and id(outgoing) not in self._under_way:
                self._under_way.add(id(outgoing))
                self._later(0, lambda parcel=outgoing: self._try(parcel, 0, alive))  # type: ignore[misc]

    def _try(self, outgoing: Outgoing, failed: int, alive: Callable[[], bool]) -> None:
        if not alive():
            self._under_way.discard(id(outgoing))
        elif self.reachable:
            outgoing.deliveries += 1
            self._under_way.discard(id(outgoing))
            alert = outgoing.alert
            said = f"{alert.title}\n{alert.body}" if isinstance(alert, AlertRaised) else f"over: {alert.text}"
            self._taken(failed + 1, said)
        else:
            self._later(retry_after_ms(failed), lambda: self._try(outgoing, failed + 1, alive))
