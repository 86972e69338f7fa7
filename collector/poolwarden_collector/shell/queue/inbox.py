"""The one queue through which everything that happens reaches the engine.

Rules
-----
* Events are taken in the order of their arrival, with two exceptions that keep the queue short where the engine is
  late: at most one ``Tick`` of a pool waits at a time, and a report replaces the one of the same stream that still
  waits. Facts are whole, so the newest report says all that the older one did.
* Each carries until when everything that had come had been read as it arrived: whoever takes it late knows how late
  that is (``front``), and judges silence as of then. What came later may stand behind it, so that is not a moment more.
* It is bounded: of one host wait at most ``MOST_WAITING`` events. More are not taken, and the gateway ends that stream;
  its end is always taken, so nothing is lost in silence.
* Events of a pool that is held (its step waits for the journal) wait on in their order, and are replaced and counted
  as before; once it is let go they come before all others. Other pools' events go on meanwhile.
* After the end nothing is taken any more; what is held still comes.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.events import AgentReported, Event, Tick
from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.shell.queue.happening import Happening

MOST_WAITING = 256
Lag = Callable[[], tuple[Ms, dict[PoolId, Ms]]]  # how long something has waited: in all, and of a pool


@dataclass(slots=True)
class _Place:
    """A place in the queue."""

    happening: Happening
    posted: Ms | None
    host: HostId = ""


class Inbox:
    """The queue; ``post`` and ``end`` are to be called in the event loop. ``now``: the clock of arrivals."""

    def __init__(self, now: Callable[[], Ms] | None = None) -> None:
        self._now = now
        self._pools_until: Mapping[PoolId, Ms] = {}
        self._read_until: Ms | None = None  # what came before that has been posted
        self._line: deque[_Place] = deque()
        self._held: dict[PoolId, deque[_Place]] = {}
        self._back: deque[_Place] = deque()  # what was held and comes next
        self._ended = False
        self._wake = asyncio.Event()
        self._ticking: set[PoolId] = set()
        self._reports: dict[tuple[PoolId, HostId, int], _Place] = {}
        self._waiting: Counter[HostId] = Counter()

    def post(self, pool: PoolId, event: Event, at: Ms | None = None) -> bool:
        """Queue an event, which arrived ``at`` (now); false: too many of its host wait already, it was not taken."""
        posted = self._now() if self._now is not None else None
        arrived = at if at is not None else posted
        if arrived is not None and self._read_until is not None:
            # safety: while this process is late its streams hold what came before this, and it is posted after this.
            arrived = min(arrived, self._read_until, self._pools_until.get(pool, arrived))
        place = _Place(Happening(pool, event, arrived), posted)
        if isinstance(event, Tick):
            if pool in self._ticking:
                return True
            self._ticking.add(pool)
        elif isinstance(event, AgentReported):
            waiting = self._reports.get((pool, event.host, event.stream))
            if waiting is not None:
                # It keeps its place, and with it the arrival as of which the others' silence is judged.
                waiting.happening = Happening(pool, event, waiting.happening.at)
                return True
            self._reports[pool, event.host, event.stream] = place
        elif isinstance(event, ev.AgentConnected | ev.OrderAnswered | ev.ChallengeAnswered | ev.GateAsked):
            host = event.hello.host if isinstance(event, ev.AgentConnected) else event.host
            if self._waiting[host] >= MOST_WAITING:
                return False
            place.host = host
            self._waiting[host] += 1
        if not self._ended:
            self._line.append(place)
            self._wake.set()
        return True

    def streams_read(self, until: Ms, of_pools: Mapping[PoolId, Ms] = MappingProxyType({})) -> None:
        """All that had come to the machine by then has been posted; of these pools only what came earlier."""
        self._read_until, self._pools_until = until, of_pools

    def end(self) -> None:
        """Nothing comes after this."""
        self._ended = True
        self._wake.set()

    def hold(self, pool: PoolId) -> None:
        """From now on this pool's events wait, until it is let go."""
        self._held.setdefault(pool, deque())

    def let_go(self, pool: PoolId) -> None:
        """What waited of this pool comes next."""
        self._back.extend(self._held.pop(pool, ()))
        self._wake.set()

    def forget(self, pool: PoolId) -> list[Happening]:
        """What waits of this pool waits no more; it is not held."""
        gone = [place for line in (self._back, self._line) for place in line if place.happening.pool == pool]
        self._back = deque(place for place in self._back if place.happening.pool != pool)
        self._line = deque(place for place in self._line if place.happening.pool != pool)
        return [self._taken(place) for place in gone]

    def hold_back(self, happening: Happening) -> None:
        """It was taken already, and its pool is held: it waits behind what is held of it."""
        self._held[happening.pool].append(_Place(happening, happening.at))

    def withdraw(self, pool: PoolId) -> list[ev.OperatorSaid]:
        """The commands that wait for this pool while it is held wait no more."""
        places = self._held.get(pool, deque())
        said = [place.happening.event for place in places if isinstance(place.happening.event, ev.OperatorSaid)]
        if said:
            kept = [place for place in places if not isinstance(place.happening.event, ev.OperatorSaid)]
            places.clear()
            places.extend(kept)
        return said

    @property
    def ended(self) -> bool:
        """Does nothing come any more?"""
        return self._ended

    def overtaken(self, but: Collection[PoolId] = ()) -> Ms | None:
        """When the oldest event arrived that others may have overtaken, because its pool was held; None: there is none.

        ``but``: not of these pools.

        Nobody is silent before that: it has not been taken yet.
        """
        first = [places[0] for pool, places in self._held.items() if places and pool not in but]
        return min((each.happening.at for each in (*self._back, *first) if each.happening.at is not None), default=None)

    async def next(self) -> Happening | None:
        """The next event of a pool that is not held; ``None`` at the end, when none is held any more."""
        while True:
            while line := self._back or self._line:
                place = line.popleft()
                held = self._held.get(place.happening.pool)
                if held is None:
                    return self._taken(place)
                held.append(place)
            if self._ended and not self._held:
                return None
            self._wake.clear()
            await self._wake.wait()

    def _taken(self, place: _Place) -> Happening:
        pool, event = place.happening.pool, place.happening.event
        if isinstance(event, Tick):
            self._ticking.discard(pool)
        elif isinstance(event, AgentReported):
            self._reports.pop((pool, event.host, event.stream), None)
        elif place.host:
            self._waiting[place.host] -= 1
            if not self._waiting[place.host]:
                del self._waiting[place.host]
        return place.happening

    def oldest(self, but: Collection[PoolId] = ()) -> Ms | None:
        """When the oldest event that waits arrived, without those that are held of these pools; None: none waits, or no
        clock was given.
        """
        first = self._line[0].happening.at if self._line else None
        return min((at for at in (self.overtaken(but), first) if at is not None), default=None)

    def age(self) -> Ms:
        """How old the oldest event is that waits, by its arrival; 0: none waits, or no clock was given."""
        oldest = self.oldest()
        return max(0, self._now() - oldest) if oldest is not None and self._now is not None else 0

    def waited(self) -> Ms:
        """How long the next event has been in this queue, whatever of its pool was read; 0: none is."""
        posted = next((places[0].posted for places in (self._back, self._line) if places), None)
        return self._now() - posted if posted is not None and self._now is not None else 0

    def __len__(self) -> int:
        return len(self._line) + len(self._back) + sum(map(len, self._held.values()))
