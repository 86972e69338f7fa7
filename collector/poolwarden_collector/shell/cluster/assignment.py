"""Which collector a pool should belong to: advice by one of the members, from which nothing else follows.

Rules
-----
* By rendezvous hash each pool has an order of all collectors; the first of those that are there and take pools is the
  one that it should belong to. So who comes or goes moves its own share and nothing else.
* One member writes the advice: whoever holds the assigner's key, under his lease; each advice compares that. Two at
  once cannot be, and none at all costs no pool its owner.
* A pool without an owner is advised at once, unless its advice names somebody who is there: then it is on its way to
  him. One that has an owner is moved only if that owner is to leave, or, while every pool has an owner, if he has more
  pools than his share by more than ``SLACK``; and only ``MOVES`` at a time. The owner alone knows whether it may be
  moved (handover.py).
* Advice that names nobody who is there is put right to the owner, so that who comes back later finds no old advice in
  his favour.
* Whom the advice names claims a pool. Where he does not (he cannot read it, or is gone) the others do, one after the
  other in the pool's own order, ``PATIENCE_MS`` apart.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.shell.cluster.etcd import Created, Exchange, Found, Get, Kept, Op, Put, Txn, TxnDone, behind
from poolwarden_collector.shell.cluster.membership import Member, Standing
from poolwarden_collector.shell.cluster.membership import members as members_of
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import Held, advice, held

MOVES = 4  # pools a second that are moved by choice
SLACK = 2  # pools more than its share that a collector may have before any is moved
PATIENCE_MS: Ms = 5_000  # that a pool without an owner waits for its advice
_WRITES = 64  # of one transaction
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Overview:
    """All collectors and pools, as of one revision."""

    members: Mapping[str, Member]
    owners: Mapping[PoolId, Held]
    advised: Mapping[PoolId, str]  # every pool that was ever heard of

    @property
    def pools(self) -> list[PoolId]:
        """All of them, in one order for everybody."""
        return sorted({*self.owners, *self.advised})


def order(pool: PoolId, collectors: Iterable[str]) -> list[str]:
    """All collectors in this pool's own order: the same for everybody who asks."""
    return sorted(
        collectors, key=lambda name: (hashlib.sha256(f"{name}\0{pool}".encode()).digest(), name), reverse=True
    )


def taking(members: Mapping[str, Member]) -> list[str]:
    """Who takes pools: all that are there and are not to leave; where all are to leave, none."""
    return [name for name, member in members.items() if not member.draining]


def plan(seen: Overview, staying: Collection[PoolId] = ()) -> dict[PoolId, str]:
    """The advice that should change: for pools without an owner all of it, of the others a few at a time.

    ``staying``: pools whose owner was advised to move them a while ago and does not, because something goes on there;
    they hold up no other.
    """
    able = taking(seen.members)
    if not able:
        return {}
    wanted: dict[PoolId, str] = {}
    owned = {pool: held.by for pool, held in seen.owners.items() if held.by in seen.members}
    for pool in seen.pools:
        advised = seen.advised.get(pool, "")
        if pool in owned and owned[pool] in able and advised not in able:
            wanted[pool] = owned[pool]
        elif pool not in owned and advised not in able:
            wanted[pool] = order(pool, able)[0]
    return wanted | _moves(seen, owned, able, staying)


def _moves(
    seen: Overview, owned: Mapping[PoolId, str], able: list[str], staying: Collection[PoolId]
) -> dict[PoolId, str]:
    """Pools that are to go elsewhere: those of who is to leave, then those above a collector's share."""
    under_way = {pool for pool, by in owned.items() if seen.advised.get(pool, by) != by}
    left = MOVES - sum(1 for pool in under_way if seen.advised[pool] in able and pool not in staying)
    has = Counter(seen.advised[pool] if pool in under_way else by for pool, by in owned.items())
    share = -(-len(owned) // len(able))
    found: dict[PoolId, str] = {}
    for pool in sorted(owned, key=lambda pool: (owned[pool] in able, pool)):
        if left <= 0:
            break
        by = owned[pool]
        if pool in under_way and seen.advised[pool] in able:
            continue
        leaves = by not in able
        if not leaves and (has[by] <= share + SLACK or len(owned) < len(seen.pools)):
            continue
        to = next((name for name in order(pool, able) if name != by and has[name] < share), "")
        if not to and leaves:
            to = order(pool, able)[0]
        if to:
            found[pool] = to
            has[by] -= 1
            has[to] += 1
            left -= 1
    return found


def claims(seen: Overview, me: str, unowned_ms: Mapping[PoolId, Ms], mine: Collection[PoolId] = ()) -> list[PoolId]:
    """Pools that this collector should claim now. ``unowned_ms``: for how long each has had no owner.

    ``mine``: of which it knows that it owns them. One that has its name as owner besides these was claimed by a request
    that was not answered and carried out late: it is claimed again, which finds that, and kept or given up.
    """
    stray = [pool for pool, owner in seen.owners.items() if owner.by == me and pool not in mine]
    able = taking(seen.members)
    if me not in able:
        return sorted(stray)
    free = [
        pool
        for pool in seen.pools
        if pool not in seen.owners and unowned_ms.get(pool, 0) >= _waits(pool, seen.advised.get(pool, ""), able, me)
    ]
    return sorted([*free, *stray])


def _waits(pool: PoolId, advised: str, able: list[str], me: str) -> Ms:
    """For how long the pool must have had no owner before this collector claims it."""
    others = [name for name in order(pool, able) if name != advised]
    return 0 if advised == me else (others.index(me) + (advised in able)) * PATIENCE_MS


# ------------------------------------------------------------------------------------------------ exchanges


@dataclass(frozen=True, slots=True)
class Assigner:
    """This collector writes the advice, for as long as its key stands."""

    revision: int


def campaign(names: Names, standing: Standing) -> Exchange[Assigner | Held]:
    """Become the assigner, if nobody is. Raises EtcdError: ask again."""
    key = names.assigner
    compare = (Created(key, 0), Created(names.member(standing.collector), standing.revision))
    said = json.dumps({"collector": standing.collector}).encode()
    done: TxnDone = yield Txn(compare, (Put(key, said, standing.lease),), (Get(key),))
    if done.succeeded:
        return Assigner(done.revision)
    kept = done.found[0].one
    if kept is not None and kept.lease == standing.lease:
        return Assigner(kept.created)
    return held(kept) if kept is not None else Held("", 0)


def advise(names: Names, me: Assigner, wanted: Mapping[PoolId, str]) -> Exchange[bool]:
    """Write the advice; False: somebody else gives it now. Raises EtcdError: look and plan again."""
    writes: list[Op] = [Put(names.assigned(pool), advice(to)) for pool, to in wanted.items()]
    for at in range(0, len(writes), _WRITES):
        done: TxnDone = yield Txn((Created(names.assigner, me.revision),), tuple(writes[at : at + _WRITES]))
        if not done.succeeded:
            return False
    return True


def announce(names: Names, pool: PoolId) -> Exchange[None]:
    """Of a pool that etcd does not know yet an agent was heard: it is to be advised, and so claimed."""
    key = names.assigned(pool)
    yield Txn((Created(key, 0),), (Put(key, advice("")),), (Get(key),))


def look(names: Names) -> Exchange[Overview]:
    """Members, owners and advice, as of one revision. Raises EtcdError."""
    members: Found = yield Get(names.members, behind(names.members))
    at = members.revision
    owners = yield from _all(names.owners, at)
    advised = yield from _all(names.advice, at)
    return Overview(
        members_of(names, members),
        {names.parts(kept.key)[1]: held(kept) for kept in owners},
        {names.parts(kept.key)[1]: held(kept).by for kept in advised},
    )


def _all(start: str, revision: int) -> Exchange[list[Kept]]:
    found: list[Kept] = []
    key = start
    while True:
        page: Found = yield Get(key, behind(start), _PAGE, revision)
        found += page.kept
        if not page.more:
            return found
        key = page.kept[-1].key + "\0"
