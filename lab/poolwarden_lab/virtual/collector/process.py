"""A process in virtual time: it can be killed at any point, and it can stand still.

Three ways of standing still, by what its clocks do meanwhile: stopped (SIGSTOP) both go on; with its machine suspended
the monotonic one stands (CLOCK_MONOTONIC) and the other goes on (CLOCK_BOOTTIME); where a hypervisor has paused its
machine both stand.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from poolwarden_lab.virtual.collector.points import CollectorKilled, Point, Saboteur
from poolwarden_lab.virtual.collector.surroundings import Surroundings


class Still(Enum):
    """How it stands still."""

    STOPPED = "stopped"
    SUSPENDED = "suspended"
    PAUSED = "paused"


class SimProcess:
    """``held``: what comes while it stands still, in the order in which it goes on with it."""

    def __init__(self, world: Surroundings, saboteur: Saboteur) -> None:
        self.world = world
        self.saboteur = saboteur
        self.alive = True
        self.frozen = False
        self.goes_on = False  # with what it had in hand when it stopped
        self.held: list[Callable[[], None]] = []
        self._still = Still.STOPPED
        self._since = 0
        self._lost = {Still.SUSPENDED: 0, Still.PAUSED: 0}  # for how long it stood so, ms

    @property
    def now(self) -> int:
        """Its monotonic clock: it stands while the machine sleeps."""
        return self._read(Still.SUSPENDED, Still.PAUSED)

    @property
    def boottime(self) -> int:
        """The clock that goes on while the machine sleeps."""
        return self._read(Still.PAUSED)

    @property
    def asleep(self) -> bool:
        """Does its whole machine stand still, and with it whatever it has started?"""
        return self.frozen and self._still is not Still.STOPPED

    def _read(self, *stands: Still) -> int:
        here = self._since if self.frozen and self._still in stands else self.world.now
        return here - sum(self._lost[each] for each in stands)

    def ended(self) -> None:
        """It has died: what its kernel does then."""
        raise NotImplementedError

    def die(self) -> None:
        """SIGKILL: nothing runs on."""
        if not self.alive:
            return
        self.alive = self.frozen = False
        self.ended()

    def freeze(self, how: Still = Still.STOPPED) -> None:
        """It stands still from here on."""
        if not self.frozen:
            self._still, self._since = how, self.world.now
        self.frozen = True

    def thaw(self) -> None:
        """It goes on: what came meanwhile is taken now."""
        self.frozen = False
        if self._still in self._lost:
            self._lost[self._still] += self.world.now - self._since
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
        """A timer of this process, on its monotonic clock."""
        due = self.now + delay

        def fire() -> None:
            if self.frozen:
                self.held.append(fire)
            elif self.now < due:
                self.world.at(self.world.now + due - self.now, fire)
            else:
                self.enter(act)

        self.world.at(self.world.now + delay, fire)

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
