"""The collector's shell in virtual time: one process, killed at any point, rebuilt from its ledger.

The loop is the production service's (shell/service.py), on its roster, its backlog, its handovers and its translation
of streams: event, ``engine.step``, one durable commit, and only then the effects. Mirrored here are its rules: nothing
is stepped while the journal cannot be written, quiet time again after the collector was away or blind, nothing is done
any more once it has stood down. Timers: a Tick each 250 ms, the collector's own probe at its general probe interval.

A process that stands still (SIGSTOP, a suspended machine) takes nothing: what comes is held and taken when it goes on;
its timers fire late, once. A power command that was started outlives the collector, as a child process does; its result
does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.decision.storm_brake import judge_sites
from poolwarden_collector.core.engine import Outcome, step
from poolwarden_collector.core.model import effects, epoch
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model import orders as out
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.agents.database_transfer import Handovers
from poolwarden_collector.shell.agents.messages import orders
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.config.config import Config, PoolSettings, Tls
from poolwarden_collector.shell.loop.engine_loop import AWAY_MS, RETRY_MS, TICK_MS
from poolwarden_collector.shell.queue.backlog import Backlog
from poolwarden_collector.shell.queue.happening import Happening
from poolwarden_lab.virtual.collector.fencing import SimFencer
from poolwarden_lab.virtual.collector.ledger import Commit, Ledger
from poolwarden_lab.virtual.collector.points import CollectorKilled, Point, Saboteur, nobody
from poolwarden_lab.virtual.collector.sessions import SimSessions
from poolwarden_lab.virtual.world.bmc import SimBmc
from poolwarden_lab.virtual.world.streams import Stream

_ACTS = (effects.SendOrder, effects.PowerOff, effects.PowerOn, effects.HandOver, effects.AnswerGate)


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
        self.sessions = SimSessions(self)
        self.fencer = SimFencer(self)
        self._own_target: dict[PoolId, out.Target] = {}
        self._handovers: dict[PoolId, Handovers] = {}
        self._backlog = Backlog()
        self._retry_at = 0
        self._epoch_above = 0
        self._last_step = world.now
        self._stepped: dict[PoolId, int] = {}
        self._held: list[Callable[[], None]] = []  # what came while it stood still

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

    def begin_epoch(self, above: int = 0) -> int:
        """A new epoch, durable at once (shell/journal.py begin_epoch). Raises OSError."""
        self.ledger.begin_epoch(epoch.after(max(self.ledger.epoch, above), self.world.lot()))
        return self.ledger.epoch

    def start(self) -> None:
        """Fold every pool from the ledger, and begin to tick."""
        with self.mortal():
            for pool in self.ledger.pools():
                self.pools[pool] = self._pool(fold(PoolRecord(pool), self.ledger.entries(pool)))
            above = max((pool.record.stale_epoch for pool in self.pools.values()), default=0)
            if above >= self.epoch:
                self.roster.epoch = self.begin_epoch(above)
            for pool in list(self.pools):
                text = f"collector {self.settings.name} started with epoch {epoch.name(self.epoch)}"
                self._note(pool, Kind.COLLECTOR_STARTED, text, epoch=self.epoch)
        self.later(TICK_MS, self._tick)
        self.later(self.settings.policy.probe_interval, self._probe)

    def _pool(self, record: PoolRecord) -> Pool:
        return Pool(record, self.roster.config.policy_of(record.pool), self.settings.devices)

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

    # ------------------------------------------------------------------------------------------ streams

    def accept(self, stream: Stream) -> Callable[[bytes], None]:
        """A new connection; what to do with each of its messages."""
        return self.sessions.accept(stream)

    def stream_ended(self, stream: Stream) -> None:
        self.enter(lambda: self.sessions.ended(stream))

    def down(self, host: HostId, message: pb.CollectorMessage) -> None:
        """To a host's agent, if it has a stream."""
        self.sessions.send(host, message)

    # ------------------------------------------------------------------------------------------ the loop

    def say(self, event: ev.OperatorSaid, pool: PoolId = "") -> None:
        """An operator's command for one pool, or for every one; the answer appears in ``replies``."""

        def take() -> None:
            for uuid in [pool] if pool else list(self.pools):
                self.take(uuid, event)

        self.enter(take)

    def take(self, pool: PoolId, event: ev.Event) -> None:
        """One event, as the service takes it."""
        self._notice_absence()
        happening = Happening(pool, event)
        if self.roster.stalled:
            self._hold(happening)
            if self.world.now >= self._retry_at:
                self._resume()
            return
        try:
            self._step(happening)
        except OSError as error:
            self.refused_commits += 1
            self._stall(str(error))
            self._hold(happening)

    def _step(self, happening: Happening) -> None:
        pool, event = happening.pool, happening.event
        self._stepped[pool] = self.world.now
        if pool not in self.pools:
            self._adopt(pool)
        outcome = step(self.pools[pool], event, self.world.now, self.site(pool))
        self._commit(pool, outcome.entries, outcome.alerts)
        self.pools[pool] = outcome.pool
        self._perform_from(0, happening, outcome)

    def _adopt(self, pool: PoolId) -> None:
        self.pools[pool] = self._pool(PoolRecord(pool))
        try:
            self._note(pool, Kind.POOL_SEEN, "an agent of this pool has come for the first time")
        except OSError:
            del self.pools[pool]
            raise

    def _note(self, pool: PoolId, kind: Kind, text: str, **data: object) -> None:
        known = self.pools[pool]
        entry = Entry(kind, text, dict(data), "", known.record.term)
        self._commit(pool, (entry,), ())
        self.pools[pool] = replace(known, record=fold(known.record, (entry,)))

    def _commit(
        self, pool: PoolId, entries: tuple[Entry, ...], alerts: tuple[effects.AlertRaised | effects.AlertResolved, ...]
    ) -> None:
        """Raises OSError: nothing of it is durable."""
        if not entries and not alerts:
            return
        self.counters.commits += 1
        names = ", ".join(entry.kind.value for entry in entries)
        self._may_die("commit", "before", self.counters.commits, names)
        commit = Commit(self.world.now, self.epoch, pool, entries, alerts)
        self.ledger.commit(commit)
        self.world.committed(self, commit)
        self._may_die("commit", "after", self.counters.commits, names)

    def _perform_from(self, at: int, happening: Happening, outcome: Outcome) -> None:
        """The effects of a step from this one on, and its end; a process that stands still goes on with them later."""
        pool = happening.pool
        for number, effect in enumerate(outcome.effects[at:], at):
            if self.frozen:
                self._held.append(partial(self._perform_from, number, happening, outcome))
                return
            self._perform_one(pool, effect)
        self.fencer.heard(pool, happening.event)
        self._hand_over(pool, happening.event)

    def _perform_one(self, pool: PoolId, effect: effects.Effect) -> None:
        if pool in self.roster.stood_down and isinstance(effect, _ACTS):
            self._drop(pool, effect)
            return
        self.counters.effects += 1
        number, name = self.counters.effects, name_of(effect)
        self._may_die("effect", "before", number, name)
        if self.frozen:
            self._held.append(lambda: self._performed_now(pool, effect, number, name))
            return
        self._performed_now(pool, effect, number, name)

    def _performed_now(self, pool: PoolId, effect: effects.Effect, number: int, name: str) -> None:
        self.world.performed(self, pool, effect)
        self._perform(pool, effect)
        self._may_die("effect", "after", number, name)

    def _drop(self, pool: PoolId, effect: effects.Effect) -> None:
        if isinstance(effect, effects.PowerOff | effects.PowerOn):
            text = "not begun: this collector has stood down"
            ended = ev.FenceEnded(effect.host, effect.run_id, False, True, text, self.world.now, begun=False)
            self.later(0, lambda: self.take(pool, ended))

    def _may_die(self, what: str, when: str, number: int, names: str) -> None:
        if self.saboteur(Point(what, when, number, names)):
            raise CollectorKilled

    # ------------------------------------------------------------------------------------------ a journal that fails

    def _stall(self, why: str) -> None:
        if not self.roster.stalled:
            self.roster.stalled_at = self.world.now
        self.roster.stalled = why
        self._retry_at = self.world.now + RETRY_MS

    def _hold(self, happening: Happening) -> None:
        event = happening.event
        if isinstance(event, ev.OperatorSaid):
            why = f"nothing can be recorded, so nothing is done: {self.roster.stalled}"
            step_on = "Make room on the journal's disk; the collector goes on by itself."
            self.replies[event.request_id] = effects.Reply(event.request_id, False, why, "journal", step_on)
        else:
            self._backlog.keep(happening)

    def _resume(self) -> None:
        if self.ledger.full:
            self._stall(self.roster.stalled)
            return
        self.roster.stalled, self.roster.stalled_at = "", None
        self.roster.be_quiet_again(self.world.now)
        self._raise_epoch()
        for happening in self._backlog.take_all():
            self.take(happening.pool, happening.event)

    # ------------------------------------------------------------------------------------------ time

    def _tick(self) -> None:
        self.later(TICK_MS, self._tick)
        self._notice_absence()
        now = self.world.now
        self.roster.judged(judge_sites(self.pools, self.anchors, now, self.roster.sites), now)
        due = now - TICK_MS // 2
        for pool in [pool for pool in self.pools if self._stepped.get(pool, -1) <= due]:
            self.take(pool, ev.Tick())

    def _notice_absence(self) -> None:
        """Was this process stopped, or its machine suspended? Then the silence since was its own."""
        now = self.world.now
        away, self._last_step = now - self._last_step, now
        if away > AWAY_MS and self.pools:
            self.roster.be_quiet_again(now)
            self.fencer.cut_off()

    def _probe(self) -> None:
        self.later(self.settings.policy.probe_interval, self._probe)
        for pool, target in list(self._own_target.items()):
            if target.address:
                outcome = self.world.probe(self, pool, target.address, self.settings.policy.probe_timeout)
                self.take(pool, ev.CollectorProbed(target.host, outcome, self.world.now, outcome.value))

    # ------------------------------------------------------------------------------------------ handovers

    def _hand_over(self, pool: PoolId, event: ev.Event) -> None:
        """The pool's handovers hear every answer, and the time."""
        handovers = self._handovers.get(pool)
        if handovers is None:
            return
        if isinstance(event, ev.OrderAnswered):
            handovers.answered(event.host, event.result, self.world.now)
        handovers.tick(self.world.now)

    def _handovers_of(self, pool: PoolId) -> Handovers:
        def tell(event: ev.DatabaseTransferred) -> None:
            self.later(0, lambda: self.take(pool, event))

        if pool not in self._handovers:
            self._handovers[pool] = Handovers(lambda order: self._send_order(pool, order), tell)
        return self._handovers[pool]

    # ------------------------------------------------------------------------------------------ effects

    def _perform(self, pool: PoolId, effect: effects.Effect) -> None:
        match effect:
            case effects.SendOrder(order):
                self._send_order(pool, order)
            case effects.HandOver():
                self._handovers_of(pool).begin(effect, self.world.now)
            case effects.AnswerGate(host):
                self.sessions.answer_gate(host, effect)
            case effects.SendChallenge(host, nonce):
                self.down(host, orders.challenge(nonce))
            case effects.SendSettings(host, targets):
                policy = self.roster.config.policy_of(pool)
                self.down(host, pb.CollectorMessage(settings=orders.settings(policy, targets)))
            case effects.ReadPower():
                self.fencer.read_power(pool, effect)
            case effects.PowerOff():
                self.fencer.power_off(pool, effect)
            case effects.Recall():
                self.fencer.recall(effect)
            case effects.PowerOn():
                self.fencer.power_on(pool, effect)
            case effects.ProbeFromCollector(_, target):
                self._own_target[pool] = target
            case effects.Reply():
                self.replies[effect.request_id] = effect
            case effects.StandDown(why):
                self._stand_down(pool, why)
            case effects.RaiseEpoch(above):
                self._epoch_above = max(self._epoch_above, above)
                self._raise_epoch()
                if above < self.epoch:
                    self.roster.stood_down.pop(pool, None)

    def _send_order(self, pool: PoolId, order: out.Order) -> None:
        self.order(pool, order)

    def order(self, pool: PoolId, order: out.Order) -> bool:
        """Send an order; false: that host has no stream, or this collector has stood down."""
        return pool not in self.roster.stood_down and self.sessions.send_order(pool, order)

    def _stand_down(self, pool: PoolId, why: str) -> None:
        if pool not in self.roster.stood_down:
            self.roster.stood_down[pool] = why
            self.fencer.cut_off(pool)

    def _raise_epoch(self) -> None:
        if self._epoch_above < self.roster.epoch:
            return
        try:
            self.roster.epoch = self.begin_epoch(self._epoch_above)
        except OSError as error:
            self._stall(str(error))


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
