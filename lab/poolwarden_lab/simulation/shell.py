"""The collector's shell in virtual time: one process, killed at any point, rebuilt from its ledger.

The loop is the production shell's: event, ``engine.step``, one durable commit, and only then the effects. Streams speak
bytes through the production ``StreamState``. Timers: a Tick each 250 ms, the collector's own probe at the pool's probe
interval. A power command that was started outlives the collector, as a child process does; its result does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core import events as ev
from poolwarden_collector.core import orders as out
from poolwarden_collector.core.engine import Outcome, step
from poolwarden_collector.core.facts import FenceDevice, HostId, PowerReading, ProbeOutcome
from poolwarden_collector.core.journal import Entry, Kind
from poolwarden_collector.core.live import Pool, Site
from poolwarden_collector.core.policy import Policy
from poolwarden_collector.core.record import PoolRecord, fold
from poolwarden_collector.shell import wire_orders
from poolwarden_collector.shell.handover import Handovers
from poolwarden_collector.shell.translate import StreamState
from poolwarden_lab.simulation.bmc import SimBmc
from poolwarden_lab.simulation.ledger import Commit, Ledger
from poolwarden_lab.simulation.points import CollectorKilled, Point, Saboteur, nobody
from poolwarden_lab.simulation.streams import Stream

TICK_MS = 250
LOGGED_OUT = "collector is down"


class Surroundings(Protocol):
    """What a collector process finds around it."""

    @property
    def now(self) -> int: ...
    def at(self, ms: int, act: Callable[[], None]) -> None: ...
    def bmc(self, device: str) -> SimBmc: ...
    def bmc_reached(self, device: str) -> bool: ...
    def probe_from_collector(self, address: str, timeout_ms: int) -> ProbeOutcome: ...
    def performed(self, shell: SimShell, pool: str, effect: out.Effect) -> None: ...
    def committed(self, shell: SimShell, commit: Commit) -> None: ...
    def collector_killed(self, shell: SimShell) -> None: ...


@dataclass
class Counters:
    """Points reached by all collectors of one run."""

    commits: int = 0
    effects: int = 0


@dataclass
class Line:
    """One accepted stream."""

    stream: Stream
    state: StreamState
    pool: str = ""
    challenged: int = 0


@dataclass
class Settings:
    """What a configuration file would say."""

    policy: Policy
    devices: dict[HostId, tuple[FenceDevice, ...]] = field(default_factory=dict)
    name: str = "collector"


class SimShell:
    """One collector process, from its start to its end."""

    def __init__(
        self,
        world: Surroundings,
        ledger: Ledger,
        settings: Settings,
        counters: Counters,
        saboteur: Saboteur = nobody,
    ) -> None:
        self.world = world
        self.ledger = ledger
        self.settings = settings
        self.saboteur = saboteur
        self.counters = counters
        self.alive = True
        self.started_at = world.now
        self.pools: dict[str, Pool] = {}
        self.replies: dict[str, out.Reply] = {}
        self.refused_commits = 0
        self.anchors: tuple[bool, ...] = ()
        self._lines: dict[HostId, Line] = {}
        self._own_target: dict[str, out.Target] = {}
        self._handovers: dict[str, Handovers] = {}
        ledger.epoch += 1
        self.epoch = ledger.epoch

    # ------------------------------------------------------------------------------------------ life

    def start(self) -> None:
        """Fold every pool from the ledger, and begin to tick."""
        with self._mortal():
            for pool in self.ledger.pools():
                record = fold(PoolRecord(pool), self.ledger.entries(pool))
                self.pools[pool] = Pool(record, self.settings.policy, self.settings.devices)
                self._first_entry(pool, Kind.COLLECTOR_STARTED, f"collector started with epoch {self.epoch}")
        self._later(TICK_MS, self._tick)
        self._later(self.settings.policy.probe_interval, self._probe)

    def die(self) -> None:
        """SIGKILL: every stream is reset, nothing runs on."""
        if not self.alive:
            return
        self.alive = False
        for line in list(self._lines.values()):
            line.stream.end()
        self._lines.clear()
        self.world.collector_killed(self)

    def site(self) -> Site:
        quiet = self.started_at + self.settings.policy.quiet_time
        blind = "none of its network anchors answers" if self.anchors and not any(self.anchors) else ""
        return Site(self.epoch, self.started_at, quiet, blind)

    # ------------------------------------------------------------------------------------------ streams

    def accept(self, stream: Stream) -> Callable[[bytes], None]:
        """A new connection; what to do with each of its messages."""
        line = Line(stream, StreamState(stream.number, probe_timeout_ms=self.settings.policy.probe_timeout))

        def receive(raw: bytes) -> None:
            if self.alive:
                with self._mortal():
                    self._on_message(line, pb.AgentMessage.FromString(raw))

        return receive

    def stream_ended(self, stream: Stream) -> None:
        line = next((each for each in self._lines.values() if each.stream is stream), None)
        if line is None or not self.alive:
            return
        del self._lines[line.state.host]
        with self._mortal():
            self._feed(line.pool, line.state.ended())

    def _on_message(self, line: Line, message: pb.AgentMessage) -> None:
        events = line.state.on_message(message, self.world.now)
        for event in events:
            if isinstance(event, ev.AgentConnected):
                self._attach(line, event)
            self._feed(line.pool, event)
        for reply in line.state.take_replies():
            self._down(line, reply)

    def _attach(self, line: Line, event: ev.AgentConnected) -> None:
        line.pool = event.hello.pool
        older = self._lines.get(event.hello.host)
        self._lines[event.hello.host] = line
        if older is not None and older.stream is not line.stream:
            older.stream.end()
        if line.pool not in self.pools:
            self.pools[line.pool] = Pool(PoolRecord(line.pool), self.settings.policy, self.settings.devices)
            self._first_entry(line.pool, Kind.POOL_SEEN, "a pool was seen for the first time")
        self._down(line, wire_orders.welcome(self.epoch, self.settings.policy, self.settings.name))

    def _down(self, line: Line, message: pb.CollectorMessage) -> None:
        if line.stream.open and line.stream.down is not None:
            line.stream.down.send(message.SerializeToString())

    # ------------------------------------------------------------------------------------------ the loop

    def say(self, event: ev.OperatorSaid) -> None:
        """An operator's command; the answer appears in ``replies``."""
        with self._mortal():
            for pool in list(self.pools):
                self._feed(pool, event)

    def _feed(self, pool: str, event: ev.Event) -> None:
        before = self.pools[pool]
        outcome = step(before, event, self.world.now, self.site())
        if not self._commit(pool, outcome.entries, outcome.alerts):
            return
        self.pools[pool] = outcome.pool
        self._perform_all(pool, outcome)
        self._hand_over(pool, event)

    def _hand_over(self, pool: str, event: ev.Event) -> None:
        """The pool's handovers hear every answer, and the time."""
        handovers = self._handovers.get(pool)
        if handovers is None:
            return
        if isinstance(event, ev.OrderAnswered):
            handovers.answered(event.host, event.result, self.world.now)
        handovers.tick(self.world.now)

    def _handovers_of(self, pool: str) -> Handovers:
        def tell(event: ev.DatabaseTransferred) -> None:
            self._later(0, lambda: self._feed(pool, event))

        if pool not in self._handovers:
            self._handovers[pool] = Handovers(lambda order: self._send_order(pool, order), tell)
        return self._handovers[pool]

    def _first_entry(self, pool: str, kind: Kind, text: str) -> None:
        if self._commit(pool, (Entry(kind, text),), ()):
            record = self.pools[pool].record
            self.pools[pool] = replace(self.pools[pool], record=fold(record, ()))

    def _commit(
        self, pool: str, entries: tuple[Entry, ...], alerts: tuple[out.AlertRaised | out.AlertResolved, ...]
    ) -> bool:
        if not entries and not alerts:
            return True
        self.counters.commits += 1
        names = ", ".join(entry.kind.value for entry in entries)
        self._may_die("commit", "before", self.counters.commits, names)
        commit = Commit(self.world.now, self.epoch, pool, entries, alerts)
        try:
            self.ledger.commit(commit)
        except OSError:
            self.refused_commits += 1
            return False
        self.world.committed(self, commit)
        self._may_die("commit", "after", self.counters.commits, names)
        return True

    def _perform_all(self, pool: str, outcome: Outcome) -> None:
        for effect in outcome.effects:
            self.counters.effects += 1
            number, name = self.counters.effects, name_of(effect)
            self._may_die("effect", "before", number, name)
            self.world.performed(self, pool, effect)
            self._perform(pool, effect)
            self._may_die("effect", "after", number, name)

    def _may_die(self, what: str, when: str, number: int, names: str) -> None:
        if self.saboteur(Point(what, when, number, names)):
            raise CollectorKilled

    def _mortal(self) -> _Mortal:
        return _Mortal(self)

    def _later(self, delay: int, act: Callable[[], None]) -> None:
        def run() -> None:
            if self.alive:
                with self._mortal():
                    act()

        self.world.at(self.world.now + delay, run)

    def _tick(self) -> None:
        self._later(TICK_MS, self._tick)
        for pool in list(self.pools):
            self._feed(pool, ev.Tick())

    def _probe(self) -> None:
        self._later(self.settings.policy.probe_interval, self._probe)
        for pool, target in list(self._own_target.items()):
            if target.address:
                outcome = self.world.probe_from_collector(target.address, self.settings.policy.probe_timeout)
                self._feed(pool, ev.CollectorProbed(target.host, outcome, self.world.now, outcome.value))

    # ------------------------------------------------------------------------------------------ effects

    def _perform(self, pool: str, effect: out.Effect) -> None:
        match effect:
            case out.SendOrder(order):
                self._send_order(pool, order)
            case out.HandOver():
                self._handovers_of(pool).begin(effect, self.world.now)
            case out.AnswerGate(host):
                line = self._lines.get(host)
                if line is not None:
                    self._down(line, line.state.gate_to_pb(effect, self.epoch))
            case out.SendChallenge(host, nonce):
                self._send(host, wire_orders.challenge(nonce))
            case out.SendSettings(host, targets):
                settings = wire_orders.settings(self.settings.policy, targets)
                self._send(host, pb.CollectorMessage(settings=settings))
            case out.ReadPower(host, device, run):
                self._read_power(pool, host, device, run)
            case out.PowerOff(host, device, run):
                self._power_off(pool, host, device, run)
            case out.ProbeFromCollector(_, target):
                self._own_target[pool] = target
            case out.Reply():
                self.replies[effect.request_id] = effect
            case out.RaiseEpoch(above):
                self._raise_epoch(above)

    def _send(self, host: HostId, message: pb.CollectorMessage) -> None:
        line = self._lines.get(host)
        if line is not None:
            self._down(line, message)

    def _send_order(self, pool: str, order: out.Order) -> None:
        line = self._lines.get(order.host)
        if line is not None:
            self._down(line, line.state.order_to_pb(order, self.epoch, pool))

    def _raise_epoch(self, above: int) -> None:
        self.epoch = self.ledger.epoch = max(self.epoch, above + 1)
        for line in self._lines.values():
            self._down(line, wire_orders.welcome(self.epoch, self.settings.policy, self.settings.name))

    def _read_power(self, pool: str, host: HostId, device: str, run: str) -> None:
        began, bmc = self.world.now, self.world.bmc(device)
        took = bmc.took(self.world.bmc_reached(device))
        found = []

        def read() -> None:
            found.append(bmc.status(self.world.now, self.world.bmc_reached(device)))

        def report() -> None:
            reading = PowerReading(found[0][0], device, began, self.world.now, found[0][1])
            self._feed(pool, ev.PowerRead(host, run, reading))

        self.world.at(began + took // 2, read)
        self._later(took, report)

    def _power_off(self, pool: str, host: HostId, device: str, run: str) -> None:
        began, bmc = self.world.now, self.world.bmc(device)
        took = bmc.took(self.world.bmc_reached(device))
        found = []

        def switch() -> None:
            found.append(bmc.off(self.world.now, self.world.bmc_reached(device)))

        def report() -> None:
            claim, text = found[0]
            self._feed(pool, ev.FenceEnded(host, run, claim, True, text, self.world.now))

        # The fence agent is a process of its own: once begun, it ends even if the collector is gone.
        self.world.at(began + took // 2, switch)
        self._later(took, report)


class _Mortal:
    """Within it a killed collector unwinds quietly."""

    def __init__(self, shell: SimShell) -> None:
        self._shell = shell

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, CollectorKilled):
            return False
        self._shell.die()
        return True


def name_of(effect: out.Effect) -> str:
    """An effect in a word or two."""
    if isinstance(effect, out.SendOrder):
        return f"order {effect.order.kind_name} to {effect.order.host[:8]}"
    return type(effect).__name__
