"""What survives a simulated collector: committed journal entries, the epoch, alerts that wait for delivery.

A commit is all or nothing, as the SQLite transaction is. Everything that is not in here is gone when the collector is
killed. ``Commit.ms`` is virtual time, for the story; nothing decides by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind


@dataclass(frozen=True, slots=True)
class Commit:
    """One durable transaction."""

    ms: int
    epoch: int
    pool: str
    entries: tuple[Entry, ...]
    alerts: tuple[AlertRaised | AlertResolved, ...] = ()


@dataclass
class Outgoing:
    """An alert on its way to the webhook; delivered at least once."""

    alert: AlertRaised | AlertResolved
    deliveries: int = 0


@dataclass
class Ledger:
    """The collector's disk."""

    epoch: int = 0
    commits: list[Commit] = field(default_factory=list)
    outbox: list[Outgoing] = field(default_factory=list)
    full: bool = False  # commits fail, as on a full disk
    slow_ms: int = 0  # how long each takes
    snapshots: list[tuple[int, int, int]] = field(default_factory=list)  # epoch, commits, outgoing alerts

    def check(self) -> None:
        """Raises OSError if the disk is full."""
        if self.full:
            raise OSError(28, "No space left on device")

    def begin_epoch(self, epoch: int) -> None:
        """Make an epoch durable. Raises OSError if the disk is full."""
        self.check()
        self.epoch = epoch

    def commit(self, commit: Commit) -> None:
        """Make one transaction durable. Raises OSError if the disk is full; then nothing of it is."""
        self.check()
        self.commits.append(commit)
        self.outbox += [Outgoing(alert) for alert in commit.alerts]

    def snapshot(self) -> int:
        """Take a backup; its number."""
        self.snapshots.append((self.epoch, len(self.commits), len(self.outbox)))
        return len(self.snapshots) - 1

    def restore(self, number: int = -1) -> None:
        """The disk is as it was at a backup (the newest unless said). Raises IndexError: there is none."""
        self.epoch, commits, outgoing = self.snapshots[number]
        del self.commits[commits:]
        del self.outbox[outgoing:]

    def lose_last(self) -> None:
        """The last transaction had not reached the disk after all, as where a disk lies about its cache."""
        if self.commits:
            lost = self.commits.pop()
            if lost.alerts:
                del self.outbox[-len(lost.alerts) :]

    def copy(self) -> Ledger:
        """Another disk with the same content."""
        return Ledger(self.epoch, list(self.commits), list(self.outbox))

    def pools(self) -> list[str]:
        return list(dict.fromkeys(commit.pool for commit in self.commits if commit.pool))

    def entries(self, pool: str = "") -> Iterator[Entry]:
        """All durable entries, oldest first; of one pool, or of all."""
        for commit in self.commits:
            if pool in ("", commit.pool):
                yield from commit.entries

    def of(self, kind: Kind) -> list[Entry]:
        return [entry for entry in self.entries() if entry.kind is kind]

    def when(self, kind: Kind) -> list[int]:
        """At which ms entries of this kind were committed."""
        return [commit.ms for commit in self.commits for entry in commit.entries if entry.kind is kind]
