"""``poolwarden lab demo --collectors 3``: break the collector that owns the pool, and follow all of them.

Exit status 0 means that exactly the story's outcome was observed (several_stories.py): by the collectors' journals, by
what they say of each other, by which of them each agent is heard, and, where a new master must serve, by every member.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import grpc

from poolwarden_collector.shell.config.certificates import CaError
from poolwarden_lab.demo.demo import STEP_LIMIT_S, XAPI_STALL_S, StoryFailed, check_followers, run_on_collector
from poolwarden_lab.demo.feed import Feed
from poolwarden_lab.demo.screen import Screen, stamp
from poolwarden_lab.demo.stories import Sign
from poolwarden_lab.processes.lab import World, WorldSettings
from poolwarden_lab.processes.network import NetworkError
from poolwarden_lab.processes.operator_link import Entry, OperatorLink, unready, wait_healthy

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as pb
    from poolwarden_lab.demo.several_stories import SeveralStory

_LOOKS_S = 0.1
# Of each taker's journal: what it adds to the last owner's.
_SHOWN = {
    "collector-started", "verdict", "decided", "claim-sent", "claimed", "proof", "promote-intent", "promoted",
    "member-back", "closed", "asked", "blocked", "alert", "fence-intent", "aborted", "agent-silent",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Heard:
    """An entry, and in whose journal it stands."""

    collector: str
    entry: Entry


class SeveralDemo:
    """One run of one story."""

    def __init__(self, world: WorldSettings, story: SeveralStory, keep: bool, screen: Screen) -> None:
        self._settings, self._story, self._keep, self._screen = world, story, keep, screen
        self._limit_s = STEP_LIMIT_S + 2 * XAPI_STALL_S / world.time_factor
        self._links: dict[str, OperatorLink] = {}
        self._feeds: dict[str, Feed] = {}
        self._heard: list[Heard] = []
        self._known: set[tuple[str, str, int, str]] = set()  # a taker's journal repeats what etcd has of the owner's
        self._news = asyncio.Event()
        self._began_ms = 0
        self._owner = self._taker = ""
        self._marks: list[tuple[str, int]] = []

    async def run(self) -> int:
        """Play it; the exit status."""
        world, outcome = World(self._settings), ""
        try:
            await self._begin(world)
            await self._play(world)
        except (StoryFailed, NetworkError, CaError, OSError, grpc.aio.AioRpcError) as failure:
            outcome = str(failure) or "a step took too long"
        finally:
            self._screen.close()
            for feed in self._feeds.values():
                await feed.stop()
            for link in self._links.values():
                await link.close()
            await world.stop(keep_home=self._keep)
        if outcome and self._keep:
            outcome += f" (logs and journals: {world.places.home})"
        self._screen.verdict(not outcome, outcome or self._story.outcome)
        return 1 if outcome else 0

    # -------------------------------------------------------------------------------- acts

    async def _begin(self, world: World) -> None:
        settings = self._settings
        self._screen.title(f"Poolwarden lab: {self._story.title}")
        self._screen.say(world.headline)
        for limitation in world.network.limitations():
            self._screen.say(f"without namespaces: {limitation}")
        self._screen.waiting(f"starting {settings.hosts} hosts, {settings.collectors} collectors and their etcd ...")
        await world.start(keep_home=self._keep)
        for node, target in zip(world.collectors, world.operator_targets, strict=True):
            self._links[node] = link = OperatorLink(target)
            self._feeds[node] = feed = Feed(link, partial(self._on_entry, node))
            feed.start()
        began = time.monotonic()
        first = next(iter(self._links.values()))
        await wait_healthy(first, settings.hosts, self._limit_s, world.hopeless)
        self._owner = await self._owner_of(first)
        self._screen.title(f"The pool is Healthy after {time.monotonic() - began:.1f} s; {self._owner} owns it")
        await self._show(first)

    async def _play(self, world: World) -> None:
        story = self._story
        before = await self._links[self._owner].pool()
        if before is None:
            raise StoryFailed(f"{self._owner} does not answer")
        self._screen.title(f"T+0.0: {story.title} ({self._owner})")
        self._began_ms = _now_ms()
        for kind in story.master:
            await world.fault(before.master_uuid, kind)
        if story.when:
            found = await self._sign(Sign(story.when, "the owner is in the middle of it"), self._owner)
            self._mark(f"until {self._owner} was in the middle of it", found.entry.mono_ms)
        fault_ms = await self._break(world)
        reached = await self._taken(world, fault_ms)
        for sign in story.must[1:]:
            found = await self._sign(sign, self._taker)
            self._mark(f"until {sign.what}", found.entry.mono_ms)
        await self._everybody_there(story.promotes)
        self._check(reached)
        after = await self._required(self._links[self._taker])
        self._screen.title(f"Now {self._taker} owns the pool, which is {after.verdict}")
        await self._show(self._links[self._taker])
        self._screen.bars("How long each phase took", self._marks)
        if story.promotes:
            await check_followers(world, self._screen, before, after)

    async def _break(self, world: World) -> int:
        """Do it to the owner; when."""
        others = [node for node in self._links if node != self._owner]
        at = _now_ms()
        if self._story.fault != "move":
            self._screen.say(f"{self._stamp()}  {self._owner}: {self._story.fault}")
            await world.fault(self._owner, self._story.fault)
            return at
        words = ["move", "lab", others[0]]
        self._screen.say(f"{self._stamp()}  $ poolwarden {' '.join(words)}")
        command = [sys.executable, "-m", "poolwarden_collector.cli.main", *words]
        code, output = await run_on_collector(world, command)
        self._screen.say(output.strip())
        if code != 0:
            raise StoryFailed(f"poolwarden move ended with {code}: {output.strip()}")
        return at

    async def _taken(self, world: World, fault_ms: int) -> Heard:
        """Until another collector owns the pool."""
        self._screen.waiting("waiting for: another collector owns the pool")
        taken = await self._sign(self._story.must[0], but=self._owner, since_ms=fault_ms)
        self._taker = taken.collector
        self._mark(f"until {self._taker} owned the pool", taken.entry.mono_ms)
        await self._everybody_there(promotes=self._story.promotes)
        self._mark("until it heard every agent that lives", _now_ms())
        if why := world.hopeless():
            raise StoryFailed(why)
        return taken

    async def _everybody_there(self, promotes: bool) -> None:
        """Until the taker hears every host that lives."""
        link, deadline, why = self._links[self._taker], time.monotonic() + self._limit_s, ""
        wanted = self._settings.hosts - len(self._story.master)
        while time.monotonic() < deadline:
            pool = await link.pool()
            heard = sum(host.agent_connected for host in pool.hosts) if pool is not None else 0
            if pool is not None and (heard >= wanted if promotes else not unready(pool, wanted)):
                return
            why = unready(pool, wanted) if pool is not None else f"{self._taker} does not answer"
            await asyncio.sleep(_LOOKS_S)
        raise StoryFailed(f"not every agent is heard after {self._limit_s:.0f} s: {why}")

    # -------------------------------------------------------------------------------- checks

    def _check(self, taken: Heard) -> None:
        kinds = [heard.entry.kind for heard in self._heard if heard.entry.mono_ms >= self._began_ms]
        if self._story.promotes and kinds.count("promoted") != 1:
            raise StoryFailed(f"not exactly one member was promoted, but {kinds.count('promoted')}")
        if self._story.fault == "move" and taken.collector != next(n for n in self._links if n != self._owner):
            raise StoryFailed(f"the pool went to {taken.collector}")
        handed = taken.entry.data.get("handed") is True
        if handed != self._story.handed:
            raise StoryFailed("the pool was handed over" if handed else "the pool was not handed over in order")

    async def _sign(self, sign: Sign, collector: str = "", but: str = "", since_ms: int = 0) -> Heard:
        """The first entry that matches, in this collector's journal or in anybody else's than ``but``'s."""
        deadline = time.monotonic() + self._limit_s
        while True:
            self._news.clear()
            for heard in self._heard:
                if heard.entry.mono_ms < max(self._began_ms, since_ms):
                    continue
                if heard.entry.kind in self._story.never:
                    what = f"{heard.entry.kind}: {heard.entry.text}"
                    raise StoryFailed(f"this must not happen in this story: {what}")
                if sign.matches(heard.entry) and collector in ("", heard.collector) and heard.collector != but:
                    return heard
            self._screen.waiting(f"waiting for: {sign.what} ({sign.kind})")
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await self._news.wait()
            except TimeoutError:
                raise StoryFailed(f"not seen within {self._limit_s:.0f} s: {sign.what} ({sign.kind})") from None

    async def _required(self, link: OperatorLink) -> pb.PoolStatus:
        pool = await link.pool()
        if pool is None:
            raise StoryFailed("the collector does not answer")
        return pool

    async def _owner_of(self, link: OperatorLink) -> str:
        reply = await link.collectors()
        owners = [each.asked.collector for each in reply.collectors if each.pools]
        if len(owners) != 1:
            raise StoryFailed(f"not exactly one collector owns the pool: {', '.join(owners) or 'none'}")
        return owners[0]

    # -------------------------------------------------------------------------------- telling

    def _on_entry(self, node: str, entry: Entry) -> None:
        if entry.collector not in ("", node):
            return  # each tells what the others have as well, as long as they answer
        what = (entry.kind, entry.text, entry.term, entry.failover)
        repeated = (entry.copied or entry.kind not in ("verdict", "agent-silent")) and what in self._known
        self._known.add(what)
        if repeated:
            return
        self._heard.append(Heard(node, entry))
        self._news.set()
        if self._began_ms and entry.mono_ms >= self._began_ms and entry.kind in _SHOWN:
            self._screen.say(f"{stamp(entry.mono_ms - self._began_ms)}  {node}  {entry.kind:<18} {entry.text}")

    def _mark(self, what: str, at_ms: int) -> None:
        before = self._began_ms + sum(ms for _, ms in self._marks)
        if at_ms > before:  # else it was there already when that which stands before it was seen
            self._marks.append((what, at_ms - before))

    def _stamp(self) -> str:
        return stamp(_now_ms() - self._began_ms)

    async def _show(self, link: OperatorLink) -> None:
        """The collectors, as one of them says."""
        reply = await link.collectors()
        rows = [
            (
                each.asked.collector,
                each.asked.address,
                "answers" if each.asked.answered else each.asked.why_not,
                ", ".join(pool.name or pool.pool_uuid for pool in each.pools) or "none",
                str(each.agents),
                each.right or "may act",
            )
            for each in reply.collectors
        ]
        self._screen.table(("collector", "address", "", "pools", "agents", ""), rows)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
