"""What a list of pools shows beside a pool's line: for the lines of one screen, at a part of a whole status's price.

Every sentence is the one that status shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.model.host_facts import DiskLevel
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.report.readiness import not_ready
from poolwarden_collector.core.report.status import owed
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.snapshot import Snapshot

SOON_MS: Ms = 24 * 3_600_000  # a file system that will be full by then is about to fill
DISKS_MOST = 8  # of one pool
_RANK = {DiskLevel.FULL: 0, DiskLevel.CRITICAL: 1, DiskLevel.WARNING: 2}


@dataclass(frozen=True, slots=True)
class FillingDisk:
    """A file system of a dom0 that is filling up; ``used_percent``: of space or inodes, whichever is more."""

    host_name: str
    mount: str
    level: str
    used_percent: float
    full_in_ms: Ms


@dataclass(frozen=True, slots=True)
class PoolDetails:
    """Who is master, what is asked, owed, not ready and filling up."""

    master_uuid: str
    master_name: str
    last_master: str
    question: str
    owed: tuple[str, ...]
    not_ready: tuple[str, ...]
    filling: tuple[FillingDisk, ...]


def pool_details(state: Pool, now: Ms, site: Site) -> PoolDetails:
    """Of this pool at this instant."""
    pool = Snapshot(state, now, site)
    master, record = verified(pool), pool.record
    return PoolDetails(
        master_uuid=master,
        master_name=pool.name(master) if master else "",
        last_master=pool.name(record.master) if record.master else "",
        question=record.question.what if record.question is not None else "",
        owed=owed(pool),
        not_ready=not_ready(pool),
        filling=_filling(pool),
    )


def _filling(pool: Snapshot) -> tuple[FillingDisk, ...]:
    """Of hosts that are heard: what a silent one said last is no news."""
    found = []
    for host in pool.record.hosts:
        agent = pool.heard(host)
        for disk in agent.facts.disks if agent is not None else ():
            if disk.level in _RANK or 0 < disk.full_in_ms <= SOON_MS:
                used = max(disk.used_percent, disk.inodes_used_percent)
                at = (_RANK.get(disk.level, len(_RANK)), disk.full_in_ms or SOON_MS, -used, pool.name(host), disk.mount)
                found.append((at, FillingDisk(pool.name(host), disk.mount, disk.level.value, used, disk.full_in_ms)))
    return tuple(disk for _, disk in sorted(found, key=lambda each: each[0])[:DISKS_MOST])
