"""Somebody who does what waits in the journal, one thing at a time for each that it is for (outbox, hooks).

Rules
-----
* It looks when it is nudged, when something that it began has ended, and each ``LOOK_EVERY_S`` while anything waits
  that becomes due by time alone.
* An error of a look is logged, and it looks again: what waits is never forgotten.
* What was begun is known by its key until it has ended; ``stop`` gives it up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

LOOK_EVERY_S = 1.0

_log = logging.getLogger(__name__)


class Lookout:
    """``look`` begins what is due, and says whether anything waits that needs nothing new to become due."""

    def __init__(self, what: str, look: Callable[[], Awaitable[bool]], expected: type[Exception]) -> None:
        """``what`` waits, for the log; ``expected``: the error whose sentence says enough."""
        self.busy: dict[str, asyncio.Task[None]] = {}
        self._what = what
        self._look = look
        self._expected = expected
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Begin nothing more, and give up what is under way."""
        tasks = [*self.busy.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def nudge(self) -> None:
        """There is something new."""
        self._wake.set()

    def begin(self, key: str, work: Coroutine[Any, Any, None], freed: Callable[[], object] = lambda: None) -> None:
        """Do this for ``key``, which is busy until it has ended; then ``freed`` is told."""

        def ended(_: asyncio.Task[None]) -> None:
            self.busy.pop(key, None)
            freed()
            self._wake.set()

        task = asyncio.ensure_future(work)
        self.busy[key] = task
        task.add_done_callback(ended)

    async def _run(self) -> None:
        while True:
            waits = True
            try:
                waits = await self._look()
            except self._expected as error:
                _log.error("%s wait: %s", self._what, error)
            except Exception:
                _log.exception("%s wait", self._what)
            try:
                async with asyncio.timeout(LOOK_EVERY_S if waits else None):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()


class Pauses:
    """How long to wait after what cannot be noted: longer with each time in a row, so that nothing is done for ever."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._times: dict[str, int] = {}

    def next_s(self, key: str) -> float:
        """Once more: the pause, s."""
        times = self._times.get(key, 0)
        self._times[key] = times + 1
        return min(self._longest_s, self._first_s * (1 << min(times, 16)))

    def over(self, key: str) -> None:
        """It was noted, or is of no interest any more."""
        self._times.pop(key, None)
