"""The failover's transition table: the only moves between steps, what each records, and what is verified for it.

Theory: a failover moves only by a journal entry, and the engine writes an entry only through ``Transaction.write``,
which asks ``refusal`` here. So a move that is not in the table cannot happen, whatever the rest of the code does. The
state diagram of docs/safety.md is generated from this table (``diagram``).
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Failover, Step


@dataclass(frozen=True, slots=True)
class Transition:
    """One move: the entry that makes it, what it means, and what is verified in the same pass, or again."""

    source: Step
    target: Step
    entry: Kind
    means: str
    verified: tuple[str, ...]


_GROUND = "the verdict still is the one that it was decided on, from evidence of this pass"

TRANSITIONS: tuple[Transition, ...] = (
    Transition(
        Step.DECIDED,
        Step.CLAIMED,
        Kind.CLAIMED,
        "every reachable agent has stored the term",
        (_GROUND, "nobody's last look at the old master was answered, nobody has seen a higher term"),
    ),
    Transition(
        Step.CLAIMED,
        Step.CANDIDATE,
        Kind.CANDIDATE,
        "one member was chosen",
        (
            _GROUND,
            "claims are repeated after a restart",
            "no limitation; no kill in the forecast that was not accepted",
        ),
    ),
    Transition(
        Step.CANDIDATE,
        Step.CANDIDATE,
        Kind.CANDIDATE,
        "another member was chosen, because the first is not fit any more",
        (_GROUND, "no limitation; no kill in the forecast that was not accepted"),
    ),
    Transition(
        Step.CANDIDATE,
        Step.FENCED,
        Kind.FENCED,
        "the old master was stopped, or was found off; what it could hand over was handed over",
        (_GROUND, "candidate and forecast once more, on the file that was placed"),
    ),
    Transition(
        Step.FENCED,
        Step.CANDIDATE,
        Kind.CANDIDATE,
        "another member was chosen, because the first is not fit any more",
        (_GROUND, "no limitation; no kill in the forecast that was not accepted"),
    ),
    Transition(
        Step.FENCED,
        Step.PROVED,
        Kind.PROOF,
        "a proof was made",
        (_GROUND, "candidate and forecast once more", "a last look by fresh probes after the proof"),
    ),
    Transition(
        Step.PROVED,
        Step.CANDIDATE,
        Kind.CANDIDATE,
        "another member was chosen, because the first is not fit any more",
        (_GROUND, "no limitation; no kill in the forecast that was not accepted"),
    ),
    Transition(
        Step.PROVED,
        Step.PROMOTING,
        Kind.PROMOTE_INTENT,
        "from here only this candidate; the order goes out",
        (_GROUND, "the proof anew, at most 10 s old", "the last look", "candidate and forecast once more"),
    ),
    Transition(
        Step.PROMOTING,
        Step.PROMOTING,
        Kind.PROMOTE_INTENT,
        "a promotion that undid itself is tried again, under another order id",
        ("a new proof, without the device that the first one rested on", "the last look"),
    ),
    Transition(
        Step.PROMOTING,
        Step.PROMOTED,
        Kind.PROMOTED,
        "the candidate serves",
        ("pool.conf, a new xapi process, an answer on TCP, and its own login agree",),
    ),
    Transition(
        Step.PROMOTED,
        Step.CLOSED,
        Kind.CLOSED,
        "every member is back, or on the owed list",
        ("the new master serves, or is itself lost again",),
    ),
    *(
        Transition(step, Step.ABORTED, Kind.ABORTED, "given up before the promotion, at a new term", ())
        for step in REVERSIBLE
    ),
    *(
        Transition(step, Step.SUPERSEDED, Kind.SUPERSEDED, "somebody else serves as master", ())
        for step in (*REVERSIBLE, Step.PROMOTING)
    ),
    Transition(
        Step.PROMOTING,
        Step.ABORTED,
        Kind.ABORTED,
        "the candidate can act on this term no more: it is itself off, its order never began and what that stood on is "
        "gone, or a tombstone has made it a member again; a new term, everything is decided anew",
        (
            "off: the power proof for the candidate's own boot, or an operator's word of this run about it",
            "never began: the candidate is heard as the member that it was, and has said Hello since without knowing "
            "the order, or has refused it, and every copy of it has expired; the new term is told to it at once",
            "a tombstone of this term: its answer to the order is known, and its process is a member's",
        ),
    ),
)

_ALLOWED = {(move.source, move.target, move.entry) for move in TRANSITIONS}
_ENTRIES = {move.entry for move in TRANSITIONS}


def refusal(before: Failover | None, after: Failover | None, kind: Kind) -> str:
    """Why this entry must not be written: no table has the move that it makes; empty if it may be."""
    if kind is Kind.DECIDED:
        return f"{before.id} is open" if before is not None and before.open else ""
    if before is None or after is None or before.id != after.id:
        return ""
    if before.step is after.step and (kind not in _ENTRIES or not before.open):
        return ""
    if (before.step, after.step, kind) in _ALLOWED or (kind is Kind.PROOF and before.step is after.step):
        return ""
    return f"{kind.value} does not lead from {before.step.value} to {after.step.value}"


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> DECIDED: decided"]
    lines += [f"    {move.source.value} --> {move.target.value}: {move.entry.value}" for move in TRANSITIONS]
    lines += [f"    {step.value} --> [*]" for step in (Step.CLOSED, Step.ABORTED, Step.SUPERSEDED)]
    return "\n".join(lines)
