"""What a new owner waits for, because of what the last one may still have under way. Pure; instants on CLOCK_BOOTTIME.

Rules
-----
* Everything is counted from the *answer to his own claim*: no clock of the last owner's is known, and etcd may have let
  that one's lease go too early (membership.py).
* An order of the last owner's is refused by every agent that has acknowledged the new epoch. Once all of a pool have,
  nothing is left to be waited for. At one that has not, because nobody reaches it, it can land until the last owner's
  right and then the order's own time are over. Who is reachable and has not acknowledged within
  ``ACKNOWLEDGED_WITHIN_MS`` counts as unreachable.
* A power-off obeys no epoch. The last owner begins one only within ``INTENT_FRESH_MS`` of its entry in etcd, and every
  entry of his was there before this claim; so what of it may still land ends with the device's limit and its kill.
  Until then no power reading is concluded from, nothing is woken, no gate is answered and nobody promoted.
* After a handover in order nothing of it is under way: only the agents' acknowledgements are left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.shell.cluster.commit_text import PoolTail
from poolwarden_collector.shell.cluster.membership import TTL_S
from poolwarden_collector.shell.cluster.ownership import Ownership

LONGEST_ORDER_MS: Ms = 15_000  # that an order is valid on its agent's own clock
ACKNOWLEDGED_WITHIN_MS: Ms = 15_000
INTENT_FRESH_MS: Ms = 2_000  # a power-off is begun within this time of its entry in etcd, or not at all
LANDS_AFTER_MS: Ms = 10_000  # that one which was cut off may land (core/failover/power_off.py)


@dataclass(frozen=True, slots=True)
class Takeover:
    """When the last owner's doings are over, for certain."""

    claimed_at: Ms
    orders_over: Ms  # at agents that cannot be reached
    power_over: Ms  # a power-off of which the journal has no result

    def why_no_failover(
        self, now: Ms, hosts: Collection[HostId], heard: Collection[HostId], acknowledged: Collection[HostId]
    ) -> str:
        """Why no failover may begin or go on yet; empty: it may.

        ``hosts``: all of the pool; ``heard``: whose agents are heard now; ``acknowledged``: who has answered to this
        ownership's epoch.
        """
        if why := self.why_no_power(now):
            return why
        if set(hosts) <= set(acknowledged):
            return ""
        waits = sorted(set(heard) - set(acknowledged))
        if waits and now - self.claimed_at < ACKNOWLEDGED_WITHIN_MS:
            return f"{len(waits)} agents have not acknowledged this collector yet"
        # safety: whoever has not acknowledged may obey the last owner, and may be heard by him alone.
        if now < self.orders_over:
            return f"orders of the last collector may still be carried out for {_seconds(self.orders_over - now)}"
        return ""

    def why_no_power(self, now: Ms) -> str:
        """Why nothing may be concluded from power yet; empty: it may. A reading counts if it began after that."""
        if now < self.power_over:
            return f"a power-off of the last collector may still land for {_seconds(self.power_over - now)}"
        return ""


def takeover(
    owned: Ownership, tail: PoolTail, claimed_at: Ms, limits: Mapping[str, Ms], ttl_s: int = TTL_S
) -> Takeover:
    """What to wait for. ``limits``: the hard limit of each fence device that is configured (ms), by its name."""
    if owned.handed_by:
        return Takeover(claimed_at, claimed_at, claimed_at)
    orders = claimed_at + ttl_s * 1000 + LONGEST_ORDER_MS
    longest = max(limits.values(), default=0)
    pending = [limits.get(device, longest) for device, _ in tail.shots]
    pending += [limits.get(switch.device, longest) for switch in tail.record.after.switches.values()]
    power = claimed_at + INTENT_FRESH_MS + max(pending) + LANDS_AFTER_MS if pending else claimed_at
    return Takeover(claimed_at, orders, power)


def _seconds(ms: Ms) -> str:
    return f"{-(-ms // 1000)} s"
