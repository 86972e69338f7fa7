"""The stage of one story: the simulated world that its commands act on, its log, and what it found wrong.

Everything that a command needs goes through here, by the story's names. The world is made at ``start``; what comes
before only collects settings. After every event of the world the invariants are checked (by the world itself), then the
log is brought up to date, then moments that the story waits for are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from poolwarden_collector.cli.layout import as_text
from poolwarden_collector.cli.pages.pools import pool_page
from poolwarden_collector.core.model.effects import AlertRaised, Reply
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.report.status import status
from poolwarden_collector.shell.operators import replies as messages
from poolwarden_lab.story.book import Book, Names
from poolwarden_lab.story.grammar import Cast
from poolwarden_lab.story.mark import Mark, mark
from poolwarden_lab.virtual.checks.invariants import InvariantBroken
from poolwarden_lab.virtual.collector.ledger import Commit
from poolwarden_lab.virtual.collector.points import Point
from poolwarden_lab.virtual.world.guarded import GuardedPool
from poolwarden_lab.virtual.world.pool import World
from poolwarden_lab.virtual.world.spec import BMC, PoolSpec
from poolwarden_lab.xapi.trees import VmSpec

STATUS_WIDTH = 400  # no line of it is wrapped


class StoryFailed(Exception):
    """The story cannot go on: what it waited for did not come, or a command does not apply here."""


@dataclass
class Draft:
    """One pool before the start."""

    name: str
    hosts: int
    site: str = ""
    vms: list[VmSpec] = field(default_factory=list)
    policy: dict[str, Any] = field(default_factory=dict)
    devices: list[str] = field(default_factory=lambda: [BMC])
    ha_armed: bool = False
    absent: list[str] = field(default_factory=list)
    gated: bool = True
    full_stops: bool = False
    https_only: list[str] = field(default_factory=list)
    mute: list[str] = field(default_factory=list)
    enclosures: list[list[str]] = field(default_factory=list)
    managers: list[list[str]] = field(default_factory=list)
    failed: dict[str, list[str]] = field(default_factory=dict)
    runners: list[str] | None = None  # members that run its fence agents; None: the collector does

    def spec(self) -> PoolSpec:
        """The pool as the world takes it. Raises PolicyError."""
        return PoolSpec(
            self.name,
            self.hosts,
            self.vms,
            Policy(**self.policy),
            self.site,
            self.devices,
            self.ha_armed,
            self.absent,
            self.gated,
            self.full_stops,
            https_only=self.https_only,
            mute=self.mute,
            enclosures=self.enclosures,
            managers=self.managers,
            failed=self.failed,
            runners=self.runners,
        )


@dataclass
class Setup:
    """What stands before ``start``."""

    pools: dict[str, Draft] = field(default_factory=dict)
    seed: int = 0
    collectors: int = 0  # so many over etcd; 0: one alone
    log_with: set[str] = field(default_factory=set)
    log_without: set[str] = field(default_factory=set)


@dataclass
class Read:
    """How far each source of the log has been read."""

    commits: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    happenings: int = 0
    replies: int = 0


class Stage:
    """See the module's words. ``line`` is the story's line that is being done."""

    def __init__(self, cast: Cast | None = None) -> None:
        self.cast = cast or Cast()
        self.setup = Setup()
        self.line = 0
        self.problems: list[tuple[int, str]] = []
        self.points: list[Callable[[Point], bool]] = []
        self.after_each: list[Callable[[], None]] = []
        self.beside: Callable[[], None] | None = None  # looks on after each event, whatever moments the story forgets
        self.names = Names()
        self.events = 0
        self.told: set[int] = set()  # lines of repeated commands that stand in the log
        self.since = Mark()  # how far signs look back
        self._mark = self._began = Mark()
        self._world: World | None = None
        self._book: Book | None = None
        self._read = Read()
        self._chapter = 0

    # ------------------------------------------------------------------------------------------ the world

    @property
    def world(self) -> World:
        if self._world is None:
            raise StoryFailed("the pool has not been started: write `start` before this")
        return self._world

    @property
    def started(self) -> bool:
        return self._world is not None

    @property
    def book(self) -> Book:
        assert self._book is not None
        return self._book

    @property
    def now(self) -> int:
        """Milliseconds since the log began."""
        return self.world.now - self.book.zero if self.started else 0

    def start(self, settle: bool) -> None:
        """Power on, start the collector, and wait until the pools are watched. The log begins here."""
        specs = [draft.spec() for draft in self.setup.pools.values()]
        world = self._world = World(specs, self.setup.seed, collectors=self.setup.collectors)
        self._learn_names(world)
        self._book = Book(self.names, self.setup.log_with, self.setup.log_without, self._vm_name)
        check = world.clock.after_event
        assert check is not None

        def after_event() -> None:
            check()
            self._follow()

        try:
            world.begin(settle)
        except InvariantBroken:
            raise
        except AssertionError:
            verdicts = ", ".join(sorted({pool.verdict for pool in world.pools.values()}))
            raise StoryFailed(f"not every pool was Healthy and watched within 3 min: {verdicts}") from None
        if settle:
            self._skip()
            self._book.zero = world.now
        world.clock.after_event = after_event
        self._began = self.since = mark(world, 0) if settle else Mark()
        self.watch_collectors()

    def _learn_names(self, world: World) -> None:
        self.names.several_pools = len(world.pools) > 1
        for pool in world.pools.values():
            for name, host in pool.pool.hosts.items():
                self.names.addresses[host.address] = name
                self.names.learn(f"{pool.name}-{name.rsplit('/', 1)[-1]}", name)
                self.names.learn(host.uuid, name)

    def watch_collectors(self) -> None:
        """Moments see every collector's steps, those of one that is started later too."""
        for node, station in self.world.stations.items():
            station.saboteur = partial(self._at_point, node)
            if station.shell is not None:
                station.shell.saboteur = station.saboteur

    def _vm_name(self, host: str, uuid: str) -> str:
        kills = self.world.find(host).pool.pool.hosts[host].domains.kills
        return next((kill.name for kill in kills if kill.uuid == uuid), uuid)

    # ------------------------------------------------------------------------------------------ following

    def _follow(self) -> None:
        """Bring the log up to date after an event, then look at the moments waited for."""
        self.events += 1
        self.take_notes()
        for look in list(self.after_each):
            look()
        if self.beside is not None:
            self.beside()

    def _skip(self) -> None:
        """What has been written so far is not of the story."""
        world, read = self.world, self._read
        read.commits = {node: len(station.ledger.commits) for node, station in world.stations.items()}
        read.events = {name: len(pool.pool.log) for name, pool in world.pools.items()}
        read.happenings, read.replies = len(world.happenings), len(world.replied)

    def skip_copied(self, node: str) -> None:
        """What stands in a collector's journal already was written by another one, and is in the log."""
        self._read.commits[node] = len(self.world.stations[node].ledger.commits)

    def take_notes(self) -> None:
        """Write down what has happened since the last time."""
        world, read, book = self.world, self._read, self.book
        for node, station in world.stations.items():
            commits = station.ledger.commits
            for commit in commits[min(read.commits.get(node, 0), len(commits)) :]:
                book.commit(commit, self.pool_name(commit.pool), "" if len(world.stations) == 1 else node)
            read.commits[node] = len(commits)
        for ms, source, text in world.happenings[read.happenings :]:
            book.note(ms, source, text)
        for name, pool in world.pools.items():
            for entry in pool.pool.log[read.events.get(name, 0) :]:
                book.event(entry, name, entry.host)
            read.events[name] = len(pool.pool.log)
        for ms, node, reply in world.replied[read.replies :]:
            book.reply(ms, reply, "" if len(world.stations) == 1 else node)
        read.happenings, read.replies = len(world.happenings), len(world.replied)

    def _at_point(self, node: str, point: Point) -> bool:
        """Asked by a collector before and after each commit and each effect: does it die here?"""
        for look in list(self.points):
            look(point)
        return not self.world.stations[node].runs

    # ------------------------------------------------------------------------------------------ time

    def run(self, ms: int) -> None:
        self.world.run(ms)
        self.take_notes()

    def run_until(self, condition: Callable[[], bool], limit_ms: int) -> bool:
        """Whether it came within the limit."""
        clock = self.world.clock
        ends = clock.now + limit_ms
        while not condition():
            due = clock.next_due
            if due is None or due > ends:
                clock.now = max(clock.now, ends)
                return False
            clock.step()
        return True

    def forget_moments(self) -> None:
        """Nothing that was arranged for later is done any more."""
        self.points.clear()
        self.after_each.clear()
        self._chapter += 1

    def later(self, delay: int, act: Callable[[], None]) -> None:
        """Do it after so many ms, unless the story forgets its moments before."""
        chapter = self._chapter

        def due() -> None:
            if chapter == self._chapter:
                act()

        self.world.at(self.world.now + delay, due)

    # ------------------------------------------------------------------------------------------ operators

    @property
    def last_reply(self) -> Reply | None:
        """What an operator was answered last."""
        return self.world.replied[-1][2] if self.world.replied else None

    def say(self, verb: str, host: str, pool: str, args: dict[str, str], node: str = "") -> None:
        """An operator's command at a collector, the pool's unless said; its answer comes into the log, now or later."""
        world = self.world
        node = node or self.guardian(world.find(host).pool if host else world.of(pool))
        shell = world.stations[node].shell
        if shell is None or not shell.alive:
            world.replied.append((world.now, node, Reply("", False, "the collector does not answer", "unreachable")))
        else:
            world.say(verb, host, pool, node, **args)
        self.take_notes()
        if self.beside is not None:
            self.beside()

    # ------------------------------------------------------------------------------------------ looking

    def set_mark(self) -> None:
        """Signs ``since mark`` look back to this place."""
        self.take_notes()
        self._mark = mark(self.world, len(self.book.notes))

    @contextmanager
    def looking_back(self, to_mark: bool) -> Iterator[None]:
        """Within it signs look back to the mark, or to the log's beginning."""
        self.since = self._mark if to_mark else self._began
        try:
            yield
        finally:
            self.since = self._began

    def guardian(self, pool: GuardedPool) -> str:
        """The node of the collector that guards this pool; of one that nobody guards the first one's."""
        shell = pool.shell
        return shell.node if shell is not None else next(iter(self.world.stations))

    def status(self, pool: GuardedPool, node: str = "") -> list[str]:
        """What `poolwarden status POOL` would print now, line by line; nothing where no collector runs."""
        node = node or self.guardian(pool)
        shell = self.world.stations[node].shell
        if shell is None or not shell.alive or pool.uuid not in shell.pools:
            return []
        value = status(shell.pools[pool.uuid], self.world.now, shell.site(pool.uuid))
        text = as_text(pool_page(messages.pool_status(value)), STATUS_WIDTH)
        return [self.names.of(line) for line in text.splitlines()]

    def problem(self, why: str) -> None:
        """Something is not as the story expects it."""
        self.problems.append((self.line, why))
        if self._book is not None:
            self._book.note(self.world.now, "not as expected", f"line {self.line}: {why}")

    def pool_name(self, uuid: str) -> str:
        return next((pool.name for pool in self.world.pools.values() if pool.uuid == uuid), uuid)

    def _commits(self, pool: GuardedPool) -> Iterator[Commit]:
        """A pool's transactions of every collector, since then."""
        for node, station in self.world.stations.items():
            for commit in self.since.since(node, station.ledger.commits):
                if commit.ms >= self.book.zero and commit.pool == pool.uuid:
                    yield commit

    def entries(self, pool: GuardedPool, kind: Kind) -> list[Entry]:
        """A pool's journal entries of a kind since the log began, in every collector's journal."""
        return [entry for commit in self._commits(pool) for entry in commit.entries if entry.kind is kind]

    def alerts(self, pool: GuardedPool) -> list[AlertRaised]:
        """Alerts of a pool that were raised since the log began."""
        return [alert for commit in self._commits(pool) for alert in commit.alerts if isinstance(alert, AlertRaised)]

    def open_alerts(self, pool: GuardedPool) -> list[AlertRaised]:
        """Alerts that are not over."""
        open_keys = pool.record.open_alerts
        return [alert for alert in self.alerts(pool) if alert.key in open_keys]

    def promotions(self, pool: GuardedPool) -> list[str]:
        """Hosts whose xapi was told to become master since the log began, in order."""
        log = pool.pool.log[self.since.events.get(pool.name, 0) :]
        return [entry.host for entry in log if entry.event.name == "promote-call"]

    def shots(self, pool: GuardedPool) -> list[str]:
        """Devices that were asked to switch off, by device."""
        asked = self.since.asked
        logs = [(bmc.device, bmc.log[asked.get(name, 0) :]) for name, bmc in pool.bmcs.items()]
        return [device for device, log in logs for _, verb, _ in log if verb == "off"]

    def killed(self, pool: GuardedPool) -> list[str]:
        """VMs that a xapi terminated; those that were migrated away do not count."""
        before = self.since.kills
        kills = [kill for host in pool.pool.hosts.values() for kill in host.domains.kills[before.get(host.name, 0) :]]
        return [kill.name for kill in kills if kill.why != "migrated-away"]

    def pool_of_vm(self, vm: str) -> str:
        """The pool that this VM was given to, or runs in."""
        for name, draft in self.setup.pools.items():
            if any(spec.name == vm for spec in draft.vms):
                return name
        for pool in self.world.pools.values():
            if any(vm in host.domains.domains().values() for host in pool.pool.hosts.values()):
                return pool.name
        return next(iter(self.world.pools))
