"""What stands against beginning anything in a pool, as sentences; how long a running machine is left alone."""

from __future__ import annotations

from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.evidence import suspected
from poolwarden_collector.core.facts import HostId, Ms, Power
from poolwarden_collector.core.power import view
from poolwarden_collector.core.verdict import Verdict


def may_begin(d: Draft, verdict: Verdict) -> str:
    """Why no failover may begin now; empty if one may."""
    if verdict is not Verdict.VANISHED:
        return f"the verdict is {verdict.word}"
    return standing_refusal(d) or _survivors(d)


def standing_refusal(d: Draft) -> str:
    """Why nothing new may be begun in this pool, whatever its verdict; empty if nothing stands against it."""
    p = d.policy
    if d.record.paused is not None:
        return f"the pool is paused: {d.record.paused}"
    if d.record.stale_epoch > d.site.epoch:
        return f"its hosts obey a collector with a higher epoch ({d.record.stale_epoch})"
    if d.quiet:
        return f"start-up quiet time, {(d.site.quiet_until - d.now) / 1000:.0f} s left"
    if d.site.blind:
        return f"the collector is blind: {d.site.blind}"
    if d.live.cooldown_until is not None and d.now < d.live.cooldown_until:
        return f"cool-down after the last failover, {(d.live.cooldown_until - d.now) / 60_000:.0f} min left"
    if p.mode != "auto":
        return f"the pool's mode is {p.mode}"
    return ""


def patience(d: Draft, host: HostId) -> Ms:
    """How long a machine that reads ON is left alone, ms: the busier, the longer."""
    agent = d.agent(host)
    domains = agent.facts.domains if agent is not None else None
    extra = min(len(domains or ()) * d.policy.patience_per_vm, d.policy.patience_vm_limit)
    return d.policy.patience + extra


def _survivors(d: Draft) -> str:
    master = suspected(d)
    members_known = [host for host in d.record.hosts if host != master]
    heard = [host for host in members_known if d.heard(host)]
    needed = d.policy.min_survivors
    if len(d.record.hosts) > 3 and view(d, master).power is not Power.OFF:
        needed = max(needed, (len(members_known) + 1) // 2)
    if len(heard) < needed:
        return f"only {len(heard)} of {len(members_known)} members are heard, {needed} are needed"
    return ""
