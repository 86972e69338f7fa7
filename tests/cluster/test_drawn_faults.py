"""Three collectors on one pool while etcd fails as it is drawn: what they believe, held against what etcd holds.

``python -m tests.cluster.test_drawn_faults FIRST LAST``, from the repository's root, draws these seeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from dataclasses import dataclass, field

import pytest

from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.cluster import commits, handover
from poolwarden_collector.shell.cluster.commits import Deposed, Durable, NotDone, PoolJournal, Undecided
from poolwarden_collector.shell.cluster.etcd import EtcdError, carry_out
from poolwarden_collector.shell.cluster.membership import LeaseLost, stay
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import Ownership

from .clusters import ModelCluster, in_virtual_time
from .contract import POOL, Collector, generation, names, seen

LASTS_S = 240
NAMES = ("a", "b", "c")


@dataclass
class Seen:
    """What the collectors were told, in the order in which they were told it."""

    durable: list[tuple[int, str]] = field(default_factory=list)  # epoch, host
    not_done: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)  # of deposed owners: there or not
    epochs: list[int] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    outcomes: set[type] = field(default_factory=set)
    early: bool = False  # a lease was let go too early


class Actor:
    """One collector: it stays, claims, commits, folds and gives up, as it is drawn."""

    def __init__(self, cluster: ModelCluster, name: str, at: Names, chance: random.Random, seen_by: Seen) -> None:
        self.collector = Collector(cluster, name, at)
        self.cluster, self.chance, self.seen = cluster, chance, seen_by
        self.journal: PoolJournal | None = None
        self.record = PoolRecord(POOL)
        self.others: list[Actor] = []
        self.number = 0

    def told(self, told: object) -> None:
        if isinstance(told, LeaseLost):
            self.journal = None

    async def run(self) -> None:
        beside = asyncio.ensure_future(stay(self.collector.to, self.collector.member, self.told))
        try:
            while True:
                await asyncio.sleep(self.chance.uniform(0.05, 1.5))
                with contextlib.suppress(EtcdError):
                    await (self.own() if self.journal is None else self.act(self.journal))
        finally:
            beside.cancel()

    def may_act(self) -> bool:
        journal = self.journal
        return (
            journal is not None and not journal.closed and not self.collector.member.right(self.cluster.now()).why_not
        )

    async def own(self) -> None:
        standing = self.collector.member.standing
        if standing is None:
            return
        owned = await self.collector.claim(lot=self.chance.randrange(1 << 20))
        if not isinstance(owned, Ownership) or self.collector.member.standing is not standing:
            return
        self.seen.overlaps += [f"{each.collector.name} beside {owned.epoch}" for each in self.others if each.may_act()]
        if owned.epoch not in self.seen.epochs:
            self.seen.epochs.append(owned.epoch)
        tail = await carry_out(self.collector.to, commits.read(self.collector.names, POOL, owned))
        if isinstance(tail, commits.PoolTail) and self.collector.member.standing is standing:
            self.journal, self.record = PoolJournal(self.collector.names, owned, tail), tail.record

    async def act(self, journal: PoolJournal) -> None:
        drawn = self.chance.random()
        if drawn < 0.08:
            await self.fold(journal)
        elif drawn < 0.14:
            await self.give_up(journal)
        else:
            await self.commit(journal)

    async def commit(self, journal: PoolJournal) -> None:
        self.number += 1
        host = f"{self.collector.name}{self.number}"
        entry = seen(0)
        entry.data["host"] = host
        journal.prepare((entry,), (), f"{host}-{journal.owned.epoch}", "")
        outcome: commits.Outcome = Undecided("")
        while isinstance(outcome, Undecided):
            if self.journal is not journal:
                self.seen.unknown.append(host)  # its lease is gone: whoever comes next reads what there is
                return
            outcome = await carry_out(self.collector.to, journal.attempt())
            self.seen.outcomes.add(type(outcome))
            await asyncio.sleep(0.2 if isinstance(outcome, Undecided) else 0)
        if isinstance(outcome, Durable):
            self.seen.durable.append((journal.owned.epoch, host))
            self.record = fold(self.record, (entry,))
        elif isinstance(outcome, NotDone):
            self.seen.not_done.append(host)
        else:
            self.seen.unknown.append(host)
            self.journal = None

    async def fold(self, journal: PoolJournal) -> None:
        if isinstance(await carry_out(self.collector.to, journal.fold(self.record)), Deposed):
            self.journal = None

    async def give_up(self, journal: PoolJournal) -> None:
        going = handover.Handover(self.collector.names, journal)
        told: object = handover.ReleaseUndecided("")
        while isinstance(told, handover.ReleaseUndecided) and self.journal is journal:
            told = await carry_out(self.collector.to, going.release())
            await asyncio.sleep(0.2)
        if isinstance(told, handover.Released) or (isinstance(told, handover.NotReleased) and told.lost):
            self.journal = None


async def trouble(cluster: ModelCluster, actors: list[Actor], chance: random.Random, seen_by: Seen) -> None:
    """One thing after the other goes wrong, and is over in a while."""
    model = cluster.model
    while True:
        await asyncio.sleep(chance.uniform(0.5, 8))
        name, takes = chance.choice(NAMES), chance.uniform(0.5, 14)
        match chance.randrange(9):
            case 0:
                model.lose(name, chance.randint(1, 3))
            case 1:
                model.drop(name, chance.randint(1, 3))
            case 2:
                model.linger(name, chance.randint(3_000, 25_000))
            case 3:
                model.cut(name)
                await asyncio.sleep(takes)
                model.heal(name)
            case 4:
                model.change_leader()
            case 5:
                one = chance.randrange(3)
                model.stop(one)
                await asyncio.sleep(takes)
                model.start(one)
            case 6:
                stuck = model.stuck_leader()
                model.cut(name, *({0, 1, 2} - {stuck}))
                await asyncio.sleep(takes)
                model.heal(name)
                model.join()
            case 7:
                model.disk_ms = chance.randint(100, 6_000)
                await asyncio.sleep(takes)
                model.disk_ms = 0
            case 8:
                standing = chance.choice(actors).collector.member.standing
                if standing is not None and chance.random() < 0.3:
                    seen_by.early = True
                    model.let_go(standing.lease)


async def played(cluster: ModelCluster, seed: int) -> tuple[Seen, PoolRecord]:
    """A while of it; then everything is well again, and what etcd holds is read."""
    chance, found, at = random.Random(seed), Seen(), names()
    await generation(cluster, at)
    actors = [Actor(cluster, name, at, chance, found) for name in NAMES]
    for each in actors:
        each.others = [other for other in actors if other is not each]
    running = [asyncio.ensure_future(each.run()) for each in actors]
    bad = asyncio.ensure_future(trouble(cluster, actors, chance, found))
    await asyncio.sleep(LASTS_S)
    for task in (bad, *running):
        task.cancel()
    over = await asyncio.gather(bad, *running, return_exceptions=True)
    wrong = [each for each in over if not isinstance(each, asyncio.CancelledError)]
    assert not wrong, wrong
    cluster.model.disk_ms = 0
    for name in NAMES:
        cluster.model.heal(name)
    for one in range(3):
        cluster.model.start(one)
    cluster.model.join()
    await asyncio.sleep(30)
    tail = await carry_out(cluster.client("reader"), commits.read(at, POOL))
    assert isinstance(tail, commits.PoolTail)
    return found, tail.record


def check(seed: int) -> Seen:
    """Play a seed and hold what was believed against what is there."""
    result: list[tuple[Seen, PoolRecord]] = []

    async def one(cluster: ModelCluster) -> None:
        result.append(await played(cluster, seed))

    in_virtual_time(one)()
    ((found, record),) = result
    there = list(record.hosts)
    believed = [host for _, host in found.durable]
    assert set(believed) <= set(there), f"seed {seed}: lost {set(believed) - set(there)}"
    assert not set(found.not_done) & set(there), f"seed {seed}: came all the same {set(found.not_done) & set(there)}"
    kept = [host for host in there if host in set(believed)]
    ordered = [host for _, host in sorted(found.durable, key=lambda each: each[0])]
    assert kept == ordered, f"seed {seed}: in another order"
    assert found.epochs == sorted(set(found.epochs)), f"seed {seed}: epochs {found.epochs}"
    assert found.early or not found.overlaps, f"seed {seed}: two rights at once: {found.overlaps}"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_what_is_believed_is_there_once_and_in_order(seed: int) -> None:
    check(seed)


@pytest.mark.slow
def test_more_of_it_and_every_outcome_occurs() -> None:
    found = [check(seed) for seed in range(100, 120)]
    assert set().union(*(each.outcomes for each in found)) == {Durable, Deposed, Undecided, NotDone}
    assert any(each.unknown for each in found) and any(each.not_done for each in found)
    assert sum(len(each.epochs) for each in found) > 3 * len(found)


if __name__ == "__main__":
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        check(number)
    print("held")
