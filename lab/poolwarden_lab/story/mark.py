"""A place in a story's log from which signs look back: where the log began, or where the story said ``mark``.

It counts what had been written by then, not the time: what comes later in the same millisecond is behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poolwarden_lab.virtual.collector.ledger import Commit
    from poolwarden_lab.virtual.world.pool import World


@dataclass(frozen=True)
class Mark:
    """How much of each thing was there. ``ms``: when, by the world's clock."""

    ms: int = 0
    commits: dict[str, tuple[int, Commit | None]] = field(default_factory=dict)  # by collector: how many, the last one
    events: dict[str, int] = field(default_factory=dict)  # by pool
    kills: dict[str, int] = field(default_factory=dict)  # by host
    asked: dict[str, int] = field(default_factory=dict)  # by fence device
    delivered: int = 0
    replies: int = 0
    lines: int = 0

    def since(self, node: str, commits: list[Commit]) -> list[Commit]:
        """A collector's transactions since then; of a journal that was lost or restored meanwhile, by their time."""
        count, last = self.commits.get(node, (0, None))
        if len(commits) >= count and (not count or commits[count - 1] is last):
            return commits[count:]
        return [commit for commit in commits if commit.ms >= self.ms]


def mark(world: World, lines: int) -> Mark:
    """A mark at this very place."""
    pools = world.pools.values()
    return Mark(
        world.now,
        {
            node: (len(commits := station.ledger.commits), commits[-1] if commits else None)
            for node, station in world.stations.items()
        },
        {pool.name: len(pool.pool.log) for pool in pools},
        {name: len(host.domains.kills) for pool in pools for name, host in pool.pool.hosts.items()},
        {device: len(bmc.log) for pool in pools for device, bmc in pool.bmcs.items()},
        len(world.delivered),
        len(world.replied),
        lines,
    )
