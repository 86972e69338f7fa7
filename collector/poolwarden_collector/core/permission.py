"""What stands against beginning anything in a pool, as sentences; how long a running machine is left alone."""

from __future__ import annotations

from poolwarden_collector.core import restored
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.epoch import name
from poolwarden_collector.core.evidence import serving, set_as_master, suspected, unowed_masters
from poolwarden_collector.core.facts import HostId, Ms, Power, Role
from poolwarden_collector.core.power import view
from poolwarden_collector.core.verdict import Verdict

AGAIN_AFTER_MS: Ms = 15_000


def may_begin(d: Draft, verdict: Verdict) -> str:
    """Why no failover may begin now, not even at an operator's word; empty if one may (see ``needs_word``)."""
    if verdict is not Verdict.VANISHED:
        return f"the verdict is {verdict.word}"
    agent = d.agent(suspected(d))
    if agent is not None and agent.reported and agent.facts.role.pool_conf is Role.MEMBER:
        return f"{d.name(suspected(d))} was itself a member when it was last heard: who is master is not known"
    return firm_refusal(d) or _old_master_serves(d) or may_begin_again(d) or _survivors(d)


def hold_refusal(d: Draft, verdict: Verdict) -> str:
    """Why the master's toolstack must not be held and another member promoted now, not even at an operator's word;
    empty if that may be done (see ``needs_word``).
    """
    master = suspected(d)
    agent, name = d.heard(master), d.name(master)
    if agent is None:
        return f"the agent of {name} is not heard"
    if "toolstack_fence" not in agent.hello.capabilities:
        return f"the agent {agent.hello.agent_version} of {name} cannot hold a toolstack"
    if agent.facts.role.pool_conf is not Role.MASTER:
        return f"the pool.conf of {name} does not say master"
    if d.record.ha_armed:
        return f"xapi's HA is armed, as seen on {', '.join(sorted(d.name(h) for h in d.record.ha_armed))}"
    if d.record.holds:
        return f"its toolstack was held {d.record.holds} time(s) in this incident without success"
    if not any(d.heard(host) for host in d.record.standing) and not own_standing(d):
        return "nobody who has reached its xapi before is there to see its port closed"
    return firm_refusal(d) or _old_master_serves(d) or may_begin_again(d) or _survivors(d)


def own_standing(d: Draft) -> bool:
    """Has the collector's own probe reached the master's xapi in this run?"""
    own = d.live.own_standing
    return d.policy.collector_probe and own is not None and own[0] == suspected(d)


def _old_master_serves(d: Draft) -> str:
    """A superseded master that serves again is neither a successor to bow to nor one to promote beside; nor is a host
    that is about to serve.
    """
    acting = [host for host in serving(d) if host not in unowed_masters(d)]
    if acting:
        return f"{d.name(acting[0])}, a superseded master, serves with an old database"
    poised = [host for host in set_as_master(d) if host != suspected(d)]
    return f"{d.name(poised[0])} is set to be master by its pool.conf or its process" if poised else ""


def may_begin_again(d: Draft) -> str:
    """Why nothing may follow at once on a failover that ended without a promotion; empty if it may."""
    at = d.live.aborted_at
    if at is None or d.now - at >= AGAIN_AFTER_MS:
        return ""
    return "the last failover ended without a promotion just now"


def standing_refusal(d: Draft) -> str:
    """Why nothing new may be begun in this pool by itself, whatever its verdict; empty if nothing stands against it."""
    return firm_refusal(d) or needs_word(d)


def firm_refusal(d: Draft) -> str:
    """What no operator's approval overrules; empty if nothing of it stands."""
    if d.record.paused is not None:
        return f"the pool is paused: {d.record.paused}"
    if why := deposed(d):
        return why
    if d.quiet:
        return f"start-up quiet time, {(d.quiet_until - d.now) / 1000:.0f} s left"
    if d.site.blind:
        return f"the collector is blind: {d.site.blind}"
    return "the pool's mode is observe: nothing is done, and nothing is asked" if d.policy.mode == "observe" else ""


def needs_word(d: Draft) -> str:
    """Why what would be done by itself is asked first: the mode, one host's doubtful word, or the cool-down; empty if
    it need not be.
    """
    if d.policy.mode == "ask":
        return "the pool's mode is ask"
    if why := restored.doubt(d):
        return why
    if d.live.cooldown_until is not None and d.now < d.live.cooldown_until:
        return f"cool-down after the last failover, {(d.live.cooldown_until - d.now) / 60_000:.0f} min left"
    return ""


def deposed(d: Draft) -> str:
    """Why this collector may do nothing at all here until a person says that it stays; empty if it may."""
    if d.site.deposed:
        return f"this collector has stood down: {d.site.deposed}"
    if d.record.stale_epoch > d.site.epoch:
        return f"its hosts obey a collector with a higher epoch ({name(d.record.stale_epoch)})"
    return ""


def patience(d: Draft, host: HostId) -> Ms:
    """How long a machine that reads ON is left alone, ms: the busier, the longer."""
    agent = d.agent(host)
    domains = agent.facts.domains if agent is not None else None
    extra = min(len(domains or ()) * d.policy.patience_per_vm, d.policy.patience_vm_limit)
    return d.policy.patience + extra


def boot_grace(d: Draft) -> str:
    """Why a master that does not read OFF is let win for now, after the whole pool was dark; empty if it is not."""
    left = d.live.grace_until - d.now
    return f"boot grace after the pool was dark, {left / 1000:.0f} s left" if left > 0 else ""


def _survivors(d: Draft) -> str:
    master = suspected(d)
    members_known = [host for host in d.record.hosts if host != master]
    heard = [host for host in members_known if d.heard(host)]
    needed = d.policy.min_survivors
    if len(d.record.hosts) > 3 and view(d, master).power is not Power.OFF and d.heard(master) is None:
        needed = max(needed, (len(members_known) + 1) // 2)
    if len(heard) < needed:
        return f"only {len(heard)} of {len(members_known)} members are heard, {needed} are needed"
    return ""
