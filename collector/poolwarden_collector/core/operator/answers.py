"""An operator's answers: approve, deny, acknowledge. Each is answered with a reason.

Rules
-----
* A yes decides nothing against what no operator overrules: the verdict, a pause, an armed HA, the quiet time, a blind
  collector, a higher epoch, too few survivors. It overrules the mode *ask* and the cool-down, and the journal says so.
* It must contain every number that is at stake *now*, not when it was asked; else it is refused with the command that
  would do. Where the VMs at stake are others than the question named, that one is withdrawn and the new one put first:
  the command that the refusal names is the new question's, so it is accepted when it is typed.
* A yes to powering the old master off has that host's name typed with it, whatever the question is about.
* It is for one question, by its id. A pool's or a failover's name stands for it only while no other question has been
  asked in this incident.
* A yes to a question without a failover decides one, with the approval attached; everything is looked at again on the
  way, up to the promote intent.
* A no closes the question, and aborts the failover that stands still for it; what it fenced is released (ending.py). So
  it does with a restart in place that waits for the yes, its host held.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from poolwarden_collector.core.decision import backoff, database_age, questions
from poolwarden_collector.core.decision.candidate_ranking import rank
from poolwarden_collector.core.decision.permission import boot_grace, hold_refusal, may_begin, needs_approval, not_now
from poolwarden_collector.core.devices import device_binding
from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence import journal_gap
from poolwarden_collector.core.evidence.signs import suspected
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover import candidate_check, ending, promotion, steps
from poolwarden_collector.core.failover import steps as machine
from poolwarden_collector.core.failover.ending import abort
from poolwarden_collector.core.model.asks import OF_MEMBERS, Ask
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.reasons import Reason
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.recovery import master_restart, member_repair, recover_members
from poolwarden_collector.core.recovery.master_vanished import ask_shot, relocation_refusal, roles_refusal
from poolwarden_collector.core.state import waiting_commands
from poolwarden_collector.core.state.alert_topic import Matter
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Failover, Path, Step
from poolwarden_collector.core.state.question_record import Needs, Question
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

EVIDENCE_WAIT_MS: Ms = 8_000
# What is asked after the promote intent as well.
_OF_A_LATER_SEND = (
    Ask.UNHEARD,
    Ask.KILL,
    Ask.STALE,
    Ask.GENERATION,
    Ask.UNSOUND,
)


def approve(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``approve``: yes to what is asked, as far as the given numbers reach. An empty answer: evidence is awaited."""
    question = tx.record.question
    if question is None:
        shot = said.arg("shoot") == "yes" and view(tx, suspected(tx)).power is Power.ON
        return (_no_shot(tx, suspected(tx)) if shot else None) or _nothing_asked(tx)
    if (wrong := _wrong_id(tx, said, question)) is not None:
        return wrong
    given = _given(said)
    if isinstance(given, Refused):
        return given
    if not question.failover and question.kind in (Ask.RESTART, Ask.OTHER_COPY, *OF_MEMBERS):
        # safety: nobody is powered off for it, so a yes to that was not meant, and must not be found here later.
        return _approve_remedy(tx, said, verdict, question, replace(given, shoot=False))
    if given.shoot and (unnamed := _not_named(tx, said, question)) is not None:
        return unnamed
    if question.failover:
        return _approve_open(tx, said, verdict, question, given)
    return _approve_decision(tx, said, verdict, question, given)


def _given(said: OperatorSaid) -> Needs | Refused:
    """The numbers of a yes."""
    kill, stale = said.arg("accept_kill") or "0", said.arg("accept_stale") or "0"
    if not (kill.isdigit() and stale.isdigit()):
        return Refused("bad-number", f"accepted VMs {kill!r} and age {stale!r} ms must be whole numbers, not negative")
    return Needs(int(kill), int(stale), said.arg("shoot") == "yes")


def _not_named(pool: Snapshot, said: OperatorSaid, question: Question) -> Refused | None:
    """Why this yes may have no host powered off: the name of the one that would be was not typed."""
    failover = pool.failover
    host = failover.old_master if failover is not None and question.failover else question.host
    typed, name = said.arg("typed_name"), pool.name(host)
    # safety: whoever cannot spell out the host's name has not looked which one it is, whatever program asks for him.
    if typed and typed in (name, host):
        return None
    what = f"{typed!r} was typed" if typed else "its name was not typed"
    command = questions.approve_command(question.id, replace(question.needs, shoot=True))
    step = f"{command} --name {name}" if not typed else command
    return Refused("name-not-typed", f"{name} would be powered off with its VMs, and {what}", step)


def _nothing_asked(pool: Snapshot) -> Refused:
    if pool.record.asked.denied:
        why = "; ".join(pool.record.asked.denied.values())
        step = f"poolwarden acknowledge {pool.record.display_name}: then it is asked anew"
        return Refused("nothing-asked", f"nothing is asked of an operator now: {why}", step)
    return Refused(
        "nothing-asked", "nothing is asked of an operator now", "poolwarden explain POOL tells what is waited for"
    )


def _wrong_id(pool: Snapshot, said: OperatorSaid, question: Question) -> Refused | None:
    wanted = said.arg("id")
    # safety: whoever has not seen this question cannot say yes to it, whatever else he has been asked here.
    if wanted == question.id or (wanted in ("", pool.record.pool, pool.record.name) and not pool.record.asked.replaced):
        return None
    what = f"{wanted} is not what is asked now" if wanted else "something else was asked here before"
    step = f"{questions.approve_command(question.id, question.needs)}; or poolwarden deny {question.id}"
    return Refused("wrong-question", f"{what}: {question.id} is: {question.what}", step)


# ------------------------------------------------------------------------------------------------ an open failover


def _approve_open(
    tx: Transaction, said: OperatorSaid, verdict: Verdict, question: Question, given: Needs
) -> str | Refused:
    failover = tx.failover
    late = failover is not None and failover.step is Step.PROMOTING and question.kind in _OF_A_LATER_SEND
    if failover is None or failover.id != question.failover or not (late or failover.step in REVERSIBLE):
        return Refused("too-late", f"failover {question.failover} does not stand still for it any more")
    if held := steps.hold_reason(tx, failover, verdict) or ("" if late else machine.ungrounded(tx, failover, verdict)):
        return Refused("held", f"failover {failover.id} may not go on: {held}", "poolwarden explain POOL")
    before = questions.approval(tx, failover)
    given = Needs(
        max(given.kill, int(before.get("accept_kill", 0))),
        max(given.stale_ms, int(before.get("accept_stale_ms", 0))),
        given.shoot or bool(before.get("shoot")),
    )
    if question.kind is Ask.SHOOT and (no := _no_shot(tx, failover.old_master)):
        return no
    if question.kind in (Ask.KILL, Ask.STALE, Ask.GENERATION, Ask.UNSOUND):
        # safety: what is at stake is made anew at this instant; a yes to one set of VMs is none to another.
        candidate_check.ask_again(tx, failover, failover.candidate or question.host)
        if (anew := questions.other_now(tx, question)) is not None:
            return anew
    needs = _needs_now(tx, failover, question)
    if short := _falls_short(question, given, needs, question.what):
        return short
    _attach(tx, said, question, given, question.vms or tuple(before.get("vms", ())))
    return f"approved; failover {failover.id} goes on, and everything is looked at again"


def _no_shot(pool: Snapshot, host: HostId) -> Refused | None:
    """Why a yes to a shot of this host is refused: no device could carry it out on this very machine."""
    foreign, name = device_binding.unusable(pool, host), pool.name(host)
    step = f"Make sure that {name} is off, then: poolwarden confirm-fenced {name} --despite-power-on"
    return Refused("other-machine", foreign.text, step) if foreign is not None else None


def _needs_now(pool: Snapshot, failover: Failover, question: Question) -> Needs:
    """What a yes to this question must contain at this instant."""
    shoot = question.needs.shoot and view(pool, failover.old_master).power is Power.ON
    return Needs(question.needs.kill, question.needs.stale_ms, shoot)


def _falls_short(question: Question, given: Needs, needs: Needs, why: str) -> Refused | None:
    """What the yes does not cover, with the command that would."""
    enough = given.kill >= needs.kill and given.stale_ms >= needs.stale_ms and (given.shoot or not needs.shoot)
    if enough:
        return None
    missing = []
    if given.kill < needs.kill:
        missing.append(f"{needs.kill} running VM{'s'[: needs.kill > 1]} would be killed, {given.kill} accepted")
    if given.stale_ms < needs.stale_ms:
        accepted = f"{given.stale_ms / 60_000:.0f} min" if given.stale_ms else "none"
        missing.append(f"a database {needs.stale_ms / 60_000:.0f} min old would be promoted, {accepted} accepted")
    if needs.shoot and not given.shoot:
        missing.append("a machine whose power reads ON would be powered off, which is not accepted without --shoot")
    return Refused("more-at-stake", f"{'; '.join(missing)} ({why})", questions.approve_command(question.id, needs))


def _attach(tx: Transaction, said: OperatorSaid, question: Question, given: Needs, vms: tuple[str, ...]) -> None:
    """Journal the yes on the open failover; it counts from now."""
    failover = tx.failover
    overruled = needs_approval(tx) if question.kind not in OF_MEMBERS else None  # these move no role
    # What was said yes to before in this failover still counts; a remedy's yes is about no other host.
    earlier = questions.approval(tx, failover) if failover is not None else {}
    before, copies_before = earlier.get("hosts", ()), earlier.get("generations", {})
    # safety: a yes to a copy that is far ahead is none to one that cannot be loaded, and the other way round.
    copy = {question.host: question.generation} if question.kind is Ask.GENERATION else {}
    unsound = {question.host: question.generation} if question.kind is Ask.UNSOUND else {}
    beyond = f"; overruled: {overruled}" if overruled else ""
    data: dict[str, Any] = {
        "question": question.id,
        "kind": question.kind.value,
        "ground": question.ground,
        "by": said.actor,
        "accept_kill": given.kill,
        "accept_stale_ms": given.stale_ms,
        "shoot": given.shoot,
        "vms": list(vms),
        "hosts": sorted({*question.hosts, *before}),
        "generations": {**copies_before, **copy},
        "unsound": {**earlier.get("unsound", {}), **unsound},
        "failed": sorted({*question.failed, *earlier.get("failed", ())}),
        "overruled": overruled.text if overruled else "",
    }
    tx.note(Kind.APPROVED, f"{said.actor} approved: {question.what}{_in_words(given)}{beyond}", said.actor, **data)
    questions.note_approval(tx)


def _in_words(given: Needs) -> str:
    words = [f"{given.kill} VMs may be killed"] if given.kill else []
    words += [f"a database up to {given.stale_ms / 60_000:.0f} min old is accepted"] if given.stale_ms else []
    words += ["it may be powered off"] if given.shoot else []
    return f" ({', '.join(words)})" if words else ""


# ------------------------------------------------------------------------------------------------ nothing decided yet


def _approve_decision(
    tx: Transaction, said: OperatorSaid, verdict: Verdict, question: Question, given: Needs
) -> str | Refused:
    """Decide the failover that was asked for, with the approval attached."""
    path = Path(question.path)
    if refusal := _decision_refusal(tx, verdict, path, question.host):
        return Refused("held", f"no failover: {refusal}", "poolwarden explain POOL")
    power = view(tx, question.host)
    if question.kind is Ask.SHOOT and (no := _no_shot(tx, question.host)):
        return no
    reads_on = question.kind is Ask.SHOOT and power.power is Power.ON
    if reads_on:
        ask_shot(tx, question.host, at_once=True)
        if (anew := questions.asked_no_more(tx, question)) is not None:
            return anew
    best = next((r for r in rank(tx, question.host, None) if not r.limitation), None)
    old = database_age.too_old(tx, best.host) if best is not None and question.kind is Ask.SHOOT else None
    needs = Needs(stale_ms=database_age.needed(old) if old is not None else 0, shoot=reads_on)
    if short := _falls_short(question, given, needs, question.what):
        return short
    machine.decide(tx, f"{question.what}; approved by {said.actor}", path)
    _attach(tx, said, question, given, question.vms)
    return f"approved; failover {tx.failover.id if tx.failover else ''} is decided, and everything is looked at again"


def _decision_refusal(pool: Snapshot, verdict: Verdict, path: Path, host: HostId) -> Reason | None:
    """Why the failover that was asked for may not be decided at this instant, whoever says so."""
    if path is Path.ROLES:
        return roles_refusal(pool) if verdict is Verdict.NO_MASTER else not_now(verdict)
    if path is Path.POWER:
        grace = boot_grace(pool) if view(pool, host).power is not Power.OFF else None
        return may_begin(pool, verdict) or grace
    if verdict is Verdict.POOL_SPLIT and pool.policy.relocate_split:
        return relocation_refusal(pool, verdict)
    if verdict in (Verdict.XAPI_HUNG, Verdict.XAPI_DOWN):
        return hold_refusal(pool, verdict)
    return not_now(verdict)


def _approve_remedy(
    tx: Transaction, said: OperatorSaid, verdict: Verdict, question: Question, given: Needs
) -> str | Refused:
    """Restart the master's xapi, or repair a member, at the operator's word."""
    answer: str | Refused | None
    if question.kind is Ask.RECOVER:
        answer = recover_members.approve(tx, question)
    else:
        of_master = question.kind in (Ask.RESTART, Ask.OTHER_COPY)
        approve_it = master_restart.approve if of_master else member_repair.approve
        answer = approve_it(tx, question, verdict, given.kill, said.actor)
    if answer is None:
        waiting_commands.wait(tx, said, EVIDENCE_WAIT_MS)
        return ""
    if isinstance(answer, Refused):
        return answer
    _attach(tx, said, question, given, question.vms)
    return f"approved; {answer}"


# ------------------------------------------------------------------------------------------------ no


def deny(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``deny``: no. Nothing is asked for this reason again until it changes or the incident is over."""
    question = tx.record.question
    if question is None:
        return Refused("nothing-asked", "nothing is asked of an operator now", "poolwarden status")
    if (wrong := _wrong_id(tx, said, question)) is not None:
        return wrong
    reason = said.arg("reason").strip()
    why = f"denied by {said.actor}" + (f": {reason}" if reason else "")
    data = {"question": question.id, "kind": question.kind.value, "ground": question.ground, "why": why}
    tx.note(Kind.DENIED, f"{question.what}: {why}", said.actor, **data)
    if tx.record.in_place is not None and question.kind is Ask.RESTART:
        name = tx.name(tx.record.in_place.host)
        ending.give_up(tx, why)
        return (
            f"denied: the restart in place is given up, and {name} is released with its own file once that kills nobody"
        )
    failover = tx.failover
    ours = failover is not None and failover.id == question.failover
    if failover is not None and ours and failover.step is Step.PROMOTING:
        if promotion.denied(tx, failover, why):
            return f"denied: the order was never begun, failover {failover.id} is aborted"
        name = tx.name(failover.candidate)
        return f"denied: the order may have begun, so {name} stays the only candidate; it is not sent again"
    if failover is None or not ours or failover.step not in REVERSIBLE:
        return "denied: it is not asked again until its reason changes or the incident is over"
    abort(tx, why)
    return f"denied: failover {failover.id} is aborted, and what it fenced is released"


# ------------------------------------------------------------------------------------------------ acknowledge


def acknowledge(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``acknowledge``: the cool-down ends now, what was denied may be asked again, one host's word on the past holds
    nothing up any more, and this collector stays in charge.
    """
    over = ["the cool-down is over"] if tx.record.cooldown else []
    over += ["what was denied may be asked again"] if tx.record.asked.denied else []
    what = "acknowledged the last failover" if over else "acknowledged"
    over += journal_gap.acknowledge(tx, said.actor)
    past = (*backoff.OF_THE_PAST, Matter.DESIGNATE)
    if not over and any(topic.matter in past for topic in tx.open_topics):
        over = ["what was told of it is over"]
    if not over:
        return Refused("no-cooldown", "the pool is in no cool-down, and nothing was denied", "poolwarden status")
    text = " and ".join(over)
    tx.note(Kind.ACKNOWLEDGED, f"{said.actor} {what}: {text}", said.actor)
    backoff.end_cooldown(tx, f"acknowledged by {said.actor}")
    backoff.end_told(tx, (Matter.DESIGNATE,), f"acknowledged by {said.actor}")
    return f"acknowledged: {text}"
