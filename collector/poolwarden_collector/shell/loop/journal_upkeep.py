"""What keeps the journal small and its start short: snapshots of records, and the end of what is old.

Rules
-----
* Reading and folding are done in a thread of their own; the one that writes gets small pieces, in its turn, so that no
  step of a pool waits longer for them than for another pool's commit.
* Every minute: pools with a long tail get a snapshot. Every hour: what is older than it is kept goes.
* An error is told once, until it works again, and ends nothing: the journal stays longer, and the next start is slower.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from poolwarden_collector.shell.config.journal import JournalSettings
from poolwarden_collector.shell.store import retention
from poolwarden_collector.shell.store.journal import Journal, JournalError

EVERY_S = 60.0
OLD_EVERY = 60  # rounds
SNAPSHOTS_AT_ONCE = 2  # in one transaction
_BETWEEN_S = 0.02  # two pieces of what is removed

_log = logging.getLogger(__name__)


class JournalUpkeep:
    """Looks after ``journal``; ``write`` runs one call of it in the thread that writes."""

    def __init__(
        self, journal: Journal, write: Callable[..., Awaitable[Any]], settings: Callable[[], JournalSettings]
    ) -> None:
        self._journal = journal
        self._write = write
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        self._failed = False
        self._looked_to = 0  # the newest entry when tails were looked at last

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        rounds = 0
        while True:
            await self.look_after(old=rounds % OLD_EVERY == 0)
            rounds += 1
            await asyncio.sleep(EVERY_S)

    async def look_after(self, old: bool) -> None:
        """One round; ``old``: with the end of what is old."""
        try:
            await self._snapshots()
            if old:
                await self._old()
        except JournalError as error:
            if not self._failed:
                _log.warning("the journal is not tidied up, which decides nothing: %s", error)
            self._failed = True
        else:
            self._failed = False

    async def _snapshots(self) -> None:
        due, last = await asyncio.to_thread(self._journal.long_tails, self._looked_to)
        for at in range(0, len(due), SNAPSHOTS_AT_ONCE):
            made = await asyncio.to_thread(self._journal.snapshots_of, due[at : at + SNAPSHOTS_AT_ONCE])
            if made:
                await self._write(self._journal.keep_snapshots, made)
        self._looked_to = last

    async def _old(self) -> None:
        kept, left = self._settings(), retention.MOST_AN_HOUR
        while left > 0:
            cut = await asyncio.to_thread(self._journal.old, kept.keep_history, kept.keep_decisions, left)
            for part in retention.parts(cut):
                await self._write(self._journal.remove, part)
                await asyncio.sleep(_BETWEEN_S)
            if not cut.moved:
                return
            left -= len(cut.entries) + len(cut.inputs)
