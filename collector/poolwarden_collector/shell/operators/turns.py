"""Turns for the engine in the middle of a long answer.

The engine and the operator's interface share one event loop. Whoever goes through thousands of pools lets it run after
each few milliseconds, and where events wait for it some of them are taken first: an answer is late sooner than it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

SLICE_S = 0.004
MOST_TURNS = 4  # of the loop in a row, while events wait


class Turns:
    """Those of one answer; ``waiting`` tells how many events wait for the engine."""

    def __init__(self, waiting: Callable[[], int], clock: Callable[[], float] = time.perf_counter) -> None:
        self._waiting = waiting
        self._clock = clock
        self._began = clock()

    async def rest(self) -> None:
        """Let others run, where this answer has held the loop for its slice."""
        if self._clock() - self._began < SLICE_S:
            return
        for _ in range(MOST_TURNS):
            await asyncio.sleep(0)
            if not self._waiting():
                break
        self._began = self._clock()
