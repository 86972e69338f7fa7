"""What only the journal knows of a pool and a report wants: earlier changes of its master, and how long each took.

Wall clocks meet here, for people alone: nothing decides by them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.phases import ORDER

# Where each step of a failover begins and ends in the durations that its last entry has (failover/member_return.py).
SPANS = {
    "silence": ("silent", "decided"),
    "claim": ("decided", "claimed"),
    "proof": ("claimed", "promote-intent"),
    "promotion": ("promote-intent", "promoted"),
    "members": ("promoted", "closed"),
}
_PLACE = {phase: number for number, phase in enumerate(ORDER)}


@dataclass(frozen=True, slots=True)
class PastChange:
    """A change of master that came to its end ``ago_ms`` ago; ``durations`` are those of a failover, by its phases."""

    ago_ms: Ms
    planned: bool
    durations: dict[str, Ms] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PastDrill:
    """A drill that ended ``ago_ms`` ago; ``failed``: its steps that have failed, in words; ``tried``: was any tried?"""

    ago_ms: Ms
    tried: bool
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JournalView:
    """The newest changes and drills first. Of the collector itself: that it runs on a host which it guards, and each
    certificate of its own that ends soon, with what helps; that it is one of ``several`` to which hosts may go; and
    what is wrong with the etcd of these, with what helps."""

    changes: tuple[PastChange, ...] = ()
    inside: str = ""
    certificates: tuple[tuple[str, str], ...] = ()
    drills: tuple[PastDrill, ...] = ()
    several: bool = False
    etcd: tuple[tuple[str, str], ...] = ()


def took(change: PastChange, step: str) -> Ms | None:
    """How long a step took in it; None: its journal does not tell."""
    begin, end = SPANS[step]
    inner = ORDER[_PLACE[begin] : _PLACE[end] + 1]
    parts = [change.durations.get(f"{a} to {b}") for a, b in zip(inner, inner[1:], strict=False)]
    known = [part for part in parts if part is not None]
    return sum(known) if known and len(known) == len(parts) else None
