"""One of several collectors in virtual time: production's service of one of several, on etcd as it is modelled.

What runs as in production: SharedService with its engine's loop, its inbox, its store in etcd and its commits in doubt,
the membership with its renewals, and the ownerships with their rounds. What is the world's: streams,
fence agents, the own disk.

A process that stands still goes on with what it had in hand: what it asked etcd for is carried out meanwhile, what it
was about to begin is begun when it goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.shell.agents.elsewhere import Elsewhere
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.cluster.etcd import Etcd
from poolwarden_collector.shell.cluster.membership import Membership
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.engine_loop import EngineLoop
from poolwarden_collector.shell.loop.ownerships import Ownerships
from poolwarden_collector.shell.loop.right_alerts import RightAlerts
from poolwarden_collector.shell.loop.shared_service import SharedService
from poolwarden_collector.shell.queue.inbox import Inbox
from poolwarden_lab.virtual.collector.collector import SimCollector
from poolwarden_lab.virtual.collector.ledger import Commit, Ledger
from poolwarden_lab.virtual.collector.points import CollectorKilled, Saboteur
from poolwarden_lab.virtual.collector.process import Still
from poolwarden_lab.virtual.collector.surroundings import Counters, Settings, Surroundings
from poolwarden_lab.virtual.several.archive import LedgerArchive, Told
from poolwarden_lab.virtual.several.process_loop import ProcessGone, ProcessLoop
from poolwarden_lab.virtual.several.store import PointedStore

AGENTS_PORT = 7700


def address_of(node: str) -> str:
    """Where a collector is reached by agents."""
    return f"{node}:{AGENTS_PORT}"


class SharedShell(SimCollector):
    """One collector process, from its start to its end."""

    def __init__(
        self,
        world: Surroundings,
        ledger: Ledger,
        settings: Settings,
        counters: Counters,
        saboteur: Saboteur,
        node: str,
        etcd: Etcd,
        names: Names,
        told: Told,
    ) -> None:
        super().__init__(world, saboteur)
        self.ledger, self.settings, self.counters = ledger, settings, counters
        self.etcd, self.names = etcd, names
        self.loop = ProcessLoop(lambda: world.now, world.at, lambda: self.now)  # type: ignore[abstract]
        self.loop.at_await = self._at_await
        self.membership = Membership(names, node, address_of(node), lambda: self.boottime)
        self.roster = Roster(settings.config(), world.lot() + 1, lambda: self.now, one_of_several=True)
        self.equip(node)
        self.inbox = Inbox(lambda: self.now)
        archive = LedgerArchive(ledger, lambda: world.now, self._epoch_of, told, self._archived)
        self.store = PointedStore(etcd, names, lambda: self.now, self._at_commit)
        self.service = _Service(self, archive)
        heard: Any = self.sessions  # what production asks of its own
        self.ownerships = Ownerships(
            etcd,
            names,
            self.membership,
            self.service,
            load=lambda: len(heard),
            now=lambda: self.boottime,
            sessions=heard,
            lot=world.lot,
        )
        own: Any = archive
        RightAlerts(self.ownerships, self.service, own, heard)
        self.service.on_absence(self.fencer.cut_off)
        self.service.on_stand_down(self.fencer.cut_off)

    def start(self) -> None:
        """Join the others, and guard what it comes to own."""
        self.loop.own(self._run())
        self.later(self.settings.policy.probe_interval, self.probe_targets)

    async def _run(self) -> None:
        await self.service.begin()
        self.ownerships.start()
        await self.service.run()

    def stop(self) -> None:
        """SIGTERM: it hands over what may be moved, gives its lease up, and ends."""

        def begin() -> None:
            self.loop.own(self._stop())

        self.enter(begin)

    async def _stop(self) -> None:
        await self.ownerships.leave()
        self.die()

    # ------------------------------------------------------------------------------------------ life

    def ended(self) -> None:
        self.loop.end()
        super().ended()

    def freeze(self, how: Still = Still.STOPPED) -> None:
        super().freeze(how)
        self.loop.stand_still()

    def thaw(self) -> None:
        super().thaw()
        self.loop.go_on()

    def may_die(self, what: str, when: str, number: int, names: str) -> None:
        try:
            super().may_die(what, when, number, names)
        except CollectorKilled:
            self.die()
            raise ProcessGone from None

    def at_launch(self) -> None:
        self.counters.effects += 1
        self.may_die("effect", "before", self.counters.effects, "Launch")

    def _at_await(self) -> None:
        self.counters.awaits += 1
        try:
            super().may_die("await", "before", self.counters.awaits, self.node)
        except CollectorKilled:
            self.die()

    # ------------------------------------------------------------------------------------------ what comes in

    def take(self, pool: PoolId, event: ev.Event) -> None:
        self.inbox.post(pool, event)

    def reload(self, settings: Settings) -> None:
        change = on.Reconfiguration(settings.config(), settings.devices, "SIGHUP", ("its settings",))

        def follow_up() -> None:
            self.settings = settings

        def begin() -> None:
            self.loop.own(self.service.reconfigure(change, follow_up))

        self.enter(begin)

    def owner_of(self, pool: PoolId) -> Elsewhere | None:
        """Who has a pool, as this collector knows it; None: it has."""
        return self.ownerships.owner_of(pool)

    # ------------------------------------------------------------------------------------------ the service's

    def perform(self, pool: PoolId, effect: effects.Effect) -> None:
        try:
            self.begin_effect(pool, effect)
        except AssertionError as error:
            raise self.loop.fail(error) from None

    def heard(self, pool: PoolId, event: ev.Event) -> None:
        self._performer.heard(pool, event)

    def forget(self, pool: PoolId, why: str) -> None:
        self.fencer.cut_off(pool)
        self._performer.forget(pool)
        owner = self.roster.elsewhere(pool)
        self.sessions.send_on(pool, replace(owner, reason=owner.reason if owner.address else why))

    def broke(self, pool: PoolId, error: Exception) -> None:
        """A step was dropped."""
        try:
            self.world.step_broke(self, pool, error)
        except Exception as meant:
            raise self.loop.fail(meant) from None

    def _epoch_of(self, pool: PoolId) -> int:
        return self.roster.charge(pool).epoch if pool else self.ledger.epoch

    def _archived(self, commit: Commit) -> None:
        try:
            self.world.committed(self, commit)
        except AssertionError as error:
            raise self.loop.fail(error) from None

    def _at_commit(self, when: str, names: str) -> None:
        self.counters.commits += when == "before"
        self.may_die("commit", when, self.counters.commits, names)


class _Service(SharedService):
    """Production's service, whose clocks are the world's and whose disk takes no time."""

    def __init__(self, shell: SharedShell, archive: LedgerArchive) -> None:
        self._shell = shell
        super().__init__(shell.roster, shell.inbox, archive, shell, shell.store, anchors=lambda: shell.anchors)
        self.loop = EngineLoop(self.roster, shell.settings.devices, *self._clocks())  # a world's devices are in no file
        self.processor_s = shell.loop.time  # a turn ends with each instant of the world's time

    def _clocks(self) -> tuple[Ms, Ms]:
        return self._shell.now, self._shell.boottime

    def _devices(self) -> dict[str, FenceDevice]:
        return {each.name: each for devices in self._shell.settings.devices.values() for each in devices}

    async def write(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        if self._shell.ledger.slow_ms:
            await asyncio.sleep(self._shell.ledger.slow_ms / 1000)
        return call(*args, **named)

    def _do(self, act: on.Act) -> None:
        super()._do(act)
        if isinstance(act, on.Broke):
            self._shell.broke(act.happening.pool, act.error)
