"""A pool in one line says what its whole status says, and costs one look at the pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.report.pool_line import LEVELS, PoolLine, pool_line
from poolwarden_collector.core.report.status import PoolStatus, status
from poolwarden_collector.core.state.live import Site
from poolwarden_collector.core.state.live_slices import ToldVerdict

from ..pool import QUIET, Guarded, Policy


def master_lost(pool: Guarded) -> None:
    pool.cut_power()
    pool.run(60_000)


def member_lost(pool: Guarded) -> None:
    pool.cut_power(3)
    pool.run(60_000)


def paused(pool: Guarded) -> None:
    pool.say("pause", reason="works")


def disk_full(pool: Guarded) -> None:
    pool.host(2).free = 2**20
    pool.run(4_000)


def hung(pool: Guarded) -> None:
    pool.host(1).liveness = pool.host(1).socket = Liveness.SILENT
    pool.run(60_000)


def dark(pool: Guarded) -> None:
    for n in (1, 2, 3):
        pool.cut_power(n)
    pool.run(60_000)


def started_anew(pool: Guarded) -> None:
    pool.restart_collector()


STORIES = (lambda _: None, master_lost, member_lost, paused, disk_full, hung, dark, started_anew)


def both(pool: Guarded) -> tuple[PoolLine, PoolStatus]:
    at = (pool.pool, pool.now, pool.site)
    return pool_line(*at), status(*at)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [True, False], ids=["devices", "none"])
@pytest.mark.parametrize("happens", STORIES)
def test_a_line_says_what_the_status_says(happens: Callable[[Guarded], None], devices: bool) -> None:
    pool = Guarded(devices=devices, policy=Policy(quiet_time=QUIET, site="north"))
    happens(pool)
    line, whole = both(pool)
    assert (line.pool_uuid, line.name, line.verdict) == (whole.pool_uuid, whole.name, whole.verdict)
    now = whole.situation
    assert (line.headline, line.level, line.age_ms) == (now.headline, now.level, max(0, now.age_ms))
    assert line.hosts_heard == sum(host.heard for host in whole.hosts) and line.hosts == len(whole.hosts)
    assert sum(count for _, count in line.alerts) == len(whole.alerts)
    assert [severity for severity, _ in line.alerts] == list(dict.fromkeys(a.severity for a in whole.alerts))
    assert line.failover is (whole.failover is not None) and line.site == whole.site == "north"
    if whole.question is not None or (whole.failover is not None and whole.failover.blocked):
        assert line.waiting and line.level == "critical"


def test_who_waits_for_a_person_says_so_and_comes_first() -> None:
    lost, hangs = Guarded(devices=False), Guarded()
    master_lost(lost)
    hung(hangs)
    lines = [both(pool)[0] for pool in (Guarded(), hangs, lost)]
    assert [line.waiting for line in sorted(lines, key=lambda line: line.order)][0] is True
    assert [line.level for line in sorted(lines, key=lambda line: line.order)] == sorted(
        (line.level for line in lines), key=LEVELS.index
    )


def test_alerts_of_hooks_are_counted() -> None:
    pool = Guarded()
    site: Site = replace(pool.site, beside=(("k1", "critical", "a hook failed"), ("k2", "warning", "another")))
    assert pool_line(pool.pool, pool.now, site).alerts == (("critical", 1), ("warning", 1))


def test_a_pool_that_no_step_has_seen_is_judged() -> None:
    pool = Guarded()
    fresh = replace(pool.pool, live=replace(pool.pool.live, verdict=ToldVerdict()))
    assert pool_line(fresh, pool.now, pool.site).verdict == "Healthy"
