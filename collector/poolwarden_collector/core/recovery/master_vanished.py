"""A master that is gone: read its power, then decide or ask.

Reading the power harms nobody and is done before anything is decided. OFF needs no patience; ON asks a person. Where
nobody is master by every host's word, the newest database is promoted. A master that its members do not reach is left
alone, unless the policy has it relocated by a toolstack fence.
"""

from __future__ import annotations

from poolwarden_collector.core.decision import fencing_stakes, questions, unheard_members
from poolwarden_collector.core.decision.candidate_ranking import rank
from poolwarden_collector.core.decision.permission import (
    boot_grace,
    deposed,
    firm_refusal,
    hold_refusal,
    may_begin,
    may_begin_again,
    needs_approval,
    own_standing,
    patience,
    set_to_be_master,
)
from poolwarden_collector.core.devices import device_binding
from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence import fenced_hosts
from poolwarden_collector.core.evidence.operator_confirmation import spoken
from poolwarden_collector.core.evidence.signs import configured_masters, serving, silence_of, suspected
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover import steps as machine
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Path, Step
from poolwarden_collector.core.state.question_record import OF_MEMBERS, Ask, Needs, Tell
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

# ------------------------------------------------------------------------------------------------ power


# ------------------------------------------------------------------------------------------------ decide or ask


def succeed(d: Transaction, verdict: Verdict) -> None:
    """MasterVanished: decide at once on a person's word, on OFF or when no reading can be had, or after patience by
    policy; else ask.
    """
    if d.failover is None and _word_waits(d) and not word_refusal(d, suspected(d), verdict):
        by_word(d, suspected(d))
        return
    if d.failover is not None or verdict is not Verdict.VANISHED:
        _withdraw(d, verdict)
        return
    if d.quiet:
        return
    refusal = may_begin(d, verdict)
    if refusal:
        _hold(d, refusal.within(f"no failover: {refusal}"))
        return
    master = suspected(d)
    power = view(d, master)
    if power.power is Power.OFF:
        begin(d, power.why)
    elif grace := boot_grace(d):
        _hold(d, grace.within(f"no failover: {grace}; {power.why}"))
    elif power.power is Power.UNKNOWN:
        if machine.exhausted(d, master):
            begin(d, power.why)
    elif silence_of(d, master) >= patience(d, master) and (foreign := device_binding.unusable(d, master)):
        _hold(d, foreign.within(f"{power.why}, and {foreign}"), " --despite-power-on")
    elif silence_of(d, master) >= patience(d, master):
        if d.policy.auto_fence_running and not needs_approval(d) and not unheard_members.unheard_alive(d):
            machine.decide(d, f"{power.why}, and patience is over")
        else:
            ask_shot(d, master)


def word_refusal(d: Snapshot, host: HostId, verdict: Verdict) -> str:
    """Why a word that this host is off decides no failover now and is none's proof, in one sentence; empty if it does.

    It stands in for mode and cool-down, not for the rest.
    """
    failover = d.failover
    if host != suspected(d):
        return "it is not the master that vanished"
    if serving(d):
        return f"{d.name(serving(d)[0])} serves as master"
    if failover is not None:
        after = failover.step not in REVERSIBLE and failover.step is not Step.PROMOTING
        return f"failover {failover.id} is past its proof" if after else ""
    if poised := [other for other in configured_masters(d) if other != host]:
        return f"no failover begins: {set_to_be_master(d, poised[0])}"
    if verdict not in (Verdict.VANISHED, Verdict.UNWITNESSED):
        return f"no failover begins while the pool is {verdict.word}: {verdict.meaning}"
    if d.record.paused is not None:
        return f"no failover begins: the pool is paused: {d.record.paused}"
    if d.quiet:
        return f"no failover begins: start-up quiet time, {(d.quiet_until - d.now) / 1000:.0f} s left"
    held = deposed(d)
    return held.text if held is not None else ""


def _word_waits(d: Snapshot) -> bool:
    """Was it said of the master, in this run, when it could begin nothing? Each word is used once."""
    host = suspected(d)
    used = d.live.human_at is not None and d.live.words_at.get(host, -1) <= d.live.human_at
    return spoken(d, host) is not None and not used


def by_word(d: Transaction, host: HostId) -> None:
    """The word about the master that vanished decides a failover, or is the open one's proof."""
    word = d.record.confirmed[host]
    if d.failover is None:
        machine.decide(d, f"{word.by} confirmed that {d.name(host)} is safe")
    data = {"host": host, "by": word.by, "how": word.how, "typed": d.name(host)}
    text = f"{word.by} confirmed that {d.name(host)} is safe: {word.how}"
    text += " (power reads ON)" if word.despite_power_on else ""
    d.note(Kind.HUMAN_CONFIRMED, text, word.by, **data, despite_power_on=word.despite_power_on)
    # The claim, the candidate check and the last look are repeated after the confirmation. What was said counts from
    # when it was said, not from now.
    d.change(human_at=d.live.words_at[host], claims={}, claims_since=None, look=None)


def begin(d: Transaction, why: str, path: Path = Path.POWER) -> None:
    """Decide, or ask first where the mode, the cool-down or a member that is alive and not heard says so."""
    word, hosts = needs_approval(d), unheard_members.unheard_alive(d)
    if not word and not hosts:
        machine.decide(d, why, path)
        return
    host = suspected(d)
    best = next((r for r in rank(d, host if path is not Path.ROLES else "", None) if not r.limitation), None)
    if unheard_members.names_are_read(d, hosts, best.host if best is not None else ""):
        return
    kind, held = _kind_of_word(d, word, hosts, path)
    whom = f"{d.name(host)} is not succeeded by itself" if path is not Path.ROLES else "nobody is promoted by itself"
    cooling = word is not None and word.code in (Cause.COOLDOWN, Cause.DOUBT)
    note = (
        *((f"{word}; poolwarden acknowledge {d.record.name or d.record.pool} ends it",) if cooling else ()),
        *unheard_members.stake(d, hosts),
    )
    chosen = f"the candidate: {best.text}" if best is not None else "nobody could be promoted now"
    others = (word.key,) if word is not None else ()
    vms, what = unheard_members.named_vms(d, hosts), f"{whom}: {why}; {held}"
    questions.ask(d, kind, host, what, (*note, chosen), vms=vms, path=path.value, others=others, hosts=hosts)


def _kind_of_word(d: Snapshot, word: Reason | None, hosts: tuple[HostId, ...], path: Path) -> tuple[Ask, str]:
    """What kind of question it is, and what holds the failover, in one clause."""
    unheard = unheard_members.said(d, hosts) + unheard_members.last_seen(d, hosts) if hosts else ""
    if not word:
        return Ask.UNHEARD, unheard
    cooling = word.code is Cause.COOLDOWN  # its minutes pass, and the question stays the same
    held = "the pool is in the cool-down after the last failover" if cooling else word.text
    return Ask.TOOLSTACK if path is Path.TOOLSTACK else Ask.FAILOVER, f"{held}; {unheard}" if hosts else held


def ask_shot(d: Transaction, master: HostId, at_once: bool = False) -> None:
    """The power reads ON and patience is over: may it be powered off, and another host promoted?"""
    needs = Needs(shoot=True, stale_ms=fencing_stakes.stale_need(d, master))
    hosts = unheard_members.unheard_alive(d)
    found = (
        *fencing_stakes.of_shot(d, master),
        *unheard_members.stake(d, hosts),
        f"or make sure that it is off, then: poolwarden confirm-fenced {d.name(master)}",
    )
    what, vms, path = fencing_stakes.shot(d, master), fencing_stakes.vms(d, master), Path.POWER.value
    questions.ask(d, Ask.SHOOT, master, what, found, needs, path=path, others=vms, at_once=at_once, hosts=hosts)


def without_master(d: Transaction, verdict: Verdict) -> None:
    """NoMaster: promote the newest database, once every host on record is heard; else say who is missing."""
    if d.failover is not None or verdict is not Verdict.NO_MASTER or d.quiet:
        return
    refusal = roles_refusal(d)
    if refusal:
        title = f"{d.record.name or d.record.pool}: no host serves as master, and none is promoted"
        missing = _missing(d)
        fenced_hosts.await_confirmation(d, missing)
        step = f". {fenced_hosts.next_step(d, missing)}" if missing and not firm_refusal(d) else ""
        text = f"no host serves as master, and none is promoted: {refusal}{step}"
        questions.report_refusal(d, Tell.NO_MASTER, refusal, text, title)
    elif not may_begin_again(d):
        off = [why for host in sorted(d.record.hosts, key=d.name) if (why := fenced_hosts.excused(d, host))]
        whole = "all hosts of the pool are heard and none is master"
        begin(d, "; ".join(["every heard host says that it is no master", *off]) if off else whole, Path.ROLES)


def roles_refusal(d: Snapshot) -> Reason | None:
    """Why nobody may be promoted in a pool that has no master, not even at an operator's approval."""
    missing = tuple(_missing(d))
    names = ", ".join(d.name(host) for host in missing)
    absent = f"{names} {'is' if len(missing) == 1 else 'are'} not heard and may be the master"
    # safety: who is set to be master may serve at any moment; nobody is promoted beside it, and its claim would veto.
    poised = configured_masters(d)
    seen = set_to_be_master(d, poised[0]) if poised else None
    return firm_refusal(d) or (Reason(Cause.NOT_HEARD, absent, missing) if missing else None) or seen


def _missing(d: Snapshot) -> list[HostId]:
    """The silent hosts that may be the master: neither proven off nor confirmed off by a person."""
    silent = [host for host in sorted(d.record.hosts, key=d.name) if not d.heard(host)]
    return [host for host in silent if not fenced_hosts.excused(d, host)]


def relocate(d: Transaction, verdict: Verdict) -> None:
    """PoolSplit: by policy, hold the toolstack of the master that its members do not reach, and promote one of them."""
    if d.failover is not None or verdict is not Verdict.POOL_SPLIT or d.quiet or not d.policy.relocate_split:
        return
    if d.now - d.live.verdict_since < patience(d, suspected(d)):
        return
    refusal = relocation_refusal(d, verdict)
    if refusal:
        name = d.name(suspected(d))
        title = f"{d.record.name or d.record.pool}: master {name} is cut off from its members and is not relocated"
        text = f"{name} is cut off from its members and is not relocated: {refusal}"
        questions.report_refusal(d, Tell.SPLIT, refusal, text, title)
    else:
        begin(d, "its members do not reach it, and the policy has it relocated", Path.TOOLSTACK)


def relocation_refusal(d: Snapshot, verdict: Verdict) -> Reason | None:
    """Why a master that is cut off from its members must not be relocated now, not even at an operator's word."""
    unseen = "the collector's own probe has not reached its xapi: nobody could see its port closed"
    return hold_refusal(d, verdict) or (None if own_standing(d) else Reason(Cause.NO_PROBER, unseen))


def _hold(d: Transaction, what: Reason, option: str = "") -> None:
    """Say why nothing is begun, and what a person can do all the same."""
    name = d.name(suspected(d))
    pool = d.record.name or d.record.pool
    step = f"Make sure that {name} is off, then: poolwarden confirm-fenced {name}{option}"
    if d.record.paused is not None:
        step = f"To have Poolwarden act: poolwarden resume {pool}"
    elif why := word_refusal(d, suspected(d), Verdict.VANISHED):
        step = f"A person's word that {name} is off would change nothing now: {why}"
    title = f"{d.record.name or d.record.pool}: master {name} has vanished, and nothing is promoted"
    questions.report_refusal(d, Tell.VANISHED, what, f"{name}: {what}. {step}", title)


def _withdraw(d: Transaction, verdict: Verdict) -> None:
    """The verdict that the question was asked for is over."""
    if d.failover is not None:
        questions.resolve_refusal(d, f"failover {d.failover.id} is decided", final=True)
    if verdict.entails.keeps_question or d.quiet:
        return
    questions.resolve_refusal(d, f"the pool is {verdict.word} now")
    question = d.record.question
    if d.failover is None and question is not None and question.kind not in OF_MEMBERS:
        questions.withdraw(d, f"the pool is {verdict.word} now")
