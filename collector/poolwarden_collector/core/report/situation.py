"""How a pool stands, for a person who reads it on one screen: a headline, what is known, what runs on, what to do.

Rules
-----
* The headline says what matters to a person: of a pool whose verdict is Healthy that may be a VM that is down.
* Capitals where nothing goes on without a person, or management is lost.
* Nothing here decides: every word is read from what the engine itself goes by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from poolwarden_collector.core.decision import takeover
from poolwarden_collector.core.decision.candidate_ranking import rank
from poolwarden_collector.core.decision.database_age import age
from poolwarden_collector.core.decision.permission import deposed, may_begin
from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence.assessment import detail
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.signs import answered, fresh_probe, own_probe, silence_of, suspected
from poolwarden_collector.core.evidence.verdict import CollectorWitness, Verdict
from poolwarden_collector.core.failover.steps import hold_reason
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.report import drill_report
from poolwarden_collector.core.report.matters import Matter, matters
from poolwarden_collector.core.report.next_step import SEE_IT_OFF, steps, troubled
from poolwarden_collector.core.report.running_vms import vm_sentence
from poolwarden_collector.core.state.failover_record import Step
from poolwarden_collector.core.state.snapshot import Snapshot

_STALLED = "IT CANNOT BE RECORDED: NOTHING IS DECIDED OR DONE"
_AS_IT_WAS = "What is told of its hosts is as it was before; who looks silent now need not be."
_LOOK_AT_ETCD = "look at etcd: this collector's log names what it answers; the pool goes on by itself"
HEADLINE_MOST = 60  # characters: with the pool's name and an age it is one line


@dataclass(frozen=True, slots=True)
class Situation:
    """``level``: good, info, warning or critical; ``todo``: what a person does, the command last; ``then``: what
    follows on it."""

    headline: str
    level: str
    age_ms: Ms
    lines: tuple[str, ...] = ()
    vms: str = ""
    todo: tuple[str, ...] = ()
    then: str = ""


# How grave a verdict is, and what it is called in a headline. {member}: whom it is about;
# {suspect}: what is not as it should be.
WORDS: dict[Verdict, tuple[str, str]] = {
    Verdict.IDENTITY_CONFLICT: ("critical", "TWO MACHINES CLAIM TO BE ONE HOST: FROZEN"),
    Verdict.HA_MANAGED: ("info", "xapi's own HA is on: Poolwarden only watches"),
    Verdict.TWO_MASTERS: ("critical", "TWO MASTERS: WAITING FOR YOU"),
    Verdict.EVIDENCE_CONFLICT: ("critical", "HOSTS DISAGREE ABOUT THE MASTER: NOTHING IS DONE"),
    Verdict.FENCE_DISPUTED: ("critical", "A DEVICE READ OFF A LIVING HOST: NOTHING IS DONE"),
    Verdict.UPGRADING: ("info", "rolling upgrade under way: nothing is done meanwhile"),
    Verdict.TRANSITION: ("info", "the master is being changed by order"),
    Verdict.PLANNED_DOWN: ("warning", "{master} was shut down by order: waiting for it"),
    Verdict.COLLECTOR_BLIND: ("critical", "THE COLLECTOR'S NETWORK IS BROKEN: NOTHING IS DONE"),
    Verdict.POOL_DARK: ("critical", "NO HOST IS HEARD: NOTHING IS DONE"),
    Verdict.NO_MASTER: ("critical", "NO HOST IS MASTER"),
    Verdict.LEARNING: ("warning", "no master has been seen yet"),
    Verdict.XAPI_HUNG: ("critical", "THE MASTER'S XAPI HANGS"),
    Verdict.XAPI_SLOW: ("warning", "the master's xapi is slow"),
    Verdict.XAPI_DOWN: ("critical", "THE MASTER'S XAPI IS DOWN"),
    Verdict.POOL_SPLIT: ("critical", "THE MASTER IS CUT OFF FROM ITS MEMBERS"),
    Verdict.UNREACHABLE: ("warning", "the collector does not reach the master, its members do"),
    Verdict.VANISHED: ("critical", "MASTER LOST"),
    Verdict.UNWITNESSED: ("critical", "MASTER SILENT, NOBODY CAN TELL IF IT LIVES"),
    Verdict.AGENT_LOST: ("warning", "an agent is silent, xapi on its host answers"),
    Verdict.ROLE_BROKEN: ("critical", "{member} IS NO MEMBER ANY MORE (its pool.conf is broken)"),
    Verdict.MEMBER_VANISHED: ("warning", "{member} is silent, and its xapi is not reached"),
    Verdict.MEMBER_EMERGENCY: ("warning", "{member} is in emergency mode"),
    Verdict.MEMBER_ORPHANED: ("warning", "{member} is not attached to the master"),
    Verdict.MEMBER_XAPI_DOWN: ("warning", "the xapi of {member} is down"),
    Verdict.SUSPECT: ("info", "{suspect}: being watched"),
    Verdict.HEALTHY: ("good", "healthy"),
}


def situation(pool: Snapshot, verdict: Verdict) -> Situation:
    """How this pool stands now."""
    if pool.site.stalled:
        lines = (f"Nothing of this pool can be recorded: {pool.site.stalled}", _AS_IT_WAS)
        return replace(in_short(pool, verdict), lines=lines, vms=vm_sentence(pool), todo=(_LOOK_AT_ETCD,))
    if _listens(pool, verdict):
        return in_short(pool, verdict)
    if _well(pool, verdict):
        found = matters(pool)
        return replace(_healthy(pool, found), vms=vm_sentence(pool), todo=_todo(found))
    level, words = _headline(pool, verdict)
    return Situation(words, level, _age(pool, verdict), _lines(pool, verdict), vm_sentence(pool),
                     steps(pool, verdict), _then(pool, verdict))  # fmt: skip


def in_short(pool: Snapshot, verdict: Verdict) -> Situation:
    """The same headline, level and age at a small part of the price, for a list of thousands."""
    if pool.site.stalled:
        return Situation(_STALLED, "critical", 0)
    if _listens(pool, verdict):
        left = (pool.quiet_until - pool.now) / 1000
        return Situation(f"the collector has just {takeover.just(pool)}: it listens for {left:.0f} s first", "info", 0)
    if _well(pool, verdict):
        return _healthy(pool, matters(pool))
    level, words = _headline(pool, verdict)
    return Situation(words, level, _age(pool, verdict))


def waits_for_a_person(pool: Snapshot, verdict: Verdict) -> bool:
    """Does nothing go on here before a person answers, or does what a standing failover needs?"""
    if pool.record.question is not None or (pool.failover is not None and pool.failover.standstill.blocker):
        return True
    return verdict in (Verdict.TWO_MASTERS, Verdict.UNWITNESSED, Verdict.IDENTITY_CONFLICT)


def _listens(pool: Snapshot, verdict: Verdict) -> bool:
    """Is what is missing only what has had no time to be heard?"""
    return pool.now < pool.quiet_until and verdict in (Verdict.LEARNING, Verdict.POOL_DARK, Verdict.SUSPECT)


def _well(pool: Snapshot, verdict: Verdict) -> bool:
    """Is the master fine, and does nothing go on about it?"""
    undisturbed = verdict is Verdict.HEALTHY and pool.failover is None and pool.record.question is None
    return undisturbed and not deposed(pool)


def _healthy(pool: Snapshot, found: tuple[Matter, ...]) -> Situation:
    """The master and its members are fine; what else is the matter comes first."""
    age = pool.now - pool.live.verdict.since if pool.live.verdict else 0
    if any(matter.severity != "info" for matter in found):
        return Situation(_joined(found), found[0].severity, age)
    watched, master = "" if pool.policy.mode != "observe" else ", only watched (mode observe)", verified(pool)
    return Situation(f"healthy: {pool.name(master)} is master{watched}" if master else "healthy", "good", age)


def _joined(found: tuple[Matter, ...]) -> str:
    """As many of them as a headline holds, the gravest first."""
    words = found[0].words
    for number, matter in enumerate(found[1:], 1):
        longer = f"{words}; {matter.words}"
        if len(longer) > HEADLINE_MOST:
            return f"{words}; {len(found) - number} more"
        words = longer
    return words


def _todo(found: tuple[Matter, ...]) -> tuple[str, ...]:
    """What to do about each, once."""
    return tuple(dict.fromkeys(step for matter in found for step in matter.todo))


def _headline(pool: Snapshot, verdict: Verdict) -> tuple[str, str]:
    """How grave it is, and the headline."""
    if deposed(pool) is not None:
        return "critical", "ANOTHER COLLECTOR IS IN CHARGE: THIS ONE DOES NOTHING"
    level, words = WORDS[verdict]
    names = {"master": pool.name(suspected(pool)), "member": troubled(pool, verdict), "suspect": _suspect(pool)}
    words = words.format(**names)
    failover = pool.failover
    if failover is not None and not failover.standstill.blocker and pool.record.question is None:
        old = pool.name(failover.old_master) if failover.old_master else "a lost master"
        return "critical", f"FAILOVER of {old} under way"
    state = _state(pool, verdict)
    return ("critical" if state and level != "info" else level), f"{words}{state}"


def _suspect(pool: Snapshot) -> str:
    """What is silent or unwell, where it has not lasted or is not corroborated."""
    master = suspected(pool)
    agent = pool.heard(master)
    if agent is None:
        return f"{pool.name(master)}, the master, is silent"
    if agent.facts.xapi.liveness is not Liveness.ANSWERS or not agent.facts.role.serves_as_master:
        return "the master's xapi does not answer"
    return f"{troubled(pool, Verdict.SUSPECT)} is silent or unwell"


def _state(pool: Snapshot, verdict: Verdict) -> str:
    """What goes on about it, as the second half of a headline."""
    failover = pool.failover
    if pool.record.question is not None:
        return ": WAITING FOR YOUR ANSWER"
    if pool.record.paused is not None:
        return ": PAUSED, NOTHING IS DONE"
    if failover is not None:
        return ": WAITING FOR YOU" if failover.standstill.blocker in SEE_IT_OFF else ": THE FAILOVER STANDS STILL"
    if verdict is Verdict.UNWITNESSED:
        return ": WAITING FOR YOU"
    if verdict is not Verdict.VANISHED:
        return ""
    if pool.policy.mode == "observe":
        return ": ONLY WATCHED, NOTHING IS DONE"
    if pool.record.asked.denied:
        return ": YOU SAID NO, NOTHING IS DONE"
    if may_begin(pool, verdict) is not None:
        return ": NOTHING IS DONE"
    on = view(pool, suspected(pool)).power is Power.ON
    return ": its power reads ON, waiting for it" if on else ": reading its power"


def _age(pool: Snapshot, verdict: Verdict) -> Ms:
    """Since when it is so: of a master that is silent, its silence."""
    master = suspected(pool)
    if verdict.entails.master_is_lost and master and pool.heard(master) is None:
        return silence_of(pool, master)
    return pool.now - pool.live.verdict.since if pool.live.verdict else 0


# ------------------------------------------------------------------------------------------------ what is known


def _lines(pool: Snapshot, verdict: Verdict) -> tuple[str, ...]:
    master, found = suspected(pool), []
    if verdict.entails.master_is_lost and master and pool.heard(master) is None:
        found += [_silent(pool, master), _power(pool, master)]
    elif verdict is not Verdict.SUSPECT:
        found.append(f"{verdict.meaning}{f' ({more})' if (more := detail(pool, verdict)) else ''}")
    if (other := deposed(pool)) is not None:
        found.append(other.text)
    found += [line] if (line := drill_report.sentence(pool)) else []
    failover = pool.failover
    if (
        failover is not None
        and failover.standstill.blocker
        and failover.standstill.blocker not in SEE_IT_OFF
        and not pool.record.question
    ):
        found.append(f"the failover stands still: {failover.standstill.why}")
    elif failover is not None and not failover.standstill.blocker and other is None and not pool.record.question:
        held = hold_reason(pool, failover, verdict)
        found += [f"the failover waits: {held}"] if held else []
    elif failover is None and verdict is Verdict.VANISHED and pool.record.paused is None:
        why = may_begin(pool, verdict)
        found += [f"no failover: {why.text}"] if why is not None else []
    return tuple(found)


def _silent(pool: Snapshot, master: HostId) -> str:
    """Whose xapi calls stay unanswered, and who still gets an answer."""
    probes = {host: p for host in sorted(pool.live.agents, key=pool.name) if (p := fresh_probe(pool, host, master))}
    dumb = [pool.name(host) for host, probe in probes.items() if not answered(probe) and host != master]
    own = own_probe(pool, master)
    dumb += ["collector"] if own is CollectorWitness.UNANSWERED else []
    name = pool.name(master)
    if not dumb:
        return f"{name} is silent; nobody else can tell whether its xapi answers."
    return f"{name} is silent; {', '.join(dumb)} get{'s' if len(dumb) == 1 else ''} no answer from its xapi."


def _power(pool: Snapshot, master: HostId) -> str:
    """What its power says about it, and what that means."""
    seen = view(pool, master)
    if seen.power is Power.OFF:
        return "Its power reads off."
    if seen.power is Power.ON:
        return "Its power reads ON: it may still run VMs and write to disks."
    if not pool.all_devices(master):
        return "It has no fence device: nobody can prove that it is off."
    return f"Nobody can prove that it is off: {seen.why}."


# ------------------------------------------------------------------------------------------------ what follows


def _then(pool: Snapshot, verdict: Verdict) -> str:
    """What Poolwarden does once the person has done what is asked."""
    failover, master = pool.failover, suspected(pool)
    waits = failover is None or failover.standstill.blocker in SEE_IT_OFF
    if not verdict.entails.master_is_lost or not waits or pool.heard(master) is not None:
        return ""
    if pool.record.paused is not None or pool.record.asked.denied:
        return "then Poolwarden goes on by itself" if pool.record.paused is not None else ""
    best = next((each for each in rank(pool, master, None) if not each.limitation), None)
    if best is None:
        return f"no host could become master: poolwarden explain {pool.record.display_name} says why"
    return f"then {best.name} becomes master: {_database(pool, best.host)}{_kills(pool, best.host)}"


def _database(pool: Snapshot, host: HostId) -> str:
    copy = age(pool, host)
    if copy.age_ms is None:
        return "the age of its database is not known"
    return f"its database is {span(copy.age_ms)} old" if copy.behind else "its database is current"


def _kills(pool: Snapshot, host: HostId) -> str:
    """Once the candidate is chosen its database has been read, and nothing would be killed or somebody said yes."""
    failover = pool.failover
    chosen = failover is not None and failover.candidate == host and failover.step is not Step.DECIDED
    return ", no running VM is killed" if chosen and failover is not None and not failover.approval else ""
