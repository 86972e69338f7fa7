"""A collector of real parts among others: sites, another collector, a journal copied back, sleep at a bad time."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core import engine
from poolwarden_collector.core.model import effects, orders
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.host_facts import Freshness, HostFacts, RoleFacts
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.shell.queue.happening import Happening

from .rig import HOSTS, POOL, running, until
from .test_service import World

pytestmark = pytest.mark.asyncio

OTHER = POOL[:-1] + "2"


def sites(*pools: str, site: str) -> str:
    return "".join(f'[pools."{pool}"]\n[pools."{pool}".policy]\nsite = "{site}"\n' for pool in pools)


def pool_number(n: int) -> str:
    return f"{POOL[:-2]}{n:02d}"


def hello(host: str, pool: str = POOL, **more: Any) -> ev.AgentConnected:
    return ev.AgentConnected(1, Hello(host, pool, f"boot-{host}", host, "192.0.2.1", "0.1.0", frozenset(), **more))


def wait(world: World, ms: int) -> None:
    """Time passes while the collector runs."""
    world.time += ms
    world.service.loop._last_step = world.time


async def test_a_storm_at_one_site_leaves_the_other_alone_and_ends_in_quiet_time(tmp_path: Path) -> None:
    here, there = [pool_number(n) for n in range(10, 16)], [pool_number(n) for n in range(20, 26)]
    world = World(tmp_path, sites(*here, site="berlin") + sites(*there, site="oslo"))
    for pool in [*here, *there]:
        await world.take(hello(f"h{pool}", pool), pool)
    wait(world, 61_000)
    roster = world.service.roster
    for pool in there:
        await world.take(ev.AgentReported(f"h{pool}", 1, HostFacts()), pool)
    for pool in here:
        await world.take(ev.AgentReported(f"h{pool}", 1, HostFacts()), pool)
    wait(world, 5_000)
    for pool in there:
        await world.take(ev.AgentReported(f"h{pool}", 1, HostFacts()), pool)
    world.service._judge_sites()
    assert "at site berlin" in roster.site(here[0]).blind and roster.site(there[0]).blind == ""
    assert "berlin" in roster.blind
    for pool in here:
        await world.take(ev.AgentReported(f"h{pool}", 1, HostFacts()), pool)
    world.service._judge_sites()
    assert roster.site(here[0]).blind == "" == roster.blind
    quiet = world.config.policy.quiet_time
    assert roster.quiet_until(here[0]) == world.time + quiet
    assert roster.quiet_until(there[0]) <= world.time


async def test_anchors_that_answer_again_bring_quiet_time_to_every_site(tmp_path: Path) -> None:
    """S77."""
    world = World(tmp_path, sites(pool_number(10), site="berlin") + sites(pool_number(20), site="oslo"))
    answers = [True]
    world.service._anchors = lambda: tuple(answers)
    for pool in (pool_number(10), pool_number(20)):
        await world.take(hello(f"h{pool}", pool), pool)
    wait(world, 200_000)
    answers[0] = False
    world.service._judge_sites()
    assert all(world.service.roster.site(pool_number(n)).blind for n in (10, 20))
    answers[0] = True
    world.service._judge_sites()
    for n in (10, 20):
        assert world.service.roster.quiet_until(pool_number(n)) > world.time


# ------------------------------------------------------------------------------------------------ another collector


async def test_standing_down_concerns_one_pool_and_ends_with_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S57: one pool's agent obeys a higher epoch; nothing acts in that pool from then on, all else is as before."""
    world = World(tmp_path)
    cut: list[str] = []
    world.service.on_stand_down(cut.append)
    await world.take(hello(HOSTS[0]))
    await world.take(hello(HOSTS[1], OTHER), OTHER)
    wait(world, world.config.policy.quiet_time + 1)
    await world.take(hello(HOSTS[0], highest_epoch=world.service.roster.epoch + 10**9))
    roster = world.service.roster
    assert cut == [POOL]
    assert roster.site(POOL).deposed and not roster.site(OTHER).deposed and "STOOD DOWN" in roster.warnings()[0]
    for n in range(30):
        roster.warn(f"warning {n}")
    assert "STOOD DOWN" in roster.warnings()[0]
    asked = (
        effects.SendOrder(orders.Order("o", HOSTS[1], "b", 1, orders.Promote(), 15_000)),
        effects.PowerOff(HOSTS[1], "dev", "run-1"),
        effects.AnswerGate(HOSTS[1], "b", "open", "x", 1),
        effects.ReadPower(HOSTS[1], "dev", "run-2"),
    )

    def decide(pool: Pool, event: ev.Event, now: int, site: Site) -> engine.StepResult:
        return engine.StepResult(pool, (Entry(Kind.ASKED, "x", {}),), (), asked)

    monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", decide)
    world.told.log.clear()
    await world.take(ev.Tick(), POOL)
    assert world.told.effects() == [asked[3]]
    await world.take(ev.Tick(), OTHER)
    assert world.told.effects()[1:] == list(asked)
    stale = world.pool.record.stale_epoch
    world.journal.close()
    again = World(tmp_path)
    await again.service.begin()
    # A person has restarted it: it is in charge, even if the host that was obeyed elsewhere is not heard any more.
    assert again.service.roster.site(POOL).deposed == "" and again.service.roster.epoch > stale


async def test_a_collector_that_wakes_up_bows_to_the_one_that_took_over(tmp_path: Path) -> None:
    """S55 and S57: its quiet time after an absence is not that of a start; it must not raise itself above the other."""
    world = World(tmp_path)
    await world.take(hello(HOSTS[0]))
    wait(world, 200_000)
    world.time += 300_000  # SIGSTOP, or a suspended machine
    await world.take(ev.Tick())
    assert world.service.roster.quiet_until(POOL) > world.time
    epoch = world.service.roster.epoch
    await world.take(hello(HOSTS[0], highest_epoch=epoch + 10**9))
    assert world.service.roster.site(POOL).deposed and world.service.roster.epoch == epoch


async def test_an_agent_that_says_that_it_is_of_another_pool_is_journaled_where_it_is_on_record(tmp_path: Path) -> None:
    """S56."""
    async with running(tmp_path) as rig:
        first = await rig.agent(HOSTS[0])
        await until(lambda: rig.parts.service.roster.pool_of(HOSTS[0]) == POOL)
        await first.close()
        await until(lambda: not rig.parts.service.roster.pools[POOL].live.agents[HOSTS[0]].connected)
        from .rig import PlayedAgent

        moved = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
        rig.agents.append(moved)
        refusal = await moved.refused(pool_uuid=OTHER)
        assert OTHER in str(refusal.details())
        kinds = lambda: [row.kind for row in rig.parts.journal.history(POOL)]  # noqa: E731
        await until(lambda: "identity-conflict" in kinds())
        assert OTHER not in rig.parts.service.roster.pools


# ------------------------------------------------------------------------------------------------ a restored journal


def serving(host: str) -> ev.AgentReported:
    now = 1_000_000
    return ev.AgentReported(host, 1, HostFacts(Freshness(now, now, now, now), RoleFacts(serves_as_master=True)))


async def test_a_journal_file_copied_back_is_noticed_and_raised_above_the_world(tmp_path: Path) -> None:
    """The SQLite file of last week under the agents of today: terms, an epoch and a promotion it has never seen."""
    world = World(tmp_path)
    await world.take(hello(HOSTS[0]))
    await world.take(serving(HOSTS[0]))
    assert world.pool.record.master == HOSTS[0]
    world.journal.close()
    state = world.config.state_dir
    shutil.copytree(state, tmp_path / "backup")
    later = World(tmp_path)
    await later.service.begin()
    later.journal.commit(POOL, [Entry(Kind.TERM_OBSERVED, "what happened since")])
    epoch, term = later.service.roster.epoch, 7
    later.journal.close()
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "backup", state)

    again = World(tmp_path)
    await again.service.begin()
    result = OrderOutcome("x-3.7/promote/h", "promote", Outcome.DONE, "", "", True, epoch, term)
    told = hello(HOSTS[1], highest_term=term, highest_epoch=epoch + 5_000_000, last_results=(result,))
    await again.take(told)
    roster = again.service.roster
    assert again.kinds().count("journal-restored") == 1
    assert again.pool.record.term == term + 1
    assert roster.epoch > epoch + 5_000_000 and again.journal.epoch == roster.epoch
    quiet = again.config.policy.quiet_time_restored
    assert (
        again.pool.live.journal_gap.quiet_until == again.time + quiet and roster.quiet_until(OTHER) < again.time + quiet
    )
    await again.take(serving(HOSTS[1]))
    assert again.pool.record.master == HOSTS[1]
    owed = [(item.host, item.what) for item in again.pool.record.owed]
    assert owed == [(HOSTS[0], "tombstone")]
    again.journal.close()
    durable = World(tmp_path)
    await durable.service.begin()
    assert durable.pool.record.term > term and durable.pool.record.owed == again.pool.record.owed


# ------------------------------------------------------------------------------------------------ sleep


async def test_a_machine_that_slept_between_commit_and_effect_does_not_do_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLOCK_MONOTONIC stands still while a machine is suspended: only the other clock shows that hours have passed."""
    world = World(tmp_path)
    await world.take(ev.Tick())
    asked = (effects.PowerOff(HOSTS[0], "dev", "run-1"), effects.ReadPower(HOSTS[0], "dev", "run-2"))
    boottime = [10_000]
    monkeypatch.setattr("poolwarden_collector.shell.loop.service.clock.awake_or_not_ms", lambda: boottime[0])

    def decide(pool: Pool, event: ev.Event, now: int, site: Site) -> engine.StepResult:
        return engine.StepResult(pool, (Entry(Kind.ASKED, "x", {}),), (), asked)

    monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", decide)
    write = world.told._write

    def slow() -> None:
        boottime[0] += 7_200_000
        write()

    world.told._write = slow  # type: ignore[method-assign]
    world.told.log.clear()
    await world.take(ev.Tick())
    assert world.told.effects() == [asked[1]]
    told = await world.inbox.next()
    assert told is not None and isinstance(told.event, ev.FenceEnded) and told.event.certain


async def test_an_absence_cuts_off_what_was_begun_before(tmp_path: Path) -> None:
    world = World(tmp_path)
    cut: list[int] = []
    world.service.on_absence(lambda: cut.append(world.time))
    await world.take(hello(HOSTS[0]))
    world.time += 4_000
    await world.take(ev.Tick())
    assert cut == []
    world.time += 30_000
    await world.take(ev.Tick())
    assert cut == [world.time]


async def test_a_step_of_the_wall_clock_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S55: NTP moves the clock by an hour, both ways."""
    world = World(tmp_path)
    await world.take(hello(HOSTS[0]))
    roster = world.service.roster
    quiet, real = roster.quiet_until(POOL), time.time_ns
    for hours in (1, -1, 10):
        monkeypatch.setattr(time, "time_ns", lambda hours=hours: real() + hours * 3_600_000_000_000)
        monkeypatch.setattr(time, "time", lambda hours=hours: real() / 1e9 + hours * 3_600)
        await world.service.take(Happening(POOL, ev.Tick()))
    assert roster.quiet_until(POOL) == quiet and roster.blind == ""


async def test_every_pool_whose_hosts_have_obeyed_a_lost_past_is_quiet_and_not_the_first_one_alone(
    tmp_path: Path,
) -> None:
    """All hosts of one collector have obeyed the same epoch; the first of them raises this one above it."""
    world = World(tmp_path)
    await world.take(hello(HOSTS[0]))
    await world.take(hello(HOSTS[1], OTHER), OTHER)
    world.journal.close()
    again = World(tmp_path)
    await again.service.begin()
    roster = again.service.roster
    lost = roster.epoch + 10**9
    await again.take(hello(HOSTS[0], highest_epoch=lost))
    assert roster.epoch > lost
    await again.take(hello(HOSTS[1], OTHER, highest_epoch=lost), OTHER)
    assert [roster.pools[pool].live.journal_gap.restored for pool in (POOL, OTHER)] == [True, True]
    await again.take(hello(HOSTS[1], OTHER, highest_epoch=roster.epoch), OTHER)
    assert [row.kind for row in again.journal.history(OTHER)].count("journal-restored") == 1
