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
  UNHEARD_MEMBER (unheard), GENERATION (generation), UNAPPROVED (failover, toolstack); the first one's id is the
  failover's, a later one's ``<failover>-q<number>``. Outside it is ``<pool>-q<number>``. No two questions have one id,
  so a yes that was typed for the old one is refused; so is one that names only the pool or the failover, once a
  question has taken another one's place.
* A yes is durable on the failover, for the journal's sake; it counts only in this run of the collector and for
  ``approval_valid``. No wall clock can tell how old a yes from before a restart is: it is asked again.
* A yes covers the VMs that the question named, by uuid, and no others, whatever the number.
* Who does not answer within ``question_expiry`` is asked anew while the ground stands; who denied is not, until the
  ground changes or the incident is over.
"""

from __future__ import annotations

from typing import Any

from poolwarden_collector.core.decision.standstill import block, stands_still
from poolwarden_collector.core.evidence.signs import suspected
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.reasons import Reason, key_of
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter, of_key
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.question_record import OF_MEMBERS, Ask, Needs, Question, Tell
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

NOTHING = Needs()
LAPSE_MS: Ms = 30_000  # a ground that nobody has found to stand for so long is over
TELLING_MS: Ms = 2_000  # whoever tells why nothing is begun does so in every pass
SETTLING_MS: Ms = 10_000  # how long a question stands at the least before another one takes its place
_CODES = {
    Ask.SHOOT: Blocker.POWER_ON,
    Ask.KILL: Blocker.KILL_FORECAST,
    Ask.STALE: Blocker.STALE_DATABASE,
    Ask.UNHEARD: Blocker.UNHEARD_MEMBER,
    Ask.GENERATION: Blocker.GENERATION,
}


def code_of(kind: Ask) -> Blocker:
    """The blocker of a failover that stands still for such a question."""
    return _CODES.get(kind, Blocker.UNAPPROVED)


# ------------------------------------------------------------------------------------------------ asking


def ask(
    d: Transaction,
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
) -> None:
    """Ask this, or find it asked already; to be called in every pass in which the ground stands.

    ``what`` is one sentence without a full stop. ``others`` names what else makes it this question: tasks, causes, VMs
    that a shot would kill; ``hosts``: members that are alive and not heard, ``generation``: that of a copy, which a
    yes covers. ``at_once``: an answer has just met another ground, so nothing is waited for.
    """
    copy = (f"generation {generation}",) if generation else ()
    ground = ground_of(kind, host, needs, vms, path, (*others, *hosts, *copy))
    failover, question = d.failover, d.record.question
    of = failover.id if failover is not None else ""
    if (
        question is not None
        and (question.ground, question.failover) != (ground, of)
        and not _keeps(question, kind, host)
    ):
        if question.failover == of and not at_once and _settles(d, question, kind):
            return
        withdraw(d, "what is at stake has changed")
    denied = d.record.asked.denied.get(ground, "")
    if failover is not None:
        said = f"{what}; {denied}" if denied else what
        step = f"poolwarden acknowledge {d.record.name or d.record.pool}: then it is asked anew" if denied else ""
        block(d, failover, code_of(kind), (ground, denied), said, step, alert=bool(denied))
    question = d.record.question
    if denied or (question is not None and _keeps(question, kind, host)):
        return
    if question is not None:
        d.change(asked_seen=d.now)
        return
    _put(d, kind, host, what, stakes, needs, vms, path, ground, hosts, generation)


def ground_of(
    kind: Ask, host: HostId, needs: Needs, vms: tuple[str, ...], path: str = "", others: tuple[str, ...] = ()
) -> str:
    """What a question is about, as one word: the same for the same kind, host, VMs, numbers, path and other stakes."""
    # safety: by uuid and number, never by a sentence; a yes to one set of VMs is none to another.
    numbers = (needs.kill, needs.stale_ms, needs.shoot)
    return key_of(f"{kind.value}/{host}", (*numbers, path, "vms", *sorted(set(vms)), "others", *sorted(set(others))))


def other_now(d: Snapshot, question: Question) -> Refused | None:
    """Whoever puts it has just asked again: is it another question now? Then a yes to the old one is refused, with how
    to answer the new one.
    """
    now = d.record.question
    if now is None or now.id == question.id:
        return None
    return Refused("asked-anew", f"what is at stake has changed: {now.what}", approve_command(now.id, now.needs))


def asked_no_more(d: Snapshot, question: Question) -> Refused | None:
    """The same where it has certainly just been asked again: the ground of now may be one that somebody has denied."""
    anew = other_now(d, question)
    if anew is not None or d.record.question is not None:
        return anew
    # safety: a yes to one ground is none to another, least of all to one that was answered with a no.
    why = "; ".join(d.record.asked.denied.values())
    step = f"poolwarden acknowledge {d.record.name or d.record.pool}: then it is asked anew"
    return Refused("asked-anew", f"what is at stake has changed to what is not asked any more: {why}", step)


def _settles(d: Snapshot, question: Question, kind: Ask) -> bool:
    """Is the open question too young to be replaced? The master's matters never wait for a member's."""
    member = question.kind in OF_MEMBERS and kind not in OF_MEMBERS
    return not member and d.live.asked_at is not None and d.now - d.live.asked_at < SETTLING_MS


def _keeps(question: Question, kind: Ask, host: HostId) -> bool:
    """Does the open question go before this one? A member's matter waits for the master's and for another member's."""
    return kind in OF_MEMBERS and (question.kind is not kind or question.host != host)


def _put(
    d: Transaction,
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
) -> None:
    number, failover = d.record.asked.number + 1, d.failover
    identity = _identity(d, failover, number)
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
        "ground": ground,
        "path": path,
    }
    d.note(Kind.ASKED, f"{what}. {answers(identity, needs)}", **data)
    resolve_refusal(d, "it is asked now")
    d.change(asked_at=d.now, asked_seen=d.now)
    _announce(d)


def _announce(d: Transaction) -> None:
    """The alert of the open question, in every pass."""
    asked, failover, pool = d.record.question, d.failover, d.record.name or d.record.pool
    if asked is None or any(t.matter is Matter.QUESTION and t.number == str(asked.number) for t in d.open_topics):
        return
    code = code_of(asked.kind)
    if failover is not None and asked.failover == failover.id:
        title = stands_still(d, failover, code)
        where = AlertTopic(Matter.BLOCKER, detail=f"{code.value}/{asked.ground}", number=failover.id)
    else:
        title = f"{pool}: {TITLES[asked.kind].format(d.name(asked.host))}"
        where = AlertTopic(Matter.INCIDENT, detail=asked.ground, number=str(d.record.incidents))
    body = "\n".join([f"{asked.what}.", *asked.stakes, answers(asked.id, asked.needs)])
    old = d.name(suspected(d))
    topic = AlertTopic(Matter.QUESTION, detail=where.text, number=str(asked.number))
    d.raise_alert(topic, "critical", title, body, old_master=old, question=asked.id)


def _identity(d: Snapshot, failover: Failover | None, number: int) -> str:
    """An id that no other question has or had: a yes that was typed for another one never fits it."""
    if failover is None:
        return f"{d.record.pool[:8]}-q{number}"
    return failover.id if d.record.asked.of != failover.id else f"{failover.id}-q{number}"


TITLES = {
    Ask.SHOOT: "master {} has vanished and its power reads ON: power it off?",
    Ask.KILL: "promote {} although running VMs would be killed?",
    Ask.STALE: "promote {} although its database is old?",
    Ask.FAILOVER: "master {} does not serve: promote another host?",
    Ask.TOOLSTACK: "master {} does not serve: hold its toolstack and promote another host?",
    Ask.GENERATION: "promote {} although its database is far ahead of the last that was seen?",
    Ask.UNHEARD: "master {} has vanished, and members are alive that are not heard: promote another host?",
    Ask.RESTART: "the xapi of master {} does not answer: restart it?",
    Ask.REPAIR: "{} is detached: repair it?",
    Ask.RECOVER: "members without an agent follow a master that was succeeded: have {} tell them?",
}


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


def report_refusal(d: Transaction, kind: Tell, what: Reason, text: str, title: str) -> None:
    """Why nothing is done and nothing can be asked either: in the journal and as an alert, once per reason."""
    topic = f"refused/{what.key}"
    question = d.record.question
    if question is not None and not question.failover and question.kind not in OF_MEMBERS:
        withdraw(d, what.text)
    host = suspected(d)
    if d.live.asked == topic:
        d.change(told_seen=d.now)
    else:
        resolve_refusal(d, "the reason has changed")
        d.change(asked=topic, told_seen=d.now)
        d.note(Kind.ASKED, text, host=host, what=what.text, told=kind.value)
    refusal = AlertTopic(Matter.REFUSAL, detail=what.key, number=str(d.record.incidents))
    d.raise_alert(refusal, "critical", title, text, old_master=d.name(host))


# ------------------------------------------------------------------------------------------------ no longer asked


def resolve_refusal(d: Transaction, why: str, final: bool = False) -> None:
    """What was told is not so any more; by this run or, where this one has told nothing, by an earlier one."""
    d.change(asked="")
    for topic in d.open_topics:
        if topic.matter is Matter.REFUSAL:
            d.resolve_alert(topic, why, final)


def withdraw(d: Transaction, why: str) -> None:
    """Nobody need answer any more."""
    question = d.record.question
    if question is not None:
        d.note(Kind.WITHDRAWN, f"the question is withdrawn: {why}", id=question.id, number=question.number)
        _end_alerts(d, why)


def _end_alerts(d: Transaction, why: str) -> None:
    """End the alerts of all questions but the open one."""
    still = str(d.record.question.number) if d.record.question is not None else ""
    for topic in d.open_topics:
        if topic.matter is Matter.QUESTION and topic.number != still:
            d.resolve_alert(topic, why, final=True)


def expire(d: Transaction) -> None:
    """At the end of a pass: expire, withdraw what nobody asks any more, and end the alerts of what is answered."""
    question = d.record.question
    if question is not None:
        _age(d, question)
    if not d.quiet and d.now - max(d.live.told_seen, d.quiet_until) >= LAPSE_MS:
        resolve_refusal(d, "it is not so any more")
    elif d.live.unsettled and d.now - d.live.told_seen >= TELLING_MS:
        for each in tuple(d.live.unsettled.values()):
            if (topic := of_key(d.record.pool, each.key)).matter is Matter.REFUSAL:
                d.resolve_alert(topic, "it is not so any more")
    _end_alerts(d, "it was answered, or is asked no more")
    _announce(d)


def _age(d: Transaction, question: Question) -> None:
    if d.live.asked_at is None:
        d.change(asked_at=d.now, asked_seen=d.now)  # put by an earlier run: its time is counted anew
    elif d.quiet or question.failover:
        d.change(asked_seen=d.now)  # nothing is looked at yet; or the failover itself stands still for it
    expired = d.now - (d.live.asked_at or d.now) >= d.policy.question_expiry
    if expired:
        hours = d.policy.question_expiry / 3_600_000
        text = f"nobody has answered for {hours:g} h: it is asked anew if its ground still stands"
        d.note(Kind.EXPIRED, text, id=question.id, number=question.number)
    elif d.now - d.live.asked_seen >= LAPSE_MS:
        withdraw(d, "its ground does not stand any more")


def expires_in(d: Snapshot) -> Ms:
    """How long the open question still waits before it is asked anew, ms."""
    since = d.live.asked_at if d.live.asked_at is not None else d.now
    return max(0, d.policy.question_expiry - (d.now - since))


# ------------------------------------------------------------------------------------------------ what a yes covers


def approval(d: Snapshot, failover: Failover) -> dict[str, Any]:
    """What was said yes to, in this run and not too long ago; empty if nothing was."""
    return failover.approval if failover.approval is not None and counts_still(d, d.live.approved_at) else {}


def counts_still(d: Snapshot, at: Ms | None) -> bool:
    """Does a yes still count that was heard at this instant of this run? None: it was heard by an earlier one."""
    return at is not None and d.now - at <= d.policy.approval_valid


def accepted_kills(d: Snapshot, failover: Failover) -> int:
    """How many running VMs an operator accepted to lose."""
    return int(approval(d, failover).get("accept_kill", 0))


def covers(d: Snapshot, failover: Failover, vms: tuple[str, ...]) -> bool:
    """Does the yes cover these VMs: their number, and each of them by its uuid? A number alone covers none."""
    # safety: a yes to one VM is no yes to another, and one that named none covers none.
    return len(vms) <= accepted_kills(d, failover) and set(vms) <= set(approval(d, failover).get("vms", ()))


def accepted_unheard(d: Snapshot, failover: Failover) -> tuple[HostId, ...]:
    """The members to whose silence beside a living xapi an operator said yes."""
    return tuple(approval(d, failover).get("hosts", ()))


def accepted_generation(d: Snapshot, failover: Failover, host: HostId) -> int:
    """The generation of this host's copy to which an operator said yes; 0: to none."""
    return int(approval(d, failover).get("generations", {}).get(host, 0))


def accepted_stale(d: Snapshot, failover: Failover) -> Ms:
    """Up to which age of the database an operator said yes, ms."""
    return int(approval(d, failover).get("accept_stale_ms", 0))


def may_shoot(d: Snapshot, failover: Failover) -> bool:
    """May the old master be powered off although its power reads ON?"""
    if d.policy.auto_fence_running and d.policy.mode == "auto":
        return True
    return bool(approval(d, failover).get("shoot"))


def approved(d: Snapshot, failover: Failover) -> bool:
    """May this failover go on at all? In mode ask only with somebody's word; a confirmation is such a word."""
    if d.policy.mode == "auto" or (failover.human is not None and d.live.human_at is not None):
        return True
    return d.policy.mode == "ask" and bool(approval(d, failover))
