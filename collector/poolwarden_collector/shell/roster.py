"""What every part of the shell may read: the pools as of the last commit, and the collector's own condition.

Only the service writes it; agents' gateway, operator's interface and alerts read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from poolwarden_collector.core.facts import HostId, Ms, PoolId
from poolwarden_collector.core.live import Pool, Site
from poolwarden_collector.shell.config import Config

_WARNINGS_KEPT = 20


class Roster:
    """The pools that this collector guards."""

    def __init__(self, config: Config, epoch: int, now: Callable[[], Ms]) -> None:
        self.config = config
        self.epoch = epoch
        self.now = now
        self.started_at = now()
        self.pools: dict[PoolId, Pool] = {}
        self.blind = ""
        self.stalled = ""  # why nothing can be made durable; empty: it can
        self.stalled_at: Ms | None = None
        self._quiet_all = self.started_at
        self._warnings: deque[str] = deque(maxlen=_WARNINGS_KEPT)

    def site(self, pool: PoolId) -> Site:
        """The collector's condition as this pool must know it."""
        return Site(self.epoch, self.started_at, self.quiet_until(pool), self.blind)

    def quiet_until(self, pool: PoolId) -> Ms:
        """When this pool's start-up quiet time ends (or ended)."""
        return self._quiet_all + self.config.policy_of(pool).quiet_time

    def be_quiet_again(self, now: Ms) -> None:
        """The collector was away: everything that it remembers of agents' silence is its own."""
        self._quiet_all = now

    def shown_at(self) -> Ms:
        """The instant as of which states are shown: now, or when the journal failed and time stood still for pools."""
        return self.now() if self.stalled_at is None else self.stalled_at

    def pool_of(self, host: HostId) -> PoolId:
        """The pool in which this host is on record; empty if in none."""
        return next((uuid for uuid, pool in self.pools.items() if host in pool.record.hosts), "")

    def warn(self, text: str) -> None:
        """Something that an operator should see in ``status``; each text is kept once, the newest last."""
        if text in self._warnings:
            self._warnings.remove(text)
        self._warnings.append(text)

    def warnings(self) -> tuple[str, ...]:
        return tuple(self._warnings)
