"""Agents come in while the collector keeps up; the others wait, and their pools are judged as of when they came."""

from __future__ import annotations

import asyncio

import pytest

from poolwarden_collector.shell.agents import entrance
from poolwarden_collector.shell.agents.entrance import Entrance, GivenUp

pytestmark = pytest.mark.asyncio


class Door:
    def __init__(self) -> None:
        self.now = 1_000
        self.late = True
        self.pools: set[str] = set()
        self.entered: list[str] = []
        self.entrance = Entrance(lambda: self.now, lambda: self.late, lambda pool: pool in self.pools)

    async def _enter(self, host: str, pool: str) -> None:
        await self.entrance.enter(host, pool)
        self.entered.append(host)

    async def come(self, host: str, pool: str) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self._enter(host, pool))
        await asyncio.sleep(0)
        self.now += 10
        return task


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    monkeypatch.setattr(entrance, "EVERY_S", 0.001)
    monkeypatch.setattr(entrance, "SETTLE_S", 0.005)
    return Door()


async def test_who_comes_while_it_keeps_up_does_not_wait(door: Door) -> None:
    door.late = False
    await door.come("h1", "a")
    assert door.entered == ["h1"] and door.entrance.waiting() == (0, 0) and door.entrance.pools() == {}


async def test_while_it_is_late_nobody_comes_in_and_each_pool_knows_since_when(door: Door) -> None:
    came = [await door.come(host, pool) for host, pool in (("h1", "a"), ("h2", ""), ("h3", "b"), ("h4", "a"))]
    await asyncio.sleep(0.02)
    assert door.entered == [] and door.entrance.waiting() == (4, 40)
    assert door.entrance.pools() == {"a": 1_000, "b": 1_020}, "of who has no pool yet no pool is told"
    door.late = False
    await asyncio.gather(*came)
    assert door.entered == ["h1", "h2", "h3", "h4"] and door.entrance.waiting() == (0, 0)


async def test_who_was_let_in_is_not_silent_before_it_was_heard(door: Door) -> None:
    """Its Hello waits in gRPC, and is read some turns of the loop later."""
    first, second = await door.come("h1", "a"), await door.come("h2", "a")
    door.late = False
    await asyncio.gather(first, second)
    assert door.entrance.waiting() == (0, 0) and door.entrance.pools() == {"a": 1_000}
    door.entrance.heard("h1")
    assert door.entrance.pools() == {"a": 1_010}
    door.entrance.heard("h2")
    assert door.entrance.pools() == {}


async def test_pools_become_whole_before_others_begin(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "AT_ONCE", 1)
    door.pools = {"b"}
    came = [await door.come(host, pool) for host, pool in (("h1", "a"), ("h2", "b"), ("h3", "a"), ("h4", "b"))]
    door.late = False
    await asyncio.gather(*came)
    assert door.entered == ["h2", "h4", "h1", "h3"]


async def test_no_more_than_some_come_in_at_once_however_many_wait(door: Door) -> None:
    came = [await door.come(f"h{n:02}", "a") for n in range(2 * entrance.AT_ONCE + 1)]
    door.late = False
    steps = set()
    while not all(task.done() for task in came):
        steps.add(len(door.entered))
        await asyncio.sleep(0)
    assert steps >= {entrance.AT_ONCE, 2 * entrance.AT_ONCE} and door.entered == sorted(door.entered)


async def test_a_newer_stream_takes_the_place_of_its_hosts_older_one(door: Door) -> None:
    older, other = await door.come("h1", "a"), await door.come("h2", "a")
    newer = await door.come("h1", "a")
    with pytest.raises(GivenUp):
        await older
    assert door.entrance.waiting() == (2, 30), "one place of each host, since it came first"
    door.late = False
    await asyncio.gather(newer, other)
    assert door.entered == ["h1", "h2"]


async def test_who_goes_away_waits_no_more(door: Door) -> None:
    gone = await door.come("h1", "a")
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert door.entrance.waiting() == (0, 0) and door.entrance.pools() == {}
    door.late = False
    await door.come("h2", "a")
    assert door.entered == ["h2"]


async def test_nobody_comes_in_after_its_end(door: Door) -> None:
    waiting = await door.come("h1", "a")
    door.entrance.close()
    door.late = False
    await asyncio.sleep(0.02)
    assert not waiting.done()
    waiting.cancel()
