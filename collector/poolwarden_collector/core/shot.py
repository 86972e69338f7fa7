"""Powering a vanished master off, by policy or an operator's word: never a host that spoke within 15 s.

It is never done twice without reading back. An ``off`` that was cut off may land seconds later: nothing is concluded
from it before its hard limit and 10 s more.
"""

from __future__ import annotations

from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.ends import block
from poolwarden_collector.core.evidence import silence_of
from poolwarden_collector.core.facts import Ms
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.look import SHOT_EVIDENCE_MS, witnessed_now
from poolwarden_collector.core.orders import PowerOff
from poolwarden_collector.core.permission import boot_grace, patience
from poolwarden_collector.core.power import is_bound, view
from poolwarden_collector.core.record import Failover

LIVE_REPORT_MS: Ms = 15_000


def shoot(d: Draft, failover: Failover) -> bool:
    """Power the old master off: intent first, once per device and attempt, at most two. ``may_shoot`` was asked.

    True while a shot is under way or being prepared.
    """
    old = failover.old_master
    if boot_grace(d):
        return True
    if silence_of(d, old) < max(patience(d, old), LIVE_REPORT_MS):
        return True
    if any(reading.started_at < d.live.fenced_at for reading in view(d, old).readings):
        return True  # the last shot has not been read back yet
    for device in d.devices(old):
        attempts = sum(1 for name, _ in failover.fence_attempts if name == device.name)
        if attempts >= 2 or not is_bound(d, device.name, old):
            continue
        if not witnessed_now(d, failover):
            _say_unwitnessed(d, failover)
            return True
        run = d.fresh_id("off")
        text = f"powering {d.name(old)} off by {device.name}, attempt {attempts + 1}"
        d.change(fence_since=d.now, look_misses=0)
        d.note(Kind.FENCE_INTENT, text, device=device.name, attempt=attempts + 1, run=run)
        # safety: the verdict was recomputed in this pass on a look at most 5 s old; `off` only, never `reboot`.
        d.do(PowerOff(old, device.name, run))
        return True
    return False


def _say_unwitnessed(d: Draft, failover: Failover) -> None:
    """A shot that waits for a member's testimony for long is a named blocker, not silence."""
    if d.now - d.live.step_since < 3 * d.policy.look_wait + SHOT_EVIDENCE_MS:
        return
    look = d.live.look
    seen = (look.alive or look.elsewhere) if look is not None else ""
    why = seen or "no member answers a fresh look at it"
    block(d, failover, "NO_WITNESS", f"{d.name(failover.old_master)} is not shot: {why}")


def pending(d: Draft, failover: Failover) -> bool:
    """Is a power-off under way? It may land late: nothing is concluded before its hard limit and 10 s have passed."""
    if failover.fence_pending is None:
        return False
    name, run = failover.fence_pending
    devices = d.pool.devices.get(failover.old_master, ())
    limit = max((x.hard_limit_ms for x in devices if x.name == name), default=60_000)
    ours = f"/off/{d.site.epoch}." in run and d.live.fence_since
    since = d.live.fence_since if ours else d.site.started_at
    if d.now - since < limit + 10_000:
        return True
    text = f"the power-off by {name} has no certain result: the power is read again"
    d.change(fenced_at=d.now)
    d.note(Kind.FENCE_RESULT, text, device=name, claim=False, certain=False)
    return False
