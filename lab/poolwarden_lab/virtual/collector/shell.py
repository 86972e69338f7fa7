"""The collector's shell in virtual time: one process, killed at any point, rebuilt from its ledger.

The loop is production's (shell/loop/engine_loop.py), on its roster, its handovers and its translation of streams; it is
driven by loop_driver.py. Timers: a Tick each 250 ms, the collector's own probe at its general probe interval.

A process that stands still (SIGSTOP, a suspended machine) takes nothing: what comes is held and taken when it goes on;
its timers fire late, once. A power command that was started outlives the collector, as a child process does; its result
does not.
"""

from __future__ import annotations

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model import orders as out
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.engine_loop import TICK_MS
from poolwarden_lab.virtual.collector.fencing import SimFencer
from poolwarden_lab.virtual.collector.ledger import Commit, Ledger
from poolwarden_lab.virtual.collector.loop_driver import LoopDriver
from poolwarden_lab.virtual.collector.performer import SimPerformer
from poolwarden_lab.virtual.collector.points import Saboteur, name_of, nobody
from poolwarden_lab.virtual.collector.sessions import SimSessions
from poolwarden_lab.virtual.collector.surroundings import Counters, Settings, Surroundings
from poolwarden_lab.virtual.world.streams import Stream


class SimShell(LoopDriver):
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
        super().__init__(world, ledger, settings, counters, saboteur)
        self.node = node
        self.replies: dict[str, effects.Reply] = {}
        self.anchors: tuple[bool, ...] = ()
        self.sessions = SimSessions(self)
        self.fencer = SimFencer(self)
        self._performer = SimPerformer(self)

    # ------------------------------------------------------------------------------------------ life

    @property
    def pools(self) -> dict[PoolId, Pool]:
        return self.roster.pools

    def start(self) -> None:
        """Fold every pool from the ledger, and begin to tick."""
        with self.mortal():
            self.begin()
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
        ticking = self.ticking()
        for pool in self.loop.due(self.world.now):
            if pool not in ticking:
                self.take(pool, ev.Tick())

    def _probe(self) -> None:
        self.later(self.settings.policy.probe_interval, self._probe)
        for pool, target in list(self._performer.own_target.items()):
            if target.address:
                outcome = self.world.probe(self, pool, target.address, self.settings.policy.probe_timeout)
                self.take(pool, ev.CollectorProbed(target.host, outcome, self.world.now, outcome.value))

    # ------------------------------------------------------------------------------------------ what the loop says

    def committed(self, commit: Commit) -> None:
        self.world.committed(self, commit)

    def do(self, act: on.Act) -> None:
        match act:
            case on.Begin(pool, effect):
                self._begin(pool, effect)
            case on.Refuse(_, reply):
                self.replies[reply.request_id] = reply
            case on.Post(pool, event):
                self.post(pool, event)
            case on.CutOff(pool):
                self.fencer.cut_off(pool)
            case on.Reconfigured() | on.NotReconfigured():
                self.reconfigured(act)
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
