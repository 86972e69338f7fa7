"""What the loop's driver asks of the file in which steps are made durable (``Journal`` is it), in its own thread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.occasion import Occasion
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.shell.store.handed import Handed, Left
from poolwarden_collector.shell.store.journal import Numbers, Row, Step, Unwritable
from poolwarden_collector.shell.store.parcels import Routes


class Store(Protocol):
    """Every method raises JournalError where nothing of what it was given is durable.

    For one collector it is what "durable" means. For one of several that is etcd (shell/cluster/etcd_store.py), and
    this is the archive of what it has seen and done.
    """

    @property
    def sinks(self) -> tuple[str, ...]: ...

    def pools(self) -> list[PoolId]: ...

    def record(self, pool: PoolId) -> PoolRecord: ...

    def short(self) -> frozenset[PoolId]: ...

    def begin_epoch(self, above: int = 0) -> int: ...

    def commit(
        self,
        pool: PoolId,
        entries: Iterable[Entry],
        alerts: Iterable[AlertRaised | AlertResolved] = (),
        pool_name: str = "",
        occasions: Iterable[Occasion] = (),
        shared: Numbers = (0, 0),
    ) -> list[Row]: ...

    def commit_together(self, steps: Iterable[Step]) -> list[list[Row] | Unwritable]: ...

    def reconfigure(
        self,
        entries: Iterable[tuple[PoolId, Iterable[Entry]]],
        sinks: tuple[str, ...],
        docs: str,
        routes: Routes | None = None,
    ) -> list[Row]: ...

    def check(self) -> None: ...

    def take_over(
        self, pool: PoolId, name: str, entries: Iterable[tuple[int, Entry]], last: int, handed: Handed | None = None
    ) -> list[Row]: ...

    def give_up(self, pool: PoolId = "") -> None: ...

    def left_to_tell(self, pool: PoolId) -> Left: ...

    def recorded(self, pool: PoolId, number: int) -> None: ...
