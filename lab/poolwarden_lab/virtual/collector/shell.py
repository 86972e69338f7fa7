"""One collector alone, in virtual time: one process, killed at any point, rebuilt from its ledger.

The loop is production's (shell/loop/engine_loop.py), on its roster, its handovers and its translation of streams; it is
driven by loop_driver.py. Timers: a Tick each 250 ms, the collector's own probe at its general probe interval.
"""

from __future__ import annotations

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.engine_loop import TICK_MS
from poolwarden_lab.virtual.collector.ledger import Commit, Ledger
from poolwarden_lab.virtual.collector.loop_driver import LoopDriver
from poolwarden_lab.virtual.collector.points import Saboteur, nobody
from poolwarden_lab.virtual.collector.surroundings import Counters, Settings, Surroundings


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
        self.equip(node)

    def start(self) -> None:
        """Fold every pool from the ledger, and begin to tick."""
        with self.mortal():
            self.begin()
        self.later(TICK_MS, self._tick)
        self.later(self.settings.policy.probe_interval, self.probe_targets)

    def _tick(self) -> None:
        self.later(TICK_MS, self._tick)
        self.loop.judge_sites(self.world.now, self.anchors)
        ticking = self.ticking()
        for pool in self.loop.due(self.world.now):
            if pool not in ticking:
                self.take(pool, ev.Tick())

    # ------------------------------------------------------------------------------------------ what the loop says

    def committed(self, commit: Commit) -> None:
        self.world.committed(self, commit)

    def do(self, act: on.Act) -> None:
        match act:
            case on.Begin(pool, effect):
                self.begin_effect(pool, effect)
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
