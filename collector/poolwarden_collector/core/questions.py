"""Questions: what the engine may not answer by itself, put to an operator, and what his yes covers.

Theory
------
A question says what would be done, what is at stake, and with which numbers a yes must come. Whoever would do it asks
again in every pass, with the same words (``ask``): so a question stands exactly as long as its ground does, its stakes
are computed anew when they change, and a yes is never more than one of the things that are looked at before the act.

Rules
-----
* One question per pool: the master's matters go before a member's. A new reason takes the place of the old one.
* Inside a failover the question is its blocker: KILL_FORECAST (kill), STALE_DATABASE (stale), POWER_ON (shoot),
  UNAPPROVED (failover, toolstack); its id is the failover's. Outside it is ``<pool>-q<number>``.
* A yes is durable on the failover, for the journal's sake; it counts only in this run of the collector and for
  ``approval_valid``. No wall clock can tell how old a yes from before a restart is: it is asked again.
* A yes to VMs names them: one that was not at stake when it was given is not covered, whatever the number.
* Who does not answer within ``question_expiry`` is asked anew while the ground stands; who denied is not, until the
  ground changes or the incident is over.
"""

from __future__ import annotations

from typing import Any

from poolwarden_collector.core.asked import Ask, Needs, Question
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.ends import block, reason_key, stands_still
from poolwarden_collector.core.evidence import suspected
from poolwarden_collector.core.facts import HostId, Ms
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.record import Failover

NOTHING = Needs()
LAPSE_MS: Ms = 30_000  # a ground that nobody has found to stand for so long is over
_CODES = {Ask.SHOOT: "POWER_ON", Ask.KILL: "KILL_FORECAST", Ask.STALE: "STALE_DATABASE"}


def code_of(kind: Ask) -> str:
    """The blocker's code of a failover that stands still for such a question."""
    return _CODES.get(kind, "UNAPPROVED")


# ------------------------------------------------------------------------------------------------ asking


def ask(
    d: Draft,
    kind: Ask,
    host: HostId,
    what: str,
    stakes: tuple[str, ...] = (),
    needs: Needs = NOTHING,
    vms: tuple[str, ...] = (),
    path: str = "",
) -> None:
    """Ask this, or find it asked already; to be called in every pass in which the ground stands.

    ``what`` is one sentence without a full stop; numbers in it may change without making it another question.
    """
    number = f"/{needs.kill}" if needs.kill else ""
    ground = f"{kind.value}/{host}/{reason_key(what)}{number}"
    failover = d.failover
    denied = d.record.asked.denied.get(ground, "")
    if failover is not None:
        block(d, failover, code_of(kind), f"{what}; {denied}" if denied else what, alert=bool(denied))
    question = d.record.question
    if denied or (question is not None and _keeps(question, kind, host)):
        return
    if question is not None and question.ground == ground and question.failover == (failover.id if failover else ""):
        d.change(asked_seen=d.now)
        return
    if question is not None:
        withdraw(d, "the reason has changed")
    _put(d, kind, host, what, stakes, needs, vms, path, ground)


def _keeps(question: Question, kind: Ask, host: HostId) -> bool:
    """Does the open question go before this one? A member's repair waits for the master's matters and for another's."""
    return kind is Ask.REPAIR and (question.kind is not Ask.REPAIR or question.host != host)


def _put(
    d: Draft,
    kind: Ask,
    host: HostId,
    what: str,
    stakes: tuple[str, ...],
    needs: Needs,
    vms: tuple[str, ...],
    path: str,
    ground: str,
) -> None:
    number, failover = d.record.asked.number + 1, d.failover
    identity = failover.id if failover is not None else f"{d.record.pool[:8]}-q{number}"
    data: dict[str, Any] = {
        "id": identity,
        "number": number,
        "kind": kind.value,
        "host": host,
        "what": what,
        "stakes": list(stakes),
        "needs": needs.as_data(),
        "vms": list(vms),
        "ground": ground,
        "path": path,
    }
    d.note(Kind.ASKED, f"{what}. {answers(identity, needs)}", **data)
    hush(d, "it is asked now")
    d.change(asked_at=d.now, asked_seen=d.now)
    old, pool = d.name(suspected(d)), d.record.name or d.record.pool
    code = f"BLOCKED_{code_of(kind)}"
    title = stands_still(d, failover, code) if failover is not None else f"{pool}: {TITLES[kind].format(d.name(host))}"
    where = f"{failover.id}/{code}" if failover is not None else f"incident-{d.record.incidents}"
    body = "\n".join([f"{what}.", *stakes, answers(identity, needs)])
    d.raise_alert(f"{where}/question-{number}", "critical", title, body, old_master=old, question=identity)


TITLES = {
    Ask.SHOOT: "master {} has vanished and its power reads ON: power it off?",
    Ask.KILL: "promote {} although running VMs would be killed?",
    Ask.STALE: "promote {} although its database is old?",
    Ask.FAILOVER: "master {} does not serve: promote another host?",
    Ask.TOOLSTACK: "master {} does not serve: hold its toolstack and promote another host?",
    Ask.RESTART: "the xapi of master {} does not answer: restart it?",
    Ask.REPAIR: "{} is detached: repair it?",
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


def tell(d: Draft, what: str, text: str, title: str) -> None:
    """Why nothing is done and nothing can be asked either: in the journal and as an alert, once per reason."""
    topic = f"refused/{reason_key(what)}"
    question = d.record.question
    if question is not None and not question.failover and question.kind is not Ask.REPAIR:
        withdraw(d, what)
    if d.live.asked == topic:
        d.change(told_seen=d.now)
        return
    hush(d, "the reason has changed")
    d.change(asked=topic, told_seen=d.now)
    host = suspected(d)
    d.note(Kind.ASKED, text, host=host, what=what)
    d.raise_alert(f"incident-{d.record.incidents}/{topic}", "critical", title, text, old_master=d.name(host))


# ------------------------------------------------------------------------------------------------ no longer asked


def hush(d: Draft, why: str) -> None:
    """What was told is not so any more."""
    if not d.live.asked:
        return
    d.change(asked="")
    for key in d.record.open_alerts:
        if f"/incident-{d.record.incidents}/refused/" in key:
            d.resolve_alert(key, why)


def withdraw(d: Draft, why: str) -> None:
    """Nobody need answer any more."""
    question = d.record.question
    if question is not None:
        d.note(Kind.WITHDRAWN, f"the question is withdrawn: {why}", id=question.id, number=question.number)
        _end_alerts(d, why)


def _end_alerts(d: Draft, why: str) -> None:
    """End the alerts of all questions but the open one."""
    still = f"/question-{d.record.question.number}" if d.record.question is not None else "none"
    for key in d.record.open_alerts:
        if "/question-" in key and not key.endswith(still):
            d.resolve_alert(key, why)


def settle(d: Draft) -> None:
    """At the end of a pass: expire, withdraw what nobody asks any more, and end the alerts of what is answered."""
    question = d.record.question
    if question is not None:
        _age(d, question)
    if d.live.asked and not d.quiet and d.now - d.live.told_seen >= LAPSE_MS:
        hush(d, "it is not so any more")
    _end_alerts(d, "it was answered, or is asked no more")


def _age(d: Draft, question: Question) -> None:
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


def expires_in(d: Draft) -> Ms:
    """How long the open question still waits before it is asked anew, ms."""
    since = d.live.asked_at if d.live.asked_at is not None else d.now
    return max(0, d.policy.question_expiry - (d.now - since))


# ------------------------------------------------------------------------------------------------ what a yes covers


def approval(d: Draft, failover: Failover) -> dict[str, Any]:
    """What was said yes to, in this run and not too long ago; empty if nothing was."""
    at = d.live.approved_at
    if failover.approval is None or at is None or d.now - at > d.policy.approval_valid:
        return {}
    return failover.approval


def accepted_kills(d: Draft, failover: Failover) -> int:
    """How many running VMs an operator accepted to lose."""
    return int(approval(d, failover).get("accept_kill", 0))


def covers(d: Draft, failover: Failover, vms: tuple[str, ...]) -> bool:
    """Does the yes cover these VMs: their number, and where it named them, each of them?"""
    named = approval(d, failover).get("vms") or list(vms)
    return len(vms) <= accepted_kills(d, failover) and set(vms) <= set(named)


def accepted_stale(d: Draft, failover: Failover) -> Ms:
    """Up to which age of the database an operator said yes, ms."""
    return int(approval(d, failover).get("accept_stale_ms", 0))


def may_shoot(d: Draft, failover: Failover) -> bool:
    """May the old master be powered off although its power reads ON?"""
    if d.policy.auto_fence_running and d.policy.mode == "auto":
        return True
    return bool(approval(d, failover).get("shoot"))


def approved(d: Draft, failover: Failover) -> bool:
    """May this failover go on at all? In mode ask only with somebody's word; a confirmation is such a word."""
    if d.policy.mode == "auto" or (failover.human is not None and d.live.human_at is not None):
        return True
    return d.policy.mode == "ask" and bool(approval(d, failover))
