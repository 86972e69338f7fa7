"""A master that is gone: read its power, then decide or ask.

Reading the power harms nobody and is done before anything is decided. OFF needs no patience; ON asks a person. Where
nobody is master by every host's word, the newest database is promoted. A master that its members do not reach is left
alone, unless the policy has it relocated by a toolstack fence.
"""

from __future__ import annotations

from poolwarden.assumptions import HANDOVER, POWER, TOOLSTACK_FENCE
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
    quiet_time,
    set_to_be_master,
)
from poolwarden_collector.core.devices import device_binding
from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence import assumptions, fenced_hosts
from poolwarden_collector.core.evidence.closed_door import closed_door
from poolwarden_collector.core.evidence.operator_confirmation import spoken
from poolwarden_collector.core.evidence.signs import configured_masters, serving, silence_of, suspected
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover import claim_round, last_look
from poolwarden_collector.core.failover import steps as machine
from poolwarden_collector.core.model.asks import OF_MEMBERS, Ask, Tell
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Path, Step
from poolwarden_collector.core.state.question_record import Needs
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

# ------------------------------------------------------------------------------------------------ power


# ------------------------------------------------------------------------------------------------ decide or ask


def succeed(tx: Transaction, verdict: Verdict) -> None:
    """MasterVanished: decide at once on a person's word, on OFF or when no reading can be had, or after patience by
    policy; else ask.
    """
    if tx.failover is None and _word_waits(tx) and not word_refusal(tx, suspected(tx), verdict):
        by_word(tx, suspected(tx))
        return
    if tx.failover is not None or verdict is not Verdict.VANISHED:
        _withdraw(tx, verdict)
        return
    if tx.quiet:
        return
    refusal = may_begin(tx, verdict)
    if refusal:
        _hold(tx, refusal.within(f"no failover: {refusal}"))
        return
    master = suspected(tx)
    power = view(tx, master)
    if power.power is Power.OFF:
        begin(tx, power.why)
    elif grace := boot_grace(tx):
        _hold(tx, grace.within(f"no failover: {grace}; {power.why}"))
    elif power.power is Power.UNKNOWN:
        if machine.exhausted(tx, master):
            begin(tx, power.why)
    elif silence_of(tx, master) >= patience(tx, master) and (foreign := device_binding.unusable(tx, master)):
        _hold(tx, foreign.within(f"{power.why}, and {foreign}"), " --despite-power-on")
    elif silence_of(tx, master) >= patience(tx, master):
        # safety: a device of which something has failed may switch another machine off: a person says that it is this.
        unsure = assumptions.refusal(tx, master, POWER)
        by_itself = tx.policy.auto_fence_running and not needs_approval(tx) and unsure is None
        if by_itself and not unheard_members.unheard_alive(tx):
            machine.decide(tx, f"{power.why}, and patience is over")
        else:
            ask_shot(tx, master)


def word_refusal(pool: Snapshot, host: HostId, verdict: Verdict) -> str:
    """Why a word that this host is off decides no failover now and is none's proof, in one sentence; empty if it does.

    It stands in for mode and cool-down, not for the rest.
    """
    failover = pool.failover
    if host != suspected(pool):
        return "it is not the master that vanished"
    if serving(pool):
        return f"{pool.name(serving(pool)[0])} serves as master"
    if failover is not None:
        after = failover.step not in REVERSIBLE and failover.step is not Step.PROMOTING
        return f"failover {failover.id} is past its proof" if after else ""
    if poised := [other for other in configured_masters(pool) if other != host]:
        return f"no failover begins: {set_to_be_master(pool, poised[0])}"
    if verdict not in (Verdict.VANISHED, Verdict.UNWITNESSED):
        return f"no failover begins while the pool is {verdict.word}: {verdict.meaning}"
    if pool.record.paused is not None:
        return f"no failover begins: the pool is paused: {pool.record.paused}"
    if pool.quiet:
        return f"no failover begins: {quiet_time(pool)}"
    held = deposed(pool)
    return held.text if held is not None else ""


def _word_waits(pool: Snapshot) -> bool:
    """Was it said of the master, in this run, when it could begin nothing? Each word is used once."""
    host = suspected(pool)
    used = (
        pool.live.fenced.word_used is not None and pool.live.fenced.words_at.get(host, -1) <= pool.live.fenced.word_used
    )
    return spoken(pool, host) is not None and not used


def by_word(tx: Transaction, host: HostId) -> None:
    """The word about the master that vanished decides a failover, or is the open one's proof."""
    word = tx.record.confirmed[host]
    if tx.failover is None:
        machine.decide(tx, f"{word.by} confirmed that {tx.name(host)} is safe")
    data = {"host": host, "by": word.by, "how": word.how, "typed": tx.name(host)}
    text = f"{word.by} confirmed that {tx.name(host)} is safe: {word.how}"
    text += " (power reads ON)" if word.despite_power_on else ""
    tx.note(Kind.HUMAN_CONFIRMED, text, word.by, **data, despite_power_on=word.despite_power_on)
    # The claim, the candidate check and the last look are repeated after the confirmation. What was said counts from
    # when it was said, not from now.
    fenced_hosts.use_word(tx, host)
    claim_round.forget(tx)
    last_look.drop(tx)


def begin(tx: Transaction, why: str, path: Path = Path.POWER) -> None:
    """Decide, or ask first where the mode, the cool-down, a member that is alive and not heard, or an assumption that
    failed where the master's toolstack would be held says so.
    """
    host = suspected(tx)
    unsure = assumptions.refusal(tx, host, TOOLSTACK_FENCE, HANDOVER) if path is Path.TOOLSTACK else None
    word, hosts = needs_approval(tx) or unsure, unheard_members.unheard_alive(tx)
    if not word and not hosts:
        machine.decide(tx, why, path)
        return
    best = next((r for r in rank(tx, host if path is not Path.ROLES else "", None) if not r.limitation), None)
    if unheard_members.names_are_read(tx, hosts, best.host if best is not None else ""):
        return
    kind, held = _kind_of_word(tx, word, hosts, path)
    whom = f"{tx.name(host)} is not succeeded by itself" if path is not Path.ROLES else "nobody is promoted by itself"
    cooling = word is not None and word.code in (Cause.COOLDOWN, Cause.DOUBT)
    note = (
        *((f"{word}; poolwarden acknowledge {tx.record.display_name} ends it",) if cooling else ()),
        *unheard_members.stake(tx, hosts),
    )
    chosen = f"the candidate: {best.text}" if best is not None else "nobody could be promoted now"
    others = (word.key,) if word is not None else ()
    vms, what = unheard_members.named_vms(tx, hosts), f"{whom}: {why}; {held}"
    failed: tuple[str, ...] = ()
    if unsure is not None:
        failed = unsure.subjects
        note = (*note, *((unsure.text,) if word is not unsure else ()))
    questions.ask(
        tx, kind, host, what, (*note, chosen), vms=vms, path=path.value, others=others, hosts=hosts, failed=failed
    )


def _kind_of_word(pool: Snapshot, word: Reason | None, hosts: tuple[HostId, ...], path: Path) -> tuple[Ask, str]:
    """What kind of question it is, and what holds the failover, in one clause."""
    unheard = unheard_members.said(pool, hosts) + unheard_members.last_seen(pool, hosts) if hosts else ""
    if not word:
        return Ask.UNHEARD, unheard
    cooling = word.code is Cause.COOLDOWN  # its minutes pass, and the question stays the same
    held = "the pool is in the cool-down after the last failover" if cooling else word.text
    return Ask.TOOLSTACK if path is Path.TOOLSTACK else Ask.FAILOVER, f"{held}; {unheard}" if hosts else held


def ask_shot(tx: Transaction, master: HostId, at_once: bool = False) -> None:
    """The power reads ON and patience is over: may it be powered off, and another host promoted?"""
    needs = Needs(shoot=True, stale_ms=fencing_stakes.stale_need(tx, master))
    hosts = unheard_members.unheard_alive(tx)
    unsure = assumptions.refusal(tx, master, POWER)
    found = (
        *((unsure.text,) if unsure is not None else ()),
        *fencing_stakes.of_shot(tx, master),
        *unheard_members.stake(tx, hosts),
        f"or make sure that it is off, then: poolwarden confirm-fenced {tx.name(master)}",
    )
    what, vms, path = fencing_stakes.shot(tx, master), fencing_stakes.vms(tx, master), Path.POWER.value
    failed = unsure.subjects if unsure is not None else ()
    questions.ask(
        tx, Ask.SHOOT, master, what, found, needs, path=path, others=vms, at_once=at_once, hosts=hosts, failed=failed
    )


def without_master(tx: Transaction, verdict: Verdict) -> None:
    """NoMaster: promote the newest database, once every host on record is heard; else say who is missing."""
    if tx.failover is not None or verdict is not Verdict.NO_MASTER or tx.quiet:
        return
    refusal = roles_refusal(tx)
    if refusal:
        missing = _missing(tx)
        fenced_hosts.await_confirmation(tx, missing)
        step = f". {fenced_hosts.next_step(tx, missing)}" if missing and not firm_refusal(tx) else ""
        heading = "no host serves as master, and none is promoted"
        questions.report_refusal(tx, Tell.NO_MASTER, refusal, f"{heading}: {refusal}{step}", heading, step[2:])
    elif not may_begin_again(tx):
        off = [why for host in sorted(tx.record.hosts, key=tx.name) if (why := fenced_hosts.excused(tx, host))]
        whole = "all hosts of the pool are heard and none is master"
        begin(tx, "; ".join(["every heard host says that it is no master", *off]) if off else whole, Path.ROLES)


def roles_refusal(pool: Snapshot) -> Reason | None:
    """Why nobody may be promoted in a pool that has no master, not even at an operator's approval."""
    missing = tuple(_missing(pool))
    names = ", ".join(pool.name(host) for host in missing)
    absent = f"{names} {'is' if len(missing) == 1 else 'are'} not heard and may be the master"
    # safety: who is set to be master may serve at any moment; nobody is promoted beside it, and its claim would veto.
    poised = configured_masters(pool)
    seen = set_to_be_master(pool, poised[0]) if poised else None
    return firm_refusal(pool) or (Reason(Cause.NOT_HEARD, absent, missing) if missing else None) or seen


def _missing(pool: Snapshot) -> list[HostId]:
    """The silent hosts that may be the master: neither proven off nor confirmed off by a person."""
    silent = [host for host in sorted(pool.record.hosts, key=pool.name) if not pool.heard(host)]
    return [host for host in silent if not fenced_hosts.excused(pool, host)]


def relocate(tx: Transaction, verdict: Verdict) -> None:
    """PoolSplit: by policy, hold the toolstack of the master that its members do not reach, and promote one of them."""
    if tx.failover is not None or verdict is not Verdict.POOL_SPLIT or tx.quiet or not tx.policy.relocate_split:
        return
    if tx.now - tx.live.verdict.since < patience(tx, suspected(tx)):
        return
    refusal = relocation_refusal(tx, verdict)
    if refusal:
        name = tx.name(suspected(tx))
        heading = f"master {name} is cut off from its members and is not relocated"
        text = f"{name} is cut off from its members and is not relocated: {refusal}"
        questions.report_refusal(tx, Tell.SPLIT, refusal, text, heading, "")
    else:
        begin(tx, "its members do not reach it, and the policy has it relocated", Path.TOOLSTACK)


def relocation_refusal(pool: Snapshot, verdict: Verdict) -> Reason | None:
    """Why a master that is cut off from its members must not be relocated now, not even at an operator's word."""
    door = closed_door(pool, suspected(pool))
    if door is not None:
        # safety: what refuses already proves nothing when it refuses after a hold.
        shut = f"it refuses everybody already, so nobody could see its ports close ({door.why}); {door.fix}"
        return Reason(Cause.NO_PROBER, shut)
    unseen = "the collector's own probe has not reached its xapi: nobody could see its port closed"
    return hold_refusal(pool, verdict) or (None if own_standing(pool) else Reason(Cause.NO_PROBER, unseen))


def _hold(tx: Transaction, what: Reason, option: str = "") -> None:
    """Say why nothing is begun, and what a person can do all the same."""
    name = tx.name(suspected(tx))
    pool = tx.record.display_name
    step = f"Make sure that {name} is off, then: poolwarden confirm-fenced {name}{option}"
    if tx.record.paused is not None:
        step = f"To have Poolwarden act: poolwarden resume {pool}"
    elif why := word_refusal(tx, suspected(tx), Verdict.VANISHED):
        step = f"A person's word that {name} is off would change nothing now: {why}"
    heading = f"master {name} has vanished, and nothing is promoted"
    questions.report_refusal(tx, Tell.VANISHED, what, f"{name}: {what}. {step}", heading, step)


def _withdraw(tx: Transaction, verdict: Verdict) -> None:
    """The verdict that the question was asked for is over."""
    if tx.failover is not None:
        questions.resolve_refusal(tx, f"failover {tx.failover.id} is decided", final=True)
    if verdict.entails.keeps_question or tx.quiet:
        return
    questions.resolve_refusal(tx, f"the pool is {verdict.word} now")
    question = tx.record.question
    if tx.failover is None and question is not None and question.kind not in OF_MEMBERS:
        questions.withdraw(tx, f"the pool is {verdict.word} now")
