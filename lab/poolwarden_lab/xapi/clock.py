"""Virtual time: one heap of due things, integer milliseconds.

Things of one moment happen in the order of asking, so that two runs of one story are equal. Several pools may share one
clock; then whoever owns it lets the time pass.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Clock:
    """Time that passes only from one due thing to the next."""

    def __init__(self) -> None:
        self.now = 0
        self.done = 0  # things done so far
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._asked = 0

    def at(self, ms: int, act: Callable[[], None]) -> None:
        """Do something at a time, or now if that has passed."""
        self._asked += 1
        heapq.heappush(self._queue, (max(ms, self.now), self._asked, act))

    @property
    def next_due(self) -> int | None:
        """When the next thing is due, ms; None: nothing is."""
        return self._queue[0][0] if self._queue else None

    def step(self) -> None:
        """Do the next thing. Raises IndexError if there is none."""
        ms, _, act = heapq.heappop(self._queue)
        self.now = max(self.now, ms)
        self.done += 1
        act()
