"""A pause of a pool: nothing is done there by itself, until somebody resumes it or its time is over.

Rules
-----
* A pause with a time never ends early. Its end is an instant on the collector's monotonic clock, which goes on over a
  restart of the collector as long as its machine runs (``Site.clock`` names that clock). Where the machine was
  restarted, or the journal is on another one, nothing that may be compared tells how much has passed: the whole time
  counts anew from that start, and that is journaled. No wall clock takes part, wherever it may have been set to.
* A pause is never made shorter by another one: somebody may rely on it. A longer one takes its place without a moment
  in between; to shorten it is to resume it.
* It ends in the step that first sees its time over, before anything is judged in it.
"""

from __future__ import annotations

from poolwarden_collector.core.decision.standstill import unblock
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.durations import in_words
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.pool_record import PauseEnd
from poolwarden_collector.core.state.transaction import Transaction

LONGEST_MS: Ms = 31 * 86_400_000


def pause(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """Pause the pool, for ``for_ms`` where that is given (``until``: about when that ends, for people)."""
    lasts = int(said.arg("for_ms") or 0)
    if lasts > LONGEST_MS:
        return Refused("bad-duration", f"a pause lasts {in_words(LONGEST_MS)} at most, or until it is resumed")
    if tx.record.paused is not None and not _longer(tx, lasts):
        return Refused("already-paused", _already(tx), "poolwarden resume POOL")
    before = tx.record.paused if tx.record.paused is not None else f"by {said.actor}"
    reason = said.arg("reason") or before
    if not lasts:
        tx.note(Kind.PAUSED, f"paused by {said.actor}: {reason}", said.actor, reason=reason)
        return "paused: verdicts and alerts go on, nothing is done automatically until it is resumed"
    about = f", until about {until}" if (until := said.arg("until")) else ""
    text = f"paused by {said.actor} for {in_words(lasts)}{about}: {reason}"
    _note(tx, text, said.actor, lasts, tx.now + lasts, reason)
    return (
        f"paused for {in_words(lasts)}{about}: verdicts and alerts go on, nothing is done automatically before; "
        "then it is resumed by itself"
    )


def resume(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """End a pause."""
    if tx.record.paused is None:
        return Refused("not-paused", "the pool is not paused")
    tx.note(Kind.RESUMED, f"resumed by {said.actor}", said.actor)
    _unblock(tx)
    return "resumed: everything is judged anew from fresh evidence"


def end_when_over(tx: Transaction) -> None:
    """Resume a pool whose pause had a time that is over now."""
    end = tx.record.pause_end
    if end is None:
        return
    if end.clock != tx.site.clock:
        # safety: stamps of another clock say nothing here; a pause may last too long, and never end early.
        text = f"still paused: the collector's machine has restarted, its {in_words(end.lasts)} count anew from then"
        _note(tx, text, "poolwarden", end.lasts, tx.site.started_at + end.lasts, tx.record.paused or "")
    elif tx.now >= end.at:
        tx.note(Kind.RESUMED, f"resumed by itself: the {in_words(end.lasts)} of the pause are over")
        _unblock(tx)


def _note(tx: Transaction, text: str, actor: str, lasts: Ms, at: Ms, reason: str) -> None:
    tx.note(Kind.PAUSED, text, actor, reason=reason, lasts=lasts, ends=at, clock=tx.site.clock)


def _longer(tx: Transaction, lasts: Ms) -> bool:
    """Would it end later than the one that there is?"""
    end: PauseEnd | None = tx.record.pause_end
    return end is not None and (not lasts or tx.now + lasts > end.at)


def _already(tx: Transaction) -> str:
    if tx.record.pause_end is None:
        return f"the pool is paused already: {tx.record.paused}"
    left = in_words(max(0, tx.record.pause_end.at - tx.now))
    return f"the pool is paused already, for {left} more: {tx.record.paused}"


def _unblock(tx: Transaction) -> None:
    if tx.failover is not None and tx.failover.standstill.blocker is Blocker.PAUSED:
        unblock(tx)
