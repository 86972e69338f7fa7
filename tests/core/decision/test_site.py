"""The storm brake: per site, by number of pools and share of agents, for as long as the storm lasts."""

from __future__ import annotations

from dataclasses import replace

from poolwarden_collector.core.decision.permission import firm_refusal
from poolwarden_collector.core.decision.storm_brake import Blind, Braked, Heard, judge_sites
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover.steps import hold_reason
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.reasons import Cause
from poolwarden_collector.core.report.journal_view import JournalView
from poolwarden_collector.core.report.weaknesses import readiness
from poolwarden_collector.core.state.live import AgentState, Pool, PoolLive
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.core.state.snapshot import Snapshot

from ..pool import Guarded

NOW = 1_000_000


class Pools:
    """Many pools, each agent heard just now until it is silenced."""

    def __init__(self, count: int, hosts: int = 2, site: str = "", policy: Policy | None = None) -> None:
        self.now = NOW
        self.policy = policy or Policy(site=site)
        self.heard = {f"{site}p{n}": dict.fromkeys(range(hosts), 0) for n in range(count)}  # 0: heard all the time
        self.goodbye: set[str] = set()
        self.before: dict[str, Blind] = {}

    def silence(self, pool: str, hosts: int, at: int | None = None) -> None:
        for host in list(self.heard[pool])[:hosts]:
            self.heard[pool][host] = self.now if at is None else at

    def pools(self) -> dict[str, Pool]:
        return {name: self._pool(name, hosts) for name, hosts in self.heard.items()}

    def _pool(self, name: str, hosts: dict[int, int]) -> Pool:
        agents = {}
        for n, last in hosts.items():
            host = f"{name}/{n}"
            hello = Hello(host, name, "b", host, "192.0.2.1", "0.1.0", frozenset())
            word = "host_reboot" if name in self.goodbye else ""
            agents[host] = AgentState(hello, 1, True, last or self.now, reported=True, goodbye=word)
        return Pool(PoolRecord(name), self.policy, {}, PoolLive(agents=agents))

    def judge(self, anchors: tuple[bool, ...] = ()) -> dict[str, Blind]:
        self.before = judge_sites(self.pools(), anchors, self.now, self.before)
        return self.before


def storm(w: Pools, pools: int, hosts: int = 2) -> None:
    for name in list(w.heard)[:pools]:
        w.silence(name, hosts)
    w.now += 5_000


def test_one_dead_switch_with_two_pools_behind_it_is_no_storm() -> None:
    """S76: 60 pools, 12 % of all agents silent in 2 of them."""
    w = Pools(60, hosts=2)
    w.heard["p0"] = dict.fromkeys(range(9), 0)
    w.heard["p1"] = dict.fromkeys(range(9), 0)
    storm(w, 2, hosts=9)
    agents = sum(len(hosts) for hosts in w.heard.values())
    assert 18 / agents > 0.12
    assert w.judge() == {}


def test_more_than_three_pools_and_more_than_a_fifth_of_the_agents_is_one() -> None:
    w = Pools(20)
    storm(w, 4)
    assert w.judge() == {}  # exactly a fifth
    w.silence("p4", 1)
    w.now += 5_000
    assert w.judge()[""].why == "9 of 40 agents in 5 pools fell silent within 60 s"


def test_three_pools_are_never_one_whatever_their_share() -> None:
    w = Pools(3)
    storm(w, 3)
    assert w.judge() == {}


def test_a_storm_lasts_as_long_as_its_silence_and_not_for_a_minute() -> None:
    w = Pools(20)
    storm(w, 10)
    assert w.judge()
    w.now += 3_600_000
    assert w.judge()[""].began == NOW + 5_000
    for name in list(w.heard)[:7]:
        w.heard[name] = dict.fromkeys(w.heard[name], 0)
    assert w.judge() == {}


def test_hosts_that_have_been_off_for_days_do_not_tip_the_scales() -> None:
    w = Pools(20)
    for name in list(w.heard)[:8]:
        w.silence(name, 2, at=1_000)
    assert w.judge() == {}
    w.silence("p10", 2)
    w.now += 5_000
    assert w.judge() == {}


def test_hosts_that_said_goodbye_are_no_storm() -> None:
    w = Pools(20)
    w.goodbye = set(list(w.heard)[:10])
    storm(w, 10)
    assert w.judge() == {}


def test_each_site_is_judged_by_itself() -> None:
    here, there = Pools(10, site="berlin"), Pools(10, site="oslo")
    storm(here, 10)
    there.now = here.now
    found = judge_sites(here.pools() | there.pools(), (), here.now, {})
    assert list(found) == ["berlin"] and "at site berlin" in found["berlin"].why


def test_a_sites_share_is_of_its_own_agents() -> None:
    """4 of 4 pools of a small site, 6 % of everybody: a storm there, not elsewhere."""
    here, there = Pools(4, site="berlin"), Pools(60, site="oslo")
    storm(here, 4)
    there.now = here.now
    assert list(judge_sites(here.pools() | there.pools(), (), here.now, {})) == ["berlin"]


def test_the_anchors_concern_every_site() -> None:
    """S77."""
    here, there = Pools(2, site="berlin"), Pools(2, site="oslo")
    pools = here.pools() | there.pools()
    assert set(judge_sites(pools, (False, False), NOW, {})) == {"berlin", "oslo"}
    assert judge_sites(pools, (False, True), NOW, {}) == {}


def test_a_person_releases_a_site_by_policy() -> None:
    w = Pools(20)
    storm(w, 20)
    assert w.judge()
    for change in ({"storm_pools": 20}, {"storm_percent": 100}):
        w.policy = replace(Policy(), **change)  # type: ignore[arg-type]
        assert w.judge() == {}


def test_the_most_cautious_policy_of_a_site_counts() -> None:
    bold, shy = Pools(6, policy=Policy(storm_pools=50)), Pools(6, policy=Policy(storm_pools=1))
    shy.heard = {f"s{name}": hosts for name, hosts in shy.heard.items()}
    storm(bold, 6)
    shy.now = bold.now
    assert judge_sites(bold.pools() | shy.pools(), (), bold.now, {})


def test_a_pool_of_which_less_has_been_heard_is_judged_as_of_then() -> None:
    """Hosts of it wait to be let in: what they say is not heard, and they are not silent."""
    w = Pools(20)
    storm(w, 10)
    waits = dict.fromkeys(list(w.heard)[:10], NOW + 1_000)
    assert judge_sites(w.pools(), (), w.now, {}, waits) == {}
    assert judge_sites(w.pools(), (), w.now, {}, dict.fromkeys(list(w.heard)[:5], NOW + 1_000))[""].why.startswith(
        "10 "
    )
    assert judge_sites(w.pools(), (), w.now, {}, dict.fromkeys(w.heard, w.now + 60_000)), (
        "nobody is judged ahead of time"
    )


def test_who_is_not_asked_before_he_can_be_silent_is_found_when_he_is() -> None:
    """The same judgement with and without what is remembered of who was heard, at each instant of a storm."""
    w, remembered, found = Pools(20), Heard(), []
    for at in range(0, 20_000, 250):
        w.now = NOW + at
        if at == 5_000:
            for name in list(w.heard)[:10]:
                w.silence(name, 1)
        if at == 12_000:
            w.policy = replace(w.policy, report_interval=1_000, suspect_after=2_000)
        if at == 15_000:
            for name in list(w.heard)[:10]:
                w.heard[name] = {**dict.fromkeys(w.heard[name], 0), 7: NOW + 1_000}
        plain = judge_sites(w.pools(), (), w.now, w.before)
        assert judge_sites(w.pools(), (), w.now, w.before, {}, remembered) == plain, at
        w.before = plain
        found.append(bool(plain))
    assert found[30:60] != found[:30] and any(found) and not all(found)


CHANGED = "3 of 4 pools there have changed their collector a moment ago"
YOUNG = f"its site cannot be judged yet: {CHANGED}"


def test_a_site_of_which_most_pools_have_a_new_collector_is_braked_and_not_blind() -> None:
    """Nothing is begun, and each pool is judged by what is heard of it: no network is said to be broken."""
    g = Guarded()
    g.site = replace(g.site, blind=CHANGED, young=True)
    g.cut_power()
    g.run(40_000)
    assert g.verdict == "MasterVanished" and not g.has(Kind.DECIDED) and "CollectorBlind" not in str(g.journal)
    refused = firm_refusal(Snapshot(g.pool, g.now, g.site))
    assert refused is not None and (refused.code, refused.text) == (Cause.YOUNG_SITE, YOUNG)
    [told] = [each for each in readiness(Snapshot(g.pool, g.now, g.site), JournalView()) if each.code == "young-site"]
    assert told.severity == "warning" and YOUNG in told.sentence
    g.site = replace(g.site, blind="", young=False)
    g.run(60_000)
    assert len(g.promoted()) == 1


def test_a_failover_that_can_be_given_up_stands_still_meanwhile() -> None:
    g = Guarded()
    g.cut_power()
    while not g.has(Kind.DECIDED):
        g.run(500)
    failover = g.pool.record.failover
    assert failover is not None
    braked = Snapshot(g.pool, g.now, replace(g.site, blind=CHANGED, young=True))
    assert hold_reason(braked, failover, Verdict.VANISHED) == YOUNG
    assert hold_reason(Snapshot(g.pool, g.now, g.site), failover, Verdict.VANISHED) == ""


def test_a_storm_that_goes_over_into_that_is_still_one() -> None:
    w, young = Pools(20), {"": Braked(CHANGED, silent=False, young=True)}
    assert judge_sites(w.pools(), (), w.now, {}, sums=young)[""].young
    storm(w, 10)
    told = judge_sites(w.pools(), (), w.now, {}, sums=young)
    assert "fell silent" in told[""].why and not told[""].young
    w.heard = {name: dict.fromkeys(hosts, 0) for name, hosts in w.heard.items()}
    after = judge_sites(w.pools(), (), w.now, told, sums=young)
    assert after[""].silent and not after[""].young
