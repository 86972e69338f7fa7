"""A collector that is late with reading is late: nobody is silent for that, and nothing is begun on what it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core import engine
from poolwarden_collector.core.decision.permission import BEHIND_MS
from poolwarden_collector.core.model import effects, orders
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.host_facts import HostFacts
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.behind import TELL_BEHIND_MS
from poolwarden_collector.shell.loop.engine_loop import RETRY_MS
from poolwarden_collector.shell.queue.inbox import MOST_WAITING, Inbox

from .rig import HOSTS, POOL, running, until
from .test_engine_loop import Played
from .test_service import World

pytestmark = pytest.mark.slow  # minutes of virtual or many kills of real time in each

EVERY_MS = 2_000


def pool_number(n: int) -> str:
    return f"{POOL[:-2]}{n:02d}"


class Flooded:
    """A collector whose steps take long, under agents that all stream on, each twice a round that it needs for them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, pools: int = 20, hosts: int = 3) -> None:
        self.world = World(folder)
        self.inbox = self.world.inbox
        self.inbox._now = lambda: self.world.time
        self.agents = {f"h{n}-{k}": pool_number(n) for n in range(pools) for k in range(hosts)}
        self.due = {host: self.world.time + n * 30 for n, host in enumerate(self.agents)}
        self.tick_at = self.world.time
        self.cost = self.since = 0
        self.overtaking = False  # events of other pools are taken while a step waits for its commit
        self.cut: set[str] = set()
        real = engine.step

        def slow(*given: Any) -> engine.StepResult:
            self.world.time += self.cost
            return real(*given)

        monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", slow)
        for host, pool in self.agents.items():
            hello = Hello(host, pool, f"boot-{host}", host, "192.0.2.1", "0.1.0", frozenset())
            self.inbox.post(pool, ev.AgentConnected(1, hello))

    def arrive(self) -> None:
        """Everything that came until now is read and stamped with its arrival."""
        now = self.world.time
        for host, pool in self.agents.items():
            while host not in self.cut and self.due[host] <= now:
                at = self.due[host]
                self.inbox.post(pool, ev.AgentReported(host, 1, HostFacts(), at), at)
                self.due[host] += EVERY_MS
        if self.tick_at <= now:
            self.world.service._judge_sites()
            for pool in self.world.service.loop.due(self.world.time):
                self.inbox.post(pool, ev.Tick())
            self.tick_at = now + 250

    async def settle(self) -> None:
        await self.run(65_000)
        self.since = self.world.journal.history()[-1].seq
        self.cost = 100  # a round of 60 agents takes 6 s

    async def run(self, ms: int) -> None:
        end = self.world.time + ms
        while self.world.time < end:
            self.arrive()
            if len(self.inbox):
                happening = await self.inbox.next()
                assert happening is not None
                await self.world.service.take(happening)
                if not self.overtaking:
                    await self.world.service.settled()
            else:
                self.world.time += 10

    def told(self) -> list[str]:
        """What was told since everybody was heard for the first time."""
        rows = self.world.journal.history(after_seq=self.since, limit=100_000)
        return [f"{row.kind}: {row.text}" for row in rows if row.kind in ("agent-silent", "verdict", "alert")]


@pytest.mark.asyncio
@pytest.mark.parametrize("overtaking", [False, True])
async def test_agents_that_stream_on_are_never_silent_however_late_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overtaking: bool
) -> None:
    flood = Flooded(tmp_path, monkeypatch)
    flood.overtaking = overtaking
    await flood.settle()
    await flood.run(90_000)
    roster = flood.world.service.roster
    assert roster.behind_ms > BEHIND_MS, "the test does not flood it"
    words = ("silent", "PoolDark", "CollectorBlind")
    assert [text for text in flood.told() if any(word in text for word in words)] == [] and not roster.blind
    alerts = [alert["key"] for alert in flood.world.journal.alerts()]
    assert alerts.count("collector/behind") == 1 and "BEHIND" in roster.warnings()[0]
    flood.cost = 0
    await flood.run(20_000)
    [alert] = [alert for alert in flood.world.journal.alerts() if alert["key"] == "collector/behind"]
    assert alert["resolved_at"] and not roster.told_behind
    assert [text for text in flood.told() if any(word in text for word in words)] == []


@pytest.mark.asyncio
async def test_who_is_really_silent_is_found_by_a_collector_that_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flood = Flooded(tmp_path, monkeypatch)
    await flood.settle()
    flood.cut = {"h0-1"}
    await flood.run(40_000)
    silent = [text for text in flood.told() if text.startswith("agent-silent")]
    assert len(silent) == 1 and "h0-1" in silent[0]


@pytest.mark.asyncio
async def test_an_order_of_a_late_step_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    await world.take(ev.Tick())
    order = effects.SendOrder(orders.Order("o", HOSTS[1], "b", 1, orders.Promote(), 15_000))

    def decide(pool: Any, event: ev.Event, now: int, site: Any) -> engine.StepResult:
        return engine.StepResult(pool, (), (), (order,))

    monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", decide)
    inbox = Inbox(lambda: world.time)
    world.told.log.clear()
    inbox.post(POOL, ev.ChallengeAnswered(HOSTS[0], "x", "b"))
    world.time += 3_000
    happening = await inbox.next()
    assert happening is not None
    await world.service.take(happening)
    assert world.told.effects() == []
    inbox.post(POOL, ev.ChallengeAnswered(HOSTS[0], "x", "b"))
    happening = await inbox.next()
    assert happening is not None
    await world.service.take(happening)
    assert world.told.effects() == [order]


def test_one_hosts_flood_is_bounded_and_its_end_is_taken() -> None:
    inbox = Inbox(lambda: 5)
    taken = [inbox.post(POOL, ev.ChallengeAnswered(HOSTS[0], "x", "b")) for _ in range(MOST_WAITING + 9)]
    assert sum(taken) == MOST_WAITING and len(inbox) == MOST_WAITING
    assert inbox.post(POOL, ev.ChallengeAnswered(HOSTS[1], "x", "b"))
    assert inbox.post(POOL, ev.AgentGone(HOSTS[0], 1))


@pytest.mark.asyncio
async def test_a_full_queue_lets_readers_have_their_turn(tmp_path: Path) -> None:
    """Over real TLS: an agent is read, and heard, while another one's reports keep the queue from ever being empty."""
    async with running(tmp_path) as rig:
        stop = False

        async def feed() -> None:
            while not stop:
                while len(rig.parts.inbox) < 50:
                    rig.parts.inbox.post(POOL, ev.ChallengeAnswered(HOSTS[1], "x", "b"))
                await asyncio.sleep(0)

        feeding = asyncio.ensure_future(feed())
        try:
            await rig.agent(HOSTS[0])
            heard: Callable[[], Any] = lambda: rig.parts.service.roster.pool_of(HOSTS[0])  # noqa: E731
            await until(heard, within=20.0)
        finally:
            stop = True
            await feeding


def test_what_no_disk_has_taken_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch)
    played.through(ev.Tick())

    def late() -> on.Ready:
        played.now += TELL_BEHIND_MS
        return played.take(ev.Tick(), at=played.now - BEHIND_MS - 1)

    def told(ready: on.Ready) -> list[type]:
        written = []
        while ready.write is not None:
            written += [type(each) for each in ready.write.alerts] if isinstance(ready.write, on.Commit) else []
            ready = played.committed()
        return written

    assert told(late()) == []
    ready = late()
    while not (isinstance(ready.write, on.Commit) and ready.write.alerts):
        ready = played.committed()
    played.failed()
    assert played.roster.stalled and not played.roster.told_behind
    played.now += RETRY_MS
    assert [*told(late()), *told(late()), *told(late())] == [effects.AlertRaised] and played.roster.told_behind
