"""What stands against a fire drill, or against one step of it; the first reason, with what a person does about it.

Rules
-----
* A drill adds to what its acts are refused for, and takes nothing away: each act is asked of the module that guards it.
* No step begins unless the pool is healthy, unpaused and without HA, with nothing else under way and no cool-down.
* A machine is switched off only where nothing runs there: by its own agent's word, and by the master's: it is disabled,
  and the database places no running VM there. Its devices are bound to it.
* While a member is off or held, enough others are heard to take the master's place.
* The step is refused, never its host chosen anew: the operator has looked at this one.
"""

from __future__ import annotations

from collections.abc import Callable

from poolwarden_collector.core.decision.candidate_ranking import rank
from poolwarden_collector.core.decision.database_contents import SPARE_THEM, at_stake, placements_of
from poolwarden_collector.core.decision.permission import firm_refusal, ha_armed
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.membership import entry_of, follows, master_view
from poolwarden_collector.core.evidence.signs import FACTS_FRESH_MS
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.followups import power_switch
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms, Tri
from poolwarden_collector.core.recovery import switchover
from poolwarden_collector.core.state.drill_record import Part
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

NAMED = 6  # VMs that a refusal names


def of_pool(pool: Snapshot, verdict: Verdict) -> Refused | None:
    """Why no drill, and no step of one, begins in this pool now."""
    explain, firm = "poolwarden explain POOL", firm_refusal(pool)
    if pool.record.ha_armed or verdict is Verdict.HA_MANAGED:
        return Refused("ha-armed", ha_armed(pool).text, "With HA nothing is drilled here: docs/pools-with-ha.md")
    if firm is not None:
        return _firm(firm)
    if (failover := pool.failover) is not None:
        return Refused("failover-open", f"failover {failover.id} is open", explain)
    if (question := pool.record.question) is not None:
        return Refused("question-open", f"an answer is awaited: {question.what}", "poolwarden status POOL")
    if pool.record.upgrading:
        return Refused("upgrading", "a rolling upgrade is under way", "Finish it first; the master is upgraded first.")
    if verdict is not Verdict.HEALTHY:
        return Refused("not-healthy", f"the pool is {verdict.word}: {verdict.meaning}", explain)
    if pool.record.cooldown:
        why = "the pool is in the cool-down after its last failover"
        return Refused("cool-down", why, "Look at what happened, then: poolwarden acknowledge POOL")
    return _busy(pool)


def _firm(why: Reason) -> Refused:
    """What stands against anything that is begun here."""
    if why.code is Cause.PAUSED:
        return Refused("paused", why.text, "poolwarden resume POOL")
    if why.code is Cause.OBSERVE:
        step = 'Set mode = "ask" or "auto" for this pool: what is only watched is not drilled.'
        return Refused("mode-observe", why.text, step)
    return Refused("held", why.text, "poolwarden explain POOL")


def _busy(pool: Snapshot) -> Refused | None:
    """Is anything under way, or owed, that a drill would get mixed up with?"""
    after, status = pool.record.after, "poolwarden status POOL"
    if after.designation is not None:
        return Refused("under-way", f"the role is being handed to {pool.name(after.designation.host)}", status)
    if after.switches:
        names = ", ".join(sorted(pool.name(host) for host in after.switches))
        return Refused("busy", f"a switch of the power of {names} has no certain result yet", status)
    if pool.record.owed:
        names = ", ".join(sorted({pool.name(item.host) for item in pool.record.owed}))
        return Refused("owed", f"{names} still waits for what an earlier change owes it", status)
    if after.sync_order:
        return Refused("sync-under-way", "the database is being pushed to the members", "Again in a minute.")
    view = master_view(pool, verified(pool))
    if view is None:
        return Refused("no-evidence", "the master has not told its view of the pool", "Again in half a minute.")
    if view.busy_tasks:
        return Refused("tasks", f"xapi is at work: {', '.join(view.busy_tasks[:5])}", "Wait for its end, then again.")
    return None


def of_step(pool: Snapshot, part: Part, host: HostId, verdict: Verdict) -> Refused | None:
    """Why this step does not begin now, as far as that is known without asking a host."""
    name, agent, master = pool.name(host), pool.heard(host), verified(pool)
    if host not in pool.record.hosts:
        return Refused("unknown-host", f"{name} is no host of this pool", "poolwarden hosts POOL")
    if agent is None:
        return Refused("agent-silent", f"the agent of {name} is not heard", f"poolwarden host show {name}")
    if agent.facts.database.ha_armed is not Tri.NO:
        return Refused("ha-armed", f"xapi's HA is armed on {name}, or its flag cannot be read", "docs/pools-with-ha.md")
    if part is Part.POWER_LOSS:
        if host != master:
            step = "poolwarden drill POOL --abandon" if pool.record.drill else "poolwarden drill POOL --plan"
            return Refused("not-master", f"{name} is not the master now", step)
    elif host == master:
        step = "poolwarden drill POOL --abandon" if pool.record.drill else "poolwarden drill POOL --plan"
        return Refused("is-master", f"{name} is the master: a member is drilled", step)
    elif why := follows(pool, host, master):
        detached = f"{name} is not attached to {pool.name(master)}: {why}"
        return Refused("not-attached", detached, "poolwarden explain POOL")
    return _OF_STEP[part](pool, host, verdict)


def _of_restart(pool: Snapshot, host: HostId, verdict: Verdict) -> Refused | None:
    return None  # restart_xapi.py asks what it would terminate


def _of_hold(pool: Snapshot, host: HostId, verdict: Verdict) -> Refused | None:
    agent = pool.heard(host)
    able = agent.hello.capabilities if agent is not None else ()
    if "toolstack_fence" not in able or "toolstack_release" not in able:
        why = f"the agent of {pool.name(host)} cannot hold a toolstack"
        return Refused("too-old", why, "Install the present agent's package there.")
    return _survivors(pool, host)


def _of_switchover(pool: Snapshot, host: HostId, verdict: Verdict) -> Refused | None:
    return switchover.refusal(pool, host, verdict)


def _of_fence(pool: Snapshot, host: HostId, verdict: Verdict) -> Refused | None:
    return power_switch.drill_refusal(pool, host) or _survivors(pool, host) or runs_there(pool, host)


def _of_power_loss(pool: Snapshot, host: HostId, verdict: Verdict) -> Refused | None:
    fit = any(not ranked.limitation for ranked in rank(pool, host, None))
    if no := power_switch.drill_refusal(pool, host) or _survivors(pool, host):
        return no
    if not fit:
        return Refused("no-candidate", "no member could become master now", "poolwarden plan POOL says why")
    return runs_there(pool, host)


_OF_STEP: dict[Part, Callable[[Snapshot, HostId, Verdict], Refused | None]] = {
    Part.FENCE: _of_fence,
    Part.RESTART: _of_restart,
    Part.HOLD: _of_hold,
    Part.SWITCHOVER: _of_switchover,
    Part.POWER_LOSS: _of_power_loss,
}


def _survivors(pool: Snapshot, host: HostId) -> Refused | None:
    """Are enough members heard beside this host to take the master's place meanwhile?"""
    master = verified(pool)
    others = [other for other in pool.record.hosts if other not in (host, master)]
    heard = [other for other in others if pool.heard(other) is not None]
    needed = pool.policy.min_survivors
    if len(pool.record.hosts) > 3:
        needed = max(needed, len(pool.record.hosts) // 2)
    if len(heard) >= needed:
        return None
    # safety: a master that dies meanwhile is succeeded as always, and not by a host that is off or held.
    why = f"{len(heard)} other members would be left to take the master's place, {needed} {_are(needed)} needed"
    return Refused("survivors", why, "Leave this step out: --steps names the ones to walk.")


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def runs_there(pool: Snapshot, host: HostId) -> Refused | None:
    """Does anything run on this host, or could a VM be started there, by its own agent and its master's view?"""
    name, agent, master = pool.name(host), pool.heard(host), verified(pool)
    away = f"On the master: xe host-disable uuid={host}; xe host-evacuate uuid={host}"
    seen = agent.facts.observed.host if agent is not None else None
    if agent is None or agent.facts.domains is None or seen is None or pool.now - seen > FACTS_FRESH_MS:
        return Refused("no-evidence", f"what runs on {name} is not known now", f"poolwarden host show {name}")
    # safety: its power is switched off at once, and whatever runs there is killed.
    if agent.facts.domains:
        verb = "runs" if len(agent.facts.domains) == 1 else "run"
        return Refused("runs-vms", f"{_vms(_named(pool, agent.facts.domains))} {verb} on {name}", away)
    entry = entry_of(pool, host, master)
    if isinstance(entry, str):
        return Refused("no-evidence", f"{name}: {entry}", "Again in half a minute.")
    if entry.enabled:
        return Refused("still-enabled", f"{name} is enabled: a VM could start there at any moment", away)
    return None


def seen_since(pool: Snapshot, host: HostId, at: Ms) -> bool:
    """Has this host's agent looked at what runs there after this instant?"""
    agent = pool.heard(host)
    seen = agent.facts.observed.host if agent is not None else None
    return seen is not None and seen > at


def _vms(vms: tuple[str, ...]) -> str:
    more = f" and {len(vms) - NAMED} more" if len(vms) > NAMED else ""
    return f"{len(vms)} VM{'s' if len(vms) != 1 else ''} ({', '.join(sorted(vms)[:NAMED])}{more})"


def _named(pool: Snapshot, vms: tuple[str, ...]) -> tuple[str, ...]:
    """Their names, as far as a database that was read lately tells them."""
    names = {
        item.vm: item.name
        for sent in pool.live.sent.values()
        if sent.result is not None and sent.result.placements is not None
        for item in sent.result.placements.placements
        if item.name
    }
    return tuple(names.get(vm, vm) for vm in vms)


def placed_there(tx: Transaction, host: HostId) -> Refused | bool:
    """Does the master's database place a running VM on this host? True: none; False: it is being read."""
    loads = placements_of(tx, verified(tx))
    if loads is None:
        return False
    if not loads.readable:
        return Refused("no-evidence", f"the master's database cannot be read: {loads.text}", "poolwarden explain POOL")
    # A VM that was migrated away runs elsewhere by that host's own word; the file tells it up to five minutes later.
    moved = {
        vm for other in tx.record.hosts if other != host and (a := tx.heard(other)) for vm in a.facts.domains or ()
    }
    there = tuple(item.name or item.vm for item in loads.placements if item.host == host and item.vm not in moved)
    if not there:
        return True
    why = f"the master's database still has {_vms(there)} on {tx.name(host)}"
    return Refused("runs-vms", why, "If none runs there, on the master: xe pool-sync-database (its file may lag)")


def kills_none(tx: Transaction, host: HostId) -> Refused | bool:
    """Would a start of this member's xapi terminate a running VM? True: none; False: that is being read."""
    kills = at_stake(tx, host)
    if kills is None:
        return False
    if isinstance(kills, Reason):
        why = f"what a start of its xapi would terminate is not known: {kills}"
        return Refused("unsafe", why, "poolwarden explain POOL")
    if kills:
        names = ", ".join(kill.name for kill in kills)
        return Refused("unsafe", f"a start of its xapi would terminate {names} on {tx.name(host)}", SPARE_THEM)
    return True
