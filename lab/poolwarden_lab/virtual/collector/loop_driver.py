"""Drives production's loop of the engine in virtual time, as the service (shell/loop/service.py) does in real time.

What is taken while a step is under way waits, as in the service's inbox, with the instant of its arrival. A process
that stands still goes on with the act at which it stopped.
"""

from __future__ import annotations

from collections import deque
from functools import partial

from poolwarden_collector.core.model import epoch
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.engine_loop import EngineLoop
from poolwarden_collector.shell.queue.happening import Happening
from poolwarden_lab.virtual.collector.collector import SimCollector
from poolwarden_lab.virtual.collector.ledger import Commit, Ledger
from poolwarden_lab.virtual.collector.points import Saboteur
from poolwarden_lab.virtual.collector.surroundings import Counters, Settings, Surroundings


class LoopDriver(SimCollector):
    """The loop, its ledger, and what waits for it; what it says is done by ``do``."""

    def __init__(
        self, world: Surroundings, ledger: Ledger, settings: Settings, counters: Counters, saboteur: Saboteur
    ) -> None:
        super().__init__(world, saboteur)
        self.ledger = ledger
        self.settings = settings
        self.counters = counters
        self.refused_commits = 0
        self.begin_epoch()
        self.roster = Roster(settings.config(), ledger.epoch, lambda: world.now)
        self.loop = EngineLoop(self.roster, settings.devices, *self._clocks())
        self._waiting: deque[Happening] = deque()  # what came while a step is under way
        self._busy = False
        self._settings_wanted: deque[Settings] = deque()  # configurations that wait for the end of a step
        self._settings_next = settings  # the one that is being taken
        self.reload_refused = ""  # why the last one was not taken

    # ------------------------------------------------------------------------------------------ what the shell does

    def do(self, act: on.Act) -> None:
        """Carry out one act of the loop."""
        raise NotImplementedError

    def committed(self, commit: Commit) -> None:
        """This has become durable."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------ what it asks for

    def _clocks(self) -> tuple[int, int]:
        """A machine that sleeps is a process that stands still here: both clocks go on."""
        return self.world.now, self.world.now

    def begin_epoch(self, above: int = 0) -> int:
        """A new epoch, durable at once (shell/store/journal.py begin_epoch). Raises OSError."""
        self.ledger.begin_epoch(epoch.after(max(self.ledger.epoch, above), self.world.lot()))
        return self.ledger.epoch

    def begin(self) -> None:
        """Fold every pool from the ledger."""
        records = [fold(PoolRecord(pool), self.ledger.entries(pool)) for pool in self.ledger.pools()]
        self._go_on(self.loop.start(records, *self._clocks()))

    def ticking(self) -> set[PoolId]:
        """Pools of which a Tick waits."""
        return {each.pool for each in self._waiting if isinstance(each.event, ev.Tick)}

    def reload(self, settings: Settings) -> None:
        """SIGHUP with another file: taken after the step that is under way."""
        self.enter(lambda: self._reload(settings))

    def _reload(self, settings: Settings) -> None:
        self._settings_wanted.append(settings)
        if not self._busy:
            self._go_on(on.Ready())

    def reconfigured(self, end: on.Reconfigured | on.NotReconfigured) -> None:
        """How the configuration that was taken last ended."""
        match end:
            case on.Reconfigured():
                self.settings, self.reload_refused = self._settings_next, ""
            case on.NotReconfigured(why, _):
                self.reload_refused = why

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
                self.do(act)
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
        self.committed(commit)

    def _at_commit(self, when: str, write: on.Commit | on.Reconfigure) -> None:
        commits = (write,) if isinstance(write, on.Commit) else write.commits
        names = ", ".join(entry.kind.value for commit in commits for entry in commit.entries)
        self.may_die("commit", when, self.counters.commits, names)
