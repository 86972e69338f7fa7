"""How a failover ends without a promotion: aborted at a new term, or superseded.

Whoever ends one raises the term, so that an order that is still under way meets a higher one at the gate. The same
holds for a restart in place that a failover, or anything else, ends.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.failovers import SUPERSEDED
from poolwarden_collector.core.decision import backoff, questions
from poolwarden_collector.core.decision.standstill import resolve_blocks
from poolwarden_collector.core.devices.device_health import forget
from poolwarden_collector.core.failover import claim_round, last_look
from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.orders import Claim, Target
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.transaction import Transaction

CLAIM_VALID_MS: Ms = 15_000


def abort(tx: Transaction, why: str) -> None:
    """End a failover before its promotion: a new term, no cool-down."""
    failover = tx.record.failover
    assert failover is not None
    term = tx.record.term + 1
    text = f"failover {failover.id} aborted: {why}; the term is {term} now"
    tx.write(Entry(Kind.ABORTED, text, {"why": why, "new_term": term}, failover.id, term))
    _over(tx, failover, f"failover {failover.id} was aborted")


def superseded(tx: Transaction, host: HostId) -> None:
    """End a failover because somebody else serves as master: a new term, told to the candidate at once."""
    failover = tx.record.failover
    assert failover is not None
    term = tx.record.term + 1
    why = f"{tx.name(host)} serves as master already"
    data = {"host": host, "new_term": term}
    tx.write(Entry(Kind.SUPERSEDED, f"failover {failover.id} superseded: {why}", data, failover.id, term))
    _over(tx, failover, f"failover {failover.id} was superseded")
    if failover.promotion.order:
        # safety: a promote order may still be in a buffer; behind it comes a term that its late copies cannot pass.
        target = Target(failover.old_master, tx.record.address_of(failover.old_master))
        tx.send(tx.fresh_id("supersede"), failover.candidate, Claim(target, want_placements=False), CLAIM_VALID_MS)
    topic = AlertTopic(Matter.DONE, detail="superseded", number=failover.id)
    old = tx.name(failover.old_master) or "no master"
    tx.raise_alert(topic, SUPERSEDED, f"failover {failover.id} superseded: {why}", {"old": old, "why": why})


def _over(tx: Transaction, failover: Failover, text: str) -> None:
    _owe_undoing(tx, failover)
    forget(tx, failover.old_master)
    resolve_blocks(tx, failover, text, final=True)
    claim_round.forget(tx)
    last_look.failover_over(tx)
    backoff.aborted(tx)


def _owe_undoing(tx: Transaction, failover: Failover) -> None:
    """What was held is owed its release, what was placed its removal; paid as soon as can be (hold_release.py)."""
    if failover.hold.order:
        name = tx.name(failover.old_master)
        text = f"{name} is owed the release of its toolstack"
        tx.note(Kind.OWED, text, host=failover.old_master, what=OwedWork.RELEASE.value, successor="")
    owe_removals(tx, failover, "")


def owe_removals(tx: Transaction, failover: Failover, used_by: HostId) -> None:
    """Every placed database but the one that a promotion has used is owed its removal."""
    for target in failover.hold.placed_on:
        if target != used_by:
            text = f"{tx.name(target)} is owed the removal of the database that was placed there"
            tx.note(Kind.OWED, text, host=target, what=OwedWork.REMOVE_DATABASE.value, successor="")


def give_up(tx: Transaction, why: str) -> None:
    """End it without a start of ours: a new term, and what was held and may lie there is owed its undoing."""
    now = tx.record.in_place
    if now is None:
        return
    term, name = tx.record.term + 1, tx.name(now.host)
    text = f"the restart of {name} in place is given up: {why}; the term is {term} now"
    data = {"host": now.host, "outcome": "given up", "why": why, "new_term": term}
    littered = now.littered
    tx.write(Entry(Kind.IN_PLACE_ENDED, text, data, "", term))
    tx.note(
        Kind.OWED,
        f"{name} is owed the release of its toolstack",
        host=now.host,
        what=OwedWork.RELEASE.value,
        successor="",
    )
    if littered:
        owed = f"{name} is owed the removal of the database that was placed there"
        tx.note(Kind.OWED, owed, host=now.host, what=OwedWork.REMOVE_DATABASE.value, successor="")
    question = tx.record.question
    if question is not None and question.kind is Ask.RESTART:
        questions.withdraw(tx, why)
