"""The storm brake over several collectors: what no share shows, and what is no silence. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.cluster.clusters import ModelCluster, in_virtual_time
from tests.cluster.contract import Collector, names
from tests.core.decision.test_site import Pools
from tests.core.pool import Guarded

from poolwarden_collector.core.decision.storm_brake import Blind, Braked, Silence, judge_sites, silence_of
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.takeover import LeftBehind
from poolwarden_collector.core.state.live import PoolLive
from poolwarden_collector.core.state.taken_over import SHORTEST_QUIET_MS
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.cluster.membership import stay
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.site_sums import EVERY_MS, SiteCount, SiteSum
from poolwarden_collector.shell.config.config import load
from poolwarden_collector.shell.loop.site_watch import GRACE_MS, SiteWatch

from .rig import POOL, write_config

QUIET_MS = 60_000


class Share:
    """One collector with its share of a site's pools."""

    def __init__(self, cluster: ModelCluster, name: str, at: Names, pools: int) -> None:
        self.cluster, self.name = cluster, name
        self.collector = Collector(cluster, name, at)
        self.pools = Pools(pools)
        self.pools.heard = {f"{name}{key}": hosts for key, hosts in self.pools.heard.items()}
        self.taken: dict[str, int] = {}  # when
        self.blind: dict[str, Blind] = {}
        self.history: list[str] = []
        self.gone = False
        member = self.collector.member
        self.watch = SiteWatch(
            self.collector.to,
            at,
            member,
            self.silence,
            cluster.now,
            lambda: member.right(cluster.now()).why_not,
        )

    def young(self) -> set[str]:
        return {pool for pool, at in self.taken.items() if self.cluster.now() - at < QUIET_MS}

    def silence(self) -> dict[str, Silence]:
        self.pools.now = self.cluster.now()
        return silence_of(self.pools.pools().values(), self.young(), self.cluster.now(), self.blind)

    def judge(self) -> dict[str, Blind]:
        self.pools.now = self.cluster.now()
        self.blind = judge_sites(self.pools.pools(), (), self.cluster.now(), self.blind, sums=self.watch.braked())
        why = self.blind[""].why if self.blind else ""
        if not self.history or self.history[-1] != why:
            self.history.append(why)
        return self.blind

    async def run(self) -> None:
        told = asyncio.ensure_future(stay(self.collector.to, self.collector.member, lambda _told: None))
        self.watch.start()
        try:
            while True:
                self.judge()
                await self.cluster.sleep(0.25)
        finally:
            told.cancel()
            await self.watch.stop()

    def take(self, pools: dict[str, dict[int, int]]) -> None:
        """These come from another collector: their agents are heard as from now."""
        for pool, hosts in pools.items():
            self.pools.heard[pool] = dict.fromkeys(hosts, 0)
            self.taken[pool] = self.cluster.now()


@asynccontextmanager
async def shares(cluster: ModelCluster, *pools: int) -> AsyncIterator[tuple[list[Share], Callable[[Share], None]]]:
    at = names()
    made = [Share(cluster, "abc"[n], at, count) for n, count in enumerate(pools)]
    tasks = {}
    for each in made:
        await each.collector.joined()
        tasks[each.name] = asyncio.ensure_future(each.run())

    def kill(which: Share) -> None:
        tasks[which.name].cancel()

    try:
        await cluster.sleep(2 + GRACE_MS / 1000)
        yield made, kill
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.slow
@in_virtual_time
async def test_a_storm_of_which_no_share_shows_enough_brakes_everywhere(cluster: ModelCluster) -> None:
    async with shares(cluster, 10, 10, 10) as (made, _):
        assert all(each.history == [""] for each in made), "nobody was blind until now"
        for each in made:
            each.pools.now = cluster.now()
            for pool in list(each.pools.heard)[:3]:
                each.pools.silence(pool, 2)
        await cluster.sleep(6)
        for each in made:
            each.judge()
            assert not judge_sites(each.pools.pools(), (), cluster.now(), {}), "its own share shows none"
            assert "18 of 60 agents in 9 pools there fell silent together" in each.blind[""].why
            assert each.blind[""].silent
        await cluster.sleep(90)
        assert all(each.blind for each in made), "it lasts as long as its silence"
        for each in made:
            each.pools.heard = {pool: dict.fromkeys(hosts, 0) for pool, hosts in each.pools.heard.items()}
        await cluster.sleep(3)
        assert not any(each.blind for each in made)


@pytest.mark.slow
@in_virtual_time
async def test_a_takeover_is_no_silence(cluster: ModelCluster) -> None:
    """One of three is killed, and its pools come to the others ten seconds later."""
    async with shares(cluster, 10, 10, 10) as (made, kill):
        a, b, c = made
        kill(c)
        await cluster.sleep(11)
        lost = list(c.pools.heard.items())
        a.take(dict(lost[:5]))
        b.take(dict(lost[5:]))
        await cluster.sleep(120)
        assert a.history == b.history == [""]


@pytest.mark.slow
@in_virtual_time
async def test_a_rebalance_to_a_collector_that_has_just_come_is_no_silence(cluster: ModelCluster) -> None:
    async with shares(cluster, 15, 15, 0) as (made, _):
        a, b, c = made
        for each in (a, b):
            going = dict(list(each.pools.heard.items())[:5])
            for pool in going:
                del each.pools.heard[pool]
            c.take(going)
        await cluster.sleep(120)
        assert all(each.history == [""] for each in made)


@pytest.mark.slow
@in_virtual_time
async def test_when_every_lease_ends_at_once_all_are_blind_until_the_quiet_time_is_over(cluster: ModelCluster) -> None:
    async with shares(cluster, 10, 10, 10) as (made, _):
        for n, each in enumerate(made):
            each.take(dict(made[(n + 1) % 3].pools.heard))
        await cluster.sleep(3)
        for each in made:
            assert "pools there have changed their collector a moment ago" in each.blind[""].why
            assert not each.blind[""].silent, "nobody was found silent, so no quiet time follows"
        await cluster.sleep(QUIET_MS / 1000)
        assert not any(each.blind for each in made)


@in_virtual_time
async def test_who_tells_no_count_brakes_the_others(cluster: ModelCluster) -> None:
    """It renews its lease, and its counting is stuck."""
    async with shares(cluster, 10, 10, 10) as (made, _):
        a, _, c = made
        await c.watch.stop()
        await cluster.sleep(20)
        assert a.blind[""].why == "of collector c no count of its agents there is known" and not a.blind[""].silent
        c.watch.start()
        await cluster.sleep(3)
        assert not a.blind


@in_virtual_time
async def test_while_etcd_is_away_pools_are_judged_by_what_is_heard_here(cluster: ModelCluster) -> None:
    async with shares(cluster, 10, 10, 10) as (made, _):
        cluster.halt()
        await cluster.sleep(60)
        assert all(each.history == [""] and each.collector.member.right(cluster.now()).why_not for each in made)
        a = made[0]
        a.pools.now = cluster.now()
        for pool in list(a.pools.heard)[:4]:
            a.pools.silence(pool, 2)
        await cluster.sleep(5)
        assert "fell silent within 60 s" in a.blind[""].why, "its own share is judged as one collector's"
        cluster.go_on()
        await cluster.sleep(10)
        assert not made[1].blind and made[0].blind


@in_virtual_time
async def test_counts_that_cannot_be_read_brake_whoever_has_the_right_to_act(cluster: ModelCluster) -> None:
    async with shares(cluster, 10, 10) as (made, _):
        a = made[0]

        async def fails() -> None:
            raise OSError("a mistake of ours")

        a.watch.once = fails  # type: ignore[method-assign]
        await cluster.sleep(15)
        assert a.blind[""].why == "the counts of the other collectors' agents cannot be read from etcd"


@in_virtual_time
async def test_a_site_that_another_configuration_does_not_name_is_counted_all_the_same(cluster: ModelCluster) -> None:
    async with shares(cluster, 5, 5) as (made, _):
        a, b = made
        a.pools.policy = Policy(site="oslo")
        await cluster.sleep(8)
        assert not a.blind and not b.blind and "oslo" in b.watch._sites


def test_a_storm_of_ones_own_is_told_first_and_a_count_that_is_missed_makes_nobody_quiet() -> None:
    missed = {"": Braked("of collector b no count of its agents there is known", silent=False)}
    w = Pools(20)
    assert judge_sites(w.pools(), (), w.now, {}, sums=missed)[""].silent is False
    for name in list(w.heard)[:10]:
        w.silence(name, 2)
    w.now += 5_000
    storm = judge_sites(w.pools(), (), w.now, {}, sums=missed)
    assert "fell silent" in storm[""].why and storm[""].silent
    w.heard = {name: dict.fromkeys(hosts, 0) for name, hosts in w.heard.items()}
    after = judge_sites(w.pools(), (), w.now, storm, sums=missed)
    assert after[""].silent, "a storm that goes over into that was one"
    assert after[""].began == storm[""].began


def test_pools_that_were_taken_over_a_moment_ago_say_nothing_of_silence() -> None:
    w = Pools(6)
    for name in list(w.heard)[:3]:
        w.silence(name, 2)
    w.now += 5_000
    pools, policy = w.pools(), w.policy
    whole = silence_of(pools.values(), (), w.now, {})[""]
    assert whole == Silence(6, 0, 12, 6, 3, policy.storm_pools, policy.storm_percent)
    part = silence_of(pools.values(), {"p0", "p5"}, w.now, {})[""]
    assert part == replace(whole, young=2, agents=8, silent=4, silent_pools=2)


def test_a_pool_is_young_until_its_quiet_time_ends_and_is_counted_before_that(tmp_path: Any) -> None:
    """Else each takeover at a small site would be told as a collector that does not see, once nothing is quiet."""
    roster = Roster(load(write_config(tmp_path)), 1, lambda: 0, one_of_several=True)
    known = Guarded(policy=Policy(quiet_time=QUIET_MS)).pool
    pool = known.record.pool
    roster.take_charge(pool, 7, 1_000, LeftBehind())
    roster.pools = {pool: replace(known, live=PoolLive())}
    assert roster.young(QUIET_MS - 5_000) == {pool}, "no host has said Hello"
    roster.pools = {pool: known}
    young = [at for at in range(1_000, 1_000 + QUIET_MS, 500) if roster.young(at)]
    assert young[0] == 1_000 and 10_000 < young[-1] < 1_000 + SHORTEST_QUIET_MS - 2 * EVERY_MS


@pytest.mark.parametrize("silent", [False, True])
def test_a_quiet_time_follows_a_storm_and_no_missed_count(tmp_path: Any, silent: bool) -> None:
    roster = Roster(load(write_config(tmp_path)), 1, lambda: 0, one_of_several=True)
    roster.take_charge(POOL, 7, 1_000)
    assert roster.young(2_000) == {POOL} and not roster.young(1_000 + QUIET_MS)
    roster.judged({"": Blind("why", 1, silent)}, 90_000)
    told = roster.judged({}, 100_000)
    assert roster.quiet_until(POOL) == (100_000 if silent else 1_000) + QUIET_MS
    assert ("quiet time begins anew" in told[0]) == silent
    assert not roster.young(110_000), "its own quiet time since it came is over"


def test_of_a_site_whose_pools_have_a_new_collector_nobody_says_that_it_is_not_seen(tmp_path: Any) -> None:
    roster = Roster(load(write_config(tmp_path)), 1, lambda: 0, one_of_several=True)
    roster.take_charge(POOL, 7, 1_000)
    why = SiteSum(SiteCount(pools=1, young=1))
    assert why.young and not why.silent and not SiteSum(SiteCount(pools=1, young=1), ("c",)).young
    assert roster.judged({"": Blind(why.why_blind, 1, silent=False, young=True)}, 2_000) == (
        f"braked: {why.why_blind}",
    )
    assert roster.site(POOL).young and roster.site(POOL).blind == why.why_blind and not roster.blind
    assert roster.judged({}, 3_000) == ("not braked any more",) and not roster.site(POOL).young
