"""What stands against beginning anything in a pool, as reasons; how long a running machine is left alone.

Each refusal has a code, which is what other modules decide on (``needs_word`` gives only MODE_ASK, DOUBT and COOLDOWN);
its sentence is for people. ``None`` means that nothing stands against it.
"""

from __future__ import annotations

from poolwarden_collector.core.decision import takeover
from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence import configured_master, journal_gap, unlisted_hosts
from poolwarden_collector.core.evidence.signs import (
    configured_masters,
    serving,
    successor_off,
    suspected,
    unsuperseded_masters,
)
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.epoch import name
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state.snapshot import Snapshot

AGAIN_AFTER_MS: Ms = 15_000
BEHIND_MS: Ms = 2_000  # half of the shortest silence that is suspicious
LONGEST_AGAIN_MS: Ms = 300_000


def may_begin(pool: Snapshot, verdict: Verdict) -> Reason | None:
    """Why no failover may begin now, not even at an operator's word; None if one may (see ``needs_word``)."""
    if verdict is not Verdict.VANISHED:
        return not_now(verdict)
    agent = pool.agent(suspected(pool))
    member = agent is not None and agent.reported and agent.facts.role.pool_conf is Role.MEMBER
    if member and not configured_master.is_known(pool, suspected(pool)):
        was = f"{pool.name(suspected(pool))} was itself a member when it was last heard: who is master is not known"
        return Reason(Cause.WAS_MEMBER, was, (suspected(pool),))
    return firm_refusal(pool) or _old_master_serves(pool) or may_begin_again(pool) or _survivors(pool)


def not_now(verdict: Verdict) -> Reason:
    """The verdict does not permit it."""
    return Reason(Cause.VERDICT, f"the verdict is {verdict.word}", (verdict.word,))


def hold_refusal(pool: Snapshot, verdict: Verdict) -> Reason | None:
    """Why the master's toolstack must not be held and another member promoted now, not even at an operator's word;
    None if that may be done (see ``needs_word``).
    """
    master = suspected(pool)
    agent, name = pool.heard(master), pool.name(master)
    if agent is None:
        return Reason(Cause.NOT_HEARD, f"the agent of {name} is not heard", (master,))
    if "toolstack_fence" not in agent.hello.capabilities:
        why = f"the agent {agent.hello.agent_version} of {name} cannot hold a toolstack"
        return Reason(Cause.INCAPABLE, why, (master,))
    if agent.facts.role.pool_conf is not Role.MASTER:
        return Reason(Cause.ROLE, f"the pool.conf of {name} does not say master", (master,))
    if pool.record.ha_armed:
        return ha_armed(pool)
    if pool.record.holds:
        why = f"its toolstack was held {pool.record.holds} time(s) in this incident without success"
        return Reason(Cause.HELD_BEFORE, why, (master,))
    if not any(pool.heard(host) for host in pool.record.standing) and not own_standing(pool):
        return Reason(
            Cause.NO_PROBER, "nobody who has reached its xapi before is there to see its port closed", (master,)
        )
    return firm_refusal(pool) or _old_master_serves(pool) or may_begin_again(pool) or _survivors(pool)


def ha_armed(pool: Snapshot) -> Reason:
    """xapi's HA is armed, and where that was seen."""
    hosts = tuple(sorted(pool.record.ha_armed, key=pool.name))
    return Reason(Cause.HA, f"xapi's HA is armed, as seen on {', '.join(pool.name(host) for host in hosts)}", hosts)


def paused(pool: Snapshot) -> Reason:
    """A person has stopped this pool."""
    return Reason(Cause.PAUSED, f"the pool is paused: {pool.record.paused}")


def own_standing(pool: Snapshot) -> bool:
    """Has the collector's own probe reached the master's xapi in this run?"""
    own = pool.live.own_probe.standing
    return pool.policy.collector_probe and own is not None and own[0] == suspected(pool)


def _old_master_serves(pool: Snapshot) -> Reason | None:
    """A superseded master that serves again is neither a successor to follow nor one to promote beside; nor is a host
    that is about to serve.
    """
    acting = [host for host in serving(pool) if host not in unsuperseded_masters(pool)]
    if acting:
        why = f"{pool.name(acting[0])}, a superseded master, serves with an old database"
        return Reason(Cause.SERVES, why, (acting[0],))
    poised = [host for host in configured_masters(pool) if host != suspected(pool)]
    return set_to_be_master(pool, poised[0]) if poised else None


def set_to_be_master(pool: Snapshot, host: HostId) -> Reason:
    """This host is master, or will be at its next start."""
    why = f"{pool.name(host)} is set to be master by its pool.conf or its process"
    return Reason(Cause.SET_AS_MASTER, why, (host,))


def may_begin_again(pool: Snapshot) -> Reason | None:
    """Why nothing may follow at once on a failover that ended without a promotion; None if it may.

    Each that ends so takes a term and tells the pool: a ground that comes and goes is given ever longer to settle, up
    to five minutes. It is forgotten once the pool has been healthy for ten, or a failover has promoted; and a master
    that reads OFF twice is no such ground.
    """
    if landing := _still_landing(pool):
        return landing
    at, times = pool.live.backoff.aborted_at, pool.live.backoff.aborts
    wait = min(AGAIN_AFTER_MS << max(0, times - 1), LONGEST_AGAIN_MS)
    if times > 1 and successor_off(pool):
        wait = AGAIN_AFTER_MS
    if at is None or pool.now - at >= wait:
        return None
    left = (wait - (pool.now - at)) / 1000
    more = f", as the {times - 1} before it: another may begin in {left:.0f} s" if times > 1 else ""
    return Reason(Cause.JUST_ENDED, f"the last failover ended without a promotion just now{more}")


def _still_landing(pool: Snapshot) -> Reason | None:
    """A power-off of *another* host, ordered by the last failover, that has no certain result yet; None if none has."""
    last = pool.record.failover
    if last is None or last.open or last.fencing.pending is None or last.old_master == suspected(pool):
        return None
    # safety: the next failover would forget it, and the gate of that host would open while its off may still land.
    why = f"a power-off of {pool.name(last.old_master)} that was ordered before may still land"
    return Reason(Cause.LANDING, why, (last.old_master,))


def standing_refusal(pool: Snapshot) -> Reason | None:
    """Why nothing new may be begun in this pool by itself, whatever its verdict; None if nothing stands against it."""
    return firm_refusal(pool) or needs_approval(pool)


def firm_refusal(pool: Snapshot) -> Reason | None:
    """What no operator's approval overrules; None if nothing of it stands."""
    if pool.record.paused is not None:
        return paused(pool)
    if why := deposed(pool):
        return why
    if pool.quiet:
        return quiet_time(pool)
    if why := blind(pool):
        return why
    if why := behind(pool):
        return why
    if pool.policy.mode == "observe":
        return Reason(Cause.OBSERVE, "the pool's mode is observe: nothing is done, and nothing is asked")
    return None


# What an operator's own command stands above: it is his word that the mode asks for, and no failover that the cool-down
# is about. The mode observe is not among them: there the pool is only watched, and a change of its master that nothing
# forces is no repair (docs/operating.md has the table of commands and modes).
_BELOW_A_COMMAND = (Cause.MODE_ASK, Cause.COOLDOWN)


def command_refusal(pool: Snapshot) -> Reason | None:
    """What stands against a planned change that an operator orders himself; None if nothing does."""
    standing = standing_refusal(pool)
    return None if standing is None or standing.code in _BELOW_A_COMMAND else standing


def quiet_time(pool: Snapshot) -> Reason:
    """The collector has only just started, has only just taken this pool over, or may act nowhere."""
    return (
        takeover.no_right(pool)
        or takeover.refusal(pool)
        or Reason(Cause.QUIET_TIME, f"start-up quiet time, {(pool.quiet_until - pool.now) / 1000:.0f} s left")
    )


def blind(pool: Snapshot) -> Reason | None:
    """Why nothing is begun by collectors that cannot tell their own silence from the hosts'; None if they can."""
    if not pool.site.blind:
        return None
    if pool.site.young:
        return Reason(Cause.YOUNG_SITE, f"its site cannot be judged yet: {pool.site.blind}")
    return Reason(Cause.BLIND, f"the collector is blind: {pool.site.blind}")


def behind(pool: Snapshot) -> Reason | None:
    """Why nothing is begun by a collector that is late with taking in what it hears; None if it is not."""
    late = pool.site.behind_ms
    if late <= BEHIND_MS:
        return None
    return Reason(Cause.BEHIND, f"this collector is {late / 1000:.1f} s behind what it hears")


def needs_approval(pool: Snapshot) -> Reason | None:
    """Why what would be done by itself is asked first: MODE_ASK, DOUBT of one host's word, or COOLDOWN; else None."""
    if pool.policy.mode == "ask":
        return Reason(Cause.MODE_ASK, "the pool's mode is ask")
    if why := journal_gap.doubt(pool):
        return Reason(Cause.DOUBT, why)
    if why := unlisted_hosts.no_list(pool):
        return Reason(Cause.NO_LIST, why)
    if pool.live.backoff.cooldown_until is not None and pool.now < pool.live.backoff.cooldown_until:
        left = max(1, round((pool.live.backoff.cooldown_until - pool.now) / 60_000))
        return Reason(Cause.COOLDOWN, f"cool-down after the last failover, {left} min left")
    return None


def deposed(pool: Snapshot) -> Reason | None:
    """Why this collector may do nothing at all here until a person says that it stays; None if it may."""
    if pool.site.deposed:
        return Reason(Cause.STOOD_DOWN, f"this collector has stood down: {pool.site.deposed}")
    if pool.record.stale_epoch > pool.site.epoch:
        why = f"its hosts obey a collector with a higher epoch ({name(pool.record.stale_epoch)})"
        return Reason(Cause.HIGHER_EPOCH, why)
    return None


def patience(pool: Snapshot, host: HostId) -> Ms:
    """How long a machine that reads ON is left alone, ms: the busier, the longer."""
    agent = pool.agent(host)
    domains = agent.facts.domains if agent is not None else None
    extra = min(len(domains or ()) * pool.policy.patience_per_vm, pool.policy.patience_vm_limit)
    return pool.policy.patience + extra


def boot_grace(pool: Snapshot) -> Reason | None:
    """Why a master that does not read OFF is let win for now, after the whole pool was dark; None if it is not."""
    left = pool.live.backoff.grace_until - pool.now
    why = f"boot grace after the pool was dark, {left / 1000:.0f} s left"
    return Reason(Cause.BOOT_GRACE, why) if left > 0 else None


def _survivors(pool: Snapshot) -> Reason | None:
    master = suspected(pool)
    members_known = [host for host in pool.record.hosts if host != master]
    heard = [host for host in members_known if pool.heard(host)]
    needed = pool.policy.min_survivors
    if len(pool.record.hosts) > 3 and view(pool, master).power is not Power.OFF and pool.heard(master) is None:
        needed = max(needed, (len(members_known) + 1) // 2)
    if len(heard) < needed:
        why = f"only {len(heard)} of {len(members_known)} members are heard, {needed} are needed"
        return Reason(Cause.SURVIVORS, why)
    return None
