"""A failover stands still: for what, by name, and what a person can do about it.

Rules
-----
* A blocker is a code and its subjects (blockers.py). It is journaled when one of them changes and alerted once; its
  sentence may change meanwhile and makes nothing new. The alert of an earlier one is resolved.
"""

from __future__ import annotations

from collections.abc import Iterable

from poolwarden_collector.core.catalogue.failovers import BLOCKERS
from poolwarden_collector.core.model.blockers import NEXT_STEP, Blocker
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.reasons import key_of
from poolwarden_collector.core.state import told_words
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction


def resolve_blocks(tx: Transaction, failover: Failover, text: str, final: bool = False) -> None:
    """Every alert of this failover's blockers is over."""
    for topic in tx.open_topics:
        if topic.failover == failover.id:
            tx.resolve_alert(topic, text, final)


def block(
    tx: Transaction,
    failover: Failover,
    blocker: Blocker,
    subjects: Iterable[object],
    why: str,
    next_step: str = "",
    alert: bool = True,
) -> None:
    """Stand still for this, and say so once per code and subjects; without an alert where a question has its own."""
    topic = key_of(blocker.value, subjects)
    next_step = next_step or _next_step(tx, failover, blocker)
    if failover.standstill.blocker == blocker and failover.standstill.topic == topic:
        return
    resolve_blocks(tx, failover, f"the reason has changed: {why}")
    text = f"{blocker.value}: {why}"
    tx.note(Kind.BLOCKED, text, code=blocker.value, topic=topic, why=why, next_step=next_step, told=alert)


def standing(tx: Transaction) -> None:
    """At the end of a pass: the alert of what the open failover stands still for; of no other one."""
    failover = tx.failover
    blocks = failover is not None and failover.standstill.blocker is not None and failover.standstill.told
    own = (
        AlertTopic(Matter.BLOCKER, detail=failover.standstill.topic, number=failover.id)
        if failover and blocks
        else None
    )
    for topic in tx.open_topics:
        if topic.matter is Matter.BLOCKER and topic != own:
            tx.resolve_alert(topic, "the failover does not stand still for that any more", final=failover is None)
    if failover is not None and own is not None and (blocker := failover.standstill.blocker) is not None:
        old, why = tx.name(failover.old_master) or "no master", failover.standstill.why
        step = failover.standstill.next_step
        words = {
            "old": old,
            "candidate": tx.name(failover.candidate),
            "why": why,
            "step": step or f"poolwarden explain {tx.record.display_name}",
            "there": told_words.there(tx, failover.old_master),
        }
        details = f"{stands_still(failover, old)}\n{why}. {step}".strip()
        tx.raise_alert(own, BLOCKERS[blocker], details, words, old_master=old, blocker=why)


def _next_step(pool: Snapshot, failover: Failover, blocker: Blocker) -> str:
    """What a person can do about this kind of blocker."""
    old, candidate = pool.name(failover.old_master), pool.name(failover.candidate)
    names = {"pool": pool.record.display_name, "old": old, "candidate": candidate, "silent": _silent(pool, failover)}
    return NEXT_STEP.get(blocker, "").format(**names)


def _silent(pool: Snapshot, failover: Failover) -> str:
    """What to do about the hosts that are not heard, by name; empty: all are."""
    silent = [h for h in sorted(pool.record.hosts, key=pool.name) if h != failover.old_master and pool.heard(h) is None]
    if not silent:
        return ""
    names = " and ".join(pool.name(host) for host in silent)
    commands = "; ".join(f"poolwarden confirm-fenced {pool.name(host)}" for host in silent)
    be = "is" if len(silent) == 1 else "are"
    return f"{names} {be} not heard: start the agent there, or switch it off, then: {commands}. "


def stands_still(failover: Failover, old: str) -> str:
    """Which failover stands still, as the first of an alert's details; why is said after it."""
    return f"failover {failover.id} of {old} stands still:"


def unblock(tx: Transaction) -> None:
    """The blocker is gone."""
    failover = tx.failover
    if failover is None or not failover.standstill.blocker:
        return
    tx.note(Kind.UNBLOCKED, f"{failover.standstill.blocker} is over")
    resolve_blocks(tx, failover, "the failover goes on")
