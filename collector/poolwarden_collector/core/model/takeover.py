"""What the collector that had a pool before may have left under way, for the one that owns it now."""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.model.values import Ms


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """For how long what it ordered can still happen, from the answer to the new owner's claim on. 0: it cannot."""

    orders_ms: Ms = 0  # an order, at an agent that has not heard of the new owner
    power_ms: Ms = 0  # a power switch of which the journal has no result

    def since(self, at: Ms) -> Takeover:
        """The same, counted from this instant of the new owner's clock, which is not before that answer."""
        return Takeover(at, at + self.orders_ms, at + self.power_ms)


@dataclass(frozen=True, slots=True)
class Takeover:
    """Until when it can happen, on the new owner's own clock: no instant of the last owner's is known.

    ``claimed_at``: when this ownership was recorded.
    """

    claimed_at: Ms
    orders_over: Ms
    power_over: Ms
