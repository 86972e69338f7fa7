"""A failover stands still: for what, by name, and what a person can do about it.

Rules
-----
* A blocker is a code and its subjects (blockers.py). It is journaled when one of them changes and alerted once; its
  sentence may change meanwhile and makes nothing new. The alert of an earlier one is resolved.
"""

from __future__ import annotations

from collections.abc import Iterable

from poolwarden_collector.core.model.blockers import NEXT_STEP, Blocker
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.reasons import key_of
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction


def resolve_blocks(d: Transaction, failover: Failover, text: str, final: bool = False) -> None:
    """Every alert of this failover's blockers is over."""
    for topic in d.open_topics:
        if topic.failover == failover.id:
            d.resolve_alert(topic, text, final)


def block(
    d: Transaction,
    failover: Failover,
    blocker: Blocker,
    subjects: Iterable[object],
    why: str,
    next_step: str = "",
    alert: bool = True,
) -> None:
    """Stand still for this, and say so once per code and subjects; without an alert where a question has its own."""
    topic = key_of(blocker.value, subjects)
    next_step = next_step or _next_step(d, failover, blocker)
    if failover.blocked == blocker and failover.topic == topic:
        return
    resolve_blocks(d, failover, f"the reason has changed: {why}")
    text = f"{blocker.value}: {why}"
    d.note(Kind.BLOCKED, text, code=blocker.value, topic=topic, why=why, next_step=next_step, told=alert)


def standing(d: Transaction) -> None:
    """At the end of a pass: the alert of what the open failover stands still for; of no other one."""
    failover = d.failover
    blocks = failover is not None and failover.blocked is not None and failover.blocker_told
    own = AlertTopic(Matter.BLOCKER, detail=failover.topic, number=failover.id) if failover and blocks else None
    for topic in d.open_topics:
        if topic.matter is Matter.BLOCKER and topic != own:
            d.resolve_alert(topic, "the failover does not stand still for that any more", final=failover is None)
    if failover is not None and failover.blocked is not None and own is not None:
        d.raise_alert(
            own,
            "critical",
            stands_still(d, failover, failover.blocked),
            f"{failover.blocker}. {failover.next_step}".strip(),
            old_master=d.name(failover.old_master) or "no master",
            blocker=failover.blocker,
        )


def _next_step(d: Snapshot, failover: Failover, blocker: Blocker) -> str:
    """What a person can do about this kind of blocker."""
    pool, old = d.record.name or d.record.pool, d.name(failover.old_master)
    names = {"pool": pool, "old": old, "candidate": d.name(failover.candidate), "silent": _silent(d, failover)}
    return NEXT_STEP.get(blocker, "").format(**names)


def _silent(d: Snapshot, failover: Failover) -> str:
    """What to do about the hosts that are not heard, by name; empty: all are."""
    silent = [h for h in sorted(d.record.hosts, key=d.name) if h != failover.old_master and d.heard(h) is None]
    if not silent:
        return ""
    names = " and ".join(d.name(host) for host in silent)
    commands = "; ".join(f"poolwarden confirm-fenced {d.name(host)}" for host in silent)
    be = "is" if len(silent) == 1 else "are"
    return f"{names} {be} not heard: start the agent there, or switch it off, then: {commands}. "


def stands_still(d: Snapshot, failover: Failover, blocker: Blocker) -> str:
    """The title of a blocker's alert."""
    old = d.name(failover.old_master) or "no master"
    return f"{d.record.name or d.record.pool}: failover {failover.id} of {old} stands still: {blocker.value}"


def unblock(d: Transaction) -> None:
    """The blocker is gone."""
    failover = d.failover
    if failover is None or not failover.blocked:
        return
    d.note(Kind.UNBLOCKED, f"{failover.blocked} is over")
    resolve_blocks(d, failover, f"{failover.blocked} is over")
