"""The fencer in virtual time: each effect is one run of a fence agent, answered by one event (fencer.py).

One run at a time per device; where the settings give ``fence_slots``, whose turn it is says production's own turns.py,
else nothing but its device keeps a run waiting. An ``off`` whose turn comes later than 5 s, or than its evidence lets
it be begun, is not begun. One that is recalled is dropped or killed: it does nothing if it has not acted yet. A run
that was begun goes on if the collector dies; its answer is lost then. A run that is cut off is uncertain: what it has
asked the device for may still happen; one that waited is certain not to.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import Urgency
from poolwarden_collector.core.model.power import DeviceIdentity, Power, PowerReading, Trouble
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell.fencing.fencer import OFF_WITHIN_MS, too_late
from poolwarden_collector.shell.fencing.leave import Ordered
from poolwarden_collector.shell.fencing.member_runs import Ended
from poolwarden_collector.shell.fencing.turns import Ask, Turns
from poolwarden_collector.shell.loop.performer import power_leave
from poolwarden_lab.virtual.collector.by_members import ByMembers
from poolwarden_lab.virtual.world.bmc import Run

if TYPE_CHECKING:
    from poolwarden_lab.virtual.collector.collector import SimCollector

DEFAULT_LIMIT_MS = 40_000
BREATH_MS = 20
Runs = effects.ReadPower | effects.PowerOff | effects.PowerOn
Begin = Callable[[Run], bool]  # begins a run that will go so; False: it was not begun after all


@dataclass(eq=False)
class Off:
    """A power-off under way."""

    pool: PoolId
    host: HostId
    run_id: str
    over: bool = False
    begun: bool = False
    recalled: bool = False
    by_member: bool = False
    epoch: int = 0  # that it was ordered with


class SimFencer:
    """The fence agents that one collector process has started."""

    def __init__(self, shell: SimCollector) -> None:
        self._shell = shell
        self._offs: list[Off] = []
        self._waiting: dict[str, deque[Begin]] = {}  # a device is there while an agent of it runs
        self._by_members = ByMembers(shell)
        slots = shell.settings.fence_slots
        self._turns = Turns(slots) if slots else None
        self._numbers = itertools.count()
        self._begins: dict[int, tuple[str, Begin]] = {}  # what waits for its turn
        self._readings: dict[str, int] = {}  # readings that wait or run, by run
        self._since: dict[int, int] = {}  # since when each was wanted
        self._leave = replace(power_leave(shell.roster), boottime=lambda: shell.boottime)
        self._breathing = False

    def _limit(self, device: str) -> int:
        known = [each for devices in self._shell.settings.devices.values() for each in devices]
        return next((each.hard_limit_ms for each in known if each.name == device), DEFAULT_LIMIT_MS)

    def _turn(self, pool: PoolId, effect: Runs, begin: Begin) -> None:
        """Begin when the device is free, and its turn has come."""
        device = effect.device
        if self._turns is not None:
            number, ask = next(self._numbers), self._ask(pool, effect)
            if isinstance(effect, effects.ReadPower):
                ask = replace(ask, since=min([ask.since, *self._drop_readings(self._turns, device)]))
                self._readings[effect.run_id] = number
            self._begins[number] = (device, begin)
            self._since[number] = ask.since
            self._turns.ask(number, ask)
            self._call(self._turns)
            return
        waiting = self._waiting.get(device)
        if waiting is not None:
            waiting.append(begin)
            return
        self._waiting[device] = deque()
        self._begin(device, begin)

    def _drop_readings(self, turns: Turns, device: str) -> list[int]:
        """Readings of this device that wait still: the newest alone is heard. Since when they waited."""
        found = {run: number for run, number in self._readings.items() if self._begins.get(number, ("",))[0] == device}
        since = [self._since[number] for number in found.values()]
        for run, number in found.items():
            del self._readings[run], self._begins[number]
            turns.over(number, self._shell.now)
        return since

    def _ask(self, pool: PoolId, effect: Runs) -> Ask:
        """As production's fencer asks."""
        policy = self._shell.settings.pools.get(pool, self._shell.settings.policy)
        urgency, switch = Urgency.PROOF, not isinstance(effect, effects.ReadPower)
        if isinstance(effect, effects.ReadPower):
            urgency = Urgency.ROUTINE if effect.monitor else effect.urgency
        return Ask(effect.device, policy.site or pool, urgency, self._shell.now, True, switch)

    def hasten(self, effect: effects.Hasten) -> None:
        """Have a reading that waits go before others."""
        number = self._readings.get(effect.run_id)
        if self._turns is not None and number is not None and self._turns.hasten(number, effect.urgency):
            self._call(self._turns)

    def _call(self, turns: Turns) -> None:
        if self._breathing:
            return
        world, begun = self._shell.world, turns.begin(self._shell.now)
        for number in begun:
            device, begin = self._begins.pop(number)
            run = world.bmc(device).run(self._reached(device), self._limit(device))
            began = begin(run)
            self._shell.later(run.ends_ms if began else 0, lambda number=number: self._over(turns, number))  # type: ignore[misc]
        if begun:
            self._breathing = True
            self._shell.later(BREATH_MS, lambda: self._breathe(turns))

    def _breathe(self, turns: Turns) -> None:
        self._breathing = False
        self._call(turns)

    def _over(self, turns: Turns, number: int) -> None:
        turns.over(number, self._shell.now)
        self._since.pop(number, None)
        self._readings = {run: each for run, each in self._readings.items() if each != number}
        self._call(turns)

    def _begin(self, device: str, begin: Begin) -> None:
        run = self._shell.world.bmc(device).run(self._reached(device), self._limit(device))
        began = begin(run)
        self._shell.later(run.ends_ms if began else 0, lambda: self._next(device))

    def _next(self, device: str) -> None:
        waiting = self._waiting[device]
        if waiting:
            self._begin(device, waiting.popleft())
        else:
            del self._waiting[device]

    def read_power(self, pool: PoolId, effect: effects.ReadPower) -> None:
        """Read a device; answered by PowerRead."""
        if effect.by is not None:
            self._by_members.read(pool, effect)
            return
        self._turn(pool, effect, lambda run: self._read(pool, effect, run))

    def _read(self, pool: PoolId, effect: effects.ReadPower, run: Run) -> bool:
        shell, world = self._shell, self._shell.world
        began, own, bmc = world.now, shell.now, world.bmc(effect.device)
        found: list[PowerReading] = []

        def read(power: Power, text: str, said: DeviceIdentity, trouble: Trouble) -> None:
            asked, failed = said if effect.identify else None, text if trouble is not Trouble.NONE else ""
            told = failed if effect.monitor else None
            found.append(PowerReading(power, effect.device, own, shell.now, text, asked, trouble, told))

        def look() -> None:
            reached = self._reached(effect.device)
            read(*bmc.status(world.now, reached), bmc.identity(reached), bmc.trouble(reached))

        if run.killed:
            text = f"killed: no end within {run.ends_ms / 1000:g} s"
            read(Power.UNKNOWN, text, DeviceIdentity(text=text), Trouble.HUNG)
        else:
            world.at(began + run.acts_ms, look)

        def report() -> None:
            reading = replace(found[0], ended_at=shell.now, status_ms=run.ends_ms)
            shell.take(pool, ev.PowerRead(effect.host, effect.run_id, reading))

        shell.later(run.ends_ms, report)
        return True

    def _reached(self, device: str) -> bool:
        return self._shell.world.reaches(self._shell, device)

    def power_off(self, pool: PoolId, effect: effects.PowerOff) -> None:
        """Switch a host off; answered by FenceEnded."""
        self._switch(pool, effect)

    def power_on(self, pool: PoolId, effect: effects.PowerOn) -> None:
        """Switch a host on; answered by FenceEnded."""
        self._switch(pool, effect)

    def _switch(self, pool: PoolId, effect: effects.PowerOff | effects.PowerOn) -> None:
        if effect.by is not None:
            self._switch_by_member(pool, effect, "on" if isinstance(effect, effects.PowerOn) else "off")
            return
        shell = self._shell
        ordered = Ordered(shell.now, self._slept(), effect.decided_at or shell.boottime)
        off = Off(pool, effect.host, effect.run_id, epoch=shell.roster.charge(pool).epoch)
        self._offs.append(off)
        self._turn(pool, effect, lambda run: self._off(off, effect, run, ordered))

    def _switch_by_member(self, pool: PoolId, effect: effects.PowerOff | effects.PowerOn, action: str) -> None:
        off = Off(pool, effect.host, effect.run_id, by_member=True)
        self._offs.append(off)

        def done(ended: Ended) -> None:
            run = ended.run
            self._end(off, run.code == 0, not run.started or run.code is not None, run.text, run.started)

        self._by_members.run(pool, effect, action, done)

    def heard(self, pool: PoolId, event: ev.Event) -> None:
        """An event of this pool: a member's answer may be in it."""
        self._by_members.heard(pool, event)

    def _off(self, off: Off, effect: effects.PowerOff | effects.PowerOn, run: Run, ordered: Ordered) -> bool:
        if off.over:
            return False
        shell, leave = self._shell, self._leave
        began, within = shell.now + max(0, self._slept() - ordered.slept), leave.within_ms or OFF_WITHIN_MS
        begin_by = leave.begin_by(effect, ordered, began, within)
        if late := too_late(effect, ordered.at, began, within) or leave.why_no_switch(off.pool, begin_by):
            self._end(off, False, True, late, begun=False)
            return False
        shell.at_launch()

        def launch() -> None:
            # The launcher's own comparison (launcher.py), right before it becomes the fence agent.
            if shell.boottime >= begin_by:
                self._end(off, False, True, "not begun: its launcher was too late", begun=False)
            elif not off.over:
                self._launched(off, effect, run)

        if shell.asleep:
            shell.held.append(launch)
        else:
            launch()
        return True

    def _slept(self) -> int:
        """How long its machine has slept so far."""
        return self._shell.boottime - self._shell.now

    def _launched(self, off: Off, effect: effects.PowerOff | effects.PowerOn, run: Run) -> None:
        world, device = self._shell.world, effect.device
        began, bmc = world.now, world.bmc(device)
        found: list[tuple[bool, str]] = []
        off.begun = True
        world.switch_begun(self._shell, off.pool, off.run_id)

        def switch() -> None:
            if self._shell.asleep:  # and its machine, on which the fence agent runs
                self._shell.held.append(switch)
                return
            # The fence agent is a process of its own: once begun, it ends even if the collector is gone.
            if off.recalled:
                return
            if isinstance(effect, effects.PowerOn):
                found.append(bmc.on(world.now, self._reached(device)))
            else:
                if bmc.powered() and self._reached(device):
                    world.power_goes(off.pool, off.epoch)
                ours = self._shell.alive and not self._shell.frozen and not off.over
                found.append(bmc.off(world.now, self._reached(device), world.now if ours else began))

        world.at(began + run.acts_ms, switch)

        def report() -> None:
            if off.over:
                return
            if run.killed:
                self._end(off, False, False, f"killed: no end within {run.ends_ms / 1000:g} s")
            else:
                self._end(off, found[0][0], True, found[0][1])

        self._shell.later(run.ends_ms, report)

    def _end(self, off: Off, claim: bool, certain: bool, text: str, begun: bool = True) -> None:
        if off.over:
            return
        off.over = True
        self._offs.remove(off)
        now = self._shell.now
        self._shell.take(off.pool, ev.FenceEnded(off.host, off.run_id, claim, certain, text, now, begun))

    def recall(self, effect: effects.Recall) -> None:
        """Drop or kill a power-off; one that a member runs ends there."""
        for off in [each for each in self._offs if each.run_id == effect.run_id and not each.by_member]:
            off.recalled = True
            text = "recalled and killed while it ran" if off.begun else "recalled before it was begun"
            self._offs.remove(off)
            off.over = True
            ended = ev.FenceEnded(off.host, off.run_id, False, not off.begun, text, self._shell.now, off.begun)
            self._shell.later(0, self._telling(off.pool, ended))

    def cut_off(self, pool: PoolId = "") -> None:
        """Kill every power switch (of this pool) that runs, which has no certain result any more; drop what waits."""
        for off in [off for off in self._offs if pool in ("", off.pool)]:
            self._offs.remove(off)
            off.over = True
            begun, now = off.begun or off.by_member, self._shell.now
            ended = ev.FenceEnded(off.host, off.run_id, False, not begun, "cut off by the collector", now, begun)
            self._shell.later(0, self._telling(off.pool, ended))

    def _telling(self, pool: PoolId, event: ev.Event) -> Callable[[], None]:
        return lambda: self._shell.take(pool, event)
