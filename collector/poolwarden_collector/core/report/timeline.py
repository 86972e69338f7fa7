"""A failover, or a span of a pool's time, as a timeline: the journal's entries put into the order and form in which
people read them: what the export of evidence has. The page draws lanes and marks of its own (shell/page/timeline.py).

Nothing here judges or words anything anew: a moment's text is the journal's own sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.values import Ms

OWN_ACTOR = "poolwarden"
# What Poolwarden notes for itself: who counts as a witness, numbers and names it has seen, what a channel has taken.
BOOKKEEPING = frozenset(
    kind.value
    for kind in (
        Kind.ALERT_DELIVERED,
        Kind.OPINION_SETTLED,
        Kind.POOL_LISTED,
        Kind.POOL_NAMED,
        Kind.STANDING,
        Kind.SYNC_INTENT,
        Kind.TERM_OBSERVED,
    )
)
_REPLAY = re.compile(r'"(?:replay": (\d+)|input":)')


class Told(Protocol):
    """An entry of the journal, whoever holds it: the store's row or the operator API's entry."""

    @property
    def seq(self) -> int: ...
    @property
    def at(self) -> str: ...
    @property
    def mono_ms(self) -> Ms: ...
    @property
    def epoch(self) -> int: ...
    @property
    def failover(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def actor(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def data(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Moment:
    """One entry. ``day``, ``time``: of the collector's wall clock (UTC), ``2026-01-31`` and ``12:03:04.512``."""

    seq: int
    day: str
    time: str
    since_ms: Ms | None  # since the first moment, by the collector's own clock; None: another activation's clock
    kind: str
    actor: str  # who did or said it, empty: Poolwarden itself
    text: str
    failover: str
    replay: int | None  # a decision that can be made again from its stored input: the number for `poolwarden replay`
    copied: bool  # it came with the pool: its time is that of coming, and the owner of before had recorded it


@dataclass(frozen=True, slots=True)
class Timeline:
    """Moments, the oldest first; ``folded``: how many entries of bookkeeping are left out."""

    moments: tuple[Moment, ...]
    folded: int = 0

    @property
    def took_ms(self) -> Ms | None:
        """From the first to the last; None: not known."""
        return self.moments[-1].since_ms if self.moments else None


def timeline(entries: Iterable[Told], *, everything: bool = False) -> Timeline:
    """The entries, oldest first, as a timeline; ``everything``: with the bookkeeping."""
    told = sorted(entries, key=lambda entry: entry.seq)
    kept = [entry for entry in told if everything or entry.kind not in BOOKKEEPING]
    first = kept[0] if kept else None
    return Timeline(tuple(_moment(entry, first) for entry in kept), len(told) - len(kept))


def _moment(entry: Told, first: Told | None) -> Moment:
    same_clock = first is not None and entry.epoch == first.epoch
    return Moment(
        seq=entry.seq,
        day=entry.at[:10],
        time=entry.at[11:23].rstrip("Z"),
        since_ms=max(0, entry.mono_ms - first.mono_ms) if first is not None and same_clock else None,
        kind=entry.kind,
        actor="" if entry.actor == OWN_ACTOR else entry.actor,
        text=entry.text,
        failover=entry.failover,
        replay=_replay(entry),
        copied=bool(getattr(entry, "copied", False)),  # the store's row knows nothing of it
    )


def _replay(entry: Told) -> int | None:
    """The number under which the decision's input is stored; the API's entries name it, the store's rows hold it."""
    found = _REPLAY.search(entry.data)
    return None if found is None else int(found[1] or entry.seq)


def since(moment: Moment) -> str:
    """``+12.3 s`` since the first moment; empty: not known."""
    return "" if moment.since_ms is None else f"+{moment.since_ms / 1000:.1f} s"
