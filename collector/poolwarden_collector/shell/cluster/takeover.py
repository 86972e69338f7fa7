"""What the last owner of a pool may have left under way, by what etcd has of it. Pure.

Rules
-----
* Everything is counted from the *answer to the taker's own claim*: no clock of the last owner's is known, and etcd may
  have let that one's lease go too early (membership.py). What is waited for with it: core/state/taken_over.py.
* An order of the last owner's can land at an agent that does not know the new one until its right and then the order's
  own time are over.
* A power switch obeys no epoch. The last owner begins one only within ``INTENT_FRESH_MS`` of its entry in etcd, and
  every entry of its was there before this claim; so what of it may still land ends with the device's limit and its
  kill.
* After a handover in order nothing of it is under way.
"""

from __future__ import annotations

from collections.abc import Mapping

from poolwarden_collector.core.devices.device_runner import landed_after
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.takeover import LeftBehind
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.shell.cluster.commit_text import PoolTail
from poolwarden_collector.shell.cluster.membership import TTL_S
from poolwarden_collector.shell.cluster.ownership import Ownership

LONGEST_ORDER_MS: Ms = 15_000  # that an order is valid on its agent's own clock
INTENT_FRESH_MS: Ms = 2_000  # a power switch is begun within this time of its entry in etcd, or not at all


def left_behind(owned: Ownership, tail: PoolTail, devices: Mapping[str, FenceDevice], ttl_s: int = TTL_S) -> LeftBehind:
    """What to wait for. ``devices``: all that are configured, by their names."""
    if owned.handed_by:
        return LeftBehind()
    names = [device for device, _ in tail.shots]
    names += [switch.device for switch in tail.record.after.switches.values()]
    # safety: a device that this collector does not know may take as long as any.
    longest = max(map(landed_after, (None, *devices.values())))
    landing = [landed_after(devices[name]) if name in devices else longest for name in names]
    return LeftBehind(ttl_s * 1000 + LONGEST_ORDER_MS, INTENT_FRESH_MS + max(landing) if landing else 0)
