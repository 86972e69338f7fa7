"""The service: the engine's loop (engine_loop.py, with its rules) on asyncio, SQLite and the machine's clocks.

Rules
-----
* Events come out of one inbox, one at a time. After ``TURN_S`` of them the readers of the agents' streams get their
  turn, however full the inbox is; each turn of asyncio costs about as much as a report that says nothing new.
* One thread writes the journal, in the order of asking; nothing else waits for the disk. While it is busy other pools'
  events are taken, and what their steps have to commit is gathered, at most ``MOST_TOGETHER`` in a transaction. Events
  of a pool whose step waits for its commit wait in the inbox.
* What concerns all pools (an epoch, a journal that works again, another configuration) is written while no step waits.
* A transaction that fails is the failure of every step that waits: nothing is tried again before the loop says so.
* Time is counted on the clock that runs while the machine sleeps, too; orders from before the sleep are dead on arrival
  by what they echo.
* An error in an effect, or in whoever follows the journal or is told of something, is logged and ends nothing else: a
  step that is durable has happened, and its effects follow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.events import AgentReported, Tick
from poolwarden_collector.core.model.takeover import LeftBehind
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.engine_loop import TICK_MS, EngineLoop
from poolwarden_collector.shell.loop.performer import Effects
from poolwarden_collector.shell.queue.happening import Happening
from poolwarden_collector.shell.queue.inbox import Inbox, Lag
from poolwarden_collector.shell.store.journal import JournalError, Numbers, Row, Step, Unwritable
from poolwarden_collector.shell.store.store import Store
from poolwarden_collector.shell.store.telemetry import Telemetry

TURN_S = 0.002
BEAT_MS = 100
SHORT_MS: Ms = 500  # a beat that takes longer: this process gets too little of the processor
SHORT_FOR_MS: Ms = 10_000  # and is taken for short of it for so long after that
MOST_TOGETHER = 64  # commits: what a transaction of more saves is little, and all of its effects wait for its end
STEP_WITHIN_MS = 10_000  # a pool has its tick several times a second, also where all of them rest (EngineLoop.due)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A write that the loop has asked for over this event, and when, s."""

    happening: Happening
    write: on.Write
    asked: float
    shared: Numbers = (0, 0)  # its numbers in its pool's journal in etcd; 0: nothing of it is there


class Service:
    """Runs the engine on what comes out of ``inbox``. ``journal`` must be open, its epoch begun by the caller.

    One of several collectors has its pools' steps in etcd as well: shared_service.py.
    """

    processor_s = staticmethod(time.monotonic)  # the clock on which a turn of asyncio is counted

    def __init__(
        self,
        roster: Roster,
        inbox: Inbox,
        journal: Store,
        effects: Effects,
        telemetry: Telemetry | None = None,
        anchors: Callable[[], tuple[bool, ...]] = tuple,
    ) -> None:
        self.roster = roster
        self.loop = EngineLoop(roster, roster.config.devices(), *self._clocks())
        self._inbox = inbox
        self._journal = journal
        self._effects = effects
        self._telemetry = telemetry
        self._anchors = anchors
        self._writer = ThreadPoolExecutor(1, "journal")
        self._stepped_at = roster.now()
        self._followers: set[Callable[[list[Row]], None]] = set()
        self._on_alert: Callable[[], None] = lambda: None
        self._on_occasion: Callable[[], None] = lambda: None
        self._on_absence: Callable[[], None] = lambda: None
        self._on_read: Callable[[], None] = lambda: None
        self._lag: Lag = lambda: (0, {})
        self._unread: Lag = lambda: (0, {})
        self._on_stand_down: Callable[[PoolId], None] = lambda _: None
        self._on_give_up: Callable[[on.GiveUp], None] = lambda _: None
        self._on_stall: Callable[[str], None] = lambda _: None
        self._on_resume: Callable[[], None] = lambda: None
        self._on_commit: Callable[[float], None] = lambda _: None
        self._on_pools: list[Callable[[], Awaitable[None]]] = []
        self._follow_up: Callable[[], None] = lambda: None  # what another configuration is followed by
        self._between_events = asyncio.Lock()  # held while an event is taken, or the configuration replaced
        self._gathered: deque[_Waiting] = deque()  # commits
        self._alone: deque[_Waiting] = deque()  # every other write
        self._again: deque[Happening] = deque()  # what is to be taken before all else
        self._open: set[PoolId] = set()  # whose event waits for its write
        self._freed: dict[PoolId, asyncio.Event] = {}  # who waits until none does
        self._writing: asyncio.Task[None] | None = None
        self._write_began: Ms | None = None  # of the transaction that is on its way
        self._refused: on.NotReconfigured | None = None
        self._ended = False

    def _clocks(self) -> tuple[Ms, Ms]:
        """Now, on the clock that stands still while the machine sleeps and on the one that does not."""
        return self.roster.now(), clock.awake_or_not_ms()

    # ------------------------------------------------------------------------------------------------ around it

    async def write(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Run one journal call in the one thread that does so, in the order of asking."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, partial(call, *args, **named))

    async def record(
        self,
        pool: PoolId,  # noqa: ARG002
        entries: Iterable[Entry],  # noqa: ARG002
        alerts: Iterable[AlertRaised | AlertResolved],  # noqa: ARG002
        call: Callable[..., Any],
        *about: Any,
    ) -> Any:
        """What is recorded of a pool by others than the engine, with these entries and alerts: ``call`` writes them.

        Raises JournalError.
        """
        return await self.write(call, *about)

    def follow(self, follower: Callable[[list[Row]], None]) -> Callable[[], None]:
        """Tell ``follower`` all rows from now on, once committed; call the result to stop that."""
        self._followers.add(follower)
        return lambda: self._followers.discard(follower)

    def on_alert(self, nudge: Callable[[], None]) -> None:
        """Whom to wake when an alert was committed."""
        self._on_alert = nudge

    def alerted(self) -> None:
        """An alert was committed, by somebody else than the engine."""
        self._on_alert()

    def on_occasion(self, nudge: Callable[[], None]) -> None:
        """Whom to wake when an occasion for hooks was committed."""
        self._on_occasion = nudge

    def run_hooks(self) -> None:
        """Wake who runs hooks: something is to be run again."""
        self._on_occasion()

    def on_absence(self, cut: Callable[[], None]) -> None:
        """What to do at once when this collector finds that it was away."""
        self._on_absence = cut

    def on_read(self, hand_on: Callable[[], None], lag: Lag, unread: Lag = lambda: (0, {})) -> None:
        """Who is to hand on what it has read and keeps back, before the engine is told that all of it has been read;
        how long what is read now has waited, and how long what has come is not read, ms: in all, and of a pool.
        """
        self._on_read, self._lag, self._unread = hand_on, lag, unread

    def on_stand_down(self, cut: Callable[[PoolId], None]) -> None:
        """What to do at once in a pool in which this collector stands down."""
        self._on_stand_down = cut

    def on_give_up(self, give_up: Callable[[on.GiveUp], None]) -> None:
        """Whom to tell that a pool of one of several is to be released."""
        self._on_give_up = give_up

    def on_stall(self, stalled: Callable[[str], None], over: Callable[[], None]) -> None:
        """Whom to tell that nothing can be recorded, at each attempt, and that it can be again."""
        self._on_stall, self._on_resume = stalled, over

    def on_pools(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Whom to tell that a pool of one of several has come or gone, with what the journal holds of it."""
        self._on_pools.append(changed)

    def alive(self) -> bool:
        """Does it guard its pools: is a step made durable again and again, and is it in charge of a pool at least?

        One that knows no pool yet does what it can.
        """
        roster = self.roster
        if roster.stalled:
            return False
        if not roster.pools:
            return True
        in_charge = any(not roster.why_not_in_charge(uuid) for uuid in roster.pools)
        since = self._stepped_at if self._write_began is None else min(self._stepped_at, self._write_began)
        return in_charge and roster.now() - since <= STEP_WITHIN_MS

    def on_commit(self, took: Callable[[float], None]) -> None:
        """Whom to tell how long a step waited for its commit, s."""
        self._on_commit = took

    def publish(self, rows: list[Row]) -> None:
        """Rows have become durable. A follower that fails keeps no other one and no step from what comes next."""
        for follower in list(self._followers) if rows else ():
            try:
                follower(rows)
            except Exception:
                _log.exception("a follower of the journal failed")

    # ------------------------------------------------------------------------------------------------ the loop

    async def begin(self) -> None:
        """Stand where the journal ends. Raises JournalError."""
        for text in self.roster.config.cautions():
            _log.warning("%s", text)
        # One of several begins with nothing: it adopts what it comes to own.
        known = () if self.roster.one_of_several else await self.write(self._journal.pools)
        records = [await self.write(self._journal.record, uuid) for uuid in known]
        ready = self.loop.start(records, *self._clocks(), await self.write(self._journal.short))
        while ready.write is not None:
            ready = self.loop.committed(*self._clocks(), await self._make_durable(ready.write))

    async def run(self) -> None:
        """Until the inbox ends."""
        self.loop.streams_read(self.roster.now())
        timers = [asyncio.ensure_future(self._tick()), asyncio.ensure_future(self._beat())]
        try:
            until = 0.0
            while (happening := await self._inbox.next()) is not None:
                async with self._between_events:
                    await self.take(happening)
                if self.processor_s() >= until:
                    # A queue that is not empty never waits: without this nobody would read while there is work.
                    await asyncio.sleep(0)
                    until = self.processor_s() + TURN_S
        finally:
            for timer in timers:
                timer.cancel()
            async with self._between_events:  # also a configuration that is being recorded
                await self.settled()
                self._ended = True

    async def take(self, happening: Happening) -> None:
        """Begin one event, and what waited for it; another pool's may be taken then, while this one's is committed.

        Never raises for anything that an event can cause.
        """
        self._again.append(happening)
        while self._again:
            if self._alone or self._again[0].pool in self._open:
                await self.settled()
            taking = self._again.popleft()
            self._advance(taking, partial(self.loop.take, taking, *self._clocks()))
            if self._alone:
                await self.settled()

    async def settled(self) -> None:
        """Until no event waits for its write."""
        while self._writing is not None:
            await asyncio.shield(self._writing)

    # ------------------------------------------------------------------------------------------------ one of several

    async def adopt(self, record: PoolRecord, epoch: int, left: LeftBehind | None = None) -> bool:
        """Take a pool over with an epoch that nobody had before, between two events; false: it cannot be recorded.

        ``left``: what the owner before may have under way; None: there was none. Raises ValueError for an epoch that
        is not above every one that the pool had here.
        """
        taking_over = Happening(record.pool, Tick())
        async with self._between_events:
            self._carry_out(ready := self.loop.adopt(record, epoch, *self._clocks(), left))
            assert ready.write is not None
            self._wait(_Waiting(taking_over, ready.write, time.monotonic()))
        await self._free(record.pool)
        return record.pool in self.roster.pools

    async def release(self, pool: PoolId, why: str) -> None:
        """Give a pool up after its event that is being taken: what waits is not heard, and commands are refused.

        Its agents are sent on, and nothing of it is left here.
        """
        while True:
            await self._free(pool)
            async with self._between_events:
                if pool not in self._open:
                    if self.roster.owns(pool):
                        self._release(pool, why)
                    return

    async def _free(self, pool: PoolId) -> None:
        """Until no event of this pool waits for its write."""
        while pool in self._open:
            await self._freed.setdefault(pool, asyncio.Event()).wait()

    def _release(self, pool: PoolId, why: str) -> None:
        unheard = [*(each for each in self._again if each.pool == pool), *self._inbox.forget(pool)]
        self._again = deque(each for each in self._again if each.pool != pool)
        self._carry_out(self.loop.release(pool, why))
        for happening in unheard:
            self._advance(happening, partial(self.loop.take, happening, *self._clocks()))

    # ------------------------------------------------------------------------------------------------ configuration

    async def reconfigure(self, change: on.Reconfiguration, follow_up: Callable[[], None]) -> on.NotReconfigured | None:
        """Replace the configuration after the event that is being taken; None: it is replaced, else why it is not.

        ``follow_up`` is called once it holds, before the next event. Whoever asked may go away meanwhile.
        """
        # An event that was begun is ended: a caller's end would leave its write without an answer.
        return await asyncio.shield(asyncio.ensure_future(self._reconfigure(change, follow_up)))

    async def _reconfigure(
        self, change: on.Reconfiguration, follow_up: Callable[[], None]
    ) -> on.NotReconfigured | None:
        async with self._between_events:
            if self._ended:
                return on.NotReconfigured("the collector is being stopped", "It reads the file when it starts again.")
            await self.settled()
            if (open_still := self._still_open()) is not None:
                return open_still
            self._follow_up = follow_up
            self._refused = on.NotReconfigured("an internal error stopped it", "Look at the collector's log.")
            try:
                await self._to_its_end(self.loop.reconfigure(change, *self._clocks()))
            except Exception as error:
                _log.error("the configuration was not replaced", exc_info=error)
                self._carry_out(self.loop.broken(error))
            return self._refused

    async def _to_its_end(self, ready: on.Ready) -> None:
        """What is taken alone."""
        while True:
            self._carry_out(ready)
            if ready.write is None:
                return
            try:
                ready = self.loop.committed(*self._clocks(), await self._make_durable(ready.write))
            except Unwritable as error:
                ready = self.loop.refused(error)
            except JournalError as error:
                ready = self.loop.failed(str(error), *self._clocks())

    def _still_open(self) -> on.NotReconfigured | None:
        """Why there is an event whose write will not be answered soon; None: there is none."""
        return None

    def _advance(self, happening: Happening, move: Callable[[], on.Ready]) -> None:
        """Have the loop go on with this event until it waits for the disk, or is over."""
        try:
            ready = move()
            while True:
                self._carry_out(ready)
                if not isinstance(ready.write, on.Nothing):
                    break
                ready = self.loop.committed(*self._clocks(), turn=happening.pool)
            self._again.extendleft(reversed(ready.again))
        except Exception as error:
            ready = self.loop.broken(error, happening)
            self._carry_out(ready)
        if ready.write is None:
            self._over(happening.pool)
        else:
            self._wait(_Waiting(happening, ready.write, time.monotonic()))

    def _over(self, pool: PoolId) -> None:
        if pool in self._open:
            self._open.discard(pool)
            self._inbox.let_go(pool)
            if (freed := self._freed.pop(pool, None)) is not None:
                freed.set()

    def _wait(self, waiting: _Waiting) -> None:
        pool = waiting.happening.pool
        if pool not in self._open:
            self._open.add(pool)
            self._inbox.hold(pool)
        self._queue(waiting)

    def _queue(self, waiting: _Waiting) -> None:
        """For the thread that writes."""
        (self._gathered if isinstance(waiting.write, on.Commit) else self._alone).append(waiting)
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write_all())

    async def _write_all(self) -> None:
        """Until nothing waits: what is gathered, in the order of asking, then what is written alone."""
        try:
            while self._gathered or self._alone:
                self._write_began = self.roster.now()
                if self._gathered:
                    await self._commit([self._gathered.popleft() for _ in self._some()])
                else:
                    await self._write_alone(self._alone[0])
        finally:
            self._writing, self._write_began = None, None

    def _some(self) -> range:
        return range(min(len(self._gathered), MOST_TOGETHER))

    async def _commit(self, group: list[_Waiting]) -> None:
        steps = [self._step(waiting.write, waiting.shared) for waiting in group]
        try:
            if len(steps) == 1:
                done = [await self._one(steps[0])]
            else:
                done = await self.write(self._journal.commit_together, steps)
        except Exception as error:
            self._none_is_durable(group, error)
            return
        for waiting, rows in zip(group, done, strict=True):
            self._advance(waiting.happening, partial(self._answered, waiting, rows))

    async def _one(self, step: Step) -> list[Row] | Unwritable:
        try:
            return await self.write(self._journal.commit, *step)  # type: ignore[no-any-return]
        except Unwritable as error:
            return error

    def _step(self, write: on.Write, shared: Numbers = (0, 0)) -> Step:
        assert isinstance(write, on.Commit)
        step = write.pool, write.entries, write.alerts, write.name, write.occasions
        return (*step, shared) if shared[1] else step

    def _answered(self, waiting: _Waiting, rows: list[Row] | Unwritable) -> on.Ready:
        """What the loop says to this commit."""
        write, turn = waiting.write, waiting.happening.pool
        if isinstance(rows, Unwritable):
            return self.loop.refused(rows, turn)
        ready = self.loop.committed(*self._clocks(), turn=turn)
        self._tell(self._on_commit, time.monotonic() - waiting.asked)
        self.publish(rows)
        if isinstance(write, on.Commit) and write.alerts:
            self._tell(self._on_alert)
        if isinstance(write, on.Commit) and write.occasions:
            self._tell(self._on_occasion)
        return ready

    def _none_is_durable(self, group: list[_Waiting], error: Exception) -> None:
        """Of these and of all that wait behind them."""
        # safety: they were stepped before anybody knew of the disk; while it takes nothing, nothing is done.
        waiting = [*group, *self._gathered, *self._alone]
        self._gathered.clear()
        self._alone.clear()
        for each in waiting:
            self._advance(each.happening, partial(self._unanswered, each, error))

    def _unanswered(self, waiting: _Waiting, error: Exception) -> on.Ready:
        if isinstance(error, JournalError):
            return self.loop.failed(str(error), *self._clocks(), turn=waiting.happening.pool)
        return self.loop.broken(error, waiting.happening)

    async def _write_alone(self, waiting: _Waiting) -> None:
        turn = waiting.happening.pool
        try:
            begun = await self._make_durable(waiting.write)
        except Unwritable as error:
            self._alone.popleft()
            self._advance(waiting.happening, partial(self.loop.refused, error, turn))
        except Exception as error:
            self._none_is_durable([], error)
        else:
            self._alone.popleft()  # until here nothing else was taken
            self._advance(waiting.happening, lambda: self.loop.committed(*self._clocks(), begun, turn))

    async def _make_durable(self, write: on.Write) -> int:
        """The epoch that has begun, if any. Raises JournalError: nothing of it is durable."""
        match write:
            case on.Commit():
                self.publish(await self.write(self._journal.commit, *self._step(write)))
            case on.BeginEpoch(above):
                return int(await self.write(self._journal.begin_epoch, above))
            case on.Reconfigure(change, commits):
                channels = change.config.alerts
                rows = await self.write(
                    self._journal.reconfigure,
                    [(commit.pool, commit.entries) for commit in commits],
                    channels.names,
                    channels.docs_base_url,
                    change.config.routes(),
                )
                self.publish(rows)
            case on.Check():
                await self.write(self._journal.check)
        return 0

    # ------------------------------------------------------------------------------------------------ what it says

    def _carry_out(self, ready: on.Ready) -> None:
        for act in ready.acts:
            self._do(act)

    def _do(self, act: on.Act) -> None:
        match act:
            case on.Begin(pool, effect):
                self._perform(pool, effect)
            case on.Drop(pool, effect, why):
                _log.error("pool %s: %s %s", pool, type(effect).__name__, why)
            case on.Refuse(pool, reply):
                self._perform(pool, reply)
            case on.Post(pool, event):
                self._inbox.post(pool, event)
            case on.CutOff(""):
                self._tell(self._on_absence)
            case on.CutOff(pool):
                self._tell(self._on_stand_down, pool)
            case on.GiveUp():
                self._tell(self._on_give_up, act)
            case on.Released(pool, why):
                self._tell(self._effects.forget, pool, why)
            case on.Stepped(happening):
                self._stepped_at = self.roster.now()
                self._tell(self._heard, happening)
            case on.Broke(happening, error):
                what = type(happening.event).__name__
                _log.error("pool %s: %s was not taken", happening.pool, what, exc_info=error)
            case on.Stalled(why):
                self._tell(self._on_stall, why)
            case on.Resumed():
                self._tell(self._on_resume)
            case on.Reconfigured():
                self._refused = None
                self._tell(self._follow_up)
            case on.NotReconfigured():
                self._refused = act
            case on.Say(severity, text):
                _log.log(severity, "%s", text)

    def _perform(self, pool: PoolId, effect: effects.Effect) -> None:
        try:
            self._effects.perform(pool, effect)
        except Exception:
            _log.exception("pool %s: effect %s failed", pool, type(effect).__name__)
            self.roster.warn(f"an effect failed in pool {pool}: {type(effect).__name__}; see the log")

    def _tell(self, call: Callable[..., object], *about: object) -> None:
        """Call one that is told of what has happened."""
        try:
            call(*about)
        except Exception:
            name = getattr(call, "__qualname__", type(call).__name__)
            _log.exception("%s failed over what it was told", name)
            self.roster.warn(f"{name} failed over what it was told; see the log")

    def _heard(self, happening: Happening) -> None:
        pool, event = happening.pool, happening.event
        self._effects.heard(pool, event)
        if self._telemetry is not None and isinstance(event, AgentReported):
            self._telemetry.note(pool, event.host, event.facts, self.roster.now())

    # ------------------------------------------------------------------------------------------------ time

    async def _tick(self) -> None:
        while True:
            self._tell(self._judge_sites)
            for uuid in self.loop.due(self.roster.now()):
                self._inbox.post(uuid, Tick())
            await asyncio.sleep(TICK_MS / 1000)

    def _judge_sites(self) -> None:
        for text in self.loop.judge_sites(self.roster.now(), self._anchors(), self._inbox.oldest(self.roster.stalls)):
            _log.warning("%s", text)

    async def _beat(self) -> None:
        """What was there before a sleep has been read after it: how far the streams are read, however busy this is.

        Where this process gets too little of the processor, gRPC's threads do as well, and what has come waits where
        nobody sees it: then what is read tells by its stamps how long it has waited.
        """
        short_until: Ms = 0
        while True:
            began = self.roster.now()
            await asyncio.sleep(BEAT_MS / 1000)
            now = self.roster.now()
            if now - began > SHORT_MS:
                short_until = now + SHORT_FOR_MS
            self._tell(self._on_read)  # what has been read and not handed on has not been taken in
            lag, of_pools = self._asked(self._lag) if now < short_until else (0, {})
            if any(each > SHORT_MS for each in of_pools.values()):
                short_until = now + SHORT_FOR_MS  # until what has waited is read
            unread, outside = self._asked(self._unread)
            of_pools |= {pool: max(each, of_pools.get(pool, 0)) for pool, each in outside.items()}
            late = {pool: now - each for pool, each in of_pools.items() if each > SHORT_MS}
            until = min(began, now - max(lag, unread))
            self.loop.streams_read(until, late)
            self._inbox.streams_read(until, late)

    @staticmethod
    def _asked(lag: Lag) -> tuple[Ms, dict[PoolId, Ms]]:
        try:
            return lag()
        except Exception:
            _log.exception("how late what is read comes cannot be told")
            return 0, {}
