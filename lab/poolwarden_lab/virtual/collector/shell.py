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
from functools import partial

from poolwarden_collector.core.model import effects, epoch
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model import orders as out
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.engine_loop import TICK_MS, EngineLoop
from poolwarden_collector.shell.queue.happening import Happening
from poolwarden_lab.virtual.collector.fencing import SimFencer
from poolwarden_lab.virtual.collector.ledger import Commit, Ledger
from poolwarden_lab.virtual.collector.performer import SimPerformer
from poolwarden_lab.virtual.collector.points import Saboteur, name_of, nobody
from poolwarden_lab.virtual.collector.process import SimProcess
from poolwarden_lab.virtual.collector.sessions import SimSessions
from poolwarden_lab.virtual.collector.surroundings import Counters, Settings, Surroundings
from poolwarden_lab.virtual.world.streams import Stream


class SimShell(SimProcess):
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
        super().__init__(world, saboteur)
        self.ledger = ledger
        self.settings = settings
        self.counters = counters
        self.node = node
        self.replies: dict[str, effects.Reply] = {}
        self.refused_commits = 0
        self.anchors: tuple[bool, ...] = ()
        self.begin_epoch()
        self.roster = Roster(settings.config(), ledger.epoch, lambda: world.now)
        self.loop = EngineLoop(self.roster, settings.devices, *self._clocks())
        self.sessions = SimSessions(self)
        self.fencer = SimFencer(self)
        self._performer = SimPerformer(self)
        self._waiting: deque[Happening] = deque()  # what came while a step is under way
        self._busy = False
        self._settings_wanted: deque[Settings] = deque()  # configurations that wait for the end of a step
        self._settings_next = settings  # the one that is being taken
        self.reload_refused = ""  # why the last one was not taken

    # ------------------------------------------------------------------------------------------ life

    @property
    def pools(self) -> dict[PoolId, Pool]:
        return self.roster.pools

    @property
    def epoch(self) -> int:
        return self.roster.epoch

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

    def ended(self) -> None:
        """Every stream is reset."""
        self.sessions.end_all()
        self.world.collector_killed(self)

    def site(self, pool: PoolId = "") -> Site:
        """The collector's condition as this pool knows it."""
        return self.roster.site(pool)

    # ------------------------------------------------------------------------------------------ what comes in

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

    def post(self, pool: PoolId, event: ev.Event) -> None:
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
        for pool, target in list(self._performer.own_target.items()):
            if target.address:
                outcome = self.world.probe(self, pool, target.address, self.settings.policy.probe_timeout)
                self.take(pool, ev.CollectorProbed(target.host, outcome, self.world.now, outcome.value))

    def reload(self, settings: Settings) -> None:
        """SIGHUP with another file: taken after the step that is under way."""
        self.enter(lambda: self._reload(settings))

    def _reload(self, settings: Settings) -> None:
        self._settings_wanted.append(settings)
        if not self._busy:
            self._go_on(on.Ready())

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
                    self.held.append(partial(self._go_on, ready, number))
                    return
                self._do(act)
            self._waiting.extendleft(reversed(ready.again))
            done = 0
            if ready.write is not None:
                ready = self._make_durable(ready.write)
            elif self._settings_wanted:
                ready = self._reconfigure(self._settings_wanted.popleft())
            elif self._waiting:
                ready = self.loop.take(self._waiting.popleft(), *self._clocks())
            else:
                self._busy = False
                return

    def _reconfigure(self, settings: Settings) -> on.Ready:
        self._settings_next = settings
        change = on.Reconfiguration(settings.config(), settings.devices, "SIGHUP", ("its settings",))
        return self.loop.reconfigure(change, *self._clocks())

    def _make_durable(self, write: on.Write) -> on.Ready | None:
        if isinstance(write, on.Commit | on.Reconfigure):
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
                case on.Reconfigure(_, commits):
                    self.ledger.check()
                    for commit in commits:
                        self._commit(commit)
                case on.BeginEpoch(above):
                    begun = self.begin_epoch(above)
                case on.Check():
                    self.ledger.check()
        except OSError as error:
            self.refused_commits += isinstance(write, on.Commit | on.Reconfigure)
            return self.loop.failed(str(error), *self._clocks())
        if isinstance(write, on.Commit | on.Reconfigure):
            self._at_commit("after", write)
        if self.frozen:  # right after its commit: it reads its clocks when it goes on
            self.held.append(lambda: self._go_on(self.loop.committed(*self._clocks(), begun)))
            return None
        return self.loop.committed(*self._clocks(), begun)

    def _commit(self, wanted: on.Commit) -> None:
        """Raises OSError: nothing of it is durable."""
        commit = Commit(self.world.now, self.epoch, wanted.pool, wanted.entries, wanted.alerts)
        self.ledger.commit(commit)
        self.world.committed(self, commit)

    def _at_commit(self, when: str, write: on.Commit | on.Reconfigure) -> None:
        commits = (write,) if isinstance(write, on.Commit) else write.commits
        names = ", ".join(entry.kind.value for commit in commits for entry in commit.entries)
        self.may_die("commit", when, self.counters.commits, names)

    def _do(self, act: on.Act) -> None:
        match act:
            case on.Begin(pool, effect):
                self._begin(pool, effect)
            case on.Refuse(_, reply):
                self.replies[reply.request_id] = reply
            case on.Post(pool, event):
                self.post(pool, event)
            case on.CutOff(pool):
                self.fencer.cut_off(pool)
            case on.Reconfigured():
                self.settings, self.reload_refused = self._settings_next, ""
            case on.NotReconfigured(why, _):
                self.reload_refused = why
            case on.Stepped(happening):
                self._performer.heard(happening.pool, happening.event)
            case on.Broke(happening, error):
                self.world.step_broke(self, happening.pool, error)

    def _begin(self, pool: PoolId, effect: effects.Effect) -> None:
        self.counters.effects += 1
        number, name = self.counters.effects, name_of(effect)
        self.may_die("effect", "before", number, name)
        if self.frozen:
            self.held.append(lambda: self._perform(pool, effect, number, name))
        else:
            self._perform(pool, effect, number, name)

    def _perform(self, pool: PoolId, effect: effects.Effect, number: int, name: str) -> None:
        self.world.performed(self, pool, effect)
        self._performer.perform(pool, effect)
        self.may_die("effect", "after", number, name)
