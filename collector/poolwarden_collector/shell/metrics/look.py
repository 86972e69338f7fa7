"""What one look at a running collector takes with it, in its event loop, in the time that it takes to copy some names.

Theory: pools are frozen values (core/state/live.py), replaced whole at each step. So their names are taken in the loop,
all at one instant, and everything that costs time, judging and writing them out, is done with them in another thread.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from poolwarden_collector.core.model.effects import Urgency
from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.config.config import Config
from poolwarden_collector.shell.loop.prober import Prober
from poolwarden_collector.shell.metrics.histogram import COMMIT_BOUNDS, Histogram
from poolwarden_collector.shell.metrics.ledger import Counts, Ledger
from poolwarden_collector.shell.queue.inbox import Inbox
from poolwarden_collector.shell.tally import Tally


@dataclass(frozen=True, slots=True)
class Look:
    """The collector at ``now``; pools are as of ``shown_at``. ``loop_lag``: s that the look waited for its turn."""

    config: Config
    now: Ms
    shown_at: Ms
    wall_ms: int
    started_at: Ms
    pools: tuple[tuple[Pool, Site], ...]
    blind: bool
    stalled: bool
    stood_down: frozenset[PoolId]
    quiet_ms: Ms
    behind_ms: Ms
    told_behind: bool
    warnings: int
    latencies: dict[PoolId, tuple[HostId, float]] = field(default_factory=dict)
    commits: Histogram = field(default_factory=lambda: Histogram.empty(COMMIT_BOUNDS))
    counts: Counts | None = None  # None: the past is still being read
    loop_lag: float = 0.0
    tally: Tally = field(default_factory=Tally)
    fence_waits: dict[Urgency, tuple[int, Ms]] = field(default_factory=dict)
    inbox_age_ms: Ms = 0
    inbox_events: int = 0
    agents_waiting: int = 0

    @property
    def decides(self) -> bool:
        """Can anything be decided and done now?"""
        return not (self.blind or self.stalled or self.told_behind or self.quiet_ms)


class Watch:
    """Keeps what is counted, and takes looks; every method is to be called in the collector's event loop."""

    def __init__(self, roster: Roster, prober: Prober, inbox: Inbox) -> None:
        self.ledger = Ledger()
        self._roster = roster
        self._prober = prober
        self._inbox = inbox
        self._commits = Histogram.empty(COMMIT_BOUNDS)

    def committed(self, seconds: float) -> None:
        """The engine waited so long for a commit."""
        self._commits = self._commits.with_value(seconds)

    async def look(self, asked_at: float) -> Look:
        """``asked_at``: when it was asked for, on the clock of event loops (``time.monotonic``)."""
        roster, now = self._roster, self._roster.now()
        quiet = max((roster.quiet_until(uuid) for uuid in roster.pools), default=now)
        return Look(
            config=roster.config,
            now=now,
            shown_at=roster.shown_at(),
            wall_ms=clock.wall_ms(),
            started_at=roster.started_at,
            pools=tuple((pool, roster.site(uuid)) for uuid, pool in roster.pools.items()),
            blind=bool(roster.blind),
            stalled=bool(roster.stalled),
            stood_down=frozenset(roster.stood_down),
            quiet_ms=max(0, quiet - now),
            behind_ms=roster.behind_ms,
            told_behind=roster.told_behind,
            warnings=len(roster.warnings()),
            latencies=dict(self._prober.latencies),
            commits=self._commits,
            counts=self.ledger.counts.copy() if self.ledger.ready else None,
            tally=roster.tally.copy(),
            fence_waits=roster.fence_waits(),
            inbox_age_ms=self._inbox.age(),
            inbox_events=len(self._inbox),
            agents_waiting=roster.at_entrance()[0],
            loop_lag=max(0.0, asyncio.get_running_loop().time() - asked_at),
        )
