"""Readiness: would this pool survive losing its master right now? Reasons why not, never a boolean."""

from __future__ import annotations

from poolwarden_collector.core.decision import unheard_members
from poolwarden_collector.core.decision.candidate_ranking import rank
from poolwarden_collector.core.decision.permission import deposed
from poolwarden_collector.core.devices.device_health import complaint
from poolwarden_collector.core.devices.power_view import is_bound, view, why_unbound
from poolwarden_collector.core.evidence import announcements, identity_conflict, unlisted_hosts
from poolwarden_collector.core.evidence.signs import suspected
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import HostId, Tri
from poolwarden_collector.core.recovery import database_sync, unheard_at_boot
from poolwarden_collector.core.state.snapshot import Snapshot


def not_ready(d: Snapshot) -> tuple[str, ...]:
    """Every reason why losing the master now would not heal by itself; empty: it would."""
    master = suspected(d)
    if not master:
        return ("no verified master is known",)
    reasons: list[str] = [why.text] if (why := deposed(d)) else []
    if other := unlisted_hosts.other_pools_database(d):
        reasons.append(other)
    if d.record.identity:
        reasons.append(f"the pool is frozen: {identity_conflict.conflict_sentence(d)}")
    if held := announcements.announcement_sentence(d):
        reasons.append(f"the pool is held: {held}")
    if d.site.blind:
        reasons.append(f"the collector is blind: {d.site.blind}")
    if d.record.paused is not None:
        reasons.append(f"the pool is paused: {d.record.paused}")
    if d.policy.mode != "auto":
        reasons.append(f"the pool's mode is {d.policy.mode}")
    if d.live.cooldown_until is not None and d.now < d.live.cooldown_until:
        reasons.append(f"cool-down after the last failover, {(d.live.cooldown_until - d.now) / 60_000:.0f} min left")
    armed = [h for h in d.live.agents if (a := d.heard(h)) and a.facts.database.ha_armed is Tri.YES]
    if armed:
        reasons.append("xapi's own HA is armed")
    reasons.extend(_fencing(d, master))
    reasons.extend(_candidates(d, master))
    if hosts := unheard_members.unheard_alive(d):
        reasons.append(f"a failover would be asked for: {unheard_members.said(d, hosts)}")
    reasons.extend(_gate(d, master))
    reasons.extend(database_sync.not_pushed(d))
    return tuple(reasons)


def _fencing(d: Snapshot, master: HostId) -> list[str]:
    devices = d.pool.devices.get(master, ())
    if not devices:
        return [f"master {d.name(master)} has no fence device: a person would have to confirm its death"]
    reasons = []
    for device in devices:
        state, found = d.live.power.get(device.name), complaint(d, master, device)
        if found is not None and found.code == "quarantined":
            reasons.append(f"fence device {device.name} is quarantined: {found.why}")
        elif state is not None and state.newest is not None and state.newest.power is Power.UNKNOWN:
            reasons.append(f"fence device {device.name} gives no reading: {state.newest.text}")
        elif not is_bound(d, device.name, master):
            reasons.append(f"fence device {why_unbound(d, device.name, master)}")
        elif found is not None:
            reasons.append(f"fence device {found.why}")
    return reasons


def _gate(d: Snapshot, master: HostId) -> list[str]:
    """Whom the master's boot gate would wait for, if it booted now: nobody hears them, and nothing proves them off."""
    waits = tuple(host for host in unheard_at_boot.missing(d, master) if view(d, host).power is not Power.OFF)
    if not waits:
        return []
    be, it = ("is", "it is") if len(waits) == 1 else ("are", "they are")
    would = f"were {d.name(master)} to boot now, its gate would wait until {it} heard, read OFF, or confirmed fenced"
    return [f"{unheard_at_boot.named(d, waits)} {be} not heard and not proven off: {would}"]


def _candidates(d: Snapshot, master: HostId) -> list[str]:
    ranked = rank(d, master, None)
    if not ranked:
        return ["the pool has no other host"]
    if all(r.limitation for r in ranked):
        return ["no member could be promoted: " + "; ".join(r.text for r in ranked)]
    return []
