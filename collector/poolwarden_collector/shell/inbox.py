"""The one queue through which everything that happens reaches the engine.

Rules
-----
* Events are taken in the order of their arrival, with two exceptions that keep the queue short where the engine is
  late: at most one ``Tick`` of a pool waits at a time, and a report replaces the one of the same stream that still
  waits. Facts are whole, so the newest report says all that the older one did.
* After the end nothing is taken any more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from poolwarden_collector.core.events import AgentReported, Event, Tick
from poolwarden_collector.core.facts import HostId, PoolId


@dataclass(frozen=True, slots=True)
class Happening:
    """An event of one pool."""

    pool: PoolId
    event: Event


@dataclass(slots=True)
class _Place:
    """A place in the queue."""

    happening: Happening


class Inbox:
    """The queue; ``post`` and ``end`` are to be called in the event loop."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[_Place | None] = asyncio.Queue()
        self._ticking: set[PoolId] = set()
        self._reports: dict[tuple[PoolId, HostId, int], _Place] = {}

    def post(self, pool: PoolId, event: Event) -> None:
        """Queue an event."""
        place = _Place(Happening(pool, event))
        if isinstance(event, Tick):
            if pool in self._ticking:
                return
            self._ticking.add(pool)
        elif isinstance(event, AgentReported):
            waiting = self._reports.get((pool, event.host, event.stream))
            if waiting is not None:
                waiting.happening = place.happening
                return
            self._reports[pool, event.host, event.stream] = place
        self._queue.put_nowait(place)

    def end(self) -> None:
        """Nothing comes after this."""
        self._queue.put_nowait(None)

    async def next(self) -> Happening | None:
        """The next event; ``None`` at the end."""
        place = await self._queue.get()
        if place is None:
            return None
        pool, event = place.happening.pool, place.happening.event
        if isinstance(event, Tick):
            self._ticking.discard(pool)
        elif isinstance(event, AgentReported):
            self._reports.pop((pool, event.host, event.stream), None)
        return place.happening

    def __len__(self) -> int:
        return self._queue.qsize()
