"""The stage of one story: the simulated world that its commands act on, its log, and what it found wrong.

Everything that a command needs goes through here, by the story's names. The world is made at ``start``; what comes
before only collects settings. After every event of the world the invariants are checked (by the world itself), then the
log is brought up to date, then moments that the story waits for are looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from poolwarden_collector.core.journal import Entry, Kind
from poolwarden_collector.core.orders import AlertRaised, Reply
from poolwarden_collector.core.policy import Policy
from poolwarden_collector.core.record import PoolRecord
from poolwarden_lab.simulation.ledger import Ledger
from poolwarden_lab.simulation.points import Point
from poolwarden_lab.simulation.world import Simulation
from poolwarden_lab.story.book import Book, Names
from poolwarden_lab.story.grammar import Cast
from poolwarden_lab.xapi.trees import VmSpec


class StoryFailed(Exception):
    """The story cannot go on: what it waited for did not come, or a command does not apply here."""


@dataclass
class Setup:
    """What stands before ``start``."""

    hosts: int = 3
    pool: str = "lab"
    vms: list[VmSpec] = field(default_factory=list)
    policy: dict[str, object] = field(default_factory=dict)
    devices: bool = True
    ha_armed: bool = False
    seed: int = 0
    log_with: set[str] = field(default_factory=set)
    log_without: set[str] = field(default_factory=set)


class Stage:
    """See the module's words. ``line`` is the story's line that is being done."""

    def __init__(self, cast: Cast | None = None) -> None:
        self.cast = cast or Cast()
        self.setup = Setup()
        self.line = 0
        self.problems: list[tuple[int, str]] = []
        self.points: list[Callable[[Point], bool]] = []
        self.after_each: list[Callable[[], None]] = []
        self.names = Names()
        self.last_reply: Reply | None = None
        self._world: Simulation | None = None
        self._book: Book | None = None
        self._seen = (0, 0)
        self._asked: list[str] = []
        self._chapter = 0
        self.events = 0
        self.told: set[int] = set()  # lines of repeated commands that stand in the log

    # ------------------------------------------------------------------------------------------ the world

    @property
    def world(self) -> Simulation:
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
        """Power on, start the collector, and wait until the pool is watched. The log begins here."""
        setup = self.setup
        policy = Policy(**setup.policy)  # type: ignore[arg-type]
        world = Simulation(setup.hosts, setup.seed, policy, setup.devices, setup.vms, setup.ha_armed)
        self._world = world
        for host in world.pool.hosts.values():
            self.names.addresses[host.address] = host.name
            for label in (f"{setup.pool}-{host.name}", host.uuid):
                self.names.learn(label, host.name)
        self._book = Book(self.names, setup.log_with, setup.log_without, self._vm_name)
        check = world.pool.after_event
        assert check is not None

        def after_event() -> None:
            check()
            self._follow()

        world.begin(settle)
        self._seen = (len(world.ledger.commits), len(world.pool.log))
        self._book.zero = world.now
        world.pool.after_event = after_event
        world.saboteur = self._at_point
        if world.shell is not None:
            world.shell.saboteur = self._at_point

    def index(self, host: str) -> int:
        """The world's number of a host."""
        return self.world.names.index(host) + 1

    def _vm_name(self, host: str, uuid: str) -> str:
        kills = self.world.pool.hosts[host].domains.kills
        return next((kill.name for kill in kills if kill.uuid == uuid), uuid)

    # ------------------------------------------------------------------------------------------ following

    def _follow(self) -> None:
        """Bring the log up to date after an event, then look at the moments waited for."""
        self.events += 1
        self.take_notes()
        for look in list(self.after_each):
            look()

    def take_notes(self) -> None:
        """Write down what has happened since the last time."""
        world, (commits, events) = self.world, self._seen
        ledger, log = world.ledger.commits, world.pool.log
        if commits > len(ledger):  # the journal was lost or restored
            commits = len(ledger)
        for commit in ledger[commits:]:
            self.book.commit(commit, self.setup.pool)
        for entry in log[events:]:
            self.book.event(entry, self.setup.pool, entry.host)
        self._seen = (len(ledger), len(log))
        for request in list(self._asked):
            reply = world.shell.replies.get(request) if world.shell is not None else None
            if reply is not None:
                self._asked.remove(request)
                self.last_reply = reply
                self.book.reply(world.now, reply)

    def _at_point(self, point: Point) -> bool:
        """Asked by the collector before and after each commit and each effect: does it die here?"""
        for look in list(self.points):
            look(point)
        shell = self.world.shell
        return shell is None or not shell.alive

    # ------------------------------------------------------------------------------------------ time

    def run(self, ms: int) -> None:
        self.world.run(ms)
        self.take_notes()

    def forget_moments(self) -> None:
        """Nothing that was arranged for later is done any more."""
        self.points.clear()
        self.after_each.clear()
        self._chapter += 1

    def run_until(self, condition: Callable[[], bool], limit_ms: int, what: str) -> None:
        """Raises StoryFailed if it does not come within the limit."""
        world = self.world
        try:
            world.pool.run_while(lambda: not condition(), world.now + limit_ms)
        except TimeoutError:
            raise StoryFailed(f"`{what}` did not come within {limit_ms / 1000:g} s") from None
        finally:
            self.take_notes()

    def later(self, delay: int, act: Callable[[], None]) -> None:
        """Do it after so many ms, unless the story forgets its moments before."""
        chapter = self._chapter

        def due() -> None:
            if chapter == self._chapter:
                act()

        self.world.at(self.world.now + delay, due)

    # ------------------------------------------------------------------------------------------ operators

    def say(self, verb: str, host: str, args: dict[str, str]) -> None:
        """An operator's command at the collector; its answer comes into the log, now or later."""
        world = self.world
        shell = world.shell
        if shell is None or not shell.alive:
            self.book.note(world.now, "answer", "no (unreachable): the collector does not answer")
            self.last_reply = Reply("", False, "the collector does not answer", "unreachable")
            return
        before = set(shell.replies)
        self.last_reply = None
        reply = world.say(verb, self.index(host) if host else 0, **args)
        request = reply.request_id if reply is not None else f"request-{world._requests}"
        if request not in before:
            self._asked.append(request)
        self.take_notes()

    # ------------------------------------------------------------------------------------------ looking

    def problem(self, why: str) -> None:
        """Something is not as the story expects it."""
        self.problems.append((self.line, why))
        if self._book is not None:
            self._book.note(self.world.now, "not as expected", f"line {self.line}: {why}")

    @property
    def ledger(self) -> Ledger:
        return self.world.ledger

    @property
    def record(self) -> PoolRecord:
        return self.world.record

    def entries(self, kind: Kind, since: int = 0) -> list[Entry]:
        """Journal entries of a kind since the log began (or since ms of the log)."""
        zero = self.book.zero + since
        return [e for c in self.ledger.commits if c.ms >= zero for e in c.entries if e.kind is kind]

    def alerts(self) -> list[AlertRaised]:
        """Alerts raised since the log began."""
        return [
            alert
            for commit in self.ledger.commits
            if commit.ms >= self.book.zero
            for alert in commit.alerts
            if isinstance(alert, AlertRaised)
        ]

    def open_alerts(self) -> list[AlertRaised]:
        """Alerts that are not over."""
        open_keys = self.record.open_alerts
        return [alert for alert in self.alerts() if alert.key in open_keys]

    def promotions(self) -> list[str]:
        """Hosts whose xapi was told to become master since the log began, in order."""
        return [entry.host for entry in self.world.pool.events("promote-call", since_ms=self.book.zero)]

    def killed(self) -> list[str]:
        """VMs that a xapi terminated; those that were migrated away do not count."""
        kills = [kill for host in self.world.pool.hosts.values() for kill in host.domains.kills]
        return [kill.name for kill in kills if kill.why != "migrated-away"]

    def vm_hosts(self, name: str) -> list[str]:
        """Where a VM of this name runs."""
        return [host.name for host in self.world.pool.hosts.values() if name in host.domains.domains().values()]
