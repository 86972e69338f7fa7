"""Powering a vanished master off by policy: never a host that spoke within 15 s, never twice without reading back.

An ``off`` that was cut off may land seconds later: nothing is concluded from it before its hard limit and 10 s more.
"""

from __future__ import annotations

from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.evidence import silence_of
from poolwarden_collector.core.facts import Ms
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.look import witnessed_now
from poolwarden_collector.core.orders import PowerOff
from poolwarden_collector.core.permission import patience
from poolwarden_collector.core.power import is_bound, view
from poolwarden_collector.core.record import Failover

LIVE_REPORT_MS: Ms = 15_000


def shoot(d: Draft, failover: Failover) -> bool:
    """Power the old master off (policy auto_fence_running): intent first, once per device and attempt, at most two.

    True while a shot is under way or being prepared.
    """
    if failover.fence_pending is not None:
        return _still_pending(d, failover)
    old = failover.old_master
    if silence_of(d, old) < max(patience(d, old), LIVE_REPORT_MS):
        return True
    if any(reading.started_at < d.live.fenced_at for reading in view(d, old).readings):
        return True  # the last shot has not been read back yet
    for device in d.devices(old):
        attempts = sum(1 for name, _ in failover.fence_attempts if name == device.name)
        if attempts >= 2 or not is_bound(d, device.name, old):
            continue
        if not witnessed_now(d, failover):
            return True
        run = d.fresh_id("off")
        text = f"powering {d.name(old)} off by {device.name}, attempt {attempts + 1}"
        d.note(Kind.FENCE_INTENT, text, device=device.name, attempt=attempts + 1, run=run)
        # safety: the verdict was recomputed in this pass on a look at most 5 s old; `off` only, never `reboot`.
        d.do(PowerOff(old, device.name, run))
        return True
    return False


def _still_pending(d: Draft, failover: Failover) -> bool:
    """An `off` without a result may land late: nothing is concluded before its hard limit and 10 s have passed."""
    assert failover.fence_pending is not None
    name, run = failover.fence_pending
    limit = max(
        (x.hard_limit_ms for x in d.pool.devices.get(failover.old_master, ()) if x.name == name), default=60_000
    )
    since = max(d.site.started_at, d.live.step_since) if f"/off/{d.site.epoch}." not in run else d.live.step_since
    if d.now - since >= limit + 10_000:
        text = f"the power-off by {name} has no result: its outcome is unknown, the power is read again"
        d.change(fenced_at=d.now)
        d.note(Kind.FENCE_RESULT, text, device=name, claim=False, certain=False)
    return True
