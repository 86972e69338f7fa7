"""How a failover ends without a promotion: aborted at a new term, or superseded.

Whoever ends one raises the term, so that an order that is still under way meets a higher one at the gate. The same
holds for a restart in place that a failover, or anything else, ends.
"""

from __future__ import annotations

from poolwarden_collector.core.decision import questions
from poolwarden_collector.core.decision.standstill import resolve_blocks
from poolwarden_collector.core.devices.device_health import forget
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.orders import Claim, Target
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.question_record import Ask
from poolwarden_collector.core.state.transaction import Transaction

CLAIM_VALID_MS: Ms = 15_000


def abort(d: Transaction, why: str) -> None:
    """End a failover before its promotion: a new term, no cool-down."""
    failover = d.record.failover
    assert failover is not None
    term = d.record.term + 1
    text = f"failover {failover.id} aborted: {why}; the term is {term} now"
    d.write(Entry(Kind.ABORTED, text, {"why": why, "new_term": term}, failover.id, term))
    _over(d, failover, f"failover {failover.id} was aborted")


def superseded(d: Transaction, host: HostId) -> None:
    """End a failover because somebody else serves as master: a new term, told to the candidate at once."""
    failover = d.record.failover
    assert failover is not None
    term = d.record.term + 1
    why = f"{d.name(host)} serves as master already"
    data = {"host": host, "new_term": term}
    d.write(Entry(Kind.SUPERSEDED, f"failover {failover.id} superseded: {why}", data, failover.id, term))
    _over(d, failover, f"failover {failover.id} was superseded")
    if failover.promote_order:
        # safety: a promote order may still be in a buffer; behind it comes a term that its late copies cannot pass.
        target = Target(failover.old_master, d.record.address_of(failover.old_master))
        d.send(d.fresh_id("supersede"), failover.candidate, Claim(target, want_placements=False), CLAIM_VALID_MS)
    title = f"{d.record.name or d.record.pool}: failover {failover.id} superseded"
    d.raise_alert(AlertTopic(Matter.DONE, detail="superseded", number=failover.id), "warning", title, why)


def _over(d: Transaction, failover: Failover, text: str) -> None:
    _owe_undoing(d, failover)
    forget(d, failover.old_master)
    resolve_blocks(d, failover, text, final=True)
    d.change(claims={}, look=None, mute=frozenset(), look_misses=0, aborted_at=d.now, aborts=d.live.aborts + 1)


def _owe_undoing(d: Transaction, failover: Failover) -> None:
    """What was held is owed its release, what was placed its removal; paid as soon as can be (hold_release.py)."""
    if failover.hold_order:
        name = d.name(failover.old_master)
        text = f"{name} is owed the release of its toolstack"
        d.note(Kind.OWED, text, host=failover.old_master, what=OwedWork.RELEASE.value, successor="")
    owe_removals(d, failover, "")


def owe_removals(d: Transaction, failover: Failover, used_by: HostId) -> None:
    """Every placed database but the one that a promotion has used is owed its removal."""
    for target in failover.placed_on:
        if target != used_by:
            text = f"{d.name(target)} is owed the removal of the database that was placed there"
            d.note(Kind.OWED, text, host=target, what=OwedWork.REMOVE_DATABASE.value, successor="")


def give_up(d: Transaction, why: str) -> None:
    """End it without a start of ours: a new term, and what was held and may lie there is owed its undoing."""
    now = d.record.in_place
    if now is None:
        return
    term, name = d.record.term + 1, d.name(now.host)
    text = f"the restart of {name} in place is given up: {why}; the term is {term} now"
    data = {"host": now.host, "outcome": "given up", "why": why, "new_term": term}
    littered = now.littered
    d.write(Entry(Kind.IN_PLACE_ENDED, text, data, "", term))
    d.note(
        Kind.OWED,
        f"{name} is owed the release of its toolstack",
        host=now.host,
        what=OwedWork.RELEASE.value,
        successor="",
    )
    if littered:
        owed = f"{name} is owed the removal of the database that was placed there"
        d.note(Kind.OWED, owed, host=now.host, what=OwedWork.REMOVE_DATABASE.value, successor="")
    question = d.record.question
    if question is not None and question.kind is Ask.RESTART:
        questions.withdraw(d, why)
