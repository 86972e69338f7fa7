"""An occasion for hooks: something that programs of the operator's are run for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poolwarden_collector.core.model.entries import Kind

# The entries that can be one (shell/loop/hook_events.py says when).
OCCASIONS = frozenset(
    {Kind.PROMOTED, Kind.CLOSED, Kind.MASTER_OBSERVED, Kind.HOST_SEEN, Kind.ALERT, Kind.ALERT_RESOLVED}
)


@dataclass(frozen=True, slots=True)
class Occasion:
    """What happened in one word, and the fields of what a hook reads that depend on it: JSON values."""

    event: str
    facts: dict[str, Any]
