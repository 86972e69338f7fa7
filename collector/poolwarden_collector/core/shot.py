"""Powering a vanished master off, by policy or an operator's word: never a host that spoke within 15 s.

Rules
-----
* It is never done twice without reading back. An ``off`` that was cut off may land seconds later: nothing is concluded
  from it before its hard limit and 10 s more.
* The level that can tell what it did comes first; in it every feed is switched off before any is tried again, and what
  reads OFF already is not switched off once more.
* A device does one thing at a time: its reading is let end first, and no other is begun in front of the ``off``. One
  that was not begun all the same is no attempt, and is asked for again a few times.
"""

from __future__ import annotations

from poolwarden_collector.core.blockers import Blocker
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.ends import block, unblock
from poolwarden_collector.core.evidence import silence_of
from poolwarden_collector.core.facts import FenceDevice, Ms, Power
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.look import SHOT_EVIDENCE_MS, why_unwitnessed, witnessed_now
from poolwarden_collector.core.orders import PowerOff, Unable
from poolwarden_collector.core.permission import boot_grace, patience
from poolwarden_collector.core.power import counting, deciding, is_bound, view
from poolwarden_collector.core.proxy import landed_after, named, runner, said_by, whose
from poolwarden_collector.core.record import Failover

LIVE_REPORT_MS: Ms = 15_000
ATTEMPTS, UNBEGUN = 2, 3  # per device


def shoot(d: Draft, failover: Failover) -> bool:
    """Power the old master off: intent first, then the effect, a device at a time. ``may_shoot`` was asked.

    True while a shot is under way or being prepared.
    """
    old = failover.old_master
    if boot_grace(d):
        return True
    if silence_of(d, old) < max(patience(d, old), LIVE_REPORT_MS):
        return True
    if any(reading.started_at < d.live.fenced_at for reading in view(d, old).readings):
        return True  # the last shot has not been read back yet
    device = _next_device(d, failover)
    if device is None:
        return False
    if _is_read(d, device):
        return True
    _aim(d, device)
    if not witnessed_now(d, failover):
        _say_unwitnessed(d, failover)
        return True
    d.change(unwitnessed_since=None)
    by = runner(d, device, ha_off=True)
    if isinstance(by, Unable):
        block(d, failover, Blocker.NO_MEMBER, (old, device.name), f"{d.name(old)} is not shot: {by.why}")
        return True
    if failover.blocked in (Blocker.NO_WITNESS, Blocker.NO_MEMBER):
        unblock(d)
    attempt, run = _attempts(failover, device) + 1, d.fresh_id("off")
    text = f"powering {d.name(old)} off by {device.name}{said_by(d, by)}, attempt {attempt}"
    d.change(fence_since=d.now, look_misses=0, aimed=("", 0))
    d.note(Kind.FENCE_INTENT, text, device=device.name, attempt=attempt, run=run, **whose(by))
    # safety: the verdict was recomputed in this pass on a look at most 5 s old; `off` only, never `reboot`.
    d.do(PowerOff(old, device.name, run, by))
    return True


def _attempts(failover: Failover, device: FenceDevice) -> int:
    return sum(1 for name, _ in failover.fence_attempts if name == device.name)


def _next_device(d: Draft, failover: Failover) -> FenceDevice | None:
    """The device to switch off next; None: all have had their attempts, read OFF, or are not bound."""
    told = deciding(d, failover.old_master)

    def spent(device: FenceDevice) -> bool:
        unbegun = sum(1 for name, _ in failover.fence_unbegun if name == device.name)
        return _attempts(failover, device) >= ATTEMPTS or unbegun >= UNBEGUN

    def off(device: FenceDevice) -> bool:
        readings = counting(d, device.name)
        return bool(readings) and readings[-1].power is Power.OFF

    left = [
        device
        for device in d.devices(failover.old_master)
        if is_bound(d, device.name, failover.old_master) and not spent(device) and not off(device)
    ]
    return min(left, key=lambda device: (device not in told, device.level, _attempts(failover, device)), default=None)


def _is_read(d: Draft, device: FenceDevice) -> bool:
    """Is this device being read? An ``off`` would only stand behind it, and then not be begun at all."""
    state = d.live.power.get(device.name)
    return state is not None and bool(state.running) and d.now - state.started_at < landed_after(device)


def _aim(d: Draft, device: FenceDevice) -> None:
    """Begin no reading of it for a moment; each reading that ends in between gives another such moment."""
    name, since = d.live.aimed
    state = d.live.power.get(device.name)
    newest = state.newest if state is not None else None
    if name != device.name or (newest is not None and newest.ended_at > since):
        d.change(aimed=(device.name, d.now))


def aimed_at(d: Draft, device: FenceDevice) -> bool:
    """Is this device about to switch its host off?"""
    name, since = d.live.aimed
    return name == device.name and d.now - since < SHOT_EVIDENCE_MS


def _say_unwitnessed(d: Draft, failover: Failover) -> None:
    """A shot that waits for a member's testimony for long is a named blocker, not silence."""
    if d.live.unwitnessed_since is None:
        d.change(unwitnessed_since=d.now)
        return
    if d.now - d.live.unwitnessed_since < 3 * d.policy.look_wait + SHOT_EVIDENCE_MS:
        return
    seen = why_unwitnessed(d, failover)
    why = seen or "no member answers a fresh look at it"
    subjects = (failover.old_master, "answered" if seen else "unanswered")
    block(d, failover, Blocker.NO_WITNESS, subjects, f"{d.name(failover.old_master)} is not shot: {why}")


def in_vain(failover: Failover) -> str:
    """What was tried and did not switch the old master off; empty: nothing was."""
    found = []
    if count := len(failover.fence_attempts):
        found.append(f"{count} power-off{'s' * (count > 1)} did not switch it off")
    if failover.fence_unbegun:
        found.append(f"{len(failover.fence_unbegun)} could not be begun (the last: {failover.fence_unbegun[-1][1]})")
    return "; ".join(found)


def pending(d: Draft, failover: Failover) -> bool:
    """Is a power-off under way? It may land late: nothing is concluded before its hard limit and 10 s have passed."""
    if failover.fence_pending is None:
        return False
    name, run = failover.fence_pending
    ours = f"/off/{d.site.epoch}." in run and d.live.fence_since
    since = d.live.fence_since if ours else d.site.started_at
    if d.now - since < landed_after(named(d, failover.old_master, name)):
        return True
    text = f"the power-off by {name} has no certain result: the power is read again"
    d.change(fenced_at=d.now)
    d.note(Kind.FENCE_RESULT, text, device=name, claim=False, certain=False)
    return False
