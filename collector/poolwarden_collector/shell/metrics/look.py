"""What one look at a running collector takes with it, in its event loop, in the time that it takes to copy some names.

Theory: pools are frozen values (core/state/live.py), replaced whole at each step. So their names are taken in the loop,
all at one instant, and everything that costs time, judging and writing them out, is done with them in another thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

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
class Among:
    """One of several collectors among the others. ``right_ms``: 0: it may not act. ``asked``: requests to etcd, s."""

    members: int = 0
    ownerless: int = 0
    right_ms: Ms = 0
    lease: bool = False
    asked: Histogram = field(default_factory=lambda: Histogram.empty(COMMIT_BOUNDS))
    failed: int = 0


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
    among: Among | None = None  # None: it is alone
    agents_waiting: int = 0
    braked: bool = False  # towards a site, blind or not: nothing is begun there

    @property
    def decides(self) -> bool:
        """Can anything be decided and done now?"""
        may = self.among is None or self.among.right_ms > 0
        return may and not (self.blind or self.braked or self.stalled or self.told_behind or self.quiet_ms)


class Watch:
    """Keeps what is counted, and takes looks; every method is to be called in the collector's event loop."""

    def __init__(self, roster: Roster, prober: Prober, inbox: Inbox) -> None:
        self.ledger = Ledger()
        self._roster = roster
        self._prober = prober
        self._inbox = inbox
        self._commits = Histogram.empty(COMMIT_BOUNDS)
        self._asked, self._failed = Histogram.empty(COMMIT_BOUNDS), 0
        self._among: Callable[[], Among] | None = None

    def one_of_several(self, among: Callable[[], Among]) -> None:
        """What it is among the others; ``asked`` and ``failed`` are counted here."""
        self._among = among

    def etcd_asked(self, seconds: float, answered: bool) -> None:
        """etcd took so long; not answered: or refused."""
        self._asked = self._asked.with_value(seconds)
        self._failed += not answered

    def committed(self, seconds: float) -> None:
        """The engine waited so long for a commit."""
        self._commits = self._commits.with_value(seconds)

    async def look(self, asked_at: float) -> Look:
        """``asked_at``: when it was asked for, on the clock of event loops (``time.monotonic``)."""
        roster, now = self._roster, self._roster.now()
        among = replace(self._among(), asked=self._asked, failed=self._failed) if self._among is not None else None
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
            among=among,
            agents_waiting=roster.at_entrance()[0],
            braked=bool(roster.sites),
            loop_lag=max(0.0, asyncio.get_running_loop().time() - asked_at),
        )
