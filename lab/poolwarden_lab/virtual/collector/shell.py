"""The collector's shell in virtual time: one process, killed at any point, rebuilt from its ledger.

The loop is production's (shell/loop/engine_loop.py), on its roster, its handovers and its translation of streams; this
is its driver in virtual time, as the service is in real time. What is taken while a step is under way waits, as in the
service's inbox, with the instant of its arrival. Timers: a Tick each 250 ms, the collector's own probe at its general
probe interval.

A process that stands still (SIGSTOP, a suspended machine) takes nothing: what comes is held and taken when it goes on;
its timers fire late, once. A power command that was started outlives the collector, as a child process does; its result
does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from poolwarden_collector.core.model import effects, epoch
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model import orders as out
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.agents.database_transfer import PoolHandovers
from poolwarden_collector.shell.agents.messages import orders
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.config.config import Config, PoolSettings, Tls
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.effect_table import EffectTable
from poolwarden_collector.shell.loop.engine_loop import TICK_MS, EngineLoop
from poolwarden_collector.shell.queue.happening import Happening
from poolwarden_lab.virtual.collector.fencing import SimFencer
from poolwarden_lab.virtual.collector.ledger import Commit, Ledger
from poolwarden_lab.virtual.collector.points import CollectorKilled, Point, Saboteur, nobody
from poolwarden_lab.virtual.collector.sessions import SimSessions
from poolwarden_lab.virtual.world.bmc import SimBmc
from poolwarden_lab.virtual.world.streams import Stream


class Surroundings(Protocol):
    """What a collector process finds around it."""

    @property
    def now(self) -> int: ...
    def at(self, ms: int, act: Callable[[], None]) -> None: ...
    def lot(self) -> int: ...
    def bmc(self, device: str) -> SimBmc: ...
    def reaches(self, shell: SimShell, node: str) -> bool: ...
    def probe(self, shell: SimShell, pool: PoolId, address: str, timeout_ms: int) -> ProbeOutcome: ...
    def performed(self, shell: SimShell, pool: PoolId, effect: effects.Effect) -> None: ...
    def committed(self, shell: SimShell, commit: Commit) -> None: ...
    def heard(self, shell: SimShell, host: HostId, sent_at: int) -> None: ...
    def collector_killed(self, shell: SimShell) -> None: ...
    def step_broke(self, shell: SimShell, pool: PoolId, error: Exception) -> None: ...


@dataclass
class Counters:
    """Points reached by all collectors of one run."""

    commits: int = 0
    effects: int = 0


@dataclass
class Settings:
    """What a configuration file would say. ``policy`` is for pools without one of their own."""

    policy: Policy
    devices: dict[HostId, tuple[FenceDevice, ...]] = field(default_factory=dict)
    name: str = "collector"
    pools: dict[PoolId, Policy] = field(default_factory=dict)

    def config(self) -> Config:
        """The same as production reads it from a file."""
        nowhere = Path("/nonexistent")
        pools = {uuid: PoolSettings(uuid, policy) for uuid, policy in self.pools.items()}
        tls = Tls(nowhere, nowhere, nowhere)
        return Config(nowhere, self.name, "", nowhere, nowhere, tls, policy=self.policy, pools=pools)


class SimShell:
    """One collector process, from its start to its end."""

    def __init__(
        self,
        world: Surroundings,
        ledger: Ledger,
        settings: Settings,
        counters: Counters,
        saboteur: Saboteur = nobody,
        node: str = "collector",
    ) -> None:
        self.world = world
        self.ledger = ledger
        self.settings = settings
        self.saboteur = saboteur
        self.counters = counters
        self.node = node
        self.alive = True
        self.frozen = False
        self.replies: dict[str, effects.Reply] = {}
        self.refused_commits = 0
        self.anchors: tuple[bool, ...] = ()
        self.begin_epoch()
        self.roster = Roster(settings.config(), ledger.epoch, lambda: world.now)
        self.loop = EngineLoop(self.roster, settings.devices, *self._clocks())
        self.sessions = SimSessions(self)
        self.fencer = SimFencer(self)
        self._own_target: dict[PoolId, out.Target] = {}
        self._handovers = PoolHandovers(self.order, self._post)
        self._table = self._performers()
        self._waiting: deque[Happening] = deque()  # what came while a step is under way
        self._busy = False
        self._held: list[Callable[[], None]] = []  # what came while it stood still

    def _performers(self) -> EffectTable:
        fencer, sessions, policy_of = self.fencer, self.sessions, self.roster.config.policy_of
        return EffectTable(
            send_order=lambda pool, effect: self.order(pool, effect.order),
            hand_over=lambda pool, effect: self._handovers.begin(pool, effect, self.world.now),
            answer_gate=lambda _, effect: sessions.answer_gate(effect.host, effect),
            send_challenge=lambda _, effect: sessions.send(effect.host, orders.challenge(effect.nonce)),
            send_settings=lambda pool, effect: sessions.send(
                effect.host, orders.settings_message(policy_of(pool), effect.targets)
            ),
            read_power=fencer.read_power,
            power_off=fencer.power_off,
            power_on=fencer.power_on,
            recall=lambda _, effect: fencer.recall(effect),
            probe=lambda pool, effect: self._own_target.update({pool: effect.target}),
            reply=lambda _, effect: self.replies.update({effect.request_id: effect}),
        )

    # ------------------------------------------------------------------------------------------ life

    @property
    def pools(self) -> dict[PoolId, Pool]:
        return self.roster.pools

    @property
    def epoch(self) -> int:
        return self.roster.epoch

    @property
    def started_at(self) -> int:
        return self.roster.started_at

    def _clocks(self) -> tuple[int, int]:
        """A machine that sleeps is a process that stands still here: both clocks go on."""
        return self.world.now, self.world.now

    def begin_epoch(self, above: int = 0) -> int:
        """A new epoch, durable at once (shell/store/journal.py begin_epoch). Raises OSError."""
        self.ledger.begin_epoch(epoch.after(max(self.ledger.epoch, above), self.world.lot()))
        return self.ledger.epoch

    def start(self) -> None:
        """Fold every pool from the ledger, and begin to tick."""
        records = [fold(PoolRecord(pool), self.ledger.entries(pool)) for pool in self.ledger.pools()]
        with self.mortal():
            self._go_on(self.loop.start(records, *self._clocks()))
        self.later(TICK_MS, self._tick)
        self.later(self.settings.policy.probe_interval, self._probe)

    def die(self) -> None:
        """SIGKILL: every stream is reset, nothing runs on."""
        if not self.alive:
            return
        self.alive = self.frozen = False
        self.sessions.end_all()
        self.world.collector_killed(self)

    def freeze(self) -> None:
        """SIGSTOP, or its machine is suspended."""
        self.frozen = True

    def thaw(self) -> None:
        """It goes on: what came meanwhile is taken now."""
        self.frozen = False
        held, self._held = self._held, []
        for act in held:
            self.enter(act)

    def site(self, pool: PoolId = "") -> Site:
        """The collector's condition as this pool knows it."""
        return self.roster.site(pool)

    def enter(self, act: Callable[[], None]) -> None:
        """Something comes in: now, later if the process stands still, never if it is dead."""
        if self.frozen:
            self._held.append(act)
        elif self.alive:
            with self.mortal():
                act()

    def later(self, delay: int, act: Callable[[], None]) -> None:
        """A timer of this process."""
        self.world.at(self.world.now + delay, lambda: self.enter(act))

    def mortal(self) -> _Mortal:
        return _Mortal(self)

    # ------------------------------------------------------------------------------------------ what comes in

    def accept(self, stream: Stream) -> Callable[[bytes], None]:
        """A new connection; what to do with each of its messages."""
        return self.sessions.accept(stream)

    def stream_ended(self, stream: Stream) -> None:
        self.enter(lambda: self.sessions.ended(stream))

    def say(self, event: ev.OperatorSaid, pool: PoolId = "") -> None:
        """An operator's command for one pool, or for every one; the answer appears in ``replies``."""

        def take() -> None:
            for uuid in [pool] if pool else list(self.pools):
                self.take(uuid, event)

        self.enter(take)

    def order(self, pool: PoolId, order: out.Order) -> bool:
        """Send an order; false: that host has no stream, or this collector has stood down."""
        return pool not in self.roster.stood_down and self.sessions.send_order(pool, order)

    def _post(self, pool: PoolId, event: ev.Event) -> None:
        self.later(0, lambda: self.take(pool, event))

    def _tick(self) -> None:
        self.later(TICK_MS, self._tick)
        self.loop.judge_sites(self.world.now, self.anchors)
        ticking = {each.pool for each in self._waiting if isinstance(each.event, ev.Tick)}
        for pool in self.loop.due(self.world.now):
            if pool not in ticking:
                self.take(pool, ev.Tick())

    def _probe(self) -> None:
        self.later(self.settings.policy.probe_interval, self._probe)
        for pool, target in list(self._own_target.items()):
            if target.address:
                outcome = self.world.probe(self, pool, target.address, self.settings.policy.probe_timeout)
                self.take(pool, ev.CollectorProbed(target.host, outcome, self.world.now, outcome.value))

    # ------------------------------------------------------------------------------------------ driving the loop

    def take(self, pool: PoolId, event: ev.Event) -> None:
        """One event, after those that wait."""
        self._waiting.append(Happening(pool, event, self.world.now))
        if not self._busy:
            self._go_on(on.Ready())

    def _go_on(self, ready: on.Ready | None, done: int = 0) -> None:
        """From this act on, and on with what waits; None: it goes on later, by itself or when it thaws."""
        self._busy = True
        while ready is not None:
            for number, act in enumerate(ready.acts[done:], done):
                if self.frozen:
                    self._held.append(partial(self._go_on, ready, number))
                    return
                self._do(act)
            self._waiting.extendleft(reversed(ready.again))
            done = 0
            if ready.write is not None:
                ready = self._make_durable(ready.write)
            elif self._waiting:
                ready = self.loop.take(self._waiting.popleft(), *self._clocks())
            else:
                self._busy = False
                return

    def _make_durable(self, write: on.Write) -> on.Ready | None:
        if isinstance(write, on.Commit):
            self.counters.commits += 1
            self._at_commit("before", write)
        if self.ledger.slow_ms and not isinstance(write, on.Nothing):
            self.later(self.ledger.slow_ms, lambda: self._go_on(self._write(write)))
            return None
        return self._write(write)

    def _write(self, write: on.Write) -> on.Ready | None:
        begun = 0
        try:
            match write:
                case on.Commit():
                    self._commit(write)
                case on.BeginEpoch(above):
                    begun = self.begin_epoch(above)
                case on.Check():
                    self.ledger.check()
        except OSError as error:
            self.refused_commits += isinstance(write, on.Commit)
            return self.loop.failed(str(error), *self._clocks())
        if isinstance(write, on.Commit):
            self._at_commit("after", write)
        if self.frozen:  # right after its commit: it reads its clocks when it goes on
            self._held.append(lambda: self._go_on(self.loop.committed(*self._clocks(), begun)))
            return None
        return self.loop.committed(*self._clocks(), begun)

    def _commit(self, wanted: on.Commit) -> None:
        """Raises OSError: nothing of it is durable."""
        commit = Commit(self.world.now, self.epoch, wanted.pool, wanted.entries, wanted.alerts)
        self.ledger.commit(commit)
        self.world.committed(self, commit)

    def _at_commit(self, when: str, commit: on.Commit) -> None:
        names = ", ".join(entry.kind.value for entry in commit.entries)
        self._may_die("commit", when, self.counters.commits, names)

    def _do(self, act: on.Act) -> None:
        match act:
            case on.Begin(pool, effect):
                self._begin(pool, effect)
            case on.Refuse(_, reply):
                self.replies[reply.request_id] = reply
            case on.Post(pool, event):
                self._post(pool, event)
            case on.CutOff(pool):
                self.fencer.cut_off(pool)
            case on.Stepped(happening):
                self.fencer.heard(happening.pool, happening.event)
                self._handovers.heard(happening.pool, happening.event, self.world.now)
            case on.Broke(happening, error):
                self.world.step_broke(self, happening.pool, error)

    def _begin(self, pool: PoolId, effect: effects.Effect) -> None:
        self.counters.effects += 1
        number, name = self.counters.effects, name_of(effect)
        self._may_die("effect", "before", number, name)
        if self.frozen:
            self._held.append(lambda: self._perform(pool, effect, number, name))
        else:
            self._perform(pool, effect, number, name)

    def _perform(self, pool: PoolId, effect: effects.Effect, number: int, name: str) -> None:
        self.world.performed(self, pool, effect)
        self._table.perform(pool, effect)
        self._may_die("effect", "after", number, name)

    def _may_die(self, what: str, when: str, number: int, names: str) -> None:
        if self.saboteur(Point(what, when, number, names)):
            raise CollectorKilled


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


def name_of(effect: effects.Effect) -> str:
    """An effect in a word or two."""
    if isinstance(effect, effects.SendOrder):
        return f"order {effect.order.kind_name} to {effect.order.host[:8]}"
    return type(effect).__name__
