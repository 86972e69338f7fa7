"""One of several collectors that may act nowhere: its pools stand still for nothing that could not be recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from poolwarden_collector.core.model import effects as fx
from poolwarden_collector.core.model.events import Tick
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.taken_over import SHORTEST_QUIET_MS
from poolwarden_collector.shell.loop.stalls import PoolStalls

from .rig import HOSTS, POOL, until
from .shared import ORDER, PAUSE, One, Unanswered, gives, quiet, two

pytestmark = pytest.mark.asyncio
QUIET_MS = Policy().quiet_time


async def test_a_command_is_refused_and_its_pool_stands_still_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, cluster):
        await a.owns()
        began = a.time
        cluster.halt()
        a.roster.right = lambda: "its lease was renewed last 7.0 s ago"
        for _ in range(20):
            a.time += 1_000
            await a.take(PAUSE)
        assert set(a.replies()) == {(False, "journal")} and not a.roster.stalls and quiet(a) == began
        text = next(each.text for each in a.begun if isinstance(each, fx.Reply))
        assert text == "nothing can be recorded, so nothing is done: its lease was renewed last 7.0 s ago"


async def test_a_pool_at_rest_is_looked_at_again_when_the_right_goes_and_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for the right has no other deadline."""
    async with two(tmp_path, monkeypatch) as (a, _, __):
        seen = []
        for why in ("", "its lease is over", ""):
            a.roster.right = lambda why=why: why
            seen.append(a.roster.condition())
        assert seen[0] == seen[2] != seen[1]


async def test_who_has_no_pool_is_behind_with_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        a.roster.behind_ms, a.roster.told_behind = 120_000, True
        assert any("BEHIND" in text for text in a.roster.warnings())
        await a.service.release(POOL, "it was handed on")
        assert a.roster.behind_ms == 0 and not any("BEHIND" in text for text in a.roster.warnings())


# ------------------------------------------------------------------------------------------------ after a standstill


def heard(a: One, *hosts: str, at: int) -> None:
    """Their agents' last sign is of then; the others, whose streams stand, of long ago; none of nobody: no stream."""
    hello = Hello(HOSTS[0], POOL, "b", "h", "192.0.2.1", "0.1.0", frozenset())
    agent = AgentState(hello, 1, connected=bool(hosts), last_heard=at)
    agents = {host: replace(agent, last_heard=at if host in hosts else at - 60_000) for host in HOSTS}
    pool = a.roster.pools[POOL]
    a.roster.pools[POOL] = replace(pool, live=replace(pool.live, agents=agents))


@pytest.mark.parametrize(
    ("before", "after", "waits"),
    [
        (HOSTS, HOSTS, SHORTEST_QUIET_MS),
        (HOSTS[1:], HOSTS[1:], SHORTEST_QUIET_MS),  # who was silent before is no riddle
        (HOSTS, HOSTS[1:], QUIET_MS),  # who has fallen silent in it is one
        (HOSTS[1:], HOSTS[:1], QUIET_MS),
        ((), HOSTS, QUIET_MS),  # whom to wait for is not known
    ],
)
async def test_after_a_standstill_a_pool_is_quiet_until_those_are_heard_who_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: tuple[str, ...], after: tuple[str, ...], waits: int
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        a.time += 2 * QUIET_MS  # the takeover's quiet time is over
        stalls = PoolStalls(a.roster, lambda _: None)
        heard(a, *before, at=a.time)
        a.time += 6_000  # its step has waited for an answer
        stalls.begin(POOL, "no answer", a.time)
        a.time += 40_000
        stalls.end(POOL, a.time)
        ended = a.time
        stalls.hears(POOL)
        assert a.roster.quiet_until(POOL) == ended + QUIET_MS, "what was heard last is older than the standstill"
        a.time += 2_000
        heard(a, *after, at=a.time)
        stalls.hears(POOL)
        assert a.roster.quiet_until(POOL) == ended + waits


@pytest.mark.parametrize(("later", "waits"), [(3_000, QUIET_MS), (QUIET_MS + 1, SHORTEST_QUIET_MS)])
async def test_who_fell_silent_in_the_first_of_two_standstills_is_waited_for_after_the_second(
    later: int, waits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        a.time += 2 * QUIET_MS
        stalls = PoolStalls(a.roster, lambda _: None)
        heard(a, *HOSTS, at=a.time)
        for pause in (later, 2_000):
            stalls.begin(POOL, "no answer", a.time)
            a.time += 40_000
            stalls.end(POOL, a.time)
            ended = a.time
            a.time += pause
            heard(a, *HOSTS[1:], at=a.time)
            stalls.hears(POOL)
        assert a.roster.quiet_until(POOL) == ended + waits


async def test_in_the_quiet_time_of_a_takeover_that_is_not_ended_by_old_hellos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        claimed, stalls = a.roster.charge(POOL).started_at, PoolStalls(a.roster, lambda _: None)
        heard(a, *HOSTS, at=a.time)
        stalls.begin(POOL, "no answer", a.time)
        a.time += 20_000
        stalls.end(POOL, a.time)
        heard(a, *HOSTS, at=a.time + 1)
        stalls.hears(POOL)
        assert a.roster.quiet_until(POOL) > claimed + QUIET_MS


async def test_a_quiet_time_that_began_later_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        a.time += 2 * QUIET_MS
        a.roster.be_quiet_again(a.time, POOL)
        a.roster.quiet_for_less(POOL, a.time - 1, SHORTEST_QUIET_MS)
        assert a.roster.quiet_until(POOL) == a.time + QUIET_MS


async def test_whose_only_pool_waits_for_etcd_is_not_away_and_one_that_is_away_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        gives(monkeypatch, ORDER)
        silence, began = Unanswered(a, monkeypatch), a.roster._quiet_from
        await a.take(Tick())
        for _ in range(30):
            a.time += 1_000
            a.service._judge_sites()
        assert a.roster._quiet_from == began
        a.time += 30_000
        a.service._judge_sites()
        assert a.roster._quiet_from == a.time
        silence.on = False
        await until(lambda: POOL not in a.service._open)
