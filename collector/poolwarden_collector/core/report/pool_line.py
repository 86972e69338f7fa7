"""A pool in one line: what a list of thousands shows, at a small part of the price of a pool's whole status.

Its verdict is the one of the engine's last step, which is what the engine itself goes by; a pool that no step has seen
yet is judged here.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.evidence.signs import signs
from poolwarden_collector.core.evidence.verdict import Verdict, judge
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.report.open_alerts import severities
from poolwarden_collector.core.report.situation import in_short, waits_for_a_person
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.snapshot import Snapshot

_BY_WORD = {verdict.word: verdict for verdict in Verdict}
WORDS = tuple(_BY_WORD)
LEVELS = ("critical", "warning", "info", "good")  # the worst first
_RANK = {level: number for number, level in enumerate(LEVELS)}


@dataclass(frozen=True, slots=True)
class PoolLine:
    """One pool; ``alerts``: how many are open of each severity that there are any of, the gravest first."""

    pool_uuid: str
    name: str
    verdict: str
    headline: str
    level: str
    age_ms: Ms
    waiting: bool
    hosts: int
    hosts_heard: int
    alerts: tuple[tuple[str, int], ...]
    site: str
    failover: bool

    @property
    def order(self) -> tuple[int, bool, str, str]:
        """The worst first; of one level those that wait for a person."""
        return _RANK[self.level], not self.waiting, self.name, self.pool_uuid


def pool_line(state: Pool, now: Ms, site: Site) -> PoolLine:
    """This pool at this instant."""
    pool = Snapshot(state, now, site)
    verdict, record = verdict_of(pool), pool.record
    short = in_short(pool, verdict)
    return PoolLine(
        pool_uuid=record.pool,
        name=record.display_name,
        verdict=verdict.word,
        headline=short.headline,
        level=short.level,
        age_ms=max(0, short.age_ms),
        waiting=waits_for_a_person(pool, verdict),
        hosts=len(record.hosts),
        hosts_heard=sum(pool.heard(host) is not None for host in record.hosts),
        alerts=tuple(severities(pool).items()),
        site=pool.policy.site,
        failover=pool.failover is not None,
    )


def verdict_of(pool: Snapshot) -> Verdict:
    """What the engine's last step has judged."""
    return _BY_WORD.get(pool.live.verdict.word) or judge(signs(pool))
