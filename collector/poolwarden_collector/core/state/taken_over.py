"""A pool that was another collector's until just now: what of that one's may still happen, and until when.

Rules
-----
* An order of the last owner's is refused by every agent that has acknowledged the new epoch, also where that agent has
  fallen silent since. Once all of a pool have, nothing is left to be waited for. At one that has not it can land until
  the last owner's right and then the order's own time are over. Who is heard and has not acknowledged within
  ``ACKNOWLEDGED_WITHIN_MS`` counts as unreachable.
* A power-off obeys no epoch: what of it may still land ends with ``power_over``. Until then nothing is begun, and no
  reading of power that began before counts (devices/power_view.py).
* All of this is quiet time of the pool. Its own quiet time ends early, after ``SHORTEST_QUIET_MS``, once every host on
  record has said Hello to this collector: what a pool was like is known then as well as after all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum

from poolwarden_collector.core.model.takeover import Takeover
from poolwarden_collector.core.model.values import HostId, Ms

ACKNOWLEDGED_WITHIN_MS: Ms = 15_000
SHORTEST_QUIET_MS: Ms = 15_000


class Left(Enum):
    """What may be left of the last owner."""

    POWER = "power"
    AGENTS = "agents"
    ORDERS = "orders"


@dataclass(frozen=True, slots=True)
class Wait:
    """It is waited for until then; ``hosts``: whose word would end it, none where nothing but time does."""

    left: Left
    until: Ms
    hosts: tuple[HostId, ...] = ()


def waits(
    taken: Takeover | None,
    hosts: Collection[HostId],
    acknowledged: Collection[HostId],
    heard: Callable[[HostId], object | None],
) -> tuple[Wait, ...]:
    """Everything that is waited for, also what is over by now; the one that nobody can shorten first.

    ``hosts``: all on record; ``acknowledged``: those on which this ownership's epoch is durable; ``heard``: not None of
    one whose agent is heard now.
    """
    if taken is None:
        return ()
    found = [Wait(Left.POWER, taken.power_over)]
    # safety: whoever has not acknowledged may obey the last owner, and may be heard by that one alone.
    if missing := tuple(sorted(set(hosts) - set(acknowledged))):
        if reached := tuple(host for host in missing if heard(host) is not None):
            found.append(Wait(Left.AGENTS, taken.claimed_at + ACKNOWLEDGED_WITHIN_MS, reached))
        found.append(Wait(Left.ORDERS, taken.orders_over, missing))
    return tuple(found)


def quiet_ends(taken: Takeover, planned: Ms, quiet_time: Ms, greeted: bool) -> Ms:
    """When the quiet time of a pool that was taken over ends by itself. ``greeted``: every host has said Hello."""
    # Only the quiet time that the takeover itself began: after an absence of this collector, Hellos are old.
    first = planned <= taken.claimed_at + quiet_time
    return min(planned, taken.claimed_at + SHORTEST_QUIET_MS) if first and greeted else planned
