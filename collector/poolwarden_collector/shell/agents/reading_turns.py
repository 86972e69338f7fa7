"""How much of what agents send is read in one turn of the loop: a share, so that everybody else has his turn as well.

Theory: each turn of asyncio does all that is ready, and of each stream one message can be. With thousands of streams a
collector that is late has turns of seconds, and whatever takes some turns one after the other (a call that gRPC hands
over, an operator's question, the engine) takes them all. So what is read is read here: while reading has had less than
half of the time it is done at once, afterwards in the order of arrival, ``TURN_S`` of it in each turn.

Rules
-----
* Of each stream one message at a time: what else has come of it waits in gRPC, which takes no more than its window.
* A message has arrived when gRPC gave it here, however late it is read. ``oldest`` tells since when one waits: nobody
  is silent for what came later. Nor is a host of whose stream one waits, since the one before that: what gRPC gave here
  right after that may have come long before (gateway.py, unread).
* Also while the engine is late: of the reports of a stream that wait for it the newest is kept (queue/inbox.py), so
  what it is late with does not grow.
* The last message of a stream that ends is read as it ends: it may be a goodbye.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from poolwarden_collector.core.model.values import Ms

TURN_S = 0.003
SHARE = 0.5


@dataclass(slots=True)
class _Place:
    """A message that waits: how it is read, when it arrived, and who is told that it was."""

    read: Callable[[], None]
    arrived: Ms
    done: asyncio.Future[None]


class ReadingTurns:
    """Reads at once or in a later turn."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._line: dict[int, _Place] = {}  # by the numbers of the streams, in the order of arrival
        self._credit_s = TURN_S  # of time to read in at once
        self._as_of = clock()
        self._awaited = False  # the next turn goes on with the line

    async def read(self, stream: int, arrived: Ms, read: Callable[[], None]) -> None:
        """Have this message read; raises what that raises."""
        began = self._clock()
        self._credit_s = min(TURN_S, self._credit_s + SHARE * (began - self._as_of))
        self._as_of = began
        if not self._line and self._credit_s > 0:
            try:
                read()
            finally:
                self._credit_s -= self._clock() - began
            return
        place = self._line[stream] = _Place(read, arrived, asyncio.get_running_loop().create_future())
        self._go_on()
        try:
            await place.done
        finally:
            if self._line.get(stream) is place:
                del self._line[stream]

    def last(self, stream: int) -> None:
        """This stream ends: what waits of it is read now."""
        if (place := self._line.pop(stream, None)) is not None:
            place.read()  # whoever waited for it may have been cancelled by now

    def oldest(self) -> Ms | None:
        """When the message arrived that waits for longest; None: none waits."""
        return next((place.arrived for place in self._line.values()), None)

    def streams(self) -> Iterable[int]:
        """Those of which a message waits."""
        return self._line.keys()

    def __len__(self) -> int:
        return len(self._line)

    def _go_on(self) -> None:
        if self._line and not self._awaited:
            self._awaited = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._awaited = False
        until = self._clock() + TURN_S
        while self._line:
            self._do(self._line.pop(next(iter(self._line))))
            if self._clock() >= until:
                break
        self._credit_s, self._as_of = 0.0, self._clock()
        self._go_on()

    @staticmethod
    def _do(place: _Place) -> None:
        if place.done.done():
            return
        try:
            place.read()
        except Exception as error:
            place.done.set_exception(error)
        else:
            place.done.set_result(None)
