"""A collector whose lease's time is over, and that hears nothing of etcd: do others have its pools by now?

Nobody tells it. If etcd is away as a whole, nobody has them, and it alone looks after them. If it alone is cut off, the
next owner hears no agent, because all of them are still with this one.

Rules
-----
* Of each pool one agent at a time is sent to another collector, a scout. An agent that is welcomed nowhere else comes
  back, because this one still takes it: then nobody else has the pool. One that is not back within ``BACK_WITHIN_MS``
  has found the owner, and every other agent of the pool is sent after it.
* So while etcd is away as a whole, one agent of a pool is missing for some seconds in each ``EVERY_MS``. Until its time
  to come back is over it counts as it was (``Site.scouts``): it is not silent, and its return is no flap of its link.
  That is so only while this collector may act nowhere.
* An agent that cannot follow is no scout. Where none can, they stay: a person sees that in status.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.shell.agents.elsewhere import CAPABILITY, Elsewhere
from poolwarden_collector.shell.agents.sessions import Session, Sessions

AFTER_MS: Ms = 2_000  # the lease's time is over for so long: who takes a pool over has claimed it by then
BACK_WITHIN_MS: Ms = 12_000
EVERY_MS: Ms = 20_000
_REASON = "this collector is cut off from etcd, and another one may have the pool by now"


@dataclass(frozen=True, slots=True)
class _Scout:
    """The agent that was sent last: on which stream, and when."""

    host: HostId
    stream: int
    at: Ms
    back: bool = False


class Scouts:
    """Those of one collector. ``others``: where agents reach the other collectors, as far as it knows."""

    def __init__(self, sessions: Sessions, others: Callable[[], Collection[str]]) -> None:
        self._sessions, self._others = sessions, others
        self._last: dict[PoolId, _Scout] = {}
        self._turn = 0

    def rest(self) -> None:
        """etcd answers: it says who has which pool."""
        self._last.clear()

    def away(self) -> dict[PoolId, HostId]:
        """Who is away, or back since the last look; of each pool one at the most."""
        return {pool: scout.host for pool, scout in self._last.items() if not scout.back}

    def look(self, pools: Collection[PoolId], now: Ms) -> tuple[PoolId, ...]:
        """Once a second while nothing is known of etcd. Pools whose agents were sent on, all of them."""
        return tuple(pool for pool in pools if self._has_gone(pool, now))

    def _has_gone(self, pool: PoolId, now: Ms) -> bool:
        scout = self._last.get(pool)
        if scout is None or (scout.back and now - scout.at >= EVERY_MS):
            self._send(pool, scout, now)
            return False
        if scout.back:
            return False
        there = self._sessions.of(scout.host)
        if there is not None and there.pool == pool and there.state.stream > scout.stream:
            self._last[pool] = _Scout(scout.host, scout.stream, scout.at, back=True)
            return False
        if now - scout.at < BACK_WITHIN_MS:
            return False
        self._sessions.send_on(pool, self._elsewhere())
        del self._last[pool]
        return True

    def _send(self, pool: PoolId, last: _Scout | None, now: Ms) -> None:
        able = sorted((each for each in self._sessions.of_pool(pool) if _follows(each)), key=lambda each: each.host)
        if not able:
            return
        after = [each for each in able if last is not None and each.host > last.host]
        chosen = (after or able)[0]
        self._last[pool] = _Scout(chosen.host, chosen.state.stream, now)
        self._sessions.send_one_on(chosen, self._elsewhere())

    def _elsewhere(self) -> Elsewhere:
        """Another collector, each in its turn; none is known: the agent tries those of its own list."""
        others = sorted(self._others())
        self._turn += 1
        return Elsewhere(others[self._turn % len(others)] if others else "", "", _REASON)


def _follows(session: Session) -> bool:
    return CAPABILITY in session.state.capabilities and not session.sent_on and session.closing is None
