"""A collector that is given many times what it can carry accuses nobody and acts on nobody, and says so once.

The shipped program behind real TLS. Its processor is bounded from outside: it is stopped and let go many times a second
(SIGSTOP, SIGCONT), so it has a tenth of a core at most, whatever else the machine does. The agents are played
(tests/bench).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_lab.processes.operator_link import OperatorLink

if TYPE_CHECKING:
    from tests.bench.scale_stage import Collector

AGENTS, POOL_SIZE = 120, 8
TURN_S, SHARE = 0.1, 0.05
OVERLOAD_S = 14.0  # past `vanished_after`: who were silent for so long would be acted on
INTERVAL_S = 0.2
HERD = 240
POLICY = {
    "report_interval": "1s", "suspect_after": "3s", "vanished_after": "7s", "quiet_time": "3s", "patience": "12s",
    "xapi_hung_after": "12s", "xapi_down_after": "10s",
}  # fmt: skip
ACCUSED = {"agent-silent", "decided", "power-reading", "fence-intent", "claim-sent", "promote-intent", "restart-intent"}


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "bench"))
    import scale_stage

    return scale_stage


@contextlib.asynccontextmanager
async def slowed(collector: Collector) -> AsyncIterator[None]:
    """It runs for a share of each turn only."""

    async def pace() -> None:
        try:
            while True:
                collector.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(TURN_S * (1 - SHARE))
                collector.process.send_signal(signal.SIGCONT)
                await asyncio.sleep(TURN_S * SHARE)
        finally:
            collector.process.send_signal(signal.SIGCONT)

    pacing = asyncio.ensure_future(pace())
    try:
        yield
    finally:
        pacing.cancel()
        await asyncio.gather(pacing, return_exceptions=True)


async def healthy(link: OperatorLink, limit_s: float) -> None:
    """Every pool is Healthy, every host heard, and the collector behind nothing."""
    said = "nothing"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while True:
                with contextlib.suppress(Exception):
                    reply = await link.status()
                    verdicts = Counter(pool.verdict for pool in reply.pools)
                    heard = sum(host.heard for pool in reply.pools for host in pool.hosts)
                    said = f"{dict(verdicts)}, {heard} heard, {reply.behind_ms} ms behind, {list(reply.warnings)}"
                    if verdicts == {"Healthy": AGENTS // POOL_SIZE} and heard == AGENTS and reply.behind_ms < 1_000:
                        return
                await asyncio.sleep(0.3)
    raise TimeoutError(f"not healthy within {limit_s:.0f} s: {said}")


def entries(state: Path, after: int) -> list[tuple[int, str, str, int]]:
    """Number, kind, text and instant of each."""
    asked = "SELECT seq, kind, text, mono_ms FROM entries WHERE seq > ? ORDER BY seq"
    with contextlib.closing(sqlite3.connect(state / "journal.db")) as db:
        return db.execute(asked, (after,)).fetchall()


def alerts(state: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(state / "journal.db")) as db:
        return [title for (title,) in db.execute("SELECT title FROM alerts")]


@pytest.mark.long
@pytest.mark.asyncio
async def test_ten_times_what_it_can_carry(stage: Any) -> None:
    site = stage.Site()
    site.configure(POLICY)
    collector = agents = None
    link = OperatorLink(site.target)
    try:
        collector = stage.Collector(site)
        await collector.listening()
        agents = stage.Agents(site, AGENTS, "--pool-size", str(POOL_SIZE), "--connect-per-s", "100")
        await agents.until(lambda said: said["heard"] == AGENTS, 90, "all are heard")
        await healthy(link, 60)
        before, sent = entries(site.state, 0)[-1][0], agents.state["sent"]
        agents.say(f"interval {INTERVAL_S}")
        async with slowed(collector):
            await asyncio.sleep(OVERLOAD_S)
            ended = time.monotonic_ns() // 1_000_000
            offered = (agents.state["sent"] - sent + agents.state["waiting"]) / OVERLOAD_S
        agents.say("interval 1")
        await healthy(link, 90)
        found = entries(site.state, before)
        those = [each for each in found if each[1] in ACCUSED or _dark(each[1], each[2])]
        accused = [(kind, text, f"{at - ended} ms after its end") for _, kind, text, at in those]
        print(
            json.dumps({"offered a second": offered, "kinds": Counter(kind for _, kind, _, _ in found)}),
            file=sys.stderr,
        )
        assert not accused, "\n".join(map(str, accused[:40]))
        raised = alerts(site.state)
        assert sum("behind what it hears" in title for title in raised) == 1, raised
        assert not any("silent" in title or "dark" in title or "blind" in title for title in raised), raised
    finally:
        await link.close()
        if agents is not None:
            await agents.end()
        if collector is not None:
            collector.stop()
        site.remove()


def _dark(kind: str, text: str) -> bool:
    return kind == "verdict" and not text.startswith("Healthy")


async def _answered_within(target: str, limit_s: float, over: asyncio.Event) -> list[float]:
    """How long each answer to an operator took, one question after the other until it is over, s."""
    took: list[float] = []
    async with grpc.aio.insecure_channel(target) as channel:
        while not over.is_set():
            began = time.monotonic()
            await rpc.OperatorStub(channel).Status(pb.StatusRequest(overview=True), timeout=limit_s)
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.2)
    return took


@pytest.mark.long
@pytest.mark.asyncio
async def test_more_agents_than_it_can_let_in(stage: Any) -> None:
    """A herd comes to a collector that carries some already: nobody is cut, nobody accused, operators are answered."""
    site = stage.Site()
    site.configure(POLICY)
    collector = agents = herd = None
    link = OperatorLink(site.target)
    try:
        collector = stage.Collector(site)
        await collector.listening()
        agents = stage.Agents(site, AGENTS, "--pool-size", str(POOL_SIZE), "--connect-per-s", "100")
        await agents.until(lambda said: said["heard"] == AGENTS, 90, "all are heard")
        await healthy(link, 60)
        before, over = entries(site.state, 0)[-1][0], asyncio.Event()
        agents.say(f"interval {INTERVAL_S}")
        async with slowed(collector):
            first = AGENTS // POOL_SIZE + 1
            herd = stage.Agents(site, HERD, "--first-pool", str(first), "--connect-per-s", "200")
            asking = asyncio.ensure_future(_answered_within(site.target, 60, over))
            await asyncio.sleep(OVERLOAD_S)
            over.set()
            took, up = await asking, herd.state["up"]
        agents.say("interval 1")
        await herd.until(lambda said: said["heard"] == HERD, 120, "all of the herd are let in")
        cut = {why: count for why, count in herd.state["why"].items() if count}
        print(json.dumps({"up": up, "cut": cut, "answers": len(took), "longest": max(took)}), file=sys.stderr)
        found = entries(site.state, before)
        own = [each for each in found if each[1] in ACCUSED]
        assert not own, "\n".join(map(str, own[:40]))
        assert took, "an operator is answered by a collector that has a twentieth of a core"
        assert not any("closed" in why for why in cut), f"connections that wait were shut: {cut}"
    finally:
        await link.close()
        for each in (herd, agents):
            if each is not None:
                await each.end()
        if collector is not None:
            collector.stop()
        site.remove()
