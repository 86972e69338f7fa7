"""Pools of one of several collectors in which nothing can be made durable: each by itself.

Rules
-----
* Who stood still for more than ``AWAY_MS`` is quiet anew: of what came meanwhile only the newest was kept, so whoever
  waits behind another one in it seems to have been silent.
* That quiet time ends early, after ``SHORTEST_QUIET_MS``, once whoever was heard as the pool began to stand still has
  been heard since. Streams stayed open meanwhile, and an agent whose stream did not has time to come again in it. Who
  was silent before it is no riddle of this collector's; who has fallen silent in it, or in one whose quiet time still
  lasted as it began, costs the whole quiet time.
"""

from __future__ import annotations

from collections.abc import Callable

from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.core.state.taken_over import SHORTEST_QUIET_MS
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
        self._heard: dict[PoolId, frozenset[HostId]] = {}  # as it began
        self._listens: dict[PoolId, tuple[Ms, frozenset[HostId]]] = {}  # since when, and for whom

    def begin(self, pool: PoolId, why: str, now: Ms) -> None:
        """Nothing was, or may have been, made durable."""
        if pool not in self._since:
            self._do(Say(ERROR, f"pool {pool}: NOTHING IS DECIDED OR DONE: {why}"))
            self._since[pool] = now
            self._heard[pool] = self._heard_last(pool) | self._not_back(pool, now)
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
        for kept in (self._held_until, self._listens):
            kept.pop(pool, None)

    def hears(self, pool: PoolId) -> None:
        """A step of it was taken: is everybody heard again who was heard before it stood still?"""
        if (listens := self._listens.get(pool)) is None:
            return
        since, hosts = listens
        agents = self._roster.pools[pool].live.agents
        # safety: a sign from before the end may be as old as the standstill was long.
        back = {host for host in hosts if host in agents and agents[host].connected and agents[host].last_heard > since}
        if hosts and back == hosts:
            del self._listens[pool]
            self._roster.quiet_for_less(pool, since, SHORTEST_QUIET_MS)

    def forget(self, pool: PoolId) -> None:
        """It does not stand still."""
        for kept in (self._since, self._retries, self._heard):
            kept.pop(pool, None)

    def _heard_last(self, pool: PoolId) -> frozenset[HostId]:
        """Who was heard when anybody was heard last: since then this pool's step may have waited, and heard nobody."""
        known = self._roster.pools.get(pool)
        agents = {host: each for host, each in known.live.agents.items() if each.connected} if known is not None else {}
        newest = max((each.last_heard for each in agents.values()), default=0)
        within = self._roster.config.policy_of(pool).suspect_after
        return frozenset(host for host, each in agents.items() if newest - each.last_heard < within)

    def _not_back(self, pool: PoolId, now: Ms) -> frozenset[HostId]:
        """For whom the pool listens in a quiet time that another standstill has begun."""
        # safety: or one that fell silent in the first of two standstills would be no riddle of the second.
        known = self._listens.get(pool)
        return known[1] if known is not None and now < self._roster.quiet_until(pool) else frozenset()

    def _quiet(self, pool: PoolId, now: Ms) -> None:
        if now - self._since[pool] > AWAY_MS:
            self._roster.be_quiet_again(now, pool)
            self._listens[pool] = now, self._heard[pool]
