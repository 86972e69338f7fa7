"""Where the rows of enrolment are durable: in this collector's own journal, or for one of several in etcd."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from poolwarden_collector.shell.cluster.enrolment_rows import Collector
from poolwarden_collector.shell.store.enrolment_tables import Change, Of
from poolwarden_collector.shell.store.journal import Journal, JournalError, Row


class Overtaken(JournalError):
    """Another collector has changed something first: read that, and decide again."""


class Rows(Protocol):
    """One call at a time; whoever calls ``write`` has called ``refresh`` since the last one."""

    @property
    def shared(self) -> bool:
        """With other collectors?"""

    @property
    def collectors(self) -> Mapping[str, Collector]:
        """Those that have said what their orders are signed with, by their names."""

    async def everything(self) -> list[Of]:
        """Every row that is known here. Raises JournalError."""

    async def refresh(self) -> Change | None:
        """What others have changed since the last time; None: nothing. Raises JournalError: that cannot be told now."""

    async def write(self, change: Change) -> list[Row]:
        """Make it durable. Raises Overtaken, JournalError."""

    async def note(self, change: Change) -> list[Row]:
        """Entries and alerts alone, in this collector's own journal. Raises JournalError."""


class OwnRows:
    """In the journal of the one collector there is. ``run`` runs a journal call in the one writer thread."""

    shared = False
    collectors: Mapping[str, Collector] = MappingProxyType({})

    def __init__(self, journal: Journal, run: Callable[..., Awaitable[Any]]) -> None:
        self._journal, self._run = journal, run

    async def everything(self) -> list[Of]:
        """As the journal has it."""
        found: list[Of] = await self._run(self._journal.enrolment)
        return found

    async def refresh(self) -> Change | None:
        """Nobody else changes anything."""
        return None

    async def write(self, change: Change) -> list[Row]:
        """One transaction."""
        rows: list[Row] = await self._run(self._journal.enrol, change)
        return rows

    async def note(self, change: Change) -> list[Row]:
        """The same."""
        return await self.write(change)
