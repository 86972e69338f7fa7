"""How much one pool may write to the journal, and what is folded above that.

Rules
-----
* A pool may write 8 MiB an hour, all of them at once: a year of that is 70 GB, a quiet pool writes some kB a day, a
  failover of 64 hosts some 100 kB. What counts is every entry.
* Above that what only informs (``Entry.informs``) is counted instead of written, and one entry says how many there
  were, at most every ten minutes. Intents, results, proofs, terms, what is on record, and what a decision was made from
  are written always.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import Ms

MOST_BYTES = 8 << 20
HOUR_MS: Ms = 3_600_000
TELL_EVERY_MS: Ms = 600_000
_BESIDE = 150  # bytes of a row beside its text and data


@dataclass(slots=True)
class Quota:
    """What one pool has left, in bytes."""

    left: float = MOST_BYTES
    at: Ms | None = None
    folded: int = 0  # that no entry has told yet
    told_at: Ms | None = None
    kinds: set[str] = field(default_factory=set)

    def taken(self, entries: Iterable[tuple[Entry, int]], now: Ms) -> tuple[list[Entry], int]:
        """Of these entries, each with the bytes of its data, the ones to write; and how many were folded."""
        passed, self.at = max(0, now - self.at) if self.at is not None else 0, now
        self.left = min(float(MOST_BYTES), self.left + MOST_BYTES * passed / HOUR_MS)
        kept, before = [], self.folded
        for entry, data in entries:
            if self.left <= 0 and entry.informs:
                self.folded += 1
                self.kinds.add(entry.kind.value)
                continue
            self.left -= _BESIDE + len(entry.text) + data
            kept.append(entry)
        folded = self.folded - before
        if kept and self.folded and (self.told_at is None or now - self.told_at >= TELL_EVERY_MS):
            kept.append(self._tell(now))
        return kept, folded

    def _tell(self, now: Ms) -> Entry:
        text = (
            f"entries folded: {self.folded} that only inform were counted instead of written, this pool writes too much"
        )
        data = {"entries": self.folded, "kinds": sorted(self.kinds)}
        self.folded, self.told_at, self.kinds = 0, now, set()
        return Entry(Kind.FOLDED, text, data)
