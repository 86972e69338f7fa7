"""What every collector process of the simulated world is, whoever drives its loop: streams, fence agents, effects.

One collector alone is shell.py, one of several shared_shell.py.

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
from poolwarden_collector.shell.agents.elsewhere import Elsewhere
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_lab.virtual.collector.fencing import SimFencer
from poolwarden_lab.virtual.collector.ledger import Ledger
from poolwarden_lab.virtual.collector.performer import SimPerformer
from poolwarden_lab.virtual.collector.points import name_of
from poolwarden_lab.virtual.collector.process import SimProcess
from poolwarden_lab.virtual.collector.sessions import SimSessions
from poolwarden_lab.virtual.collector.surroundings import Counters, Settings
from poolwarden_lab.virtual.world.streams import Stream


class SimCollector(SimProcess):
    """One collector process, from its start to its end."""

    node: str
    ledger: Ledger
    settings: Settings
    counters: Counters
    roster: Roster

    def equip(self, node: str) -> None:
        """Give it what it meets the world with."""
        self.node = node
        self.replies: dict[str, effects.Reply] = {}
        self.anchors: tuple[bool, ...] = ()
        self.sessions = SimSessions(self)
        self.fencer = SimFencer(self)
        self._performer = SimPerformer(self)

    # ------------------------------------------------------------------------------------------ whoever drives it

    def start(self) -> None:
        """Begin to work."""
        raise NotImplementedError

    def take(self, pool: PoolId, event: ev.Event) -> None:
        """One event, after those that wait."""
        raise NotImplementedError

    def reload(self, settings: Settings) -> None:
        """SIGHUP with another file."""
        raise NotImplementedError

    def owner_of(self, pool: PoolId) -> Elsewhere | None:
        """Who has a pool, as this collector knows it; None: it has."""
        return None

    # ------------------------------------------------------------------------------------------ life

    @property
    def pools(self) -> dict[PoolId, Pool]:
        return self.roster.pools

    @property
    def epoch(self) -> int:
        return self.roster.epoch

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
        """Send an order; false: that host has no stream, or this collector may not act there."""
        return not self.roster.why_no_act(pool) and self.sessions.send_order(pool, order)

    def post(self, pool: PoolId, event: ev.Event) -> None:
        self.later(0, lambda: self.take(pool, event))

    def probe_targets(self) -> None:
        """Probe what each pool's engine has aimed the collector's own probe at; again at the probe interval."""
        self.later(self.settings.policy.probe_interval, self.probe_targets)
        for pool, target in list(self._performer.own_target.items()):
            if target.address:
                outcome = self.world.probe(self, pool, target.address, self.settings.policy.probe_timeout)
                self.take(pool, ev.CollectorProbed(target.host, outcome, self.now, outcome.value))

    # ------------------------------------------------------------------------------------------ effects

    def begin_effect(self, pool: PoolId, effect: effects.Effect) -> None:
        """Perform it now, or when the process goes on."""
        self.counters.effects += 1
        number, name = self.counters.effects, name_of(effect)
        self.may_die("effect", "before", number, name)
        if self.frozen:
            self.held.append(lambda: self._perform(pool, effect, number, name))
        else:
            self._perform(pool, effect, number, name)

    def at_launch(self) -> None:
        """A fence agent's launcher was started, and is about to compare the clock; of several collectors a point."""

    def _perform(self, pool: PoolId, effect: effects.Effect, number: int, name: str) -> None:
        self.world.performed(self, pool, effect)
        self._performer.perform(pool, effect)
        self.may_die("effect", "after", number, name)
