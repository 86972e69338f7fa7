"""The service: one event at a time through the engine; durable first, then done.

Rules
-----
* For each event: ``engine.step``, then one commit of its entries and alerts, then the new state, then its effects. A
  step whose commit fails has not happened: its state and effects are dropped and the event waits in the backlog.
* While the journal cannot be written *nothing* is stepped and nothing is done, in any pool; operators hear it in status
  and get their commands refused. Once a write works again the pools are quiet for their start-up quiet time (what was
  silent in the meantime was the collector), and the backlog goes first.
* What waits in the inbox has not been heard yet, and nobody is silent for that: each step is told how long ago its
  event arrived and when everything before it had been read. More than 2 s: this collector is behind, which is its own
  trouble, told as that and once; nothing is begun on such evidence, and no order or power-off of it is sent.
* Between two steps the readers of the agents' streams get their turn, however full the inbox is.
* Every activation has an epoch of its own, durable before the first agent is heard.
* Evidence grows old while a commit waits for a slow disk: an order or a power-off whose commit took more than 2 s is
  not sent. The engine asks again after having looked again.
* A collector that was away itself (stopped, suspended, starved for more than 5 s) takes its quiet time again, and cuts
  off every power-off that is still running: it was decided before. Time is counted on the clock that runs while the
  machine sleeps; orders from before the sleep are dead on arrival by what they echo.
* A collector that has stood down in a pool (an agent there obeys another one) goes on to look and to tell; it sends and
  fences nothing there. Its other pools are not concerned.
* A step that no store can hold (a number out of all bounds) is dropped with its event, as one that broke an invariant:
  only the disk stops everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from poolwarden_collector.core.decision.permission import BEHIND_MS
from poolwarden_collector.core.decision.storm_brake import judge_sites
from poolwarden_collector.core.engine import step
from poolwarden_collector.core.model import effects, epoch
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.events import AgentReported, FenceEnded, OperatorSaid, Tick
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.loop.performer import Effects
from poolwarden_collector.shell.queue.backlog import Backlog
from poolwarden_collector.shell.queue.happening import Happening
from poolwarden_collector.shell.queue.inbox import Inbox
from poolwarden_collector.shell.store.journal import Journal, JournalError, Row, Unwritable
from poolwarden_collector.shell.store.telemetry import Telemetry

TICK_MS = 250
BEAT_MS = 100
CAUGHT_UP_MS = 500
TELL_BEHIND_MS = 5_000
AWAY_MS = 5_000
LATE_MS = 2_000
RETRY_MS = 1_000

_BEHIND_KEY = "collector/behind"
_log = logging.getLogger(__name__)
_ACTS = (effects.SendOrder, effects.PowerOff, effects.PowerOn, effects.HandOver, effects.AnswerGate)


class Service:
    """Runs the engine on what comes out of ``inbox``. ``journal`` must be open, its epoch begun by the caller."""

    def __init__(
        self,
        roster: Roster,
        inbox: Inbox,
        journal: Journal,
        effects: Effects,
        telemetry: Telemetry | None = None,
        anchors: Callable[[], tuple[bool, ...]] = tuple,
    ) -> None:
        self.roster = roster
        self._inbox = inbox
        self._journal = journal
        self._effects = effects
        self._telemetry = telemetry
        self._anchors = anchors
        self._devices = roster.config.devices()
        self._backlog = Backlog()
        self._retry_at: Ms = 0
        self._epoch_above = 0
        self._writer = ThreadPoolExecutor(1, "journal")
        self._followers: set[Callable[[list[Row]], None]] = set()
        self._on_alert: Callable[[], None] = lambda: None
        self._on_absence: Callable[[], None] = lambda: None
        self._on_stand_down: Callable[[PoolId], None] = lambda _: None
        self._on_stall: Callable[[str], None] = lambda _: None
        self._on_resume: Callable[[], None] = lambda: None
        self._fronts: dict[PoolId, Ms] = {}
        self._read_until: Ms | None = None  # what came before that has been read from the streams
        self._behind_since: Ms | None = None
        self._caught_up_at: Ms = 0
        self._last_step = roster.now()
        self._stepped: dict[PoolId, Ms] = {}
        self._last_boottime = clock.awake_or_not_ms()

    # ------------------------------------------------------------------------------------------------ around it

    async def write(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Run one journal call in the one thread that does so, in the order of asking."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, partial(call, *args, **named))

    def follow(self, follower: Callable[[list[Row]], None]) -> Callable[[], None]:
        """Tell ``follower`` all rows from now on, once committed; call the result to stop that."""
        self._followers.add(follower)
        return lambda: self._followers.discard(follower)

    def on_alert(self, nudge: Callable[[], None]) -> None:
        """Whom to wake when an alert was committed."""
        self._on_alert = nudge

    def on_absence(self, cut: Callable[[], None]) -> None:
        """What to do at once when this collector finds that it was away."""
        self._on_absence = cut

    def on_stand_down(self, cut: Callable[[PoolId], None]) -> None:
        """What to do at once in a pool in which this collector stands down."""
        self._on_stand_down = cut

    def on_stall(self, stalled: Callable[[str], None], over: Callable[[], None]) -> None:
        """Whom to tell that nothing can be recorded, at each attempt, and that it can be again."""
        self._on_stall, self._on_resume = stalled, over

    def publish(self, rows: list[Row]) -> None:
        """Rows have become durable."""
        if rows:
            for follower in list(self._followers):
                follower(rows)

    # ------------------------------------------------------------------------------------------------ the start

    async def begin(self) -> None:
        """Stand where the journal ends. Raises JournalError."""
        for text in self.roster.config.cautions():
            _log.warning("%s", text)
            self.roster.warn(text)
        for uuid in await self.write(self._journal.pools):
            record = await self.write(self._journal.record, uuid)
            self.roster.pools[uuid] = self._pool(record)
        # Who starts a collector has decided that it is in charge, also where it had stood down, whoever is heard now.
        above = max((pool.record.stale_epoch for pool in self.roster.pools.values()), default=0)
        if above >= self.roster.epoch:
            self.roster.epoch = await self.write(self._journal.begin_epoch, above)
        for uuid in self.roster.pools:
            text = f"collector {self.roster.config.name} started with epoch {epoch.name(self.roster.epoch)}"
            await self._note(uuid, Kind.COLLECTOR_STARTED, text, epoch=self.roster.epoch)

    def _pool(self, record: PoolRecord) -> Pool:
        return Pool(record, self.roster.config.policy_of(record.pool), self._devices)

    async def _note(self, pool: PoolId, kind: Kind, text: str, **data: Any) -> None:
        """Journal and fold an entry of the shell's own."""
        known = self.roster.pools[pool]
        entry = Entry(kind, text, data, "", known.record.term)
        rows = await self.write(self._journal.commit, pool, [entry], (), known.record.name)
        self.roster.pools[pool] = replace(known, record=fold(known.record, [entry]))
        self.publish(rows)

    # ------------------------------------------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Until the inbox ends."""
        self._read_until = self.roster.now()
        timers = [asyncio.ensure_future(self._tick()), asyncio.ensure_future(self._beat())]
        try:
            while (happening := await self._inbox.next()) is not None:
                await self.take(happening)
                # A queue that is not empty never waits: without this nobody would read while there is work.
                await asyncio.sleep(0)
        finally:
            for timer in timers:
                timer.cancel()

    async def take(self, happening: Happening) -> None:
        """One event; never raises for anything that an event can cause."""
        self._notice_absence()
        if self.roster.stalled:
            self._hold(happening)
            if self.roster.now() >= self._retry_at:
                await self._resume()
            return
        try:
            await self._step(happening)
        except Exception as error:
            if isinstance(error, JournalError) and not isinstance(error, Unwritable):
                self._stall(str(error))
                self._hold(happening)
                return
            # safety: an invariant that broke in one pool stops that step alone; nothing of it was committed or done.
            _log.exception("pool %s: %s was not taken", happening.pool, type(happening.event).__name__)
            where = f"internal error in pool {happening.pool}: {type(error).__name__}"
            self.roster.warn(f"{where}: {error}; see the log", where)
            self._refuse(
                happening, "internal-error", f"an internal error stopped it: {error}", "Look at the collector's log."
            )

    async def _step(self, happening: Happening) -> None:
        uuid = happening.pool
        self._stepped[uuid] = self.roster.now()
        if uuid not in self.roster.pools:
            await self._adopt(uuid)
        pool, now, boottime = self.roster.pools[uuid], self.roster.now(), clock.awake_or_not_ms()
        behind = await self._behind(happening, now)
        outcome = step(pool, happening.event, now, replace(self.roster.site(uuid), behind_ms=behind))
        rows: list[Row] = []
        if outcome.entries or outcome.alerts:
            name = outcome.pool.record.name
            rows = await self.write(self._journal.commit, uuid, outcome.entries, outcome.alerts, name)
        # safety: only from here on is the step real; everything above can be repeated from the same state.
        self.roster.pools[uuid] = outcome.pool
        self.publish(rows)
        if outcome.alerts:
            self._on_alert()
        # safety: also on the clock that counts a machine's sleep, which may have come between the commit and here.
        late = behind + max(self.roster.now() - now, clock.awake_or_not_ms() - boottime)
        for effect in outcome.effects:
            await self._perform(uuid, effect, late)
        self._effects.heard(uuid, happening.event)
        if self._telemetry is not None and isinstance(happening.event, AgentReported):
            self._telemetry.note(uuid, happening.event.host, happening.event.facts, self.roster.now())

    async def _behind(self, happening: Happening, now: Ms) -> Ms:
        """How long before ``now`` everything that had arrived has been taken in by this pool's step; never less than
        it was before: what has been heard stays heard.
        """
        arrived = now if happening.at is None else happening.at
        read = now if self._read_until is None else self._read_until
        front = min(now, max(min(arrived, read), self._fronts.get(happening.pool, 0)))
        self._fronts[happening.pool] = front
        self.roster.behind_ms = now - front
        await self._tell_behind(now - min(arrived, read), now)
        return now - front

    async def _tell_behind(self, behind: Ms, now: Ms) -> None:
        """One alert for a collector that stays behind, over when it has kept up for as long."""
        if behind > BEHIND_MS:
            self._caught_up_at = now
            if self._behind_since is None:
                self._behind_since = now
                _log.warning("%.1f s behind what is heard: nothing is begun", behind / 1000)
            if now - self._behind_since >= TELL_BEHIND_MS and not self.roster.told_behind:
                self.roster.told_behind = True
                title = f"{self.roster.config.name}: this collector is {behind / 1000:.1f} s behind what it hears"
                body = (
                    "Its machine or its disk is too slow. Nobody is taken for silent for that, and nothing is begun "
                    "before it has caught up. Look at load and disk of the collector's machine."
                )
                await self._alert(effects.AlertRaised(_BEHIND_KEY, "critical", title, body))
        elif behind <= CAUGHT_UP_MS and self._behind_since is not None and now - self._caught_up_at >= TELL_BEHIND_MS:
            self._behind_since = None
            if self.roster.told_behind:
                self.roster.told_behind = False
                await self._alert(effects.AlertResolved(_BEHIND_KEY, "it has kept up with what it hears for 5 s"))

    async def _alert(self, alert: effects.AlertRaised | effects.AlertResolved) -> None:
        """An alert of the collector's own, of no pool."""
        await self.write(self._journal.commit, "", (), (alert,), self.roster.config.name)
        self._on_alert()

    async def _adopt(self, uuid: PoolId) -> None:
        self.roster.pools[uuid] = self._pool(PoolRecord(uuid))
        try:
            await self._note(uuid, Kind.POOL_SEEN, "an agent of this pool has come for the first time")
        except JournalError:
            del self.roster.pools[uuid]
            raise

    async def _perform(self, pool: PoolId, effect: effects.Effect, late: Ms = 0) -> None:
        if late > LATE_MS and isinstance(effect, _ACTS):
            text = f"not begun: what it rests on was {late / 1000:.1f} s old when its record was durable"
            slow = "the journal's disk is slow, or this machine is, or it slept: an effect was"
            self.roster.warn(f"{slow} {text}", slow)
            self._drop(pool, effect, text)
            return
        if pool in self.roster.stood_down and isinstance(effect, _ACTS):
            self._drop(pool, effect, "not begun: this collector has stood down")
            return
        if isinstance(effect, effects.StandDown):
            self._stand_down(pool, effect.why)
            return
        if isinstance(effect, effects.RaiseEpoch):
            self._epoch_above = max(self._epoch_above, effect.above)
            await self._raise_epoch()
            if effect.above < self.roster.epoch:
                self.roster.stood_down.pop(pool, None)
            return
        try:
            self._effects.perform(pool, effect)
        except Exception:
            _log.exception("pool %s: effect %s failed", pool, type(effect).__name__)
            self.roster.warn(f"an effect failed in pool {pool}: {type(effect).__name__}; see the log")

    def _drop(self, pool: PoolId, effect: effects.Effect, text: str) -> None:
        """Leave undone what must not be done any more. An unanswered order is asked for again."""
        _log.error("pool %s: %s %s", pool, type(effect).__name__, text)
        if isinstance(effect, effects.PowerOff | effects.PowerOn):
            # safety: it never ran, so it is certain that nothing of it can still land.
            now = self.roster.now()
            self._inbox.post(pool, FenceEnded(effect.host, effect.run_id, False, True, text, now, begun=False))

    def _stand_down(self, pool: PoolId, why: str) -> None:
        if pool not in self.roster.stood_down:
            _log.critical("STANDING DOWN in pool %s: %s", pool, why)
            self.roster.stood_down[pool] = why
            self._on_stand_down(pool)  # what runs was decided by a collector that was in charge

    async def _raise_epoch(self) -> None:
        if self._epoch_above < self.roster.epoch:
            return
        try:
            self.roster.epoch = await self.write(self._journal.begin_epoch, self._epoch_above)
            _log.warning("epoch raised to %d: an agent had seen %d", self.roster.epoch, self._epoch_above)
        except Unwritable as error:
            self.roster.warn(str(error))
            self._epoch_above = 0
        except JournalError as error:
            self._stall(str(error))  # repeated when the journal works again

    # ------------------------------------------------------------------------------------------------ a stalled journal

    def _stall(self, why: str) -> None:
        if not self.roster.stalled:
            _log.error("NOTHING IS DECIDED OR DONE: %s", why)
            self.roster.stalled_at = self.roster.now()
        self.roster.stalled = why
        self._retry_at = self.roster.now() + RETRY_MS
        self._on_stall(why)

    def _hold(self, happening: Happening) -> None:
        if isinstance(happening.event, OperatorSaid):
            why = f"nothing can be recorded, so nothing is done: {self.roster.stalled}"
            self._refuse(happening, "journal", why, "Make room on the journal's disk; the collector goes on by itself.")
        else:
            self._backlog.keep(happening)

    def _refuse(self, happening: Happening, code: str, why: str, next_step: str) -> None:
        if isinstance(happening.event, OperatorSaid):
            self._effects.perform(
                happening.pool, effects.Reply(happening.event.request_id, False, why, code, next_step)
            )

    async def _resume(self) -> None:
        try:
            await self.write(self._journal.check)
        except JournalError as error:
            self._stall(str(error))
            return
        now = self.roster.now()
        away = now - (self.roster.stalled_at or now)
        _log.warning("the journal can be written again after %.1f s; quiet time begins anew", away / 1000)
        self.roster.stalled, self.roster.stalled_at = "", None
        self._on_resume()
        self.roster.be_quiet_again(now)
        await self._raise_epoch()
        for happening in self._backlog.take_all():
            await self.take(happening)

    # ------------------------------------------------------------------------------------------------ time

    async def _tick(self) -> None:
        while True:
            self._judge_sites()
            for uuid in self._unstepped():
                self._inbox.post(uuid, Tick())
            await asyncio.sleep(TICK_MS / 1000)

    async def _beat(self) -> None:
        """What was there before a sleep has been read after it: how far the streams are read, however busy this is."""
        while True:
            began = self.roster.now()
            await asyncio.sleep(BEAT_MS / 1000)
            self._read_until = began

    def _unstepped(self) -> list[PoolId]:
        """Pools to which nothing has happened for a while: every step looks at the clock, so only they need a tick."""
        due = self.roster.now() - TICK_MS // 2
        return [uuid for uuid in self.roster.pools if self._stepped.get(uuid, 0) <= due]

    def _notice_absence(self) -> None:
        """Was this process stopped, starved or its machine suspended? Then the silence since was its own."""
        now, boottime = self.roster.now(), clock.awake_or_not_ms()
        away = max(now - self._last_step, boottime - self._last_boottime)
        self._last_step, self._last_boottime = now, boottime
        if away > AWAY_MS and self.roster.pools:
            _log.warning("the collector was away for %.1f s; quiet time begins anew", away / 1000)
            self.roster.be_quiet_again(now)
            self._on_absence()

    def _judge_sites(self) -> None:
        now = self.roster.now()
        # Who has fallen silent is judged as of what has been taken in.
        asof = now - self.roster.behind_ms
        for text in self.roster.judged(judge_sites(self.roster.pools, self._anchors(), asof, self.roster.sites), now):
            _log.warning("%s", text)
