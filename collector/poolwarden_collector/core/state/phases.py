"""When each phase of the open failover was reached, and since when its present step lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.live_slices import Phases

if TYPE_CHECKING:
    from poolwarden_collector.core.state.snapshot import Snapshot
    from poolwarden_collector.core.state.transaction import Transaction

# What every failover passes, in order; the marks beside these are of single paths.
ORDER = ("silent", "decided", "claimed", "candidate", "proof", "promote-intent", "promoted", "closed")


def mark(tx: Transaction, phase: str, at: Ms | None = None) -> None:
    """This phase was reached, now or then; once."""
    if phase not in tx.live.phases.marks:
        mark_anew(tx, phase, at)


def mark_anew(tx: Transaction, phase: str, at: Ms | None = None) -> None:
    """This phase was reached, whether or not it was before."""
    tx.change(Phases, marks={**tx.live.phases.marks, phase: tx.now if at is None else at})


def forget(tx: Transaction, phase: str) -> None:
    """This phase is still to come."""
    tx.change(Phases, marks={known: at for known, at in tx.live.phases.marks.items() if known != phase})


def silent_since(tx: Transaction, at: Ms) -> None:
    """The master has vanished: what follows is counted from its silence."""
    tx.change(Phases, marks={"silent": at})


def failover_begins(tx: Transaction) -> None:
    """Nothing of an earlier failover is left but since when the master is silent."""
    tx.change(Phases, marks={phase: at for phase, at in tx.live.phases.marks.items() if phase == "silent"})
    step_begins(tx)


def step_begins(tx: Transaction) -> None:
    """The open failover has come to another step, or this run to its first."""
    tx.change(Phases, step_since=tx.now)


def spans(pool: Snapshot) -> tuple[tuple[str, str, Ms], ...]:
    """What passed between the phases that this run has marked, in order; a collector that was restarted has fewer."""
    marks = pool.live.phases.marks
    known = [phase for phase in ORDER if phase in marks]
    return tuple((begin, end, marks[end] - marks[begin]) for begin, end in zip(known, known[1:], strict=False))
