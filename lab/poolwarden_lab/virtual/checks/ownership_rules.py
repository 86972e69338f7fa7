"""Several collectors over etcd, asserted after every event (the numbers are those of the design).

E1  Orders, power switches, database handovers and gate answers are begun only by an owner of the pool, with the epoch
    of that ownership; while nobody's lease was let go too early, by the only one whose right lasts. What a process has
    in hand when it stops it begins when it goes on: of that E3 and E4 take care.
E2  In one generation each ownership of a pool has an epoch above those before it; after a restore of etcd they may come
    again until a person raises the generation.
E3  No agent carries out an order of an earlier ownership once a later one has recorded something new of that pool:
    a decision, a power-off, a promotion, the start of a restart in place.
E4  A power-off is begun at most 2 s after etcd had its intent, with the right to act; and no power goes by a fence run
    of an earlier ownership once a later one has recorded a proof, a promotion, a power-on, or has answered a boot gate.
    The first of both is not asserted of a collector that its hypervisor has paused. No clock of it knows of that, and
    what it had in hand it begins. So a collector's machine is none that is paused or put back from a snapshot.
E5  By construction: nothing of a clock is ever sent.
E6  Without the right to act nothing is begun, but what a process had in hand when it stopped.
E7  So nobody acts while etcd is away as a whole: every right has ended.
E8  A pool is given up by choice only if it has no failover, question, drill or owed work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.epoch import LOT_BITS, REVISION_BITS
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_lab.virtual.checks.invariants import InvariantBroken
from poolwarden_lab.virtual.checks.journal_rules import NEW_THINGS
from poolwarden_lab.virtual.collector.collector import SimCollector
from poolwarden_lab.virtual.collector.ledger import Commit
from poolwarden_lab.virtual.several.cluster import JOURNAL, Cluster, Owner
from poolwarden_lab.virtual.several.shared_shell import SharedShell
from poolwarden_lab.virtual.world.guarded import GuardedPool

ACTS = (effects.SendOrder, effects.PowerOff, effects.PowerOn, effects.HandOver, effects.AnswerGate)
RESTS_ON_POWER = (Kind.PROOF, Kind.PROMOTE_INTENT, Kind.SWITCH_INTENT)
INTENT_FRESH_MS: Ms = 2_000
LOOKS = ("probe_now", "collect_evidence", "read_database", "locate_vms", "show_message")


class Several(Protocol):
    """The world that is looked at."""

    pools: dict[str, GuardedPool]

    @property
    def now(self) -> int: ...
    def story(self) -> str: ...


@dataclass
class _Watched:
    """One pool."""

    owners: list[Owner] = field(default_factory=list)
    new_by: int = 0  # the highest epoch under which something new was recorded
    power_by: int = 0  # the highest epoch under which something that rests on power was recorded, or a gate answered
    intents: dict[str, Ms] = field(default_factory=dict)  # of power switches, by run: when etcd had it


class OwnershipRules:
    """See the module's words. ``let_go``: leases were let go too early, or etcd was restored, on purpose."""

    def __init__(self, world: Several, cluster: Cluster) -> None:
        self._world, self._cluster = world, cluster
        self.let_go = False
        self.restored = False
        self.no_clock: set[str] = set()  # collectors that were paused by their hypervisor
        self._pools: dict[PoolId, _Watched] = {pool.uuid: _Watched() for pool in world.pools.values()}
        cluster.on_owner, cluster.on_shared, cluster.on_handed = self._on_owner, self._on_shared, self._on_handed
        for pool in world.pools.values():
            pool.invariants.in_common = JOURNAL
            for agent in pool.agents.values():
                agent.listed = cluster.addresses()

    def restore(self) -> None:
        """etcd stands as it did before: what it says of epochs and entries is old."""
        self.restored = True
        for pool in self._world.pools.values():
            self._pools[pool.uuid].intents.clear()
            pool.invariants.journal_changed(JOURNAL)

    # ------------------------------------------------------------------------------------------ what etcd says

    def _on_owner(self, pool: PoolId, owner: Owner) -> None:
        watched = self._pools.setdefault(pool, _Watched())
        before = watched.owners[-1].epoch if watched.owners else 0
        if self.restored and _generation(owner.epoch) > _generation(before):
            self.restored = False
        if owner.epoch <= before and not self.restored:
            self._fail("E2", f"{owner.node} owns the pool with epoch {owner.epoch}, after {before}")
        watched.owners.append(owner)

    def _on_shared(self, commit: Commit) -> None:
        watched = self._pools.setdefault(commit.pool, _Watched())
        for entry in commit.entries:
            if entry.kind in NEW_THINGS:
                watched.new_by = max(watched.new_by, commit.epoch)
            if entry.kind in RESTS_ON_POWER:
                watched.power_by = max(watched.power_by, commit.epoch)
            if entry.kind in (Kind.FENCE_INTENT, Kind.SWITCH_INTENT):
                watched.intents[str(entry.data.get("run", ""))] = commit.ms
        guardian = self._cluster.guardian(commit.pool)
        for pool in self._world.pools.values():
            if pool.uuid == commit.pool:
                pool.invariants.on_shared(commit, guardian)

    def _on_handed(self, pool: PoolId) -> None:
        watched = next((each for each in self._world.pools.values() if each.uuid == pool), None)
        if watched is None:
            return
        record = watched.invariants.opinion(JOURNAL).record
        if record.failover is not None and record.failover.open:
            self._fail("E8", "a failover is open, and the pool is given up")
        if record.question is not None or record.drill is not None or record.owed or record.in_place is not None:
            self._fail("E8", "a question, a drill or work is open, and the pool is given up")

    # ------------------------------------------------------------------------------------------ what collectors do

    def on_effect(self, shell: SharedShell, pool: PoolId, effect: effects.Effect) -> None:
        """An effect is about to be performed."""
        if not isinstance(effect, ACTS) or self._latest(pool) is None:
            return
        epoch = shell.roster.charge(pool).epoch
        if not any(each.node == shell.node and each.epoch == epoch for each in self._pools[pool].owners):
            self._fail("E1", f"{shell.node} acts with epoch {epoch}, which was never its own")
        if isinstance(effect, effects.AnswerGate):
            watched = self._pools[pool]
            watched.power_by = max(watched.power_by, epoch)
        if shell.goes_on:
            return
        if why := shell.membership.right(shell.boottime).why_not:
            self._fail("E6", f"{shell.node} begins {type(effect).__name__} without the right to: {why}")

    def check(self) -> None:
        """After every event: of a pool at most one collector believes that it may act there."""
        if error := self._cluster.errors.take():
            raise InvariantBroken(f"LOG at {self._world.now} ms: {error}")
        if self.let_go or self.restored:
            return
        for pool in self._pools:
            able = [each for each in self._cluster.shells() if self._may_act(each, pool)]
            if len(able) > 1:
                self._fail("E1", f"{' and '.join(each.node for each in able)} may both act in {pool}")

    @staticmethod
    def _may_act(shell: SharedShell, pool: PoolId) -> bool:
        return not shell.frozen and pool in shell.pools and not shell.roster.why_no_act(pool)

    def off_begun(self, shell: SimCollector, pool: PoolId, run: str) -> None:
        """A fence agent that switches power is started."""
        at = self._pools[pool].intents.get(run) if pool in self._pools else None
        if at is None or not isinstance(shell, SharedShell) or self.restored or shell.node in self.no_clock:
            return
        if self._world.now - at > INTENT_FRESH_MS:
            self._fail("E4", f"{shell.node} begins {run} {self._world.now - at} ms after etcd had its intent")
        if why := shell.membership.right(shell.boottime).why_not:
            self._fail("E4", f"{shell.node} begins {run} without the right to: {why}")

    def power_goes(self, pool: PoolId, epoch: int) -> None:
        """A fence run of this ownership takes a host's power."""
        watched = self._pools.get(pool)
        if watched is not None and epoch < watched.power_by:
            self._fail("E4", f"a power-off of epoch {epoch} lands after {watched.power_by} has concluded from power")

    # ------------------------------------------------------------------------------------------ what agents do

    def decided_by(self, pool: PoolId) -> int:
        """The epoch of the last ownership that has recorded something new; 0: none has."""
        return self._pools[pool].new_by if pool in self._pools else 0

    def obeyed(self, name: str, epoch: int, kind: str, decided_by: int) -> None:
        """An agent has carried out an order, which it began when that ownership had decided something."""
        if epoch < decided_by and kind not in LOOKS:
            self._fail("E3", f"{name} carries out {kind} of epoch {epoch}, and {decided_by} has decided since")

    # ------------------------------------------------------------------------------------------ looking

    def owners(self, pool: PoolId) -> Iterator[Owner]:
        """Everybody who has owned it, in order."""
        yield from self._pools[pool].owners

    def _latest(self, pool: PoolId) -> Owner | None:
        watched = self._pools.get(pool)
        return watched.owners[-1] if watched is not None and watched.owners else None

    def _fail(self, number: str, why: str) -> NoReturn:
        raise InvariantBroken(f"{number} at {self._world.now} ms: {why}\n{self._world.story()}")


def _generation(epoch: int) -> int:
    return epoch >> LOT_BITS >> REVISION_BITS
