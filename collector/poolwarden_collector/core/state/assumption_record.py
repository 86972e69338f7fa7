"""Assumptions that failed on a host: what is remembered over restarts until the host shows the contrary.

An entry says how all of one host stand after it, so that folding it twice changes nothing. What rests on an assumption
is remembered with it: a decision is made again as it was made, whatever the table says by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.values import HostId


@dataclass(frozen=True, slots=True)
class FailedAssumption:
    """One that was seen to fail. ``outdated``: under another release of the host's software than it has now."""

    id: str
    rests: tuple[str, ...]  # capabilities of poolwarden/assumptions.py
    evidence: str = ""
    release: str = ""  # in the agent's words
    software: str = ""  # the host's, as it reported itself when this counted
    outdated: bool = False

    def as_data(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "rests": list(self.rests),
            "evidence": self.evidence,
            "release": self.release,
            "software": self.software,
            "outdated": self.outdated,
        }


def fold_assumptions(
    failed: dict[HostId, tuple[FailedAssumption, ...]], entry: Entry
) -> dict[HostId, tuple[FailedAssumption, ...]]:
    """What failed on which host after one entry."""
    host = entry.data["host"]
    kept = {other: items for other, items in failed.items() if other != host}
    now = tuple(_of(each) for each in entry.data["failed"])
    return {**kept, host: now} if now else kept


def _of(data: dict[str, Any]) -> FailedAssumption:
    words = (data.get("evidence", ""), data.get("release", ""), data.get("software", ""))
    return FailedAssumption(data["id"], tuple(data["rests"]), *words, bool(data.get("outdated", False)))
