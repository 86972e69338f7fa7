"""One collector's look at all of them, once a second: what it should claim, give up, and holds no more.

Rules
-----
* A round is one exchange, without a clock or a task: the simulated world runs it as the collector does.
* What a round finds is acted on by whoever asked for it; nothing but advice, and pools that were heard of for the first
  time, is written here.
* A pool that this collector believes to own is given up for lost only if etcd has a newer owner, or none in two rounds
  in succession: a claim may have been answered after the round's look.
* Of a pool whose owner was advised to move it and does not for ``STAYS_AFTER_MS``, something goes on there: it holds up
  no other one's move.
* Who cannot take a pool over (another release has written it, or its own disk is broken) leaves it to the others for
  ``AVOIDS_MS``. A pool that has had no owner for ``ALONE_AFTER_MS`` is told by the assigner.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.shell.cluster import assignment
from poolwarden_collector.shell.cluster.assignment import Assigner, Overview
from poolwarden_collector.shell.cluster.etcd import EtcdError, Exchange
from poolwarden_collector.shell.cluster.membership import Standing
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import Ownership, generation_of

EVERY_S = 1.0
STAYS_AFTER_MS: Ms = 10_000
AVOIDS_MS: Ms = 30_000
ALONE_AFTER_MS: Ms = 30_000
MOST_HEARD = 1_024  # pools of one round that no collector has heard of before


@dataclass(frozen=True, slots=True)
class Round:
    """What came of one. ``alone``: pools without an owner for too long, and for how long, as the assigner sees it."""

    seen: Overview
    generation: int
    claims: tuple[PoolId, ...] = ()
    gives: Mapping[PoolId, str] = field(default_factory=dict)  # owned here, and to whom each should go
    lost: Mapping[PoolId, str] = field(default_factory=dict)  # believed to be owned here, and why they are not
    assigner: bool = False
    alone: Mapping[PoolId, Ms] = field(default_factory=dict)


class Rounds:
    """The rounds of one collector. Instants are of any one clock of its own that runs on."""

    def __init__(self, names: Names, collector: str) -> None:
        self._names, self._me = names, collector
        self.assigner = ""  # who gives the advice, as of the last round
        self._assigner: tuple[Standing, Assigner] | None = None
        self._unowned: dict[PoolId, Ms] = {}  # since when
        self._advised: dict[PoolId, tuple[str, Ms]] = {}  # pools that are to be moved: to whom, since when
        self._avoided: dict[PoolId, Ms] = {}  # until when
        self._missed: frozenset[PoolId] = frozenset()  # owned here, and not found in the last round

    def avoid(self, pool: PoolId, now: Ms) -> None:
        """It could not be taken over here: others come first for a while."""
        self._avoided[pool] = now + AVOIDS_MS

    def look(
        self, standing: Standing, mine: Mapping[PoolId, Ownership], heard: Collection[PoolId], now: Ms
    ) -> Exchange[Round]:
        """One round. ``mine``: what this collector owns by its own word; ``heard``: pools of which agents have come.

        Raises EtcdError: nothing is known anew, ask again.
        """
        generation = yield from generation_of(self._names)
        seen = yield from assignment.look(self._names)
        self._count(seen, now)
        assigner = yield from self._assign(standing, seen, now)
        if assigner is not None:
            seen = assigner
        for pool in sorted(set(heard) - set(seen.pools))[:MOST_HEARD]:
            yield from assignment.announce(self._names, pool)
        lost = self._lost(seen, mine, generation)
        return Round(
            seen,
            generation,
            tuple(self._claims(seen, mine, now)),
            {pool: to for pool in mine if (to := self._should_go(seen, pool)) and pool not in lost},
            lost,
            assigner is not None,
            self._alone(seen, now) if assigner is not None else {},
        )

    # -------------------------------------------------------------------------------------------- the assigner

    def _assign(self, standing: Standing, seen: Overview, now: Ms) -> Exchange[Overview | None]:
        """The overview with this collector's own advice; None: somebody else gives it."""
        if self._assigner is None or self._assigner[0] != standing:
            found = yield from assignment.campaign(self._names, standing)
            self._assigner = (standing, found) if isinstance(found, Assigner) else None
            self.assigner = self._me if isinstance(found, Assigner) else found.by
        if self._assigner is None:
            return None
        staying = {pool for pool, (_, since) in self._advised.items() if now - since > STAYS_AFTER_MS}
        wanted = assignment.plan(seen, staying)
        if not wanted:
            return seen
        try:
            written = yield from assignment.advise(self._names, self._assigner[1], wanted)
        except EtcdError:
            self._assigner = None  # asked anew who it is
            raise
        if not written:
            self._assigner = None
            return None
        return replace(seen, advised={**seen.advised, **wanted})

    def _alone(self, seen: Overview, now: Ms) -> dict[PoolId, Ms]:
        waits = {pool: now - since for pool, since in self._unowned.items() if now - since >= ALONE_AFTER_MS}
        return waits if seen.members else {}

    # -------------------------------------------------------------------------------------------- its own pools

    def _count(self, seen: Overview, now: Ms) -> None:
        self._unowned = {pool: self._unowned.get(pool, now) for pool in seen.pools if pool not in seen.owners}
        self._avoided = {pool: until for pool, until in self._avoided.items() if now < until}
        moving = {
            pool: to for pool, owner in seen.owners.items() if (to := seen.advised.get(pool, "")) not in ("", owner.by)
        }
        self._advised = {
            pool: kept if (kept := self._advised.get(pool, ("", now)))[0] == to else (to, now)
            for pool, to in moving.items()
        }

    def _claims(self, seen: Overview, mine: Collection[PoolId], now: Ms) -> list[PoolId]:
        unowned = {pool: now - since for pool, since in self._unowned.items()}
        found = assignment.claims(seen, self._me, unowned, mine)
        return [pool for pool in found if pool not in mine and pool not in self._avoided]

    def _should_go(self, seen: Overview, pool: PoolId) -> str:
        """To whom an owned pool should go; empty: it stays."""
        to = seen.advised.get(pool, "")
        able = assignment.taking(seen.members)
        return to if to != self._me and to in able else ""

    def _lost(self, seen: Overview, mine: Mapping[PoolId, Ownership], generation: int) -> dict[PoolId, str]:
        lost = {}
        missed = set()
        for pool, owned in mine.items():
            owner = seen.owners.get(pool)
            if owned.generation != generation:
                lost[pool] = f"the generation is {generation} now: pools are claimed anew"
            elif owner is not None and owner.revision > owned.revision:
                lost[pool] = f"{owner.by or 'another collector'} owns it"
            elif owner is None or owner.revision < owned.revision:
                missed.add(pool)
        lost |= dict.fromkeys(missed & self._missed, "etcd has this collector as its owner no more")
        self._missed = frozenset(missed - set(lost))
        return lost
