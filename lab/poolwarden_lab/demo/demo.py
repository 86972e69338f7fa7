"""``poolwarden lab demo``: build a pool, break its master, follow what the collector does, and judge it.

Exit status 0 means that exactly the story's outcome was observed (`stories`), and, where a new master must serve,
that a stock XenAPI client sees it too. Every step has a limit; whatever happens, the world is taken down at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from poolwarden_collector.shell.config.certificates import CaError
from poolwarden_lab.demo.feed import Feed
from poolwarden_lab.demo.page_door import USER, PageDoor
from poolwarden_lab.demo.screen import Screen, stamp
from poolwarden_lab.demo.stories import Sign, Story, judge, phases
from poolwarden_lab.processes.lab import World, WorldSettings
from poolwarden_lab.processes.network import COLLECTOR, NetworkError
from poolwarden_lab.processes.operator_link import OperatorLink, wait_healthy

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as pb
    from poolwarden_lab.processes.operator_link import Entry
    from poolwarden_lab.processes.webhook import Delivery

STEP_LIMIT_S = 120.0  # and twice xapi's longest stall, a connect to a dead address (127 s by xapi's own clock)
XAPI_STALL_S = 127.0
DELIVERY_LIMIT_S = 15.0
OPENED_WITHIN_S = 20.0  # a person opens the page and signs in


class StoryFailed(Exception):
    """The story did not end as it must; the text is the plain reason."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """``extra_faults`` are done to the master before the story's own: a story that they spoil must fail."""

    world: WorldSettings
    story: Story
    extra_faults: tuple[str, ...] = ()
    json_file: Path | None = None
    keep: bool = False
    page: bool = False  # it is shown to a browser too, until Ctrl-C


class Demo:
    """One run of one story."""

    def __init__(self, settings: DemoSettings, screen: Screen) -> None:
        self._settings, self._screen = settings, screen
        self._story = settings.story
        self._limit_s = STEP_LIMIT_S + 2 * XAPI_STALL_S / settings.world.time_factor
        self._fault_ms = 0

    async def run(self) -> int:
        """Play it; the exit status."""
        world = World(self._settings.world)
        link, outcome = OperatorLink(world.operator_target), ""
        feed, door = Feed(link, self._on_entry), PageDoor(world)
        try:
            await self._begin(world, link, feed)
            if self._settings.page:
                await self._open(door)
            await self._play(world, link, feed)
            if self._settings.page:
                await self._stay(door)
        except (StoryFailed, NetworkError, CaError, OSError, grpc.aio.AioRpcError) as failure:
            outcome = str(failure) or "a step took too long"
        finally:
            self._screen.close()
            await self._save(world, feed, outcome)
            await feed.stop()
            await door.close()
            await link.close()
            await world.stop(keep_home=self._settings.keep)
        if outcome and self._settings.keep:
            outcome += f" (logs and journal: {world.places.home})"
        self._screen.verdict(not outcome, outcome or self._story.outcome)
        return 1 if outcome else 0

    # -------------------------------------------------------------------------------- acts

    async def _open(self, door: PageDoor) -> None:
        """Say where the page is, and give whoever opens it the time to do so."""
        await door.open()
        self._screen.title(f"The page: {door.address}")
        self._screen.say(f"user {USER}, password {door.password}; the certificate is the lab's own: accept it")
        self._screen.waiting(f"the master dies in {OPENED_WITHIN_S:.0f} s")
        await asyncio.sleep(OPENED_WITHIN_S)

    async def _stay(self, door: PageDoor) -> None:
        """Until Ctrl-C, which ends the demo as its story has ended."""
        self._screen.title(f"The page stays at {door.address}; Ctrl-C ends it")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async def _begin(self, world: World, link: OperatorLink, feed: Feed) -> None:
        settings = self._settings.world
        self._screen.title(f"Poolwarden lab: {self._story.title}")
        self._screen.say(world.headline)
        for limitation in world.network.limitations():
            self._screen.say(f"without namespaces: {limitation}")
        self._screen.waiting(f"starting {settings.hosts} hosts, their BMCs and the collector ...")
        await world.start(keep_home=self._settings.keep)
        feed.start()
        began = time.monotonic()
        pool = await wait_healthy(link, settings.hosts, self._limit_s, world.hopeless)
        self._screen.title(f"The pool is {pool.verdict} after {time.monotonic() - began:.1f} s")
        self._show_pool(pool)

    async def _play(self, world: World, link: OperatorLink, feed: Feed) -> None:
        before = await self._required_pool(link)
        master = world.machine(before.master_uuid)
        for kind in self._settings.extra_faults:
            await world.fault(master.host.uuid, kind)
        self._screen.title(f"T+0.0: {self._story.title} ({before.master_name}, {before.master_address})")
        self._fault_ms = time.monotonic_ns() // 1_000_000
        for kind in self._story.faults:
            await world.fault(master.host.uuid, kind)
        await self._follow(world, feed, before)
        await self._watch(feed)
        deliveries = await self._alerts(world)
        after = await self._required_pool(link)
        self._screen.title(f"Now the pool is {after.verdict}")
        self._show_pool(after)
        self._show_deliveries(deliveries)
        if self._story.heals:
            await self._check_healed(world, before, after, feed)
        elif after.master_uuid not in ("", before.master_uuid):
            raise StoryFailed(f"{after.master_name} is master now, and nobody was to be promoted")
        took = phases(self._story, feed.since(self._fault_ms), self._fault_ms)
        self._screen.bars("How long each phase took", took)
        if self._story.heals:
            self._screen.say(f"the new master: {after.master_name}, {after.master_address}")
        await self._check_history(link, feed)

    async def _follow(self, world: World, feed: Feed, before: pb.PoolStatus) -> None:
        """Until the story's last sign; each sign within its limit."""
        reacted, deadline = 0, time.monotonic() + self._limit_s
        while True:
            progress = judge(self._story, feed.since(self._fault_ms))
            if progress.broken:
                raise StoryFailed(progress.broken)
            for sign in progress.seen[reacted:]:
                deadline = time.monotonic() + self._limit_s
                await self._react(world, sign, before)
            reacted = len(progress.seen)
            if not progress.missing:
                return
            sign = progress.missing[0]
            self._screen.waiting(f"waiting for: {sign.what} ({sign.kind})")
            if not await feed.wait(max(0.0, deadline - time.monotonic())):
                raise StoryFailed(f"not seen within {self._limit_s:.0f} s: {sign.what} ({sign.kind})")

    async def _react(self, world: World, sign: Sign, before: pb.PoolStatus) -> None:
        if sign.reaction == "thaw":
            await world.fault(before.master_uuid, "thaw")
            self._screen.say(f"{self._now()}  the master runs on (SIGCONT)")
        elif sign.reaction == "confirm-fenced":
            await self._confirm(world, before.master_name)

    async def _confirm(self, world: World, name: str) -> None:
        """As an operator would, by the real command line."""
        words = ["confirm-fenced", name, "--name", name, "--how", "pulled both power cords"]
        command = [sys.executable, "-m", "poolwarden_collector.cli.main", *words]
        self._screen.say(f"{self._now()}  $ poolwarden confirm-fenced {name}")
        code, output = await run_on_collector(world, command)
        self._screen.say(output.strip())
        if code != 0:
            raise StoryFailed(f"poolwarden confirm-fenced ended with {code}: {output.strip()}")

    async def _watch(self, feed: Feed) -> None:
        """For a while nothing forbidden may appear."""
        deadline = time.monotonic() + self._story.watch_s
        while (left := deadline - time.monotonic()) > 0:
            self._screen.waiting(f"watching for {left:.0f} s more that nobody is promoted")
            await feed.wait(min(left, 1.0))
            broken = judge(self._story, feed.since(self._fault_ms)).broken
            if broken:
                raise StoryFailed(broken)

    async def _alerts(self, world: World) -> list[Delivery]:
        """What the webhook received since the fault; waits for the one that the story needs."""
        deadline = time.monotonic() + DELIVERY_LIMIT_S
        while True:
            since = [item for item in world.webhook.deliveries if item.mono_ms >= self._fault_ms]
            wanted = [item for item in since if _is_wanted(item, self._story.alert)]
            if wanted or not self._story.alert:
                return since
            if time.monotonic() > deadline:
                raise StoryFailed(f"the webhook has not received the alert within {DELIVERY_LIMIT_S:.0f} s")
            await asyncio.sleep(0.1)

    # -------------------------------------------------------------------------------- checks

    async def _required_pool(self, link: OperatorLink) -> pb.PoolStatus:
        pool = await link.pool()
        if pool is None:
            raise StoryFailed("the collector does not answer")
        return pool

    async def _check_healed(self, world: World, before: pb.PoolStatus, after: pb.PoolStatus, feed: Feed) -> None:
        """One verified master, not the old one, and every member follows it: by status and by a stock XenAPI client."""
        promoted = [entry for entry in feed.since(self._fault_ms) if entry.kind == "promoted"]
        if len(promoted) != 1 or not after.master_uuid or after.master_uuid == before.master_uuid:
            raise StoryFailed(
                f"not exactly one new master: {len(promoted)} promoted, {after.master_name or 'none'} verified"
            )
        await check_followers(world, self._screen, before, after)

    async def _check_history(self, link: OperatorLink, feed: Feed) -> None:
        """What was shown is what ``history`` says."""
        history = {entry.seq: entry.text for entry in await link.history()}
        differing = [entry for entry in feed.entries if history.get(entry.seq) != entry.text]
        if differing:
            raise StoryFailed(f"history does not contain what was shown: {differing[0].text}")

    # -------------------------------------------------------------------------------- telling

    def _now(self) -> str:
        return stamp(time.monotonic_ns() // 1_000_000 - self._fault_ms)

    def _on_entry(self, entry: Entry) -> None:
        if not self._fault_ms or entry.mono_ms < self._fault_ms:
            return
        self._screen.entry(entry.mono_ms - self._fault_ms, entry)
        if any(sign.matches(entry) for sign in self._story.must if sign.kind == "verdict"):
            for line in entry.data.get("evidence", ()):
                self._screen.say(_say_evidence(line))

    def _show_pool(self, pool: pb.PoolStatus) -> None:
        header = ("host", "role", "address", "agent", "xapi", "power", "fence device", "VMs")
        rows = [
            (
                host.name,
                host.role,
                host.address,
                "connected" if host.agent_connected else f"silent {host.agent_age_ms / 1000:.0f} s",
                host.xapi,
                host.power,
                host.fence_device,
                str(host.running_vms) if host.running_vms_known else "unknown",
            )
            for host in pool.hosts
        ]
        self._screen.table(header, rows)
        for owed in pool.owed:
            self._screen.say(f"pending: {owed}")

    def _show_deliveries(self, deliveries: list[Delivery]) -> None:
        if not deliveries:
            return
        self._screen.title("Alerts that the webhook received")
        for item in deliveries:
            state = item.payload.get("state", "")
            when = stamp(item.mono_ms - self._fault_ms)
            self._screen.say(
                f"{when}  {item.status}  {item.payload.get('severity', '')} {state}: {item.payload.get('title', '')}"
            )

    async def _save(self, world: World, feed: Feed, outcome: str) -> None:
        if self._settings.json_file is None:
            return
        content: dict[str, Any] = {
            "story": self._story.name,
            "ok": not outcome,
            "reason": outcome,
            "policy": world.headline,
            "fault_mono_ms": self._fault_ms,
            "entries": [entry.as_json() for entry in feed.entries],
            "deliveries": [
                {"key": item.key, "status": item.status, **item.payload} for item in world.webhook.deliveries
            ],
        }
        self._settings.json_file.write_text(json.dumps(content, indent=1) + "\n")


async def check_followers(world: World, screen: Screen, before: pb.PoolStatus, after: pb.PoolStatus) -> None:
    """A stock XenAPI client sees one master, the verified one, whom every survivor follows. Raises StoryFailed."""
    survivors = [m.host.address for m in world.machines if m.host.uuid != before.master_uuid]
    tls = ["--tls"] if world.settings.https_only else []
    command = [sys.executable, "-m", "poolwarden_lab.processes.xenapi_view", *tls, *survivors]
    code, output = await run_on_collector(world, command)
    views = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    if code != 0 or len(views) != len(survivors):
        raise StoryFailed(f"the XenAPI client failed: {output.strip()}")
    screen.title("What a stock XenAPI client sees")
    for view in views:
        screen.say(_say_view(view))
        expected = "master" if view["address"] == after.master_address else "HOST_IS_SLAVE"
        if view["answer"] != expected or view["master"] != after.master_address:
            raise StoryFailed(f"{view['address']} answers {view['answer']} {view['master']}, not {expected}")


def _is_wanted(delivery: Delivery, alert: str) -> bool:
    if delivery.status != 200:
        return False
    return alert != "master" or bool(delivery.payload.get("data", {}).get("new_master"))


def _say_evidence(line: dict[str, Any]) -> str:
    """One witness's word, as the verdict's journal entry has it."""
    age = "" if line.get("age_ms") is None else f", {line['age_ms'] / 1000:.1f} s ago"
    return f"  {line['subject']}: {line['value']}{age} (seen by {line['witness']}): {line['text']}"


def _say_view(view: dict[str, Any]) -> str:
    if view["answer"] == "master":
        hosts = ", ".join(f"{h['name']} {'enabled' if h['enabled'] else 'disabled'}" for h in view["hosts"])
        return f"{view['address']}: pool.get_master is {view['master']}; {hosts}"
    return f"{view['address']}: {view['answer']} {view['master']}"


async def run_on_collector(world: World, command: list[str]) -> tuple[int, str]:
    words, environment, directory = world.command_on(COLLECTOR, command)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=directory,
    )
    output, _ = await asyncio.wait_for(process.communicate(), STEP_LIMIT_S)
    return process.returncode or 0, output.decode("utf-8", "replace")
