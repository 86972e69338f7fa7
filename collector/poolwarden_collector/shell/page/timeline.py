"""A failover's journal entries as a timeline: which lane each is on, how long after the first, and how it looked then.

The lanes are the steps of a failover as `poolwarden watch` has them; an entry of a kind that is in none of them is told
in the list alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.cli.pages.journal import COPIED
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.page.charts import Mark

LANES = {
    "evidence": ("verdict", "contrary-evidence", "power-reading", "agent-silent", "agent-back"),
    "decision": ("decided", "asked", "approved", "denied", "expired", "question-withdrawn", "human-confirmed",
                 "blocked", "unblocked", "acknowledged"),
    "claim": ("claim-sent", "claimed", "candidate"),
    "proof": ("fence-intent", "fence-result", "fence-recalled", "fenced", "toolstack-intent", "proof"),
    "promotion": ("handover-intent", "handover-result", "promote-intent", "promote-answer", "promoted", "demoted"),
    "members": ("repoint-intent", "restart-intent", "restart-result", "member-back", "repaired", "owed", "owed-done",
                "tombstone-intent"),
    "end": ("closed", "aborted", "superseded"),
}  # fmt: skip
_LANE_OF = {kind: number for number, kinds in enumerate(LANES.values()) for kind in kinds}
TONES = {
    "blocked": "critical", "asked": "warning", "aborted": "warning", "contrary-evidence": "warning",
    "denied": "warning",
    "proof": "good", "promoted": "good", "closed": "good", "fenced": "good", "approved": "good",
}  # fmt: skip
_ENDS = {"closed": "closed", "aborted": "aborted", "superseded": "superseded"}


@dataclass(frozen=True, slots=True)
class Past:
    """A failover of the journal: when it was decided, how it ended (empty: it is open), and its last sentence."""

    id: str
    at: str
    end: str
    text: str


def past(entries: Iterable[pb.HistoryEntry]) -> list[Past]:
    """Those that these entries begin and end, the newest first."""
    found: dict[str, Past] = {}
    for entry in entries:
        if not entry.failover:
            continue
        before = found.get(entry.failover)
        end = _ENDS.get(entry.kind, "")
        found[entry.failover] = Past(entry.failover, before.at if before else entry.at, end, entry.text)
    return list(found.values())[::-1]


def story(entries: Sequence[pb.HistoryEntry], at: int) -> dict[str, Any]:
    """For the template: each entry with the ms since the first one, marks, and where ``at`` stands among them."""
    elapsed = _elapsed(entries)
    marks = [
        Mark(entry.seq, ms, _LANE_OF[entry.kind], TONES.get(entry.kind, "plain"), said(entry, ms), entry.copied)
        for entry, ms in zip(entries, elapsed, strict=True)
        if entry.kind in _LANE_OF
    ]
    numbers = [entry.seq for entry in entries]
    place = max((number for number, seq in enumerate(numbers) if seq <= at), default=-1) if at else len(numbers) - 1
    return {
        "told": list(zip(entries, elapsed, strict=True)),
        "marks": marks,
        "lanes": list(LANES),
        "took_ms": elapsed[-1] if elapsed else 0,
        "at": at,
        "earlier": numbers[place - 1] if at and place > 0 else (numbers[-2] if not at and len(numbers) > 1 else 0),
        "later": numbers[place + 1] if at and place + 1 < len(numbers) else 0,
        "then": said(entries[place], elapsed[place]) if entries and place >= 0 else "",
        "copied": sum(entry.copied for entry in entries),
    }


def said(entry: pb.HistoryEntry, ms: int) -> str:
    """One entry where it stands alone: of a mark, and of the place that the timeline was moved to."""
    who = f"{entry.actor}: " if entry.actor not in ("", "poolwarden") else ""
    copied = f" {COPIED}" if entry.copied else ""
    return f"after {ms / 1000:.1f} s, {entry.kind}: {who}{entry.text}{copied}"


def _elapsed(entries: Sequence[pb.HistoryEntry]) -> list[int]:
    """ms since the first entry: by the collector's monotonic clock within one run, over a restart by the wall clock."""
    found: list[int] = []
    for number, entry in enumerate(entries):
        if not number:
            found.append(0)
            continue
        before = entries[number - 1]
        if before.epoch == entry.epoch:
            step = entry.mono_ms - before.mono_ms
        else:
            step = (clock.ms_of(entry.at) or 0) - (clock.ms_of(before.at) or 0)
        found.append(found[-1] + max(0, step))
    return found
