"""The service of one of several collectors: a step counts once etcd has it, and only then is it in the own journal.

Rules
-----
* Of each commit of a pool what must be shared goes to etcd (shell/cluster/etcd_store.py), each pool's by itself; what
  needs none of that goes to the own journal at once. Effects come after both.
* While etcd has not said whether it has a step, the same step is sent again each second. Its pool stands still, its
  commands are refused, and no other pool waits for it.
* A pool of which etcd says that it is another collector's is released at once: the step is dropped, whatever etcd has
  of it, and nothing is begun.
* The own journal is an archive. Where it cannot be written the step has happened all the same: its history gets a hole,
  which is told, and the heartbeat ends, because alerts go out by that file.
* A pool's entries are folded between two of its events, and a pool is handed to another collector between two of them:
  while that is under way nothing of it is taken, and what waits is not heard any more once it is given up.
* At the end what is not known yet is left to the next owner, who reads it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from poolwarden_collector.core.decision import takeover
from poolwarden_collector.core.decision.permission import blind
from poolwarden_collector.core.decision.storm_brake import Braked, Silence
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved, Reply
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.cluster.commit_text import PoolTail, Shot, TooBig
from poolwarden_collector.shell.cluster.commits import Deposed, Durable, NotDone, Outcome, Undecided
from poolwarden_collector.shell.cluster.consensus import shared
from poolwarden_collector.shell.cluster.etcd_store import EtcdStore
from poolwarden_collector.shell.cluster.handover import (
    Handover,
    NotReleased,
    Released,
    ReleaseUndecided,
    under_way,
    why_stays,
)
from poolwarden_collector.shell.cluster.ownership import Ownership
from poolwarden_collector.shell.cluster.takeover import left_behind
from poolwarden_collector.shell.loop import handing
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.handing import ToldMarks, handed_of
from poolwarden_collector.shell.loop.performer import Effects
from poolwarden_collector.shell.loop.service import Service, _Waiting
from poolwarden_collector.shell.loop.stalls import IN_ETCD
from poolwarden_collector.shell.queue.happening import Happening
from poolwarden_collector.shell.queue.inbox import Inbox
from poolwarden_collector.shell.store.journal import JournalError, Row, Unwritable
from poolwarden_collector.shell.store.store import Store
from poolwarden_collector.shell.store.telemetry import Telemetry

NO_WORK_MS: Ms = 120_000  # without the right to act: its heartbeat ends
AGAIN_S = 1.0  # until a step whose end is not known is sent again

_log = logging.getLogger(__name__)


def _is_seen_again(record: PoolRecord, write: on.Commit) -> bool:
    """Does this step say that the pool is healthy, and nothing that its record does not have?

    It comes after each host that was away for a moment, also while etcd is away; to wait for etcd with that would be to
    look at the pool no more.
    """
    needed = [entry for entry in write.entries if shared(entry)]
    if not all(entry.kind is Kind.VERDICT and not entry.failover for entry in needed):
        return False
    return fold(record, write.entries) == record


class SharedService(Service):
    """Runs the engine for the pools that this collector has taken over; in ``store`` their steps become durable."""

    def __init__(
        self,
        roster: Roster,
        inbox: Inbox,
        journal: Store,
        effects: Effects,
        store: EtcdStore,
        telemetry: Telemetry | None = None,
        anchors: Callable[[], tuple[bool, ...]] = tuple,
    ) -> None:
        super().__init__(roster, inbox, journal, effects, telemetry, anchors)
        self._store = store
        self._sharing: dict[PoolId, tuple[asyncio.Task[None], _Waiting]] = {}
        self._folding: set[asyncio.Task[None]] = set()
        self._shots: dict[PoolId, frozenset[Shot]] = {}  # of the owner before, that may still land
        self._sums: Callable[[], Mapping[str, Braked]] = dict
        self._beside: set[asyncio.Task[None]] = set()
        self._marks = ToldMarks(store, journal, self.write)
        self._on_loss: Callable[[PoolId, str], None] = lambda _pool, _why: None
        self._moved = asyncio.Event()

    def on_loss(self, lost: Callable[[PoolId, str], None]) -> None:
        """Whom to tell that a pool is another collector's, and why."""
        self._on_loss = lost

    def alive(self) -> bool:
        """Also while alerts can go out: those of its steps are in the own journal alone. And while it may act."""
        if self.roster.unarchived or self.roster.without_right() >= NO_WORK_MS:
            return False
        return super().alive()

    # ------------------------------------------------------------------------------------------------ sites

    def judge_by(self, sums: Callable[[], Mapping[str, Braked]]) -> None:
        """What all collectors together say of the sites is judged beside this one's own pools."""
        self._sums = sums

    def sees_an_anchor(self) -> bool:
        """Does anything of its own network answer that is no host?"""
        return any(self._anchors())

    def silence(self) -> dict[str, Silence]:
        """What is counted here of the own pools, by their sites."""
        return self.loop.silence(self.roster.now(), self._inbox.oldest(self.roster.stalls))

    def _judge_sites(self) -> None:
        if self._open:
            self._carry_out(self.loop.present(*self._clocks()))
        oldest = self._inbox.oldest(self.roster.stalls)
        for text in self.loop.judge_sites(self.roster.now(), self._anchors(), oldest, self._sums()):
            _log.warning("%s", text)

    # ------------------------------------------------------------------------------------------------ pools come and go

    async def take_over(self, owned: Ownership, tail: PoolTail) -> bool:
        """Guard a pool from now on that this collector owns, as etcd has it; false: it was lost meanwhile.

        Raises ValueError for an ownership that is not above every one that the pool had here.
        """
        pool, record = owned.pool, tail.record
        numbered = list(zip(tail.numbers, tail.entries, strict=True))
        try:
            await self.write(self._journal.take_over, pool, record.name, numbered, tail.last, handed_of(tail))
        except JournalError as error:
            self._not_archived(error)
        self._store.take_over(owned, tail)
        left = left_behind(owned, tail, self._devices())
        self._shots[pool] = tail.shots
        try:
            taken = await self.adopt(record, owned.epoch, left)
        except ValueError:
            self._store.forget(pool)
            raise
        self.alerted()
        await self._pools_have_changed()
        return taken

    def _devices(self) -> dict[str, FenceDevice]:
        return {each.name: each for devices in self.roster.config.devices().values() for each in devices}

    async def lose(self, pool: PoolId, why: str) -> None:
        """The pool is another collector's, or may be: begin nothing in it from this moment on, and release it."""
        self._carry_out(self.loop.lost(pool, why))
        if (sharing := self._sharing.get(pool)) is not None:
            task, waiting = sharing
            task.cancel()
            await asyncio.wait({task})
            if task.cancelled():  # before it began
                self._shared(waiting, Deposed(why))
        await self.release(pool, why)

    async def hand_over(self, pool: PoolId, to: str) -> Released | NotReleased:
        """Give a pool to another collector, if nothing goes on there; else why it stays.

        ``to``: the member that is to claim it; empty: whoever is advised to.
        """
        await self.note_told()  # so that it is told nobody again
        await self._free(pool)
        async with self._between_events:
            if pool in self._open:
                return NotReleased("an event of it is being taken")
            if pool not in self.roster.pools:
                return NotReleased("this collector does not own the pool", lost=True)
            if why := self.why_stays(pool):
                return NotReleased(why)
            self._wait_out(pool)
            handover = self._store.give_up(pool, to)
            if isinstance(handover, NotReleased):
                return handover
            self._open.add(pool)
            self._inbox.hold(pool)
        # What is under way is ended where whoever asked for it goes away.
        return await asyncio.shield(asyncio.ensure_future(self._hand_over(pool, handover, to)))

    def why_stays(self, pool: PoolId) -> str:
        """Why a pool is not given up by choice now; empty: nothing stands against it."""
        known = self.roster.pools.get(pool)
        if known is None or (why := self.roster.why_no_act(pool)):
            return why if known is not None else "this collector does not own the pool"
        now = self.roster.now()
        seen = Snapshot(known, now, self.roster.site(pool))
        # safety: whoever gets it in order waits for nothing, and knows nothing of the owner before this one.
        if (left := takeover.refusal(seen)) is not None:
            return left.text
        if (braked := blind(seen)) is not None:  # a site that is braked for its moves would stay so by further ones
            return braked.text
        healthy = Verdict.HEALTHY if known.live.verdict.word == Verdict.HEALTHY.word else None
        return why_stays(known.record, healthy, under_way(known, now))

    async def _hand_over(self, pool: PoolId, handover: Handover, to: str) -> Released | NotReleased:
        while isinstance(done := await self._store.release(handover), ReleaseUndecided):
            self._in_doubt(pool, done.why)
            if self._inbox.ended or pool in self.roster.stood_down:
                done = NotReleased(done.why, lost=True)
                break
            await asyncio.sleep(AGAIN_S)
        super()._over(pool)
        if isinstance(done, Released):
            self._release(pool, f"it was handed to {to}" if to else "it was given up")
        elif done.lost:
            self._over_at_once(pool, done.why)
        return done

    def _release(self, pool: PoolId, why: str) -> None:
        self._store.forget(pool)
        self._shots.pop(pool, None)
        super()._release(pool, why)
        # In the order of asking: before whatever a later adoption writes.
        self._begin_beside(self._give_up(pool))

    async def _give_up(self, pool: PoolId) -> None:
        """Its channels and hooks are told by its next owner."""
        try:
            await self.write(self._journal.give_up, pool)
        except JournalError as error:
            self._not_archived(error)
        await self._pools_have_changed()

    async def _pools_have_changed(self) -> None:
        for changed in self._on_pools:
            try:
                await changed()
            except Exception:
                _log.exception("%s failed over what it was told", getattr(changed, "__qualname__", changed))

    def _begin_beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    # ------------------------------------------------------------------------------------------------ around the steps

    async def begin(self) -> None:
        """As one collector's; of what its last run had to tell its pools' owners tell by now."""
        await self.write(self._journal.give_up)
        await super().begin()

    async def run(self) -> None:
        """Until the inbox ends."""
        noting = asyncio.ensure_future(self._note_told())
        try:
            await super().run()
        finally:
            noting.cancel()
            await asyncio.gather(*self._beside, return_exceptions=True)

    async def _note_told(self) -> None:
        while True:
            await asyncio.sleep(handing.EVERY_S)
            await self.note_told()

    async def note_told(self) -> None:
        """Write into etcd up to where the channels and hooks of each pool have been told all."""
        try:
            await self._marks.note(tuple(self.roster.pools))
        except JournalError as error:
            _log.info("what was told is not noted: %s", error)
        except Exception:
            _log.exception("what was told is not noted")

    async def record(
        self,
        pool: PoolId,
        entries: Iterable[Entry],
        alerts: Iterable[AlertRaised | AlertResolved],
        call: Callable[..., Any],
        *about: Any,
    ) -> Any:
        """In etcd first, between two events of the pool, then in the own journal.

        ``call`` is given the alerts' ``occurrence``, where there are any.
        """
        entries, alerts = tuple(entries), tuple(alerts)
        if not pool:
            return await self.write(call, *about)
        return await asyncio.shield(asyncio.ensure_future(self._record(pool, entries, alerts, partial(call, *about))))

    async def _record(
        self,
        pool: PoolId,
        entries: tuple[Entry, ...],
        alerts: tuple[AlertRaised | AlertResolved, ...],
        call: Callable[..., Any],
    ) -> Any:
        await self._free(pool)
        why = f"pool {pool} is another collector's: ask that one (poolwarden collectors)"
        if pool not in self.roster.pools or pool in self.roster.stood_down:
            raise JournalError(why)
        try:
            begun = self._store.begin(pool, entries, alerts)
        except TooBig as error:
            raise JournalError(str(error)) from error
        if begun is False:
            return await self.write(call)
        if begun is not True:
            raise JournalError(begun.why)
        self._open.add(pool)
        self._inbox.hold(pool)
        outcome: Outcome = Deposed(why)
        try:
            outcome = await self._decided_at_last(pool)
        finally:
            self._carry_out(self.loop.in_doubt_no_more(pool, self.roster.now()))
            self._over(pool)
        if isinstance(outcome, Deposed):
            self._over_at_once(pool, outcome.why)
        if not isinstance(outcome, Durable):
            raise JournalError(outcome.why)
        done = await self.write(call, **({"occurrence": outcome.first} if alerts else {}))
        await self.write(self._journal.recorded, pool, outcome.last)
        return done

    async def _decided_at_last(self, pool: PoolId) -> Outcome:
        while isinstance(outcome := await self._store.attempt(pool), Undecided):
            self._in_doubt(pool, outcome.why)
            if self._inbox.ended or pool in self.roster.stood_down:
                return Deposed(self.roster.stood_down.get(pool, "the collector stops"))
            await asyncio.sleep(AGAIN_S)
        return outcome

    # ------------------------------------------------------------------------------------------------ a step

    async def take(self, happening: Happening) -> None:
        """As one collector's; an event of a pool whose write is under way waits with the others of that pool."""
        self._again.append(happening)
        while self._again:
            taking = self._again.popleft()
            if isinstance(taking.event, OperatorSaid) and self.roster.cut_off and self.roster.owns(taking.pool):
                # To try would have the pool stand still, and hear nobody, until etcd is back.
                self._not_recorded(taking.pool, taking.event, self.roster.right())
            elif taking.pool in self._open:
                self._inbox.hold_back(taking)
            else:
                self._advance(taking, partial(self.loop.take, taking, *self._clocks()))

    async def settled(self) -> None:
        """Until no event waits for its write, but for those of which nobody knows how long."""
        while self._writing is not None or any(pool not in self.roster.stalls for pool in self._sharing):
            if self._writing is not None:
                await asyncio.shield(self._writing)
            else:
                self._moved.clear()
                await self._moved.wait()

    def _still_open(self) -> on.NotReconfigured | None:
        if not self._open:
            return None
        step = "Reload again when poolwarden status tells nothing of that."
        return on.NotReconfigured(f"what was decided in {', '.join(sorted(self._open))} waits for etcd", step)

    def _queue(self, waiting: _Waiting) -> None:
        write = waiting.write
        if not isinstance(write, on.Commit) or not write.pool:
            super()._queue(waiting)
            return
        pool = write.pool
        known = self.roster.pools.get(pool)
        entries = () if known is not None and _is_seen_again(known.record, write) else write.entries
        try:
            begun = self._store.begin(pool, entries, write.alerts, write.occasions)
        except TooBig as error:
            self._advance(waiting.happening, partial(self.loop.refused, error, pool))
            return
        if begun is False:
            super()._queue(waiting)
        elif begun is True:
            self._sharing[pool] = asyncio.ensure_future(self._share(waiting)), waiting
        else:
            self._decided(waiting, begun)

    async def _share(self, waiting: _Waiting) -> None:
        """Until etcd says whether it has the step."""
        pool, outcome = waiting.happening.pool, None
        try:
            while isinstance(outcome := await self._store.attempt(pool), Undecided):
                self._in_doubt(pool, outcome.why)
                if self._inbox.ended:
                    outcome = Deposed("the collector stops before etcd has said whether it has the last step")
                    break
                await asyncio.sleep(AGAIN_S)
        except asyncio.CancelledError:
            outcome = Deposed(self.roster.stood_down.get(pool, "it was lost"))
        self._shared(waiting, outcome)

    def _shared(self, waiting: _Waiting, outcome: Outcome) -> None:
        self._sharing.pop(waiting.happening.pool, None)
        self._decided(waiting, outcome)
        self._moved.set()

    def _in_doubt(self, pool: PoolId, why: str) -> None:
        self._carry_out(self.loop.in_doubt(pool, why, self.roster.now()))
        for said in self._inbox.withdraw(pool):
            self._not_recorded(pool, said, why)
        self._moved.set()

    def _not_recorded(self, pool: PoolId, said: OperatorSaid, why: str) -> None:
        text = f"nothing can be recorded, so nothing is done: {why}"
        self._do(on.Refuse(pool, Reply(said.request_id, False, text, "journal", IN_ETCD)))

    def _decided(self, waiting: _Waiting, outcome: Outcome) -> None:
        pool = waiting.happening.pool
        match outcome:
            case Durable(first, last):
                super()._queue(replace(waiting, shared=(first, last)))
            case Deposed(why):
                self._advance(waiting.happening, lambda: self.loop.deposed(why, *self._clocks(), pool))
                self._over_at_once(pool, why)
            case NotDone(why) | Undecided(why):
                self._advance(waiting.happening, lambda: self.loop.failed(why, *self._clocks(), turn=pool))

    def _over_at_once(self, pool: PoolId, why: str) -> None:
        self._release(pool, why)
        self._tell(self._on_loss, pool, why)

    # ------------------------------------------------------------------------------------------------ the own journal

    def _answered(self, waiting: _Waiting, rows: list[Row] | Unwritable) -> on.Ready:
        if isinstance(rows, Unwritable):
            self._not_archived(rows)
            rows = []
        elif self.roster.unarchived:
            _log.warning("the own journal can be written again; its history has a hole")
            self.roster.unarchived = ""
        return super()._answered(waiting, rows)

    def _unanswered(self, waiting: _Waiting, error: Exception) -> on.Ready:
        if not isinstance(waiting.write, on.Commit):
            return super()._unanswered(waiting, error)
        # safety: etcd has it, or nothing of it was needed there. To call it failed would have it decided twice.
        self._not_archived(error)
        return super()._answered(waiting, [])

    def _not_archived(self, error: Exception) -> None:
        if not self.roster.unarchived:
            _log.critical("THE OWN JOURNAL CANNOT BE WRITTEN, no alert is delivered: %s", error)
        self.roster.unarchived = str(error)

    # ------------------------------------------------------------------------------------------------ folding

    def _over(self, pool: PoolId) -> None:
        if pool not in self.roster.pools or not self._store.fold_due(pool):
            super()._over(pool)
            return
        if pool not in self._open:
            self._open.add(pool)
            self._inbox.hold(pool)
        task = asyncio.ensure_future(self._fold(pool, self.roster.pools[pool].record))
        self._folding.add(task)
        task.add_done_callback(self._folding.discard)

    def _wait_out(self, pool: PoolId) -> None:
        """What the owner before has switched and cannot land any more need not be known to the next one."""
        taken, journal = self.roster.charge(pool).takeover, self._store.journal(pool)
        if journal is not None and taken is not None and self.roster.now() >= taken.power_over:
            journal.waited_out(self._shots.pop(pool, frozenset()))

    async def _fold(self, pool: PoolId, record: PoolRecord) -> None:
        self._wait_out(pool)
        outcome: Any = await self._store.fold(pool, record)
        super()._over(pool)
        if isinstance(outcome, Deposed):
            self._over_at_once(pool, outcome.why)
        elif isinstance(outcome, NotDone):
            _log.warning("pool %s: its entries in etcd were not folded: %s", pool, outcome.why)
