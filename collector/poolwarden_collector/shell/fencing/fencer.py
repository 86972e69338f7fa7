"""The fencer: power readings and power-offs by fence agents, each answered by exactly one event.

Rules
-----
* A reading asks the device first, where that is due, which machine it switches (device_identity.py), in the same turn.
* Power is three-valued: exit 0 of ``status`` is ON, 2 is OFF, everything else, and every cut-off run, is UNKNOWN.
* ``off`` answers with a claim only; proof is in later readings. A cut-off ``off`` is not certain: it may still land.
* A power switch is begun within the time of its evidence and while this collector may act (leave.py), or not at all.
  Both are looked at before the fence agent's process is made, and once more in it, right before the agent is executed
  (launcher.py): a machine may be suspended in between. Of one that sleeps while the agent runs nobody can tell.
* An ``off`` can be recalled: while it waits that is
  certain, and told as *not begun*; one that runs is killed, and what it did is not known.
* One run at a time per device; whose turn it is says turns.py: what a proof waits for first, no site and no pool before
  the others.
* A device that members run is run by the member that the core has named (member_runs.py). Its reading is as old as the
  order.
* Parameters are known here alone. An agent's own words may repeat a secret, so they are cleaned of every value that
  came from one before anybody sees them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from poolwarden_collector.core.model.effects import (
    By,
    Hasten,
    PowerOff,
    PowerOn,
    ReadPower,
    Recall,
    Through,
    Unable,
    Urgency,
)
from poolwarden_collector.core.model.events import Event, FenceEnded, PowerRead
from poolwarden_collector.core.model.orders import FenceProxy, Order
from poolwarden_collector.core.model.power import DeviceIdentity, Power, PowerReading, Trouble
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.config.fence_blocks import Fence
from poolwarden_collector.shell.fencing.agent_run import LONGEST_LINE, AgentRun, run_agent
from poolwarden_collector.shell.fencing.device_identity import LIMIT_S as IDENTITY_LIMIT_S
from poolwarden_collector.shell.fencing.device_identity import Asked, ask, asked_of_member, can_be_asked
from poolwarden_collector.shell.fencing.leave import Leave, Ordered
from poolwarden_collector.shell.fencing.member_runs import Ended, Proxies, not_run
from poolwarden_collector.shell.fencing.turns import Ask, Turns, own_slots
from poolwarden_collector.shell.redaction import hidden, is_secret, secrets_of

SHORTEST_S = 3.0  # what is left to `status` after a slow `monitor`
OFF_WITHIN_MS = 5_000  # an `off` is decided on evidence at most 5 s old
BREATH_S = 0.02  # between some starts and the next ones, for the loop's other work

_log = logging.getLogger(__name__)


class Fencer:
    """Runs the configured devices' agents; results go to ``post``."""

    def __init__(
        self,
        devices: tuple[Fence, ...],
        post: Callable[[PoolId, Event], object],
        now: Callable[[], Ms],
        send: Callable[[PoolId, Order], bool] = lambda _pool, _order: False,
        site: Callable[[PoolId], str] = lambda _pool: "",
        slots: int = 0,
        slept: Callable[[], Ms] = clock.slept_ms,
        leave: Leave = Leave(),  # noqa: B008
    ) -> None:
        """``site``: of a pool, empty: of none; ``slots``: agents that may run at once, 0: as the machine is;
        ``slept``: how long this machine has slept so far, which ``now`` does not count; ``leave``: to switch power.
        """
        self._leave = leave
        self._devices = {device.name: device for device in devices}
        self.turns = Turns(slots or own_slots())
        self._numbers = itertools.count()
        self._called: dict[int, asyncio.Future[None]] = {}  # who waits for a turn
        self._breathing = False
        self._site = site
        self._post = post
        self._now = now
        self._slept = slept
        self._send = send
        self._proxies: dict[PoolId, Proxies] = {}  # what members run, by pool
        self._tasks: set[asyncio.Task[None]] = set()
        self._readings: dict[asyncio.Task[None], str] = {}  # what is read, by its device
        self._reads: dict[str, _Reading] = {}  # readings that wait or run, by run id
        self._offs: dict[asyncio.Task[None], PoolId] = {}
        # Power-offs that wait or run, by run id, and whether a member runs them.
        self._by_run: dict[str, tuple[asyncio.Task[None], bool]] = {}
        self._recalled: set[str] = set()
        self._begun: set[str] = set()
        self._stopping = False

    def read_power(self, pool: PoolId, effect: ReadPower) -> None:
        """Read a device; answered by PowerRead."""
        since = self._now()
        for other in [each for each in self._reads.values() if each.effect.device == effect.device]:
            if self.turns.waits(other.number) and other.task is not None:
                other.task.cancel()  # the engine hears the newest alone
                since = min(since, other.since)
        self._reads[effect.run_id] = reading = _Reading(pool, effect, next(self._numbers), since)
        reading.task = task = self._begin(self._read(pool, reading))
        self._readings[task] = effect.device

        def over(ended: asyncio.Task[None]) -> None:
            self._readings.pop(ended, None)
            self._reads.pop(effect.run_id, None)

        task.add_done_callback(over)

    def hasten(self, effect: Hasten) -> None:
        """Have a reading that waits go before others; nothing where it has been begun or has ended."""
        reading = self._reads.get(effect.run_id)
        if reading is not None and self.turns.hasten(reading.number, effect.urgency):
            reading.effect = replace(reading.effect, monitor=False, urgency=effect.urgency)
            self._call()

    def waits(self, run_id: str) -> bool:
        """Does this reading wait for its turn?"""
        reading = self._reads.get(run_id)
        return reading is not None and self.turns.waits(reading.number)

    def power_off(self, pool: PoolId, effect: PowerOff) -> None:
        """Switch a host off; answered by FenceEnded."""
        task = self._begin(self._off(pool, effect, self._ordered(effect)))
        self._offs[task] = pool
        self._by_run[effect.run_id] = (task, isinstance(effect.by, Through))

        def over(ended: asyncio.Task[None]) -> None:
            self._offs.pop(ended, None)
            self._by_run.pop(effect.run_id, None)
            self._recalled.discard(effect.run_id)
            self._begun.discard(effect.run_id)

        task.add_done_callback(over)

    def recall(self, effect: Recall) -> None:
        """Drop or kill a power-off; nothing where it has ended.

        One that was ordered of a member is that member's: its gate refuses it by term or age, and its word counts.
        """
        task, by_member = self._by_run.get(effect.run_id, (None, False))
        if task is None or effect.run_id in self._recalled or (by_member and effect.run_id in self._begun):
            return
        self._recalled.add(effect.run_id)
        task.cancel()

    def power_on(self, pool: PoolId, effect: PowerOn) -> None:
        """Switch a host on; answered by FenceEnded."""
        task = self._begin(self._on(pool, effect, self._ordered(effect)))
        self._offs[task] = pool

        def over(ended: asyncio.Task[None]) -> None:
            self._offs.pop(ended, None)
            self._begun.discard(effect.run_id)

        task.add_done_callback(over)

    def heard(self, pool: PoolId, event: Event) -> None:
        """An event of this pool: a member's answer to what it runs may be in it."""
        if pool in self._proxies:
            self._proxies[pool].heard(event, self._now())

    def cut_off(self, pool: PoolId = "") -> None:
        """Kill every power switch (of this pool) that runs, and drop what waits for its turn, which is told as *not
        begun*. What ran has no certain result any more.

        The core waits for the device's hard limit and reads its power anew before it concludes anything.
        """
        for task in [task for task, of in self._offs.items() if pool in ("", of)]:
            task.cancel()

    def forget(self, pool: PoolId) -> None:
        """End this pool's readings, and expect no member's answer any more; its switches are cut off (``cut_off``)."""
        for reading in list(self._reads.values()):
            if reading.pool == pool and reading.task is not None:
                reading.task.cancel()
        self._proxies.pop(pool, None)

    def replace_devices(self, devices: tuple[Fence, ...]) -> None:
        """From now on these are the devices. A reading of one that is another one now, or none, is dropped: nobody
        waits for it any more. A power switch that runs ends as it began, one that waits for its turn is not begun.
        """
        now = {device.name: device for device in devices}
        others = {name for name, device in self._devices.items() if not same_device(device, now.get(name))}
        for task in [task for task, name in self._readings.items() if name in others]:
            task.cancel()
        self._devices = now

    async def stop(self) -> None:
        """Cut off what runs; the journal's intents without a result are examined at the next start."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @contextlib.asynccontextmanager
    async def _turn(self, number: int, ask: Ask) -> AsyncIterator[None]:
        """Wait for its turn, and have it."""
        called = self._called[number] = asyncio.get_running_loop().create_future()
        self.turns.ask(number, ask)
        self._call()
        try:
            await called
            yield
        finally:
            self._called.pop(number, None)
            self.turns.over(number, self._now())
            self._call()

    def _call(self) -> None:
        """Have those run whose turn it is, a few at a time."""
        if self._breathing:
            return
        begun = self.turns.begin(self._now())
        for number in begun:
            if not self._called[number].done():  # it was cancelled, and gives its turn back by itself
                self._called[number].set_result(None)
        if begun:
            self._breathing = True
            asyncio.get_running_loop().call_later(BREATH_S, self._breathe)

    def _breathe(self) -> None:
        self._breathing = False
        self._call()

    def _ask(self, pool: PoolId, device: Fence, by: By, urgency: Urgency) -> Ask:
        """Devices of pools at no site stand in the way of their own pool's alone."""
        here = by is None and not device.via_members
        return Ask(device.name, self._site(pool) or pool, urgency, self._now(), here)

    async def _read(self, pool: PoolId, waits: _Reading) -> None:
        effect = waits.effect
        device = self._devices.get(effect.device)
        if device is None:
            now, why = self._now(), f"fence device {effect.device} is not configured (any more)"
            reading = PowerReading(Power.UNKNOWN, effect.device, now, now, why, trouble=Trouble.FAILED)
        else:
            urgency = Urgency.ROUTINE if effect.monitor else effect.urgency
            ask = replace(self._ask(pool, device, effect.by, urgency), since=waits.since)
            async with self._turn(waits.number, ask):
                reading = await self._look(pool, self._devices.get(device.name, device), waits.effect)
        self._post(pool, PowerRead(effect.host, effect.run_id, reading))

    async def _look(self, pool: PoolId, device: Fence, effect: ReadPower) -> PowerReading:
        """Identity, ``monitor`` and ``status`` in one turn, all within the device's limit and a few seconds."""
        began, limit, asked, told = self._now(), device.limit_ms / 1000, None, None
        agent = _Agent(self, pool, device, effect.by, effect.run_id)
        if effect.identify:
            asked = await agent.ask(min(IDENTITY_LIMIT_S, limit), effect.monitor)
        end = None
        if effect.monitor:
            monitor = await agent.run("monitor", limit)
            # Where nobody could be asked nothing is known of the device, good or bad.
            told = None if not monitor.run.started else "" if monitor.run.code == 0 else monitor.run.text
            end = monitor if monitor.run.code is None else None
            limit = max(SHORTEST_S, limit - (self._now() - began) / 1000)
        at = self._now()
        if end is None:
            end = await agent.run("status", limit)
        said = _clean(asked.said, device) if asked is not None else None
        ended, trouble = self._now(), end.trouble if end.trouble is not Trouble.NONE else trouble_of(end.run, asked)
        through = effect.by.host if isinstance(effect.by, Through) else ""
        text, power = end.run.text, power_of(end.run)
        return PowerReading(power, device.name, began, ended, text, said, trouble, told, ended - at, through)

    def _ordered(self, effect: PowerOff | PowerOn) -> Ordered:
        return Ordered(self._now(), self._slept(), effect.decided_at or clock.awake_or_not_ms())

    async def _off(self, pool: PoolId, effect: PowerOff, ordered: Ordered) -> None:
        try:
            # safety: `off` and nothing else; the core has made the intent durable before this effect.
            await self._switch(pool, effect, "off", ordered)
        except asyncio.CancelledError:
            if effect.run_id in self._recalled:
                self._tell_recalled(pool, effect)
            else:
                self._tell_dropped(pool, effect)
            raise

    def _tell_recalled(self, pool: PoolId, effect: PowerOff) -> None:
        begun = effect.run_id in self._begun
        text = "recalled and killed while it ran" if begun else "recalled before it was begun"
        _log.warning("power-off of host %s by %s: %s", effect.host, effect.device, text)
        # safety: certain only of one that never began; what a killed agent has asked for may still happen.
        self._post(pool, FenceEnded(effect.host, effect.run_id, False, not begun, text, self._now(), begun=begun))

    async def _on(self, pool: PoolId, effect: PowerOn, ordered: Ordered) -> None:
        try:
            await self._switch(pool, effect, "on", ordered)
        except asyncio.CancelledError:
            self._tell_dropped(pool, effect)
            raise

    def _tell_dropped(self, pool: PoolId, effect: PowerOff | PowerOn) -> None:
        """It was cut off: of one that waited it is certain that nothing of it can still land."""
        if effect.run_id in self._begun or self._stopping:
            return
        text = "not begun: it was cut off while it waited for its turn"
        _log.warning("power switch of host %s by %s: %s", effect.host, effect.device, text)
        self._post(pool, FenceEnded(effect.host, effect.run_id, False, True, text, self._now(), begun=False))

    async def _switch(self, pool: PoolId, effect: PowerOff | PowerOn, action: str, ordered: Ordered) -> None:
        run = await self._run(pool, effect, action, ordered)
        # A negative code is a signal: the agent may have sent its command before it was killed.
        certain = not run.started or (run.code is not None and run.code >= 0)
        _log.warning("power-%s of host %s by %s: %s", action, effect.host, effect.device, run.text)
        ok, now = run.code == 0, self._now()
        self._post(pool, FenceEnded(effect.host, effect.run_id, ok, certain, run.text, now, begun=run.started))

    async def _run(self, pool: PoolId, effect: PowerOff | PowerOn, action: str, ordered: Ordered) -> AgentRun:
        """Run in turn; not at all if the turn comes late, or this collector may not act any more."""
        name = effect.device
        device = self._devices.get(name)
        if device is None:
            return AgentRun(None, False, "", "", f"fence device {name} is not configured (any more)")
        ask = replace(self._ask(pool, device, effect.by, Urgency.PROOF), switch=True)
        async with self._turn(next(self._numbers), ask):
            # safety: a machine that wakes up may have the turn come before the loop has noticed that it was away.
            began, within = self._now() + max(0, self._slept() - ordered.slept), self._leave.within_ms or OFF_WITHIN_MS
            begin_by = self._leave.begin_by(effect, ordered, began, within)
            if late := too_late(effect, ordered.at, began, within) or self._leave.why_no_switch(pool, begin_by):
                return AgentRun(None, False, "", "", late)
            newest = self._devices.get(name)
            if newest is None or not same_device(device, newest):
                # safety: by this name another machine may be switched now than the one that was decided about.
                return AgentRun(None, False, "", "", f"not begun: fence device {name} was configured anew")
            self._begun.add(effect.run_id)
            until, address = (effect.valid_until, effect.address) if isinstance(effect, PowerOff) else (0, "")
            agent = _Agent(self, pool, newest, effect.by, effect.run_id)
            return (await agent.run(action, newest.limit_ms / 1000, until, address, begin_by)).run

    async def by_member(
        self, pool: PoolId, order_id: str, through: Through, wanted: FenceProxy, valid_until: Ms = 0
    ) -> Ended:
        """Have a member run it."""
        ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        proxies = self._proxies.setdefault(pool, Proxies(lambda order: self._send(pool, order)))
        try:
            proxies.begin(order_id, through, wanted, self._now(), ended.set_result, valid_until)
            return await ended
        finally:
            proxies.forget(order_id)


@dataclass(slots=True)
class _Reading:
    """A reading that waits for its turn or has it."""

    pool: PoolId
    effect: ReadPower
    number: int
    since: Ms
    task: asyncio.Task[None] | None = None


class _Agent:
    """A device's fence agent in one turn, run here or by a member."""

    def __init__(self, fencer: Fencer, pool: PoolId, device: Fence, by: By, run_id: str) -> None:
        self._fencer, self._pool, self._device, self._by, self._run_id = fencer, pool, device, by, run_id

    async def ask(self, limit_s: float, thorough: bool) -> Asked:
        if self._by is None and not self._device.via_members:
            return await ask(self._device, limit_s, thorough)
        kind = self._device.agent.name.split(".")[0]
        if not can_be_asked(kind):
            return Asked(DeviceIdentity(text=f"{kind} cannot be asked by a member"))
        return asked_of_member(await self.run("inventory" if thorough else "identity", limit_s))

    async def run(
        self, action: str, limit_s: float, valid_until: Ms = 0, address: str = "", begin_by: Ms | None = None
    ) -> Ended:
        """Run it, or say why it is not run; nothing of it is secret any more.

        ``valid_until``: not begun by a member after this; ``address``: nor if the xapi there answers that member;
        ``begin_by``: not begun here at or after this instant of CLOCK_BOOTTIME.
        """
        device, by = self._device, self._by
        if by is None and device.via_members:
            by = Unable(f"{device.name} is run by members, and none was named", allowed=True)
        if isinstance(by, Unable):
            return not_run(by)
        if by is None:
            return Ended(await run_agent(device.agent, device.parameters, action, limit_s, begin_by))
        order_id, wanted = f"{self._run_id}/{action}", replace(proxied(device, action, limit_s), target_address=address)
        ended = await self._fencer.by_member(self._pool, order_id, by, wanted, valid_until)
        return replace(ended, run=_cleaned(ended.run, device))


def same_device(one: Fence, other: Fence | None) -> bool:
    """Is it the same device to the core, which knows no secrets? Another password makes no other device."""
    return other is not None and one.device == other.device


def too_late(effect: PowerOff | PowerOn, asked: Ms, now: Ms, within: Ms = OFF_WITHIN_MS) -> str:
    """Why a switch whose turn has come now is not begun any more; empty: it is. ``asked``: when it was ordered."""
    if now - asked > within:
        return f"not begun: {effect.device} was busy for {(now - asked) / 1000:.1f} s"
    until = effect.valid_until if isinstance(effect, PowerOff) else 0
    # safety: the host may have recovered since; its silence is looked at anew before another attempt.
    return f"not begun: what it was decided on is {(now - until) / 1000:.1f} s too old" if until and now > until else ""


def proxied(device: Fence, action: str, limit_s: float) -> FenceProxy:
    """What a member is told to run; the parameters go with it, in the order alone."""
    given = tuple(sorted(device.parameters.items()))
    names = tuple(name for name, value in given if value and is_secret(name))
    return FenceProxy(device.agent.name, action, given, int(limit_s * 1000), device.host, names)


def power_of(run: AgentRun) -> Power:
    """What a ``status`` run has read."""
    return {0: Power.ON, 2: Power.OFF}.get(-1 if run.code is None else run.code, Power.UNKNOWN)


def trouble_of(run: AgentRun, asked: Asked | None) -> Trouble:
    """Why a ``status`` run gave no power. Agents collapse every reason into exit status 1 (doc/FenceAgentAPI.md), so
    what the device's own identity question met with is heard first; then the agent's last words.
    """
    if power_of(run) is not Power.UNKNOWN:
        return Trouble.NONE
    if not run.started:
        return Trouble.AGENT
    if asked is not None and asked.trouble is Trouble.PASSWORD:
        return Trouble.PASSWORD
    if run.cut_off:
        return Trouble.HUNG
    said = f"{run.errors} {run.output}".lower()
    found = next((trouble for trouble, words in _WORDS if any(word in said for word in words)), None)
    return found or (asked.trouble if asked is not None and asked.trouble is not Trouble.NONE else Trouble.FAILED)


_WORDS = (
    (Trouble.PASSWORD, ("connect/login", "login failed", "password", "unauthorized", "denied", "401", "rakp")),
    (Trouble.UNREACHABLE, ("timed out", "refused", "unreachable", "no route", "unable to establish", "connection")),
)


def _clean(said: DeviceIdentity, device: Fence) -> DeviceIdentity:
    return replace(said, text=hidden(said.text, secrets_of(device.parameters)))


def _cleaned(run: AgentRun, device: Fence) -> AgentRun:
    """A member's words. It cleans them itself; one of an older version has cut them before that."""

    def clean(said: str) -> str:
        return hidden(said, secrets_of(device.parameters), cut=len(said) >= LONGEST_LINE)

    return AgentRun(run.code, run.started, clean(run.output), clean(run.errors), clean(run.text))
