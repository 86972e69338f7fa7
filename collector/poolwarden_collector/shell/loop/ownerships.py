"""One of several collectors: it stays a member, takes pools over, hands them on, and says who has which.

Rules
-----
* The right to act is asked of the membership on CLOCK_BOOTTIME, here alone; nothing else here counts on that clock.
* Once a second a round (shell/cluster/rounds.py) finds what is to be claimed, given up or lost. Without an answer of
  etcd nothing is claimed or given up, and what is owned is looked at as long as no newer owner is known: it acts
  nowhere once its lease's time is over, and that the lease is gone is told by etcd itself.
* A pool is taken over in this order: its key, what etcd has of it under a compare of that key, then the service. Where
  a later step fails the key is left, without a promise to whoever comes next.
* Where hosts have obeyed more than an ownership's epoch, the pool is left and claimed anew. If the new epoch is not
  above that either, no claim will be: the pool stays here, read-only, and what is told names the command. The same
  where hosts say more again and again (``GIVEN_UP_AT_MOST``): claiming anew gains nothing then.
* A collector that stops hands over what may be moved, within ``LEAVE_WITHIN_S`` and no longer than something moves,
  then gives its lease up: of the rest the next owner knows that something may be under way, and waits.
* Of a pool that is not this collector's an agent is told who owns it, else who is to claim it, else nobody: then it
  tries the others of its list, and comes again. A pool of which nobody has heard is announced: so it gets an owner.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from poolwarden_collector.core.model import epoch
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.agents.elsewhere import Elsewhere
from poolwarden_collector.shell.agents.sessions import Sessions
from poolwarden_collector.shell.cluster import assignment, commits, ownership
from poolwarden_collector.shell.cluster.assignment import Overview
from poolwarden_collector.shell.cluster.commit_text import PoolTail, Unreadable
from poolwarden_collector.shell.cluster.etcd import Etcd, EtcdError, Exchange, carry_out
from poolwarden_collector.shell.cluster.handover import NotReleased, Released
from poolwarden_collector.shell.cluster.membership import (
    RENEWALS,
    Joined,
    LeaseLost,
    Membership,
    NameTaken,
    Renewed,
    Right,
    Standing,
    Told,
    Unanswered,
    stay,
)
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import Ownership
from poolwarden_collector.shell.cluster.rounds import EVERY_S, MOST_HEARD, Round, Rounds
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.scouts import AFTER_MS, BACK_WITHIN_MS, Scouts
from poolwarden_collector.shell.loop.shared_service import SharedService

LEAVE_WITHIN_S = 10.0  # of the 20 s that the unit gives to an end
GIVEN_UP_AT_MOST = 3  # times within GIVEN_UP_WITHIN_MS, for what hosts have obeyed
GIVEN_UP_WITHIN_MS: Ms = 600_000
ASKED_WITHIN_MS: Ms = 60_000  # agents that know no owner come again at least so often
STAYS_FOR_S = 3.0  # without a pool that could be moved: the others are left as they are
AT_ONCE = 8  # pools that are taken over or handed on at a time
_AGAIN_S = 0.5
_STOPS = "this collector stops"

_log = logging.getLogger(__name__)


def _lot() -> int:
    return secrets.randbits(epoch.LOT_BITS)


@dataclass(frozen=True, slots=True)
class GenerationTooLow:
    """Hosts of a pool have obeyed more than any ownership's epoch can be before the generation is raised to this one.

    0: there is none above it.
    """

    pool: PoolId
    generation: int
    obeyed: int  # the highest epoch that its hosts have obeyed


class Ownerships:
    """The pools that this collector owns, and the others that do. ``load``: how many agents are heard here.

    ``now`` is CLOCK_BOOTTIME; ``lot`` draws what is in an epoch beside etcd's revision.
    """

    def __init__(
        self,
        etcd: Etcd,
        names: Names,
        membership: Membership,
        service: SharedService,
        load: Callable[[], int] = lambda: 0,
        now: Callable[[], Ms] = clock.awake_or_not_ms,
        sessions: Sessions | None = None,
        lot: Callable[[], int] = _lot,
    ) -> None:
        """``sessions``: of the agents that are sent to others while this collector is cut off from etcd."""
        self.membership = membership
        self.newest: Round | None = None
        self.looked_at: Ms = 0  # when that one ended, on the clock of rights
        self.trouble = ""  # why nothing is known anew of the others; empty: it is
        self.unreadable: dict[PoolId, str] = {}  # pools that this release cannot read, and why
        self.too_low: dict[PoolId, GenerationTooLow] = {}
        self.gone: set[PoolId] = set()  # owned here, as far as etcd has said; agents have found another owner
        self._etcd, self._names, self._service, self._load, self._now = etcd, names, service, load, now
        self._lot = lot
        self._rounds = Rounds(names, membership.collector)
        self._scouts = Scouts(sessions, self._others) if sessions is not None else None
        self._mine: dict[PoolId, Ownership] = {}
        self._heard: set[PoolId] = set()
        self._asked: dict[PoolId, Ms] = {}  # when an agent asked last for a pool's owner, and none was known
        self._no_right_since: Ms | None = None
        self._sent: dict[PoolId, str] = {}  # handed on since the newest round began
        self._obeyed: dict[PoolId, int] = {}  # the highest epoch for which a pool was left
        self._given_up: dict[PoolId, list[Ms]] = {}  # when, for that
        self._busy: dict[PoolId, asyncio.Task[None]] = {}  # pools that are being taken over, handed on or lost
        self._losing: set[PoolId] = set()
        self._leaving = False
        self._running: list[asyncio.Task[None]] = []
        self._kept: set[asyncio.Task[None]] = set()
        self._few = asyncio.Semaphore(AT_ONCE)
        self._on_second: Callable[[], None] = lambda: None
        self._on_round: Callable[[Round], None] = lambda _: None
        service.roster.right = lambda: self._right().why_not
        # safety: until then, and not longer, may what was begun before go on to its own beginning (fencing/leave.py).
        service.roster.right_until = lambda: self._right().until
        service.roster.elsewhere = self.elsewhere
        service.on_loss(self._deposed)
        service.on_give_up(self._give_up)
        service.roster.without_right = self.without_right

    def on_round(self, tell: Callable[[Round], None]) -> None:
        """Whom to tell what each round has found."""
        self._on_round = tell

    def on_second(self, tell: Callable[[], None]) -> None:
        """Whom to have look once a second, whether etcd answers or not."""
        self._on_second = tell

    # -------------------------------------------------------------------------------------------- what others ask

    def _right(self) -> Right:
        return self.membership.right(self._now())

    def now(self) -> Ms:
        """On the clock of rights."""
        return self._now()

    def without_right(self) -> Ms:
        """For how long it has been seen that this collector may not act, ms; 0: it may."""
        return max(0, self._now() - self._no_right_since) if self._no_right_since is not None else 0

    def asked_in_vain(self) -> Collection[PoolId]:
        """Pools whose agents have come here lately, and of which no owner is known."""
        now = self._now()
        self._asked = {pool: at for pool, at in self._asked.items() if now - at < ASKED_WITHIN_MS}
        return self._asked.keys()

    @property
    def assigner(self) -> str:
        """Who writes the advice, as of the newest round; empty: it is not known."""
        return self._rounds.assigner

    @property
    def owned(self) -> Collection[PoolId]:
        """The pools whose keys are this collector's."""
        return self._mine.keys()

    def tells(self, pool: PoolId) -> bool:
        """Is it for this collector to tell what is to be told of this pool? Its owner does; of a pool that nobody owns
        the one that comes first in its order.
        """
        if self._service.roster.owns(pool):
            return True
        seen = self.newest.seen if self.newest is not None else Overview({}, {}, {})
        first = assignment.order(pool, assignment.taking(seen.members))[:1]
        return pool not in seen.owners and first == [self.membership.collector]

    def owner_of(self, pool: PoolId) -> Elsewhere | None:
        """Where an agent of this pool belongs; None: here."""
        if self._service.roster.owns(pool):
            return None
        if len(self._heard) < MOST_HEARD:
            self._heard.add(pool)
        found = self.elsewhere(pool)
        if found.address:
            self._asked.pop(pool, None)
        elif len(self._asked) < MOST_HEARD or pool in self._asked:
            self._asked[pool] = self._now()
        return found

    def elsewhere(self, pool: PoolId) -> Elsewhere:
        """Who has a pool that this collector does not own, as far as it knows."""
        found = self.newest.seen if self.newest is not None else Overview({}, {}, {})
        owner = found.owners.get(pool)
        name = self._sent.get(pool) or (owner.by if owner is not None else found.advised.get(pool, ""))
        member = found.members.get(name)
        if member is None or name == self.membership.collector:
            return Elsewhere("", "", "no collector owns the pool yet; it is being taken over")
        return Elsewhere(member.address, name, "that collector owns the pool" if owner else "it is to own the pool")

    # -------------------------------------------------------------------------------------------- its life

    def start(self) -> None:
        """Become a member, and stay one."""
        calls = stay(self._etcd, self.membership, self._told), self._every_second(), self._look_on()
        self._running = [asyncio.ensure_future(call) for call in calls]

    async def leave(self) -> None:
        """Hand over what may be moved, end what is owned, give the lease up; within a bound, whatever etcd does."""
        self.membership.draining = self._leaving = True
        try:
            async with asyncio.timeout(LEAVE_WITHIN_S):
                await self._renew()
                await self._hand_all_over()
        except TimeoutError:
            _log.warning("%d pools were not handed over: %s", len(self._mine), ", ".join(sorted(self._mine)))
        for task in (*self._running, *self._busy.values()):
            task.cancel()
        await asyncio.gather(*self._running, *self._busy.values(), return_exceptions=True)
        # safety: nothing is begun any more before the lease goes, with which another one may own the pools.
        await asyncio.gather(*(self._service.lose(pool, _STOPS) for pool in [*self._mine]))
        self._mine.clear()
        try:
            await self._ask(self.membership.leave())
        except EtcdError as error:
            _log.warning("its lease was not given up (%s): its pools are taken over when that is over", error)

    async def _renew(self) -> None:
        """The others are told at once that it leaves."""
        try:
            await self._ask(self.membership.renew())
        except EtcdError as error:
            _log.warning("the other collectors do not hear that this one stops: %s", error)

    async def _hand_all_over(self) -> None:
        """Until none is left that may be; where nobody else is there they are given up for whoever comes."""
        loop = asyncio.get_running_loop()
        left, since = len(self._mine), loop.time()
        while self._mine and self.membership.standing is not None and loop.time() - since < STAYS_FOR_S:
            if len(self._mine) < left:
                left, since = len(self._mine), loop.time()
            able = [name for name in self._able() if name != self.membership.collector]
            pools = [pool for pool in self._mine if pool not in self._busy]
            for pool in pools:
                self._begin(pool, self._hand_on(pool, assignment.order(pool, able)[0] if able else ""))
            await asyncio.sleep(_AGAIN_S)

    def _able(self) -> list[str]:
        return assignment.taking(self.newest.seen.members) if self.newest is not None else []

    # -------------------------------------------------------------------------------------------- membership

    def _told(self, told: Told) -> None:
        match told:
            case Joined(standing):
                _log.info("member of the collectors as %s, lease %x", standing.collector, standing.lease)
            case NameTaken():
                self._in_trouble(f"another process is collector {self.membership.collector}, or was a moment ago")
            case LeaseLost(why):
                _log.critical("ITS PLACE AMONG THE COLLECTORS IS LOST, and every pool with it: %s", why)
                self._lose(dict.fromkeys(self._mine, why))
            case Unanswered(why):
                self._in_trouble(why)
            case Renewed():
                self._in_trouble("")

    def _in_trouble(self, why: str) -> None:
        if why and not self.trouble:
            _log.error("etcd does not let it go on: %s", why)
        elif self.trouble and not why:
            _log.warning("etcd answers again")
        self.trouble = why

    # -------------------------------------------------------------------------------------------- rounds

    async def _every_second(self) -> None:
        while True:
            standing = self.membership.standing
            if standing is not None:
                try:
                    await self._round(standing)
                except EtcdError as error:
                    self._in_trouble(str(error))
                except Exception:
                    _log.exception("a round among the collectors failed")
            await asyncio.sleep(EVERY_S if standing is not None else self.membership.ttl_s / RENEWALS / 4)

    def _others(self) -> Collection[str]:
        seen = self.newest.seen.members if self.newest is not None else {}
        return [each.address for name, each in seen.items() if name != self.membership.collector and each.address]

    async def _look_on(self) -> None:
        """What goes on whether etcd answers or not."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                self._cut_off()
                self._on_second()
            except Exception:
                _log.exception("a look at its right to act failed")

    def _cut_off(self) -> None:
        """While etcd says nothing: whether others have its pools, its agents find out (scouts.py)."""
        now = self._now()
        if not self._right().why_not:
            self._no_right_since = None
        elif self._no_right_since is None:
            self._no_right_since = now
        if self._scouts is not None:
            self._look_elsewhere(self._scouts, now)
        roster = self._service.roster
        if self._no_right_since is not None:
            # Who was sent to look at another collector has time to come back before anything is concluded without him.
            roster.acts_from = roster.now() + (BACK_WITHIN_MS if roster.scouts else 0)

    def _look_elsewhere(self, scouts: Scouts, now: Ms) -> None:
        if self.membership.over_since(now) < AFTER_MS:
            scouts.rest()
            self._service.roster.scouts = {}
            self.gone.clear()
            return
        found = scouts.look([*self._mine], now)
        self._service.roster.scouts = scouts.away()
        for pool in found:
            _log.warning("pool %s: an agent found another collector that has it; all of them are sent on", pool)
            self.gone.add(pool)

    async def _round(self, standing: Standing) -> None:
        self.membership.load = self._load()
        mine, heard, sent = dict(self._mine), set(self._heard), dict(self._sent)
        found = await self._ask(self._rounds.look(standing, mine, heard, self._now()))
        if self.membership.standing != standing:
            return
        self.newest, self.looked_at = found, self._now()
        self._heard -= heard
        for pool, to in sent.items():
            # Until its next owner has claimed it, and no longer than he is there.
            owner = found.seen.owners.get(pool)
            if (owner is not None and owner.by != self.membership.collector) or to not in found.seen.members:
                self._sent.pop(pool, None)
        self._lose(found.lost)
        if not self._leaving:
            for pool, to in found.gives.items():
                self._begin(pool, self._hand_on(pool, to))
            for pool in found.claims:
                self._begin(pool, self._take(standing, pool))
        self._on_round(found)

    def _begin(self, pool: PoolId, work: Coroutine[Any, Any, None]) -> None:
        if pool in self._busy or pool in self._losing:
            work.close()
            return
        self._busy[pool] = asyncio.ensure_future(self._one_of_few(pool, work))

    async def _one_of_few(self, pool: PoolId, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with self._few:
                await work
        except EtcdError as error:
            _log.warning("pool %s: %s", pool, error)
        except Exception:
            _log.exception("pool %s: an internal error", pool)
            self._rounds.avoid(pool, self._now())
        finally:
            work.close()
            self._busy.pop(pool, None)

    # -------------------------------------------------------------------------------------------- pools come

    async def _take(self, standing: Standing, pool: PoolId) -> None:
        claiming = ownership.claim(self._names, standing, pool, self._lot())
        owned = await self._ask(claiming)
        if not isinstance(owned, Ownership):
            _log.info("pool %s was not taken over: %s", pool, owned)
            return
        if owned.epoch <= self._obeyed.get(pool, 0):
            self.too_low[pool] = _too_low(pool, self._obeyed[pool])
        elif pool in self.too_low and owned.generation >= self.too_low[pool].generation:
            del self.too_low[pool]
        self._mine[pool] = owned
        if not await self._guard(owned):
            self._mine.pop(pool, None)
            await self._leave_it(owned)
        elif self.membership.standing != standing or self._mine.get(pool) is not owned:
            # safety: what was lost before it was guarded could not be released then.
            await self._service.lose(pool, "its ownership, or its place among the collectors, was lost meanwhile")
            self._mine.pop(pool, None)
            await self._leave_it(owned)
        else:
            before = "handed over" if owned.handed_by else "not handed over: what was under way there may still land"
            _log.info("pool %s is this collector's with epoch %s, %s", pool, epoch.name(owned.epoch), before)

    async def _guard(self, owned: Ownership) -> bool:
        """Take the pool over as etcd has it; false: it could not be."""
        pool = owned.pool
        try:
            tail = await self._ask(commits.read(self._names, pool, owned))
        except Unreadable as error:
            _log.error("pool %s cannot be read by this release, another collector is to own it: %s", pool, error)
            self.unreadable[pool] = str(error)
            self._rounds.avoid(pool, self._now())
            return False
        except EtcdError as error:
            _log.warning("pool %s was not taken over: %s", pool, error)
            return False
        self.unreadable.pop(pool, None)
        try:
            return isinstance(tail, PoolTail) and await self._service.take_over(owned, tail)
        except ValueError as error:
            _log.warning("pool %s was not taken over: %s", pool, error)
            return False

    # -------------------------------------------------------------------------------------------- pools go

    async def hand_over(self, pool: PoolId, to: str) -> Released | NotReleased:
        """Give a pool to that member, if nothing goes on there and he takes pools; else why it stays."""
        if to and to not in self._able():
            return NotReleased(f"{to} is no collector that is there and takes pools")
        if pool in self._losing:
            return NotReleased("this collector is losing the pool", lost=True)
        self._sent[pool] = to  # its agents are told when it is released
        done = await self._service.hand_over(pool, to)
        if isinstance(done, Released):
            self._mine.pop(pool, None)
        else:
            self._sent.pop(pool, None)
        return done

    async def _hand_on(self, pool: PoolId, to: str) -> None:
        done = await self.hand_over(pool, to)
        if not isinstance(done, Released):
            _log.debug("pool %s stays: %s", pool, done.why)

    def _lose(self, lost: Mapping[PoolId, str]) -> None:
        """These are another one's, or may be."""
        for pool, why in lost.items():
            owned = self._mine.pop(pool, None)
            if owned is not None:
                self._losing.add(pool)
                self._also(self._lose_one(owned, why))

    async def _lose_one(self, owned: Ownership, why: str) -> None:
        try:
            await self._service.lose(owned.pool, why)
            await self._leave_it(owned)
        finally:
            self._losing.discard(owned.pool)

    def _deposed(self, pool: PoolId, why: str) -> None:
        """The service has found that, and has released the pool."""
        if (owned := self._mine.pop(pool, None)) is not None:
            self._also(self._leave_it(owned))

    def _give_up(self, asked: on.GiveUp) -> None:
        pool, now = asked.pool, self._now()
        self._obeyed[pool] = max(asked.above, self._obeyed.get(pool, 0))
        before = [at for at in self._given_up.get(pool, ()) if now - at < GIVEN_UP_WITHIN_MS]
        self._given_up[pool] = [*before, now]
        if pool in self.too_low or len(before) >= GIVEN_UP_AT_MOST:
            self.too_low[pool] = _too_low(pool, self._obeyed[pool])
            return
        self._lose({pool: asked.why})

    async def _leave_it(self, owned: Ownership) -> None:
        """Its key is in nobody's way. Where etcd does not answer, a later round finds it there and comes back to it."""
        try:
            await self._ask(ownership.leave_it(owned))
        except EtcdError as error:
            _log.warning("pool %s: its key was not removed: %s", owned.pool, error)

    def _also(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    async def _ask(self, exchange: Exchange[Any]) -> Any:
        return await carry_out(self._etcd, exchange)


def _too_low(pool: PoolId, obeyed: int) -> GenerationTooLow:
    try:
        return GenerationTooLow(pool, epoch.generation_above(obeyed), obeyed)
    except OverflowError:
        return GenerationTooLow(pool, 0, obeyed)
