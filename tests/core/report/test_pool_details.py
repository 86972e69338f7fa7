"""What a list of pools shows beside a pool's line: the sentences of status, and the disks that need somebody."""

from __future__ import annotations

from dataclasses import replace

from tests.core.pool import Guarded

from poolwarden_collector.core.model.host_facts import Disk, DiskLevel
from poolwarden_collector.core.report.pool_details import DISKS_MOST, SOON_MS, FillingDisk, PoolDetails, pool_details
from poolwarden_collector.core.report.status import PoolStatus, status

GB = 1 << 30


def both(pool: Guarded) -> tuple[PoolDetails, PoolStatus]:
    at = (pool.pool, pool.now, pool.site)
    return pool_details(*at), status(*at)


def with_disks(pool: Guarded, n: int, *disks: Disk) -> None:
    """The host of this number reports these file systems."""
    agent = pool.pool.live.agents[pool.host(n).uuid]
    agents = {**pool.pool.live.agents, pool.host(n).uuid: replace(agent, facts=replace(agent.facts, disks=disks))}
    pool.pool = replace(pool.pool, live=replace(pool.pool.live, agents=agents))


def test_the_sentences_are_those_of_status() -> None:
    lost, healthy = Guarded(devices=False), Guarded()
    lost.cut_power()
    lost.run(60_000)
    for pool in (lost, healthy):
        details, told = both(pool)
        assert (details.master_uuid, details.master_name) == (told.master_uuid, told.master_name)
        assert (details.owed, details.not_ready) == (told.owed, told.not_ready)
    assert both(lost)[0].last_master == "host-1" and not both(lost)[0].master_uuid


def test_disks_that_are_filling_up_stand_the_worst_first() -> None:
    pool = Guarded()
    with_disks(
        pool, 2,
        Disk("/", 10 * GB, GB, 100, 50, True, DiskLevel.WARNING),
        Disk("/var/log", 10 * GB, 9 * GB, 100, 1, True, DiskLevel.FULL),
        Disk("/boot", 10 * GB, 9 * GB, 100, 50, True, DiskLevel.OK),
        Disk("/data", 10 * GB, 5 * GB, 0, 0, True, DiskLevel.OK, full_in_ms=SOON_MS),
        Disk("/slow", 10 * GB, 5 * GB, 0, 0, True, DiskLevel.OK, full_in_ms=SOON_MS + 1),
    )  # fmt: skip
    found = both(pool)[0].filling
    assert [each.mount for each in found] == ["/var/log", "/", "/data"]
    assert found[0] == FillingDisk("host-2", "/var/log", "full", 99.0, 0)


def test_a_silent_hosts_disks_are_no_news_and_a_list_has_an_end() -> None:
    pool = Guarded()
    pool.cut_power(3)
    pool.run(20_000)
    full = [Disk(f"/{n}", 10 * GB, 0, 0, 0, True, DiskLevel.FULL) for n in range(DISKS_MOST + 3)]
    with_disks(pool, 3, *full)
    assert both(pool)[0].filling == ()
    with_disks(pool, 2, *full)
    assert len(both(pool)[0].filling) == DISKS_MOST
