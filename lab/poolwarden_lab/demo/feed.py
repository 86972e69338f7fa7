"""The journal as the demo follows it: every entry once, in order, and a way to wait for one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from poolwarden_lab.processes.operator_link import Entry, OperatorLink


class Feed:
    """Collects entries in the background; ``told`` hears of each as it comes."""

    def __init__(self, link: OperatorLink, told: Callable[[Entry], None] = lambda entry: None) -> None:
        self.entries: list[Entry] = []
        self._link, self._told = link, told
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._collect())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def since(self, mono_ms: int) -> list[Entry]:
        """Entries from this instant on."""
        return [entry for entry in self.entries if entry.mono_ms >= mono_ms]

    async def wait(self, limit_s: float) -> bool:
        """Wait for the next entry; False if none came within the limit."""
        count = len(self.entries)
        try:
            async with asyncio.timeout(limit_s), self._news:
                await self._news.wait_for(lambda: len(self.entries) > count)
        except TimeoutError:
            return False
        return True

    async def wait_for(self, found: Callable[[Entry], bool], limit_s: float) -> Entry:
        """The first entry that is ``found``. Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            while True:
                for entry in self.entries:
                    if found(entry):
                        return entry
                await self.wait(limit_s)

    async def _collect(self) -> None:
        async for entry in self._link.follow():
            self.entries.append(entry)
            self._told(entry)
            async with self._news:
                self._news.notify_all()
