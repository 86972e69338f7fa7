"""Pools of one of several collectors in which nothing can be made durable: each by itself."""

from __future__ import annotations

from collections.abc import Callable

from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.loop.ready import ERROR, WARNING, Say

RETRY_MS: Ms = 1_000
AWAY_MS: Ms = 5_000
ON_DISK = "Make room on the journal's disk; the collector goes on by itself."
IN_ETCD = "Look at etcd: poolwarden-collector's log names what it answers. The pool goes on by itself."


class PoolStalls:
    """``roster.stalls`` says which; one that stood still for long is quiet anew: what was silent was this collector."""

    def __init__(self, roster: Roster, do: Callable[[Say], None]) -> None:
        self._roster = roster
        self._do = do
        self._since: dict[PoolId, Ms] = {}  # until a write has ended
        self._retries: dict[PoolId, Ms] = {}  # not before
        self._held_until: dict[PoolId, Ms] = {}

    def begin(self, pool: PoolId, why: str, now: Ms) -> None:
        """Nothing was, or may have been, made durable."""
        if pool not in self._since:
            self._do(Say(ERROR, f"pool {pool}: NOTHING IS DECIDED OR DONE: {why}"))
            self._since[pool] = now
        self._roster.stalls[pool] = why
        self._retries[pool] = now + RETRY_MS

    def tries_again(self, pool: PoolId, now: Ms) -> bool:
        """Is what waits to be tried now? It is committed then, or the pool stands still again."""
        if now < self._retries[pool]:
            return False
        self._held_until[pool] = now
        self._quiet(pool, now)
        del self._roster.stalls[pool]
        return True

    def held(self, pool: PoolId, at: Ms | None) -> bool:
        """Has what arrived then waited because its pool stood still?"""
        return at is not None and at < self._held_until.get(pool, at)

    def end(self, pool: PoolId | None, now: Ms) -> None:
        """A write of this pool has ended."""
        if pool in self._since:
            self._do(Say(WARNING, f"pool {pool}: it can be recorded again"))
            self._held_until[pool] = now
            self._quiet(pool, now)
            self.forget(pool)
            self._roster.stalls.pop(pool, None)

    def gone(self, pool: PoolId) -> None:
        """The pool is not on the roster any more."""
        self.forget(pool)
        self._held_until.pop(pool, None)

    def forget(self, pool: PoolId) -> None:
        """It does not stand still."""
        for kept in (self._since, self._retries):
            kept.pop(pool, None)

    def _quiet(self, pool: PoolId, now: Ms) -> None:
        if now - self._since[pool] > AWAY_MS:
            self._roster.be_quiet_again(now, pool)
