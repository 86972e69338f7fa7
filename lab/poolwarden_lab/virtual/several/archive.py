"""A ledger as the archive of one of several collectors: production's ``Store`` (shell/store/store.py) over it.

What others have recorded in etcd since comes with a pool; what of that nobody had in a ledger yet (its owner died
between etcd's word and his disk) is this one's to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.occasion import Occasion
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.shell.store.handed import Handed, Left
from poolwarden_collector.shell.store.journal import JournalError, Numbers, Row, Unwritable
from poolwarden_lab.virtual.collector.ledger import Commit, Ledger

Told = dict[PoolId, set[int]]  # numbers of etcd's journals that a collector has in its ledger


class LedgerArchive:
    """``commit`` and the others as a journal's. ``told`` is shared by all collectors of a world."""

    sinks: tuple[str, ...] = ()

    def __init__(
        self,
        ledger: Ledger,
        now: Callable[[], int],
        epoch: Callable[[PoolId], int],
        told: Told,
        after: Callable[[Commit], None],
    ) -> None:
        self._ledger, self._now, self._epoch, self._told, self._after = ledger, now, epoch, told, after

    def pools(self) -> list[PoolId]:
        return []

    def record(self, pool: PoolId) -> PoolRecord:
        raise JournalError("this state directory is the archive of one of several collectors")

    def short(self) -> frozenset[PoolId]:
        return frozenset()

    def begin_epoch(self, above: int = 0) -> int:
        return self._ledger.epoch

    def commit(
        self,
        pool: PoolId,
        entries: Iterable[Entry],
        alerts: Iterable[AlertRaised | AlertResolved] = (),
        pool_name: str = "",
        occasions: Iterable[Occasion] = (),
        shared: Numbers = (0, 0),
    ) -> list[Row]:
        """Raises JournalError: the disk is full."""
        self._add(Commit(self._now(), self._epoch(pool), pool, tuple(entries), tuple(alerts)))
        if shared[1]:
            self._told.setdefault(pool, set()).add(shared[1])
        return []

    def open_alerts(self, message: str) -> list[str]:
        """The keys of the open alerts with this message."""
        found: dict[str, None] = {}
        for commit in self._ledger.commits:
            for alert in commit.alerts:
                if isinstance(alert, AlertResolved):
                    found.pop(alert.key, None)
                elif alert.data.get("message") == message:
                    found[alert.key] = None
        return list(found)

    def commit_together(self, steps: Iterable[Any]) -> list[list[Row] | Unwritable]:
        self._check()
        return [self.commit(*step) for step in steps]

    def reconfigure(self, entries: Iterable[tuple[PoolId, Iterable[Entry]]], *_: object) -> list[Row]:
        self._check()
        for pool, each in entries:
            self.commit(pool, each)
        return []

    def check(self) -> None:
        self._check()

    def take_over(
        self, pool: PoolId, name: str, entries: Iterable[tuple[int, Entry]], last: int, handed: Handed | None = None
    ) -> list[Row]:
        """What of these entries nobody has told yet."""
        self._check()
        told = self._told.setdefault(pool, set())
        reached = max(told, default=0)
        missing = tuple(entry for number, entry in entries if number > reached)
        if missing:
            self._add(Commit(self._now(), self._epoch(pool), pool, missing))
        told.add(max(reached, last))
        return []

    def give_up(self, pool: PoolId = "") -> None:
        """It has no channels."""

    def left_to_tell(self, pool: PoolId) -> Left:
        return Left(max(self._told.get(pool, ()), default=0), (), (), hooks=True)

    def recorded(self, pool: PoolId, number: int) -> None:
        self._told.setdefault(pool, set()).add(number)

    def _check(self) -> None:
        try:
            self._ledger.check()
        except OSError as error:
            raise JournalError(str(error)) from None

    def _add(self, commit: Commit) -> None:
        self._check()
        self._ledger.commit(commit)
        self._after(commit)
