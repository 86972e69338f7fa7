"""Which pools a collector has: it stays a member, is or finds the assigner, claims, takes over, gives up by choice.

The exchanges are production's (shell/cluster); this says in which order one process makes them, once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.epoch import LOT_BITS
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.shell.agents.elsewhere import Elsewhere
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.cluster import assignment, commits, membership, ownership
from poolwarden_collector.shell.cluster.commit_text import PoolTail
from poolwarden_collector.shell.cluster.etcd import Etcd, EtcdError, Exchange, Result, carry_out
from poolwarden_collector.shell.cluster.etcd_store import EtcdStore
from poolwarden_collector.shell.cluster.handover import Handover, NotReleased, Released, ReleaseUndecided, why_stays
from poolwarden_collector.shell.cluster.membership import LeaseLost, Membership, Standing
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import Ownership
from poolwarden_collector.shell.loop import ready as on
from poolwarden_lab.virtual.collector.fencing import SimFencer
from poolwarden_lab.virtual.collector.surroundings import Surroundings

EVERY_S = 1.0
AGAIN_S = 0.5  # a release whose end is not known
ORDER_LASTS_MS: Ms = 15_000


class Service(Protocol):
    """The service that guards the pools."""

    async def take_over(self, owned: Ownership, tail: PoolTail) -> bool: ...
    async def lose(self, pool: PoolId, why: str) -> None: ...
    async def rest(self, pool: PoolId) -> bool: ...
    def hand_off(self, pool: PoolId, why: str) -> None: ...
    def go_on(self, pool: PoolId) -> None: ...


class Process(Protocol):
    """The collector whose pools these are."""

    node: str
    etcd: Etcd
    names: Names
    membership: Membership
    roster: Roster
    fencer: SimFencer
    world: Surroundings

    @property
    def now(self) -> int: ...

    @property
    def store(self) -> EtcdStore: ...
    @property
    def service(self) -> Service: ...
    def beside(self, work: Coroutine[Any, Any, None]) -> None: ...


def verdict_of(word: str) -> Verdict | None:
    """A verdict by its word, as a pool was told last."""
    return next((each for each in Verdict if each.word == word), None)


class Keeper:
    """See the module's words."""

    def __init__(self, shell: Process) -> None:
        self._shell = shell
        self._assigner: tuple[Standing, assignment.Assigner] | None = None
        self._seen: assignment.Overview | None = None
        self._unowned: dict[PoolId, Ms] = {}  # since when each pool has had no owner
        self._stays: dict[PoolId, Ms] = {}  # since when a pool was advised to go and does not
        self.announced: set[PoolId] = set()  # pools of which an agent came

    def _ask(self, exchange: Exchange[Result]) -> asyncio.Future[Result]:
        return asyncio.ensure_future(carry_out(self._shell.etcd, exchange))

    async def stay(self) -> None:
        """Be a member, for ever."""
        await membership.stay(self._shell.etcd, self._shell.membership, self._told)

    def _told(self, told: membership.Told) -> None:
        if isinstance(told, LeaseLost):
            for pool in list(self._shell.roster.pools):
                self._shell.beside(self._shell.service.lose(pool, told.why))

    def lost(self, pool: PoolId, why: str) -> None:
        """The service has found that the pool is another's."""

    def give_up(self, wish: on.GiveUp) -> None:
        """Release the pool; it is claimed again with a higher epoch."""
        self._shell.beside(self._release(wish.pool, wish.why))

    def owner_of(self, pool: PoolId) -> Elsewhere | None:
        """Whom the newest look names; None: nobody."""
        seen = self._seen
        if seen is None:
            return None
        name = seen.owners[pool].by if pool in seen.owners else seen.advised.get(pool, "")
        member = seen.members.get(name)
        if member is None or name == self._shell.node:
            return None
        return Elsewhere(member.address, name, "that collector has this pool")

    # ------------------------------------------------------------------------------------------ once a second

    async def look_after(self) -> None:
        """Claim, assign and give up, for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._look()
            except EtcdError:
                continue  # it is asked again in a second

    async def _look(self) -> None:
        shell, now = self._shell, self._shell.now
        standing = shell.membership.standing
        if standing is None:
            return
        self._seen = seen = await self._ask(assignment.look(shell.names))
        for pool in sorted(self.announced - set(seen.pools)):
            await self._ask(assignment.announce(shell.names, pool))
        self._unowned = {pool: self._unowned.get(pool, now) for pool in seen.pools if pool not in seen.owners}
        await self._assign(standing, seen)
        waited = {pool: now - since for pool, since in self._unowned.items()}
        for pool in assignment.claims(seen, shell.node, waited, shell.roster.pools):
            await self._take(standing, pool)
        for pool, to in seen.advised.items():
            if pool in shell.roster.pools and to != shell.node and to in assignment.taking(seen.members):
                await self._move(pool, to)

    async def _assign(self, standing: Standing, seen: assignment.Overview) -> None:
        names = self._shell.names
        if self._assigner is None or self._assigner[0] is not standing:
            elected = await self._ask(assignment.campaign(names, standing))
            self._assigner = (standing, elected) if isinstance(elected, assignment.Assigner) else None
        if self._assigner is None:
            return
        now, able = self._shell.now, assignment.taking(seen.members)
        going = [p for p, by in seen.owners.items() if seen.advised.get(p, by.by) not in (by.by, "")]
        self._stays = {pool: self._stays.get(pool, now) for pool in going if seen.advised[pool] in able}
        staying = [pool for pool, since in self._stays.items() if now - since > 10_000]
        wanted = assignment.plan(seen, staying)
        if wanted and not await self._ask(assignment.advise(names, self._assigner[1], wanted)):
            self._assigner = None

    # ------------------------------------------------------------------------------------------ pools come and go

    async def _take(self, standing: Standing, pool: PoolId) -> None:
        shell = self._shell
        lot = shell.world.lot() % (1 << LOT_BITS)
        owned = await self._ask(ownership.claim(shell.names, standing, pool, lot))
        if not isinstance(owned, Ownership):
            return
        tail = await self._ask(commits.read(shell.names, pool, owned))
        if isinstance(tail, PoolTail) and shell.membership.standing is standing and pool not in shell.roster.pools:
            await shell.service.take_over(owned, tail)

    async def _move(self, pool: PoolId, to: str) -> None:
        shell = self._shell
        known = shell.roster.pools[pool]
        now, live = shell.now, known.live
        sent = any(each.result is None and now - each.at < ORDER_LASTS_MS for each in live.sent.values())
        if why_stays(known.record, verdict_of(live.verdict.word), sent or shell.fencer.busy(pool)):
            return
        await self._release(pool, f"it goes to {to}", to)

    async def _release(self, pool: PoolId, why: str, to: str = "") -> None:
        """Give it up, with its inbox held from the moment on at which nothing is under way."""
        service, store = self._shell.service, self._shell.store
        if not await service.rest(pool):
            return
        journal = store.journal(pool)
        if journal is None:
            return
        going = Handover(self._shell.names, journal, to)
        while isinstance(told := await self._ask(going.release()), ReleaseUndecided):
            if pool in self._shell.roster.stood_down:
                break
            await asyncio.sleep(AGAIN_S)
        if isinstance(told, Released) or (isinstance(told, NotReleased) and told.lost):
            service.hand_off(pool, why)
        else:
            service.go_on(pool)
