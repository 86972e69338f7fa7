"""A process in virtual time: it can be killed at any point, and it can stand still (SIGSTOP, a suspended machine)."""

from __future__ import annotations

from collections.abc import Callable

from poolwarden_lab.virtual.collector.points import CollectorKilled, Point, Saboteur
from poolwarden_lab.virtual.collector.surroundings import Surroundings


class SimProcess:
    """``held``: what comes while it stands still, in the order in which it goes on with it."""

    def __init__(self, world: Surroundings, saboteur: Saboteur) -> None:
        self.world = world
        self.saboteur = saboteur
        self.alive = True
        self.frozen = False
        self.goes_on = False  # with what it had in hand when it stopped
        self.held: list[Callable[[], None]] = []

    def ended(self) -> None:
        """It has died: what its kernel does then."""
        raise NotImplementedError

    def die(self) -> None:
        """SIGKILL: nothing runs on."""
        if not self.alive:
            return
        self.alive = self.frozen = False
        self.ended()

    def freeze(self) -> None:
        """SIGSTOP, or its machine is suspended."""
        self.frozen = True

    def thaw(self) -> None:
        """It goes on: what came meanwhile is taken now."""
        self.frozen = False
        held, self.held = self.held, []
        self.goes_on = True
        try:
            for act in held:
                self.enter(act)
        finally:
            self.goes_on = False

    def enter(self, act: Callable[[], None]) -> None:
        """Something comes in: now, later if the process stands still, never if it is dead."""
        if self.frozen:
            self.held.append(act)
        elif self.alive:
            with self.mortal():
                act()

    def later(self, delay: int, act: Callable[[], None]) -> None:
        """A timer of this process."""
        self.world.at(self.world.now + delay, lambda: self.enter(act))

    def mortal(self) -> Mortal:
        return Mortal(self)

    def may_die(self, what: str, when: str, number: int, names: str) -> None:
        if self.saboteur(Point(what, when, number, names)):
            raise CollectorKilled


class Mortal:
    """Within it a killed collector unwinds quietly."""

    def __init__(self, process: SimProcess) -> None:
        self._process = process

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, CollectorKilled):
            return False
        self._process.die()
        return True
