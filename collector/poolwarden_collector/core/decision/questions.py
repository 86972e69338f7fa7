"""Questions: what the engine may not answer by itself, put to an operator, and what his yes covers.

Theory
------
A question says what would be done, what is at stake, and with which numbers a yes must come. Whoever would do it asks
again in every pass (``ask``): so a question stands exactly as long as its ground does, and a yes is never more than one
of the things that are looked at before the act. Its ground is what it is about: its kind, the host, the VMs by uuid,
the numbers that a yes needs, the path, and what else is at stake by name. Sentences are for people and no part of it.

Rules
-----
* One question per pool: the master's matters go before a member's.
* Another ground is another question: the old one is withdrawn, and whatever was or would have been said to it covers
  nothing of the new one. Grounds that alternate do so at most every ``SETTLING_MS``; an answer is always held against
  what is at stake at its own instant.
* Inside a failover the question is its blocker: KILL_FORECAST (kill), STALE_DATABASE (stale), POWER_ON (shoot),
  UNHEARD_MEMBER (unheard), GENERATION (generation), ASSUMPTION (assumption), UNAPPROVED (failover, toolstack); the
  first one's id is the failover's, a later one's ``<failover>-q<number>``. Outside it is ``<pool>-q<number>``. No two
  questions have one id, so a yes that was typed for the old one is refused; so is one that names only the pool or the
  failover, once a question has taken another one's place.
* A yes is durable on the failover, for the journal's sake; it counts only in this run of the collector and for
  ``approval_valid``. No wall clock can tell how old a yes from before a restart is: it is asked again.
* A yes covers the VMs that the question named, by uuid, and no others, whatever the number.
* Who does not answer within ``question_expiry`` is asked anew while the ground stands; who denied is not, until the
  ground changes or the incident is over.
"""

from __future__ import annotations

from typing import Any

from poolwarden.assumptions import POWER
from poolwarden_collector.core.catalogue.questions import QUESTIONS, REFUSALS
from poolwarden_collector.core.decision.standstill import block, stands_still
from poolwarden_collector.core.evidence import assumptions
from poolwarden_collector.core.evidence.signs import suspected
from poolwarden_collector.core.model.asks import OF_MEMBERS, Ask, Tell
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.orders import Approval
from poolwarden_collector.core.model.reasons import Cause, Reason, key_of
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state import told_words
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter, of_key
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.live_slices import Questions
from poolwarden_collector.core.state.question_record import Needs, Question
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

NOTHING = Needs()
ROOM = 130  # characters of what is at stake in an alert's line, beside the VMs that run
LAPSE_MS: Ms = 30_000  # a ground that nobody has found to stand for so long is over
TELLING_MS: Ms = 2_000  # whoever tells why nothing is begun does so in every pass
SETTLING_MS: Ms = 10_000  # how long a question stands at the least before another one takes its place
_CODES = {
    Ask.SHOOT: Blocker.POWER_ON,
    Ask.KILL: Blocker.KILL_FORECAST,
    Ask.STALE: Blocker.STALE_DATABASE,
    Ask.UNHEARD: Blocker.UNHEARD_MEMBER,
    Ask.GENERATION: Blocker.GENERATION,
    Ask.UNSOUND: Blocker.UNSOUND_DATABASE,
    Ask.ASSUMPTION: Blocker.ASSUMPTION,
}


def code_of(kind: Ask) -> Blocker:
    """The blocker of a failover that stands still for such a question."""
    return _CODES.get(kind, Blocker.UNAPPROVED)


# ------------------------------------------------------------------------------------------------ asking


def ask(
    tx: Transaction,
    kind: Ask,
    host: HostId,
    what: str,
    stakes: tuple[str, ...] = (),
    needs: Needs = NOTHING,
    vms: tuple[str, ...] = (),
    path: str = "",
    others: tuple[str, ...] = (),
    at_once: bool = False,
    hosts: tuple[HostId, ...] = (),
    generation: int = 0,
    failed: tuple[str, ...] = (),
) -> None:
    """Ask this, or find it asked already; to be called in every pass in which the ground stands.

    ``what`` is one sentence without a full stop. ``others`` names what else makes it this question: tasks, causes, VMs
    that a shot would kill; ``hosts``: members that are alive and not heard, ``generation``: that of a copy, ``failed``:
    assumptions that failed, as "HOST/ID", each of which a yes covers. ``at_once``: an answer has just met another
    ground, so nothing is waited for.
    """
    copy = (f"generation {generation}",) if generation else ()
    ground = ground_of(kind, host, needs, vms, path, (*others, *hosts, *copy, *failed))
    failover, question = tx.failover, tx.record.question
    of = failover.id if failover is not None else ""
    if (
        question is not None
        and (question.ground, question.failover) != (ground, of)
        and not _keeps(question, kind, host)
    ):
        if question.failover == of and not at_once and _settles(tx, question, kind):
            return
        withdraw(tx, "what is at stake has changed")
    denied = tx.record.asked.denied.get(ground, "")
    if failover is not None:
        said = f"{what}; {denied}" if denied else what
        step = f"poolwarden acknowledge {tx.record.display_name}: then it is asked anew" if denied else ""
        block(tx, failover, code_of(kind), (ground, denied), said, step, alert=bool(denied))
    question = tx.record.question
    if denied or (question is not None and _keeps(question, kind, host)):
        return
    if question is not None:
        tx.change(Questions, asked_seen=tx.now)
        return
    _put(tx, kind, host, what, stakes, needs, vms, path, ground, hosts, generation, failed)


def ground_of(
    kind: Ask, host: HostId, needs: Needs, vms: tuple[str, ...], path: str = "", others: tuple[str, ...] = ()
) -> str:
    """What a question is about, as one word: the same for the same kind, host, VMs, numbers, path and other stakes."""
    # safety: by uuid and number, never by a sentence; a yes to one set of VMs is none to another.
    numbers = (needs.kill, needs.stale_ms, needs.shoot)
    return key_of(f"{kind.value}/{host}", (*numbers, path, "vms", *sorted(set(vms)), "others", *sorted(set(others))))


def other_now(pool: Snapshot, question: Question) -> Refused | None:
    """Whoever puts it has just asked again: is it another question now? Then a yes to the old one is refused, with how
    to answer the new one.
    """
    now = pool.record.question
    if now is None or now.id == question.id:
        return None
    return Refused("asked-anew", f"what is at stake has changed: {now.what}", approve_command(now.id, now.needs))


def asked_no_more(pool: Snapshot, question: Question) -> Refused | None:
    """The same where it has certainly just been asked again: the ground of now may be one that somebody has denied."""
    anew = other_now(pool, question)
    if anew is not None or pool.record.question is not None:
        return anew
    # safety: a yes to one ground is none to another, least of all to one that was answered with a no.
    why = "; ".join(pool.record.asked.denied.values())
    step = f"poolwarden acknowledge {pool.record.display_name}: then it is asked anew"
    return Refused("asked-anew", f"what is at stake has changed to what is not asked any more: {why}", step)


def _settles(pool: Snapshot, question: Question, kind: Ask) -> bool:
    """Is the open question too young to be replaced? The master's matters never wait for a member's."""
    member = question.kind in OF_MEMBERS and kind not in OF_MEMBERS
    return (
        not member
        and pool.live.questions.asked_at is not None
        and pool.now - pool.live.questions.asked_at < SETTLING_MS
    )


def _keeps(question: Question, kind: Ask, host: HostId) -> bool:
    """Does the open question go before this one? A member's matter waits for the master's and for another member's."""
    return kind in OF_MEMBERS and (question.kind is not kind or question.host != host)


def _put(
    tx: Transaction,
    kind: Ask,
    host: HostId,
    what: str,
    stakes: tuple[str, ...],
    needs: Needs,
    vms: tuple[str, ...],
    path: str,
    ground: str,
    hosts: tuple[HostId, ...],
    generation: int,
    failed: tuple[str, ...],
) -> None:
    number, failover = tx.record.asked.number + 1, tx.failover
    identity = _identity(tx, failover, number)
    data: dict[str, Any] = {
        "id": identity,
        "number": number,
        "kind": kind.value,
        "host": host,
        "what": what,
        "stakes": list(stakes),
        "needs": needs.as_data(),
        "vms": list(vms),
        "hosts": list(hosts),
        "generation": generation,
        "failed": list(failed),
        "ground": ground,
        "path": path,
    }
    tx.note(Kind.ASKED, f"{what}. {answers(identity, needs)}", **data)
    resolve_refusal(tx, "it is asked now")
    tx.change(Questions, asked_at=tx.now, asked_seen=tx.now)
    _announce(tx)


def _announce(tx: Transaction) -> None:
    """The alert of the open question, in every pass."""
    asked, failover = tx.record.question, tx.failover
    if asked is None or any(t.matter is Matter.QUESTION and t.number == str(asked.number) for t in tx.open_topics):
        return
    code, of = code_of(asked.kind), tuple[str, ...]()
    if failover is not None and asked.failover == failover.id:
        where = AlertTopic(Matter.BLOCKER, detail=f"{code.value}/{asked.ground}", number=failover.id)
        of = (stands_still(failover, tx.name(failover.old_master) or "no master"),)
    else:
        where = AlertTopic(Matter.INCIDENT, detail=asked.ground, number=str(tx.record.incidents))
    answer = answers(asked.id, asked.needs)
    details = "\n".join([*of, f"{asked.what}.", *asked.stakes, answer])
    words = {
        "name": tx.name(asked.host),
        "what": asked.what,
        "answers": answer,
        "stakes": _in_one_line(asked.stakes),
    }
    topic = AlertTopic(Matter.QUESTION, detail=where.text, number=str(asked.number))
    tx.raise_alert(topic, QUESTIONS[asked.kind], details, words, old_master=tx.name(suspected(tx)), question=asked.id)


def _in_one_line(stakes: tuple[str, ...]) -> str:
    """The first of them, and as many more as leave room for the rest of the line; all stand below it."""
    found, length = list(stakes[:1]), len(stakes[0]) if stakes else 0
    for stake in stakes[1:]:
        length += len(stake) + 2
        if length > ROOM:
            break
        found.append(stake)
    return "; ".join(found) or "nothing is decided until then"


def _identity(pool: Snapshot, failover: Failover | None, number: int) -> str:
    """An id that no other question has or had: a yes that was typed for another one never fits it."""
    if failover is None:
        return f"{pool.record.pool[:8]}-q{number}"
    return failover.id if pool.record.asked.of != failover.id else f"{failover.id}-q{number}"


def approve_command(identity: str, needs: Needs) -> str:
    """The command that says yes, with every number that it must contain."""
    words = ["poolwarden approve", identity]
    if needs.kill:
        words.append(f"--accept-kill {needs.kill}")
    if needs.stale_ms:
        words.append(f"--accept-stale {needs.stale_ms // 60_000}min")
    if needs.shoot:
        words.append("--shoot")
    return " ".join(words)


def answers(identity: str, needs: Needs) -> str:
    """How to answer, in one sentence."""
    return f"Yes: {approve_command(identity, needs)}. No: poolwarden deny {identity}."


def report_refusal(tx: Transaction, kind: Tell, what: Reason, text: str, heading: str, step: str) -> None:
    """Why nothing is done and nothing can be asked either: in the journal and as an alert, once per reason.

    ``heading`` follows the pool's name in the title; ``step`` is what a person can do.
    """
    if what.code is Cause.BEHIND:
        # It is over within moments, or an alert of the collector's own: no pool's question or alert is to come and go
        # with it, and to tell it in hundreds of pools would keep the collector behind.
        tx.change(Questions, told_seen=tx.now)
        return
    topic = f"refused/{what.key}"
    question = tx.record.question
    if question is not None and not question.failover and question.kind not in OF_MEMBERS:
        withdraw(tx, what.text)
    host = suspected(tx)
    if tx.live.questions.told == topic:
        tx.change(Questions, told_seen=tx.now)
    else:
        resolve_refusal(tx, "the reason has changed")
        tx.change(Questions, told=topic, told_seen=tx.now)
        tx.note(Kind.ASKED, text, host=host, what=what.text, told=kind.value)
    refusal = AlertTopic(Matter.REFUSAL, detail=what.key, number=str(tx.record.incidents))
    words = {
        "heading": heading,
        "why": what.text,
        "step": step or f"poolwarden explain {tx.record.display_name}",
        "there": told_words.there(tx, host) if host else "",
    }
    tx.raise_alert(refusal, REFUSALS[kind], text, words, old_master=tx.name(host))


# ------------------------------------------------------------------------------------------------ no longer asked


def resolve_refusal(tx: Transaction, why: str, final: bool = False) -> None:
    """What was told is not so any more; by this run or, where this one has told nothing, by an earlier one."""
    tx.change(Questions, told="")
    for topic in tx.open_topics:
        if topic.matter is Matter.REFUSAL:
            tx.resolve_alert(topic, why, final)


def note_approval(tx: Transaction) -> None:
    """The yes that was just journaled was heard in this run."""
    tx.change(Questions, approved_at=tx.now)


def withdraw(tx: Transaction, why: str) -> None:
    """Nobody need answer any more."""
    question = tx.record.question
    if question is not None:
        tx.note(Kind.WITHDRAWN, f"the question is withdrawn: {why}", id=question.id, number=question.number)
        _end_alerts(tx, why)


def _end_alerts(tx: Transaction, why: str) -> None:
    """End the alerts of all questions but the open one."""
    still = str(tx.record.question.number) if tx.record.question is not None else ""
    for topic in tx.open_topics:
        if topic.matter is Matter.QUESTION and topic.number != still:
            tx.resolve_alert(topic, why, final=True)


def expire(tx: Transaction) -> None:
    """At the end of a pass: expire, withdraw what nobody asks any more, and end the alerts of what is answered."""
    question = tx.record.question
    if question is not None:
        _age(tx, question)
    if not tx.quiet and tx.now - max(tx.live.questions.told_seen, tx.quiet_until) >= LAPSE_MS:
        resolve_refusal(tx, "it is not so any more")
    elif tx.live.alerts.unsettled and tx.now - tx.live.questions.told_seen >= TELLING_MS:
        for each in tuple(tx.live.alerts.unsettled.values()):
            if (topic := of_key(tx.record.pool, each.key)).matter is Matter.REFUSAL:
                tx.resolve_alert(topic, "it is not so any more")
    _end_alerts(tx, "it was answered, or is asked no more")
    _announce(tx)


def _age(tx: Transaction, question: Question) -> None:
    if tx.live.questions.asked_at is None:
        tx.change(Questions, asked_at=tx.now, asked_seen=tx.now)  # put by an earlier run: its time is counted anew
    elif tx.quiet or question.failover:
        tx.change(Questions, asked_seen=tx.now)  # nothing is looked at yet; or the failover itself stands still for it
    expired = tx.now - (tx.live.questions.asked_at or tx.now) >= tx.policy.question_expiry
    if expired and not tx.site.cut_off:
        hours = tx.policy.question_expiry / 3_600_000
        text = f"nobody has answered for {hours:g} h: it is asked anew if its ground still stands"
        tx.note(Kind.EXPIRED, text, id=question.id, number=question.number)
    elif tx.now - tx.live.questions.asked_seen >= LAPSE_MS:
        withdraw(tx, "its ground does not stand any more")


def expires_in(pool: Snapshot) -> Ms:
    """How long the open question still waits before it is asked anew, ms."""
    since = pool.live.questions.asked_at if pool.live.questions.asked_at is not None else pool.now
    return max(0, pool.policy.question_expiry - (pool.now - since))


# ------------------------------------------------------------------------------------------------ what a yes covers


def approval(pool: Snapshot, failover: Failover) -> dict[str, Any]:
    """What was said yes to, in this run and not too long ago; empty if nothing was."""
    return (
        failover.approval
        if failover.approval is not None and counts_still(pool, pool.live.questions.approved_at)
        else {}
    )


def word_of(pool: Snapshot, failover: Failover) -> Approval | None:
    """The same as what an order that rests on it says; None: nothing was."""
    said, at = approval(pool, failover), pool.live.questions.approved_at
    return Approval(said.get("by", ""), said.get("question", ""), at) if said and at is not None else None


def counts_still(pool: Snapshot, at: Ms | None) -> bool:
    """Does a yes still count that was heard at this instant of this run? None: it was heard by an earlier one."""
    return at is not None and pool.now - at <= pool.policy.approval_valid


def accepted_kills(pool: Snapshot, failover: Failover) -> int:
    """How many running VMs an operator accepted to lose."""
    return int(approval(pool, failover).get("accept_kill", 0))


def covers(pool: Snapshot, failover: Failover, vms: tuple[str, ...]) -> bool:
    """Does the yes cover these VMs: their number, and each of them by its uuid? A number alone covers none."""
    # safety: a yes to one VM is no yes to another, and one that named none covers none.
    return len(vms) <= accepted_kills(pool, failover) and set(vms) <= set(approval(pool, failover).get("vms", ()))


def accepted_unheard(pool: Snapshot, failover: Failover) -> tuple[HostId, ...]:
    """The members to whose silence beside a living xapi an operator said yes."""
    return tuple(approval(pool, failover).get("hosts", ()))


def accepted_generation(pool: Snapshot, failover: Failover, host: HostId) -> int:
    """The generation of this host's copy to which an operator said yes; 0: to none."""
    return int(approval(pool, failover).get("generations", {}).get(host, 0))


def accepted_unsound(pool: Snapshot, failover: Failover, host: HostId) -> int:
    """The generation of this host's copy to which an operator said yes although it is not sound; 0: to none."""
    return int(approval(pool, failover).get("unsound", {}).get(host, 0))


def accepted_stale(pool: Snapshot, failover: Failover) -> Ms:
    """Up to which age of the database an operator said yes, ms."""
    return int(approval(pool, failover).get("accept_stale_ms", 0))


def accepted_failed(pool: Snapshot, failover: Failover, what: Reason) -> bool:
    """Did an operator say yes to everything that failed of this?"""
    # safety: by host and assumption; a yes to one that failed is none to another.
    return set(what.subjects) <= set(approval(pool, failover).get("failed", ()))


def may_shoot(pool: Snapshot, failover: Failover) -> bool:
    """May the old master be powered off although its power reads ON?"""
    # safety: where what is believed of its devices has failed, a person says that this is its machine.
    unsure = assumptions.refusal(pool, failover.old_master, POWER)
    if pool.policy.auto_fence_running and pool.policy.mode == "auto" and unsure is None:
        return True
    return bool(approval(pool, failover).get("shoot"))


def approved(pool: Snapshot, failover: Failover) -> bool:
    """May this failover go on at all? In mode ask only with somebody's word; a confirmation is such a word."""
    if pool.policy.mode == "auto" or (failover.human is not None and pool.live.fenced.word_used is not None):
        return True
    return pool.policy.mode == "ask" and bool(approval(pool, failover))
