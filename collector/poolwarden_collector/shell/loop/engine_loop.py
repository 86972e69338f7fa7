"""The loop around the engine, without a socket, a thread or a clock: one event of a pool at a time, durable first.

The driver brings events and the time, makes durable what it is given, and begins what it is told, as with a Ready of
etcd's raft. The service (service.py) drives it with asyncio and SQLite, the simulated world in virtual time.

Contract
--------
* ``take`` an event; it gives a ``Ready``. Carry out its ``acts`` in their order, then make its ``write`` durable and
  answer ``committed`` (with the clocks read anew), ``failed`` (the disk) or ``refused`` (no disk could hold it). Each
  gives the next Ready. One without a ``write`` ends the event; ``again`` is what is to be taken before anything else.
* One event of a pool at a time: what happens there meanwhile waits in the driver's queue, with the instant of its
  arrival. Events of other pools may be taken while a ``Commit`` is on its way; several of them may be one transaction,
  in the order in which they were given. Every other write, and another configuration, is made while no event is open.
* Where a transaction fails because of the disk, each open event of it and all that wait behind it are answered
  ``failed``: they have not happened.
* ``now`` and ``boottime`` are milliseconds on two clocks: one stands still while the machine sleeps, one does not.
* Every ``TICK_MS``: ``judge_sites``, then a Tick event for each pool that is ``due``. A pool at rest (rest.py) is due
  at its next deadline, or when it, its policy or the collector's own condition has changed; any pool seldom while this
  collector is behind.

Rules
-----
* For each event: ``engine.step``, then one commit of its entries and alerts, then the new state, then its effects. A
  step whose commit fails has not happened: its state and effects are dropped and the event waits in the backlog.
* While the journal cannot be written *nothing* is stepped and nothing is done, in any pool; operators hear it in status
  and get their commands refused. Once a write works again the pools are quiet for their start-up quiet time (what was
  silent in the meantime was the collector), and the backlog goes first.
* What waits in the queue has not been heard yet, and nobody is silent for that: each step is told how long ago its
  event arrived and when everything before it had been read. More than 2 s: this collector is behind, which is its own
  trouble, told as that and once; nothing is begun on such evidence, and no order or power-off of it is sent.
* Every activation has an epoch of its own, durable before the first agent is heard.
* Evidence grows old while a commit waits for a slow disk: an order or a power-off whose commit took more than 2 s is
  not begun. The engine asks again after having looked again.
* A collector that was away itself (stopped, suspended, starved for more than 5 s) takes its quiet time again, and cuts
  off every power-off that is still running: it was decided before.
* A collector that has stood down in a pool (an agent there obeys another one) goes on to look and to tell; it sends and
  fences nothing there. Its other pools are not concerned.
* One of several collectors steps the pools alone that it has adopted, each with the epoch of its ownership. A pool is
  adopted and released while it has no event open. Everything but its record begins anew with each adoption, as in a
  collector that was started: so whatever waits for what an earlier run may have left waits for the last owner as well.
* The configuration is replaced between two events, in every pool at once or in none: durable first, then the pools,
  then, before any other event, what the driver runs.
* An error in one pool's step, or a step that no store can hold, is dropped with its event: only the disk stops
  everything.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from poolwarden_collector.core.decision.storm_brake import Braked, Heard, Silence, judge_sites, silence_of
from poolwarden_collector.core.engine import step
from poolwarden_collector.core.model import effects, epoch
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.events import AgentReported, CollectorProbed, FenceEnded, OperatorSaid, Tick
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.takeover import LeftBehind
from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.loop.behind import BehindAlert
from poolwarden_collector.shell.loop.hook_events import found_occasions
from poolwarden_collector.shell.loop.ready import (
    CRITICAL,
    ERROR,
    WARNING,
    Act,
    Begin,
    BeginEpoch,
    Broke,
    Check,
    Commit,
    CutOff,
    Drop,
    GiveUp,
    NotDurable,
    Nothing,
    NotOwned,
    NotReconfigured,
    Post,
    Ready,
    Reconfiguration,
    Reconfigure,
    Reconfigured,
    Refuse,
    Released,
    Resumed,
    Say,
    Stalled,
    Stepped,
    Write,
    stamped,
)
from poolwarden_collector.shell.loop.reconfiguration import own_entry, pool_with, still_switching, unrecorded
from poolwarden_collector.shell.loop.rests import Rests
from poolwarden_collector.shell.loop.stalls import AWAY_MS, IN_ETCD, ON_DISK, RETRY_MS, PoolStalls
from poolwarden_collector.shell.queue.backlog import Backlog
from poolwarden_collector.shell.queue.happening import Happening

TICK_MS: Ms = 250
LATE_TICK_MS: Ms = 2_000
LATE_MS: Ms = 2_000

_ASK_OWNER = "Ask the collector that owns it."
_ACTS = (effects.SendOrder, effects.PowerOff, effects.PowerOn, effects.HandOver, effects.AnswerGate)


Turn = Generator[Write, int, None]  # an event on its way; what is sent to it is the epoch that has begun


@dataclass(frozen=True, slots=True)
class _Open:
    """An event whose write has not been answered. ``taking`` is None: the start, or another configuration."""

    turn: Turn
    taking: Happening | None


# ------------------------------------------------------------------------------------------------ the loop


class EngineLoop:
    """Steps the pools of ``roster``, which it alone writes. The epoch of the roster is durable already."""

    def __init__(self, roster: Roster, devices: dict[HostId, tuple[FenceDevice, ...]], now: Ms, boottime: Ms) -> None:
        self.roster = roster
        self._devices = devices
        self._now, self._boottime = now, boottime
        self._last_step, self._last_boottime = now, boottime
        self._open: dict[PoolId, _Open] = {}
        self._acts: list[Act] = []
        self._again: tuple[Happening, ...] = ()
        self._backlog = Backlog()
        self._retry_at: Ms = 0
        self._epoch_above = 0
        self._fronts: dict[PoolId, Ms] = {}
        self._read_until: Ms | None = None  # what came before that has been read from the streams
        self._pools_until: Mapping[PoolId, Ms] = {}  # of these pools only what came earlier
        self._heard = Heard()
        self._behind_alert = BehindAlert(roster, self._do)
        self._stepped: dict[PoolId, Ms] = {}
        self._stalls = PoolStalls(roster, self._do)
        self._epochs: dict[PoolId, int] = {}  # the last one with which a pool was adopted
        self._rests = Rests(roster)

    # -------------------------------------------------------------------------------------------- the driver's calls

    def start(
        self, records: Iterable[PoolRecord], now: Ms, boottime: Ms, short: frozenset[PoolId] = frozenset()
    ) -> Ready:
        """Stand where the journal ends; ``short``: pools of which it has lost entries, and nobody has said more since.

        A write that fails now ends the start: there is no loop then.
        """
        self.roster.pools.update((record.pool, self._pool(record)) for record in records)
        return self._begin("", _Open(self._started(short), None), now, boottime)

    def adopt(self, record: PoolRecord, epoch: int, now: Ms, boottime: Ms, left: LeftBehind | None = None) -> Ready:
        """One of several: a pool is this one's, with this epoch, as soon as that is recorded; else it is not in
        ``roster.pools`` then. ``left``: by the owner before; None: there was none. Raises ValueError for an epoch that
        is not above every one that it had here before.
        """
        uuid = record.pool
        # safety: ids of orders and runs are made of the epoch; an answer to one of before would be taken for another's.
        if uuid in self.roster.pools or epoch <= self._epochs.get(uuid, 0):
            raise ValueError(f"pool {uuid} cannot be adopted with epoch {epoch}")
        if not self.roster.pools:
            self._last_step, self._last_boottime = now, boottime  # until now there was none to be stepped
        return self._begin(uuid, _Open(self._adopted(record, epoch, left), None), now, boottime)

    def release(self, pool: PoolId, why: str) -> Ready:
        """The pool is another collector's from now on; it has no event open. Nothing of it is left here."""
        if pool in self._open or "" in self._open:
            raise RuntimeError("the write of its last event has not been answered")
        self.roster.give_back(pool)
        self._backlog.take(pool)
        self._rests.forget(pool)
        self._stalls.gone(pool)
        for kept in (self._fronts, self._stepped):
            kept.pop(pool, None)
        self._do(Say(WARNING, f"pool {pool} is this collector's no more: {why}"))
        self._do(CutOff(pool))  # safety: what runs was decided by a collector that was in charge
        self._do(Released(pool, why))
        return self._ready(None)

    def lost(self, pool: PoolId, why: str) -> Ready:
        """The pool may be another collector's: nothing is begun in it any more, and it is to be released."""
        if pool in self.roster.pools:
            self.roster.stood_down[pool] = why
            self._do(CutOff(pool))
        return self._ready(None)

    def in_doubt(self, pool: PoolId, why: str, now: Ms) -> Ready:
        """Whether its open write is durable is not known: this pool stands still until that is, and no other one."""
        self._stalls.begin(pool, why, now)
        return self._ready(None)

    def present(self, now: Ms, boottime: Ms) -> Ready:
        """While what is open waits and no step shows it: this collector is not away, or it was."""
        self._now, self._boottime = now, boottime
        self._notice_absence()
        return self._ready(None)

    def in_doubt_no_more(self, pool: PoolId, now: Ms) -> Ready:
        """What was recorded beside its steps is known to be there, or not."""
        self._stalls.end(pool, now)
        return self._ready(None)

    def take(self, happening: Happening, now: Ms, boottime: Ms) -> Ready:
        """One event of a pool that has none open; never raises for anything that an event can cause."""
        return self._begin(happening.pool, _Open(self._taken(happening), happening), now, boottime)

    def reconfigure(self, change: Reconfiguration, now: Ms, boottime: Ms) -> Ready:
        """Another configuration, while no event is open; its acts end with Reconfigured or NotReconfigured."""
        return self._begin("", _Open(self._reconfigured(change), None), now, boottime)

    def committed(self, now: Ms, boottime: Ms, begun: int = 0, turn: PoolId | None = None) -> Ready:
        """The write of ``turn`` (None: of the only one) is durable. ``begun``: the new epoch, after BeginEpoch."""
        self._now, self._boottime = now, boottime
        self._stalls.end(turn, self._now)
        return self._go_on(turn, lambda open_turn: open_turn.send(begun))

    def failed(self, why: str, now: Ms, boottime: Ms, turn: PoolId | None = None) -> Ready:
        """Nothing of the write is durable, because of the disk."""
        self._now, self._boottime = now, boottime
        return self._go_on(turn, lambda open_turn: open_turn.throw(NotDurable(why)))

    def deposed(self, why: str, now: Ms, boottime: Ms, turn: PoolId) -> Ready:
        """The pool is another collector's: whatever of the write is durable, nothing of its step is done here."""
        self._now, self._boottime = now, boottime
        return self._go_on(turn, lambda open_turn: open_turn.throw(NotOwned(why)))

    def refused(self, error: Exception, turn: PoolId | None = None) -> Ready:
        """No disk could hold the write."""
        self._stalls.end(turn, self._now)
        return self._go_on(turn, lambda open_turn: open_turn.throw(error))

    def broken(self, error: Exception, happening: Happening | None = None) -> Ready:
        """The driver itself met an error over this event: whoever waits for an answer gets one, and it is over.

        ``happening`` is None: over the only open one.
        """
        turn = happening.pool if happening is not None else next(iter(self._open), "")
        known = self._open.pop(turn, None)
        taking = happening or (known.taking if known is not None else None)
        if taking is not None:
            self._break(taking, error)
        return self._ready(None)

    def due(self, now: Ms) -> tuple[PoolId, ...]:
        """Pools to which nothing has happened for a while, without those at rest: every step looks at the clock.

        Where all of them rest it is one of them, whose tick shows that this collector was not away, and costs nothing.
        """
        self._rests.keep()
        # What was read is worth more than another look at the clock, the more so the later this collector is. Pools
        # without a master never rest: their looks alone would keep it so far behind that it begins nothing for them.
        late = 2 * self.roster.behind_ms if self.roster.behind_ms > TICK_MS else TICK_MS // 2
        before = now - min(late, LATE_TICK_MS)
        found = tuple(
            uuid
            for uuid, pool in self.roster.pools.items()
            if self._stepped.get(uuid, 0) <= before
            and (uuid in self.roster.stalls or not self._rests.surely_at_rest(uuid, pool, now, self.roster.behind_ms))
        )
        # Before any pool is known, what waits for the disk has it tried again.
        known = tuple(self.roster.pools) or self._backlog.pools()
        return found if found or self._last_step > before else known[:1]

    def judge_sites(
        self, now: Ms, anchors: tuple[bool, ...], oldest: Ms | None = None, sums: Mapping[str, Braked] | None = None
    ) -> tuple[str, ...]:
        """Take the newest judgement of the sites; what to log. ``anchors``: which of the collector's own answer.

        ``oldest``: when the oldest event arrived that waits. ``sums``: what all collectors together say.
        """
        seen, asof = self._taken_in(now, oldest)
        found = judge_sites(seen, anchors, asof, self.roster.sites, self._pools_until, self._heard, sums)
        return self.roster.judged(found, now)

    def silence(self, now: Ms, oldest: Ms | None = None) -> dict[str, Silence]:
        """What this one of several collectors counts of its own pools, by their sites."""
        seen, asof = self._taken_in(now, oldest)
        return silence_of(seen.values(), self.roster.young(now), asof, self.roster.sites, self._pools_until)

    def _taken_in(self, now: Ms, oldest: Ms | None) -> tuple[Mapping[PoolId, Pool], Ms]:
        """The pools that say something of their sites, and as of when."""
        # Who has fallen silent is judged as of what has been taken in: nothing is of an event that is still open, nor
        # of those of its pool that wait behind it.
        stalls, pools = self.roster.stalls, self.roster.pools
        taking = [each.taking for uuid, each in self._open.items() if each.taking is not None and uuid not in stalls]
        waiting = [self._arrived(happening, now) for happening in taking]
        # The last step's lateness is of its own instant: this one may be seconds later, and nothing was read since.
        read = now - self.roster.behind_ms if self._read_until is None else min(now, self._read_until)
        asof = min([read, *waiting, *([oldest] if oldest is not None else [])])
        # Of a pool that stands still nothing is taken in: it says nothing of its site, and holds up no other one.
        seen = {uuid: pool for uuid, pool in pools.items() if uuid not in stalls} if stalls else pools
        return seen, asof

    def streams_read(self, until: Ms, of_pools: Mapping[PoolId, Ms] = MappingProxyType({})) -> None:
        """All that had arrived by then has been read from the streams; of these pools only what came earlier."""
        self._read_until, self._pools_until = until, of_pools

    # -------------------------------------------------------------------------------------------- turns

    def _begin(self, turn: PoolId, event: _Open, now: Ms, boottime: Ms) -> Ready:
        # safety: the step of a pool stands on the one before; what concerns all pools stands on all of them.
        if turn in self._open or "" in self._open or (not turn and self._open):
            raise RuntimeError("one event at a time of a pool: the write of the one before has not been answered")
        self._open[turn], self._now, self._boottime = event, now, boottime
        return self._go_on(turn, next)

    def _go_on(self, turn: PoolId | None, move: Callable[[Turn], Write]) -> Ready:
        if turn is None and len(self._open) == 1:
            turn = next(iter(self._open))
        event = self._open.pop(turn, None) if turn is not None else None
        if turn is None or event is None:
            raise RuntimeError("there is no write to answer")
        try:
            write = move(event.turn)
        except StopIteration:
            return self._ready(None)
        self._open[turn] = event
        return self._ready(write)

    def _ready(self, write: Write | None) -> Ready:
        ready = Ready(tuple(self._acts), write, self._again)
        self._acts, self._again = [], ()
        return ready

    def _do(self, act: Act) -> None:
        self._acts.append(act)

    # -------------------------------------------------------------------------------------------- the start

    def _started(self, short: frozenset[PoolId]) -> Turn:
        pools = self.roster.pools
        # Who starts a collector has decided that it is in charge, also where it had stood down, whoever is heard now.
        above = max((pool.record.stale_epoch for pool in pools.values()), default=0)
        if above >= self.roster.epoch:
            self.roster.epoch = yield BeginEpoch(above)
        for uuid in tuple(pools):
            text = f"collector {self.roster.config.name} started with epoch {epoch.name(self.roster.epoch)}"
            yield from self._note(uuid, Kind.COLLECTOR_STARTED, text, epoch=self.roster.epoch)
            if uuid in short and not pools[uuid].record.short:
                yield from self._note(uuid, Kind.JOURNAL_SHORT, "entries of it are missing: its hosts say more")

    def _adopted(self, record: PoolRecord, above: int, left: LeftBehind | None) -> Turn:
        roster, uuid = self.roster, record.pool
        text = f"collector {roster.config.name} owns this pool with epoch {epoch.name(above)}"
        data = {"epoch": above, "handed": True} if left == LeftBehind() else {"epoch": above}
        entry = Entry(Kind.COLLECTOR_STARTED, text, data, "", record.term)
        try:
            yield Commit(uuid, (entry,), (), record.name)
        except Exception as error:
            self._do(Say(ERROR, f"pool {uuid} is not taken over: {error}"))
            return
        self._epochs[uuid] = above
        roster.take_charge(uuid, above, self._now, left)
        roster.pools[uuid] = self._pool(fold(record, (entry,)))

    def _pool(self, record: PoolRecord) -> Pool:
        return Pool(record, self.roster.config.policy_of(record.pool), self._devices)

    def _note(self, pool: PoolId, kind: Kind, text: str, **data: Any) -> Turn:
        """Journal and fold an entry of the loop's own."""
        known = self.roster.pools[pool]
        entry = Entry(kind, text, data, "", known.record.term)
        yield Commit(pool, (entry,), (), known.record.name)
        self.roster.pools[pool] = replace(known, record=fold(known.record, (entry,)))

    def _reconfigured(self, change: Reconfiguration) -> Turn:
        roster, devices = self.roster, change.devices
        refusal = (
            unrecorded(roster.stalled) if roster.stalled else still_switching(roster.pools, self._devices, devices)
        )
        if refusal is not None:
            self._do(refusal)
            return
        stepped = {uuid: pool_with(roster, uuid, change, self._now) for uuid in roster.pools}
        own = (own_entry(roster.config.name, change),) if change.changes else ()
        named = [Commit(uuid, entries, (), pool.record.name) for uuid, (pool, entries) in stepped.items() if entries]
        try:
            yield Reconfigure(change, (*own, *named))
        except NotDurable as error:
            if not roster.one_of_several:  # whose own disk says nothing of what is durable
                self._stall(str(error))
            self._do(unrecorded(str(error)))
            return
        except Exception as error:
            self._do(NotReconfigured(f"it cannot be recorded: {error}", "Look at the collector's log."))
            return
        # safety: one configuration for all from here on; nothing was stepped since the pools were looked at.
        roster.reconfigure(change.config, self._now)
        self._devices = devices
        roster.pools.update((uuid, pool) for uuid, (pool, _) in stepped.items())
        self._do(Reconfigured())

    # -------------------------------------------------------------------------------------------- one event

    def _taken(self, happening: Happening) -> Turn:
        self._notice_absence()
        if not self.roster.owns(happening.pool):
            # safety: what came for an earlier ownership, or too early for the next one, was never heard.
            why = "this collector does not own the pool"
            self._refuse(happening, "stood-down", why, _ASK_OWNER)
            return
        if self.roster.stalled:
            self._hold(happening)
            if self._now >= self._retry_at:
                yield from self._try_again()
            return
        if happening.pool in self.roster.stalls:
            self._hold(happening)
            if self._stalls.tries_again(happening.pool, self._now):
                self._again = tuple(self._backlog.take(happening.pool))
            return
        try:
            yield from self._step(happening)
        except NotOwned as error:
            self._refuse(happening, "stood-down", str(error), _ASK_OWNER)
        except NotDurable as error:
            if self.roster.one_of_several:
                self._stalls.begin(happening.pool, str(error), self._now)
            else:
                self._stall(str(error))
            self._hold(happening)
        except Exception as error:
            # safety: an invariant that broke in one pool stops that step alone; nothing of it was committed or done.
            self._break(happening, error)

    def _step(self, happening: Happening) -> Turn:
        uuid = happening.pool
        self._stepped[uuid] = self._now
        if uuid not in self.roster.pools:
            yield from self._first_seen(uuid)
        pool, now, boottime = self.roster.pools[uuid], self._now, self._boottime
        behind = self._behind(happening, now)
        if not self._stalls.held(uuid, happening.at):  # then that is told as what it is
            yield from self._behind_alert.tell(now - self._arrived(happening, now), now)
        if isinstance(happening.event, Tick) and self._rests.ticked(uuid, pool, now, behind):
            self._do(Stepped(happening))
            return
        if isinstance(happening.event, AgentReported | CollectorProbed):
            after = self._rests.taken_in(uuid, happening.event, now, behind)
            if after is not None:
                self.roster.pools[uuid] = after
                self._do(Stepped(happening))
                return
        outcome = step(pool, happening.event, now, self.roster.site(uuid, behind))
        if outcome.entries or outcome.alerts:
            hooks = self.roster.config.hooks.directory
            found = found_occasions(pool.record, outcome.entries, self._do) if hooks is not None else ()
            yield Commit(uuid, outcome.entries, outcome.alerts, outcome.pool.record.name, found)
        else:
            yield Nothing()
        # safety: only from here on is the step real; everything above can be repeated from the same state.
        self.roster.pools[uuid] = outcome.pool
        self._stalls.hears(uuid)
        self._rests.stepped(uuid, pool, outcome, now, behind)
        # safety: also on the clock that counts a machine's sleep, which may have come between the commit and here.
        for effect in outcome.effects:
            late = behind + max(self._now - now, self._boottime - boottime)  # anew: an epoch may have been begun
            yield from self._perform(uuid, stamped(effect, boottime), late)
        self._do(Stepped(happening))

    def _first_seen(self, uuid: PoolId) -> Turn:
        self.roster.pools[uuid] = self._pool(PoolRecord(uuid))
        try:
            yield from self._note(uuid, Kind.POOL_SEEN, "an agent of this pool has come for the first time")
        except Exception:
            del self.roster.pools[uuid]
            raise

    def _break(self, happening: Happening, error: Exception) -> None:
        where = f"internal error in pool {happening.pool}: {type(error).__name__}"
        self.roster.warn(f"{where}: {error}; see the log", where)
        self._do(Broke(happening, error))
        why = f"an internal error stopped it: {error}"
        self._refuse(happening, "internal-error", why, "Look at the collector's log.")

    def _refuse(self, happening: Happening, code: str, why: str, next_step: str) -> None:
        if isinstance(happening.event, OperatorSaid):
            reply = effects.Reply(happening.event.request_id, False, why, code, next_step)
            self._do(Refuse(happening.pool, reply))

    # -------------------------------------------------------------------------------------------- effects

    def _perform(self, pool: PoolId, effect: effects.Effect, late: Ms) -> Turn:
        if late > LATE_MS and isinstance(effect, _ACTS):
            text = f"not begun: what it rests on was {late / 1000:.1f} s old when its record was durable"
            slow = "the journal's disk is slow, or this machine is, or it slept: an effect was"
            self.roster.warn(f"{slow} {text}", slow)
            self._drop(pool, effect, text)
        elif self.roster.stalled and isinstance(effect, _ACTS):
            # safety: its step is durable, but the disk has failed since (an epoch's write): nothing could be recorded.
            self._drop(pool, effect, "not begun: nothing can be recorded any more")
        elif isinstance(effect, _ACTS) and (why := self.roster.why_no_act(pool)):
            self._drop(pool, effect, f"not begun: this collector has stood down: {why}")
        elif isinstance(effect, effects.StandDown):
            self._stand_down(pool, effect.why)
        elif isinstance(effect, effects.RaiseEpoch) and self.roster.one_of_several:
            self._stand_down(pool, f"a host has obeyed epoch {epoch.name(effect.above)}", effect.above)
        elif isinstance(effect, effects.RaiseEpoch):
            self._epoch_above = max(self._epoch_above, effect.above)
            yield from self._raise_epoch()
            if effect.above < self.roster.epoch:
                self.roster.stood_down.pop(pool, None)
        else:
            self._do(Begin(pool, effect))

    def _drop(self, pool: PoolId, effect: effects.Effect, why: str) -> None:
        """Leave undone what must not be done any more."""
        self._do(Drop(pool, effect, why))
        if isinstance(effect, effects.PowerOff | effects.PowerOn):
            # safety: it never ran, so it is certain that nothing of it can still land.
            self._do(Post(pool, FenceEnded(effect.host, effect.run_id, False, True, why, self._now, begun=False)))

    def _stand_down(self, pool: PoolId, why: str, above: int = 0) -> None:
        if pool not in self.roster.stood_down:
            self._do(Say(CRITICAL, f"STANDING DOWN in pool {pool}: {why}"))
            self.roster.stood_down[pool] = why
            self._do(CutOff(pool))  # what runs was decided by a collector that was in charge
            if self.roster.one_of_several:
                # safety: no epoch of its own making is above another's; only a new ownership has a higher one.
                self._do(GiveUp(pool, why, above))

    def _raise_epoch(self) -> Turn:
        if self._epoch_above < self.roster.epoch:
            return
        try:
            before = self.roster.raised or (self.roster.epoch,)
            self.roster.epoch = yield BeginEpoch(self._epoch_above)
            self.roster.raised = (*before, self.roster.epoch)
            self._do(Say(WARNING, f"epoch raised to {self.roster.epoch}: an agent had seen {self._epoch_above}"))
        except NotDurable as error:
            self._stall(str(error))  # repeated when the journal works again
        except Exception as error:
            self.roster.warn(str(error))
            self._epoch_above = 0

    # -------------------------------------------------------------------------------------------- a stalled journal

    def _stall(self, why: str) -> None:
        if not self.roster.stalled:
            self._do(Say(ERROR, f"NOTHING IS DECIDED OR DONE: {why}"))
            self.roster.stalled_at = self._now
        self.roster.stalled = why
        self._retry_at = self._now + RETRY_MS
        self._do(Stalled(why))

    def _hold(self, happening: Happening) -> None:
        if isinstance(happening.event, OperatorSaid):
            why = self.roster.stalled or self.roster.stalls.get(happening.pool, "")
            next_step = ON_DISK if self.roster.stalled else IN_ETCD
            self._refuse(happening, "journal", f"nothing can be recorded, so nothing is done: {why}", next_step)
        else:
            self._backlog.keep(happening)

    def _try_again(self) -> Turn:
        try:
            yield Check()
        except NotDurable as error:
            self._stall(str(error))
            return
        away = self._now - (self.roster.stalled_at or self._now)
        self._do(Say(WARNING, f"the journal can be written again after {away / 1000:.1f} s; quiet time begins anew"))
        self.roster.stalled, self.roster.stalled_at = "", None
        self._do(Resumed())
        self.roster.be_quiet_again(self._now)
        yield from self._raise_epoch()
        self._again = tuple(self._backlog.take_all())

    # -------------------------------------------------------------------------------------------- time

    def _notice_absence(self) -> None:
        """Was this process stopped, starved or its machine suspended? Then the silence since was its own."""
        away = max(self._now - self._last_step, self._boottime - self._last_boottime)
        self._last_step, self._last_boottime = self._now, self._boottime
        if away > AWAY_MS and self.roster.pools:
            self._do(Say(WARNING, f"the collector was away for {away / 1000:.1f} s; quiet time begins anew"))
            self.roster.be_quiet_again(self._now)
            self._do(CutOff(""))

    def _behind(self, happening: Happening, now: Ms) -> Ms:
        """How long ago all had arrived that this pool's step takes in; what has been heard before stays heard."""
        front = min(now, max(self._arrived(happening, now), self._fronts.get(happening.pool, 0)))
        self._fronts[happening.pool] = front
        self.roster.behind_ms = now - front
        return now - front

    def _arrived(self, happening: Happening, now: Ms) -> Ms:
        """Until when everything had been read as this event arrived."""
        arrived = now if happening.at is None else happening.at
        return arrived if self._read_until is None else min(arrived, self._read_until)
