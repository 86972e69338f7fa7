"""Who is let in next where more agents come than this collector carries: the others wait with their streams open.

Theory: an agent that is let in costs what its reports cost, for ever. A collector that takes in everybody is late for
all; one that lets in while it keeps up guards those that it has. Whoever waits costs a connection and nothing else, and
comes in by itself when there is room. To turn it away would cost a TLS handshake each time that it comes again.

Rules
-----
* While ``late`` says that this collector does not keep up, and for ``SETTLE_S`` after it, nobody is let in: what those
  cost who came last shows with their next reports. Else at once, or where some wait, in turn: ``AT_ONCE`` each
  ``EVERY_S``.
* First come those whose pool has an agent in already, so that few pools are known by a part of their hosts; then in the
  order of arrival.
* Of a host one stream waits: a newer one takes the older one's place.
* Whoever waits is not silent. Its pool is judged as of when it came (``pools``): until then everything of it is heard.
  That goes on until its Hello was taken, or its stream has ended: to be let in is not to be heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_collector.core.model.values import HostId, Ms, PoolId

EVERY_S = 0.1
AT_ONCE = 10
SETTLE_S = 5.0


class GivenUp(Exception):
    """A newer stream of the same host waits in this one's place."""


@dataclass(slots=True)
class _Waiting:
    pool: PoolId
    since: Ms
    let_in: asyncio.Future[None]


class Entrance:
    """``late``: does this collector not keep up; ``has_one``: is an agent of this pool in."""

    def __init__(self, now: Callable[[], Ms], late: Callable[[], bool], has_one: Callable[[PoolId], bool]) -> None:
        self._now = now
        self._late = late
        self._has_one = has_one
        self._line: dict[HostId, _Waiting] = {}  # in the order of arrival
        self._unheard: dict[HostId, _Waiting] = {}  # who was let in and has not been heard
        self._letting_in: asyncio.Task[None] | None = None

    async def enter(self, host: HostId, pool: PoolId) -> None:
        """Wait until this host may come in; ``heard`` is to be called afterwards. ``pool``: its own; empty: not known
        yet. Raises GivenUp.
        """
        if not self._line and not self._late():
            return
        before = self._line.get(host)
        since = before.since if before is not None else self._now()
        waiting = self._line[host] = _Waiting(pool, since, asyncio.get_running_loop().create_future())
        if before is not None and not before.let_in.done():
            before.let_in.set_exception(GivenUp())
        if self._letting_in is None:
            self._letting_in = asyncio.ensure_future(self._let_in())
        try:
            await waiting.let_in
        finally:
            if self._line.get(host) is waiting:
                del self._line[host]

    def heard(self, host: HostId) -> None:
        """This host was heard, or its stream has ended without that."""
        self._unheard.pop(host, None)

    def pools(self) -> dict[PoolId, Ms]:
        """Since when a host of each of these pools waits."""
        found: dict[PoolId, Ms] = {}
        for waiting in (*self._unheard.values(), *self._line.values()):
            if waiting.pool:
                found.setdefault(waiting.pool, waiting.since)
        return found

    def waiting(self) -> tuple[int, Ms]:
        """How many wait, and the first one for how long, ms."""
        first = next((waiting.since for waiting in self._line.values()), None)
        return len(self._line), self._now() - first if first is not None else 0

    def close(self) -> None:
        """Nobody comes in any more."""
        if self._letting_in is not None:
            self._letting_in.cancel()

    async def _let_in(self) -> None:
        try:
            pause = 0.0
            while self._line:
                await asyncio.sleep(EVERY_S)
                pause = SETTLE_S if self._late() else pause - EVERY_S
                for host in () if pause > 0 else self._next():
                    waiting = self._line.pop(host)
                    if not waiting.let_in.done():
                        self._unheard[host] = waiting
                        waiting.let_in.set_result(None)
        finally:
            self._letting_in = None

    def _next(self) -> list[HostId]:
        joins = {pool: self._has_one(pool) for pool in {waiting.pool for waiting in self._line.values()}}
        in_turn = sorted(self._line, key=lambda host: not joins[self._line[host].pool])  # the order of arrival stays
        return in_turn[:AT_ONCE]
