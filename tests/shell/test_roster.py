"""Which pool a host is of, found without asking every pool; what a pool is told of the collector."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from poolwarden_collector.core.decision.storm_brake import Blind
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.host_facts import HostFacts
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.state.followup_record import Aftermath, LostVm
from poolwarden_collector.core.state.live import AgentState, Pool, PoolLive
from poolwarden_collector.core.state.pool_record import HostRecord, PoolRecord
from poolwarden_collector.shell.agents.charge import Charge
from poolwarden_collector.shell.agents.roster import LONG_WAIT_MS, RUNNING_MS, Pools, Roster
from poolwarden_collector.shell.config.config import load

from .rig import write_config


def pool_of(uuid: str, spoken: set[str], listed: set[str], roster: Roster) -> Pool:
    hosts = {host: HostRecord(host, boot_id=f"boot-{host}" if host in spoken else "") for host in spoken | listed}
    return Pool(PoolRecord(uuid, hosts=hosts), roster.config.policy_of(uuid), {})


def test_a_host_is_found_as_by_asking_every_pool(tmp_path: Path) -> None:
    roster = Roster(load(write_config(tmp_path)), 1, lambda: 0)
    drawn = random.Random(7)  # noqa: S311  # no secret
    hosts = [f"h{n}" for n in range(12)]
    for _ in range(600):
        uuid = f"p{drawn.randrange(6)}"
        if drawn.random() < 0.1 and uuid in roster.pools:
            del roster.pools[uuid]
        else:
            some = set(drawn.sample(hosts, 4))
            made = pool_of(uuid, set(drawn.sample(sorted(some), 2)), some, roster)
            if drawn.random() < 0.5:
                roster.pools[uuid] = made
            else:
                roster.pools.update([(uuid, made)])
        for host in hosts:
            listed = [each for each, pool in roster.pools.items() if host in pool.record.hosts]
            spoken = [each for each in listed if roster.pools[each].record.hosts[host].boot_id]
            assert sorted(roster.pools.of(host)) == sorted(listed)
            assert roster.spoke_in(host) in (spoken or [""])
            assert roster.pool_of(host) in (spoken or (listed if len(listed) == 1 else [""]))
    for uuid in list(roster.pools):
        del roster.pools[uuid]
    assert not roster.pools._listed, "nothing is kept of what is gone"


def test_no_other_way_changes_the_pools(tmp_path: Path) -> None:
    pools = Roster(load(write_config(tmp_path)), 1, lambda: 0).pools
    for change in (pools.clear, pools.popitem, lambda: pools.pop("p"), lambda: pools.setdefault("p")):  # type: ignore[call-overload]
        with pytest.raises(TypeError):
            change()
    with pytest.raises(TypeError):
        pools |= Pools()


def test_everything_of_which_a_site_is_made_is_its_condition(tmp_path: Path) -> None:
    """One attribute after the other has another value: where a pool is told otherwise, the condition is another."""
    roster = Roster(load(write_config(tmp_path)), 1, lambda: 0)
    uuid = "p1"
    others = {
        "epoch": 7,
        "clock": "another",
        "started_at": 5,
        "sites": {"": Blind("why", 1)},
        "stood_down": {uuid: "why"},
        "_charges": {uuid: Charge(9, 8, "another")},
        "one_of_several": True,
        "behind_ms": 3,
        "_quiet_from": 9,
        "_quiet_sites": {"": 10**9},
        "_quiet_pools": {uuid: 10**9},
        "config": dataclasses.replace(roster.config, policy=Policy(quiet_time=5_000)),
    }
    told = set()
    for name, before in tuple(vars(roster).items()):
        site, condition = roster.site(uuid), roster.condition()
        setattr(roster, name, others.get(name, before))
        if roster.site(uuid) != site and name != "behind_ms":
            told.add(name)
            assert roster.condition() != condition, name
        setattr(roster, name, before)
    assert told == set(others) - {"behind_ms"}


@pytest.mark.parametrize(("waits", "told"), [((3, LONG_WAIT_MS), 0), ((0, 0), 0), ((3, LONG_WAIT_MS + 1), 1)])
def test_that_agents_wait_for_long_is_said(tmp_path: Path, waits: tuple[int, int], told: int) -> None:
    roster = Roster(load(write_config(tmp_path)), 1, lambda: 0)
    roster.at_entrance = lambda: waits
    assert sum("3 agents wait to be let in, the first for 5 s" in text for text in roster.warnings()) == told


@pytest.mark.parametrize(
    ("state", "connected", "there", "told"),
    [
        ("queued", True, ("vm-1", "vm-9"), {"vm-1"}),
        ("queued", False, ("vm-1",), set()),
        ("queued", True, None, set()),
        ("lost", True, ("vm-1",), set()),
    ],
)
def test_a_pool_is_told_which_vms_of_its_queue_run_in_another(
    state: str, connected: bool, there: tuple[str, ...] | None, told: set[str], tmp_path: Path
) -> None:
    now = 0
    roster = Roster(load(write_config(tmp_path)), 1, lambda: now)
    lost = {vm: LostVm(vm, vm, "h1", state=state) for vm in ("vm-1", "vm-2")}
    policy = roster.config.policy_of("p1")

    def live(host: str, domains: tuple[str, ...] | None, connected: bool = True) -> PoolLive:
        hello = Hello(host, "p", "boot", host, "192.0.2.1", "0.1.0", frozenset())
        return PoolLive(agents={host: AgentState(hello, 1, connected, 0, HostFacts(domains=domains))})

    record = PoolRecord("p1", after=Aftermath(lost=lost))
    roster.pools["p1"] = Pool(record, policy, {}, live("h2", ("vm-2",)))
    roster.pools["p2"] = Pool(PoolRecord("p2"), policy, {}, live("h9", there, connected))
    assert roster.site("p1").elsewhere == told
    assert roster.site("p2").elsewhere == roster.site("p3").elsewhere == set()
    condition = roster.condition()
    roster.pools["p2"] = Pool(PoolRecord("p2"), policy, {}, live("h9", ("vm-2",)))
    now = RUNNING_MS
    assert roster.site("p1").elsewhere == ({"vm-2"} if state == "queued" else set())
    assert roster.condition() == condition


def test_which_vms_run_elsewhere_is_looked_for_at_once_where_another_one_is_queued(tmp_path: Path) -> None:
    """And not at each step: of hundreds of pools that took eight milliseconds."""
    roster = Roster(load(write_config(tmp_path)), 1, lambda: 0)
    policy, looks = roster.config.policy_of("p1"), 0

    def queue(*vms: str) -> None:
        lost = {vm: LostVm(vm, vm, "h1", state="queued") for vm in vms}
        roster.pools["p1"] = Pool(PoolRecord("p1", after=Aftermath(lost=lost)), policy, {}, PoolLive())

    class Counted(Pools):
        def items(self):  # type: ignore[no-untyped-def]
            nonlocal looks
            looks += 1
            return super().items()

    roster.pools = Counted()
    hello = Hello("h9", "p2", "boot", "h9", "192.0.2.1", "0.1.0", frozenset())
    agent = AgentState(hello, 1, True, 0, HostFacts(domains=("vm-2",)))
    roster.pools["p2"] = Pool(PoolRecord("p2"), policy, {}, PoolLive(agents={"h9": agent}))
    queue("vm-1")
    assert [roster.site("p1").elsewhere for _ in range(9)] == [frozenset()] * 9 and looks == 1
    queue("vm-1", "vm-2")
    assert roster.site("p1").elsewhere == {"vm-2"} and looks == 2
