"""What is believed of etcd, and what is built on it: each test holds on the model and on three real members alike.

Every test uses a prefix and collectors of its own, so that all of them may run on one cluster, one after the other.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from poolwarden_collector.core.model import epoch
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.cluster import commits, etcd, handover, ownership
from poolwarden_collector.shell.cluster.commits import Deposed, Durable, PoolJournal
from poolwarden_collector.shell.cluster.etcd import (
    Alive,
    Created,
    Delete,
    Etcd,
    Get,
    Grant,
    Granted,
    Holds,
    KeepAlive,
    LeaseGone,
    Present,
    Put,
    Revoke,
    Txn,
    Unchanged,
    Unfit,
    behind,
    carry_out,
)
from poolwarden_collector.shell.cluster.membership import Joined, LeaseLost, Membership, NameTaken, Renewed
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import Held, NotClaimed, Ownership

from .clusters import Cluster

_numbers = itertools.count(1)
POOL = "aaaaaaaa-0000-4000-8000-000000000001"


def names() -> Names:
    return Names(f"t{next(_numbers)}")


async def put(to: Etcd, key: str, value: bytes = b"v", lease: int = 0) -> int:
    done = await to.ask(Txn((), (Put(key, value, lease),)))
    revision: int = done.revision
    return revision


# ------------------------------------------------------------------------------------------------ etcd itself


async def ranges_are_in_order_and_pages_are_of_one_revision(cluster: Cluster) -> None:
    to, prefix = cluster.client("a"), names().prefix
    for number in (3, 1, 2, 4):
        await put(to, f"{prefix}/k/{number}")
    await put(to, f"{prefix}/l")
    first = await to.ask(Get(f"{prefix}/k/", behind(f"{prefix}/k/"), 3))
    assert [kept.key[-1] for kept in first.kept] == ["1", "2", "3"] and first.more
    await to.ask(Txn((), (Delete(f"{prefix}/k/4"), Put(f"{prefix}/k/5", b""))))
    rest = await to.ask(Get(first.kept[-1].key + "\0", behind(f"{prefix}/k/"), 3, first.revision))
    assert [kept.key[-1] for kept in rest.kept] == ["4"] and not rest.more
    newest = await to.ask(Get(f"{prefix}/k/", behind(f"{prefix}/k/")))
    assert [kept.key[-1] for kept in newest.kept] == ["1", "2", "3", "5"]
    assert (await to.ask(Get(f"{prefix}/none"))).one is None


async def every_compare_decides_and_a_failed_one_writes_nothing(cluster: Cluster) -> None:
    to, prefix = cluster.client("a"), names().prefix
    there, absent = f"{prefix}/there", f"{prefix}/absent"
    created = await put(to, there, b"1")
    modified = await put(to, there, b"2")
    holding = (Created(there, created), Created(absent, 0), Present(there), Holds(there, b"2"))
    holding += (Unchanged(there, modified), Unchanged(absent, 0))  # type: ignore[assignment]
    for compare in holding:
        assert (await to.ask(Txn((compare,), (Get(there),)))).succeeded, compare
    failing = (Created(there, modified), Created(there, 0), Created(absent, created), Present(absent))
    failing += (Holds(there, b"1"), Holds(absent, b""), Unchanged(there, created))  # type: ignore[assignment]
    for compare in failing:
        done = await to.ask(Txn((*holding, compare), (Put(there, b"3"),), (Get(there),)))
        assert not done.succeeded and done.found[0].one.value == b"2", compare
    assert (await to.ask(Get(there))).one.modified == modified


async def a_key_made_again_is_another_one(cluster: Cluster) -> None:
    to, key = cluster.client("a"), f"{names().prefix}/k"
    created = await put(to, key)
    assert (await to.ask(Get(key))).one.created == created
    gone = await to.ask(Txn((), (Delete(key),)))
    assert [kept.created for kept in gone.found[0].kept] == [created]
    assert await put(to, key) > gone.revision > created
    reads = await to.ask(Txn((), (Get(key),)))
    assert (await to.ask(Txn((), (Get(key),)))).revision == reads.revision


async def what_no_etcd_takes_is_said_at_once(cluster: Cluster) -> None:
    to, key = cluster.client("a"), f"{names().prefix}/k"
    big = Put(key, b"x" * (etcd.MOST_BYTES + 1))
    many = tuple(Put(f"{key}/{n}", b"") for n in range(etcd.MOST_OPS + 1))
    for writes in ((big,), many, (Put(key, b""), Put(key, b"")), (Delete(key), Put(key, b"")), ()):
        with pytest.raises(Unfit):
            await to.ask(Txn((), writes))
    assert (await to.ask(Get(key, behind(key)))).kept == ()
    # And what is allowed here is taken by etcd as it is configured by default.
    most = (Put(key, b"x" * (etcd.MOST_BYTES - 100)), *(Put(f"{key}/{n:02}", b"") for n in range(etcd.MOST_OPS - 1)))
    with pytest.raises(Unfit):
        await to.ask(Txn((), most))
    await to.ask(Txn((), (Put(key, b"x" * (etcd.MOST_BYTES - 100)),)))
    await to.ask(Txn((), tuple(Put(f"{key}/{n:02}", b"") for n in range(etcd.MOST_OPS))))


async def a_lease_takes_its_keys_along(cluster: Cluster) -> None:
    to, prefix = cluster.client("a"), names().prefix
    ends: Granted = await to.ask(Grant(cluster.lease_s))
    stays: Granted = await to.ask(Grant(cluster.lease_s))
    assert ends.ttl_s >= cluster.lease_s and ends.lease != stays.lease
    await put(to, f"{prefix}/ends", lease=ends.lease)
    await put(to, f"{prefix}/stays", lease=stays.lease)
    for _ in range(100):
        assert (await to.ask(KeepAlive(stays.lease))).ttl_s > 0
        found = await to.ask(Get(f"{prefix}/", behind(f"{prefix}/")))
        if len(found.kept) == 1:
            break
        await cluster.sleep(cluster.lease_s / 5)
    assert [kept.key for kept in found.kept] == [f"{prefix}/stays"]
    gone: Alive = await to.ask(KeepAlive(ends.lease))
    assert gone.ttl_s == 0
    with pytest.raises(LeaseGone):
        await put(to, f"{prefix}/late", lease=ends.lease)
    assert (await to.ask(Get(f"{prefix}/late"))).one is None
    await to.ask(Revoke(stays.lease))
    assert (await to.ask(Get(f"{prefix}/stays"))).one is None
    await to.ask(Revoke(stays.lease))  # gone is gone


async def each_member_says_how_it_is(cluster: Cluster) -> None:
    said = await cluster.client("a").health()
    assert len(said) == 3 and all(isinstance(each, etcd.Health) for each in said)
    assert len({each.leader for each in said if isinstance(each, etcd.Health)} - {0}) == 1


# ------------------------------------------------------------------------------------------------ members and owners


class Collector:
    """One collector by hand."""

    def __init__(self, cluster: Cluster, name: str, at: Names) -> None:
        self.name, self.names = name, at
        self.to = cluster.client(name)
        self.member = Membership(at, name, f"{name}.example:7443", cluster.now)
        self._ids = itertools.count(1)

    async def joined(self) -> Collector:
        assert isinstance(await carry_out(self.to, self.member.join()), Joined)
        return self

    async def claim(self, pool: str = POOL, lot: int = 5) -> Ownership | Held | NotClaimed:
        assert self.member.standing is not None
        return await carry_out(self.to, ownership.claim(self.names, self.member.standing, pool, lot))

    async def owns(self, pool: str = POOL) -> PoolJournal:
        """Claim it, and read what is there."""
        owned = await self.claim(pool)
        assert isinstance(owned, Ownership), owned
        tail = await carry_out(self.to, commits.read(self.names, pool, owned))
        assert isinstance(tail, commits.PoolTail)
        return PoolJournal(self.names, owned, tail)

    async def commit(self, journal: PoolJournal, *entries: Entry, alerts: Any = ()) -> commits.Outcome:
        journal.prepare(entries, alerts, f"{self.name}-{next(self._ids)}", "2026-01-01T00:00:00.000Z")
        return await carry_out(self.to, journal.attempt())


async def generation(cluster: Cluster, at: Names) -> None:
    assert await carry_out(cluster.client("a"), ownership.raise_generation(at)) == ownership.Raised(1)


def seen(number: int) -> Entry:
    data = {"host": f"h{number}", "name": f"host {number}", "address": f"192.0.2.{number % 250}"}
    return Entry(Kind.HOST_SEEN, f"host {number} was seen", data)


async def a_name_is_one_process(cluster: Cluster) -> None:
    at = names()
    first = await Collector(cluster, "a", at).joined()
    second = Collector(cluster, "a", at)
    assert isinstance(await carry_out(second.to, second.member.join()), NameTaken)
    assert second.member.right(cluster.now()).why_not
    right = first.member.right(cluster.now())
    assert not right.why_not and 0 < right.until - cluster.now() <= 10_000 * 2 // 3
    assert isinstance(await carry_out(first.to, first.member.renew()), Renewed)
    await carry_out(first.to, first.member.leave())
    assert first.member.right(cluster.now()).why_not
    await second.joined()
    assert isinstance(await carry_out(second.to, second.member.renew()), Renewed)


async def a_lost_lease_is_lost_for_good(cluster: Cluster) -> None:
    at = names()
    await generation(cluster, at)
    one = await Collector(cluster, "a", at).joined()
    journal = await one.owns()
    assert one.member.standing is not None
    await one.to.ask(Revoke(one.member.standing.lease))
    standing = one.member.standing
    assert isinstance(await carry_out(one.to, one.member.renew()), LeaseLost)
    assert one.member.right(cluster.now()).why_not
    assert isinstance(await one.commit(journal, seen(1)), Deposed)
    # Neither does the old standing own anything any more, though its holder may still believe in it.
    await one.joined()
    with pytest.raises((LeaseGone, AssertionError)):
        refused = await carry_out(one.to, ownership.claim(at, standing, POOL, 1))
        assert isinstance(refused, Ownership)
    assert isinstance(await one.claim(), Ownership)


async def one_owner_and_growing_epochs(cluster: Cluster) -> None:
    at = names()
    a, b = await Collector(cluster, "a", at).joined(), await Collector(cluster, "b", at).joined()
    refused = await a.claim()
    assert isinstance(refused, NotClaimed) and "generation" in refused.why
    await generation(cluster, at)
    first = await a.claim(lot=(1 << epoch.LOT_BITS) - 1)
    assert isinstance(first, Ownership) and first.handed_by == 0
    held = await b.claim()
    assert isinstance(held, Held) and held.by == "a"
    again = await a.claim(lot=1)
    assert again == first, "a claim whose answer was lost is found again, with the lot that it was made with"
    await carry_out(a.to, a.member.leave())
    second = await b.claim(lot=0)
    assert isinstance(second, Ownership)
    assert second.revision > first.revision and second.epoch > first.epoch > epoch.after(1 << 50, 0)
    assert await carry_out(b.to, ownership.owner_of(at, POOL)) == Held("b", second.revision)


async def only_the_owner_commits(cluster: Cluster) -> None:
    at = names()
    await generation(cluster, at)
    a, b = await Collector(cluster, "a", at).joined(), await Collector(cluster, "b", at).joined()
    mine = await a.owns()
    assert await a.commit(mine, seen(1), seen(2)) == Durable(1, 2)
    assert await a.commit(mine, seen(3)) == Durable(3, 3)
    await carry_out(a.to, a.member.leave())
    late = await a.commit(mine, seen(4))
    assert isinstance(late, Deposed) and "nobody" in late.why and mine.closed
    theirs = await b.owns()
    assert theirs.last == 3
    assert await b.commit(theirs, seen(5)) == Durable(4, 4)
    tail = await carry_out(b.to, commits.read(at, POOL))
    assert isinstance(tail, commits.PoolTail)
    assert list(tail.record.hosts) == ["h1", "h2", "h3", "h5"]
    assert tail.entries == (seen(1), seen(2), seen(3), seen(5))


async def a_raised_generation_deposes_everybody(cluster: Cluster) -> None:
    at = names()
    await generation(cluster, at)
    a = await Collector(cluster, "a", at).joined()
    mine = await a.owns()
    assert await a.commit(mine, seen(1)) == Durable(1, 1)
    assert isinstance(await carry_out(a.to, ownership.raise_generation(at, 1)), ownership.NotRaised)
    assert await carry_out(a.to, ownership.raise_generation(at, 7)) == ownership.Raised(7)
    refused = await a.commit(mine, seen(2))
    assert isinstance(refused, Deposed) and "generation" in refused.why
    assert not await carry_out(a.to, commits.still_owned(mine.owned))
    for wanted in (0, epoch.HIGHEST_GENERATION + 1):
        told = await carry_out(a.to, ownership.raise_generation(at, wanted or 3))
        assert isinstance(told, ownership.NotRaised)


async def a_fold_takes_the_place_of_the_commits(cluster: Cluster) -> None:
    at = names()
    await generation(cluster, at)
    a = await Collector(cluster, "a", at).joined()
    mine = await a.owns()
    raised = AlertRaised("host/h1/silent", "warning", "h1 is silent", "body", {"message": "x"})
    other = replace(raised, key="host/h2/silent")
    await a.commit(mine, seen(1), seen(2), alerts=(raised, other))
    await a.commit(mine, seen(3), alerts=(AlertResolved(other.key, "it is over"), replace(raised, title="another")))
    record = fold(PoolRecord(POOL), (seen(1), seen(2), seen(3)))
    assert await carry_out(a.to, mine.fold(record)) == Durable(3, 3)
    assert mine.since_fold == 0
    left = await a.to.ask(Get(at.journal(POOL), behind(at.journal(POOL))))
    assert left.kept == ()
    await a.commit(mine, seen(4))
    tail = await carry_out(a.to, commits.read(at, POOL, mine.owned))
    assert isinstance(tail, commits.PoolTail)
    assert tail.record == fold(record, (seen(4),)) and tail.last == 4 and tail.entries == (seen(4),)
    assert list(tail.alerts) == [raised.key] and tail.alerts[raised.key].title == "h1 is silent"
    assert await carry_out(a.to, mine.fold(tail.record)) == Durable(4, 4)
    assert await carry_out(a.to, commits.known_pools(at)) == {POOL}


async def many_commits_are_read_by_pages(cluster: Cluster) -> None:
    at = names()
    await generation(cluster, at)
    a = await Collector(cluster, "a", at).joined()
    mine = await a.owns()
    for number in range(1, 140):
        assert isinstance(await a.commit(mine, seen(number)), Durable)
    tail = await carry_out(a.to, commits.read(at, POOL, mine.owned))
    assert isinstance(tail, commits.PoolTail) and tail.last == 139 and len(tail.record.hosts) == 139


async def a_pool_is_handed_over_in_order(cluster: Cluster) -> None:
    at = names()
    await generation(cluster, at)
    a, b = await Collector(cluster, "a", at).joined(), await Collector(cluster, "b", at).joined()
    mine = await a.owns()
    await a.commit(mine, seen(1))
    there = handover.Handover(at, mine, "c")
    kept = await carry_out(a.to, there.release())
    assert isinstance(kept, handover.NotReleased) and not kept.lost and not mine.closed
    assert await a.commit(mine, seen(2)) == Durable(2, 2)
    going = handover.Handover(at, mine, "b")
    assert mine.closed
    assert await carry_out(a.to, going.release()) == handover.Released()
    assert await carry_out(a.to, going.release()) == handover.Released(), "asked again it is the same"
    theirs = await b.owns()
    assert theirs.owned.handed_by == mine.owned.revision and theirs.last == 2
    assert isinstance(await carry_out(a.to, going.release()), handover.NotReleased)
    # The promise is taken once: whoever comes after a lease that ended finds none.
    await carry_out(b.to, b.member.leave())
    after = await a.claim()
    assert isinstance(after, Ownership) and after.handed_by == 0


ALL = (
    ranges_are_in_order_and_pages_are_of_one_revision,
    every_compare_decides_and_a_failed_one_writes_nothing,
    a_key_made_again_is_another_one,
    what_no_etcd_takes_is_said_at_once,
    a_lease_takes_its_keys_along,
    each_member_says_how_it_is,
    a_name_is_one_process,
    a_lost_lease_is_lost_for_good,
    one_owner_and_growing_epochs,
    only_the_owner_commits,
    a_raised_generation_deposes_everybody,
    a_fold_takes_the_place_of_the_commits,
    many_commits_are_read_by_pages,
    a_pool_is_handed_over_in_order,
)


# ------------------------------------------------------------------------------------------------ when etcd fails


async def one_member_dies(cluster: Cluster) -> None:
    """The last of all: it costs the cluster its member."""
    at = names()
    await generation(cluster, at)
    a = await Collector(cluster, "a", at).joined()
    mine = await a.owns()
    await a.commit(mine, seen(1))
    cluster.kill_one()
    outcome = await a.commit(mine, seen(2))
    for _ in range(50):
        if not isinstance(outcome, commits.Undecided | commits.NotDone):
            break
        if mine.open is None:
            mine.prepare((seen(2),), (), "a-again", "")
        outcome = await carry_out(a.to, mine.attempt())
    assert outcome == Durable(2, 2)
    assert isinstance(await carry_out(a.to, a.member.renew()), Renewed)
    tail = await carry_out(a.to, commits.read(at, POOL, mine.owned))
    assert isinstance(tail, commits.PoolTail) and tail.entries == (seen(1), seen(2))


async def without_a_majority_nobody_has_a_right(cluster: Cluster) -> None:
    at = names()
    await generation(cluster, at)
    a = await Collector(cluster, "a", at).joined()
    mine = await a.owns()
    cluster.halt()
    try:
        mine.prepare((seen(1),), (), "only", "")
        outcome = await carry_out(a.to, mine.attempt())
        assert isinstance(outcome, commits.Undecided | commits.NotDone)
        with pytest.raises(etcd.EtcdError):
            await a.to.ask(Get(at.generation))
        while not a.member.right(cluster.now()).why_not:
            assert not isinstance(await carry_out(a.to, a.member.renew()), Renewed | LeaseLost)
            await cluster.sleep(0.5)
    finally:
        cluster.go_on()
    for _ in range(50):
        told = await carry_out(a.to, a.member.renew())
        if isinstance(told, Renewed):
            break
        assert not isinstance(told, LeaseLost), "no lease ends while there is no majority"
        await cluster.sleep(0.2)
    assert not a.member.right(cluster.now()).why_not
    if mine.open is None:
        mine.prepare((seen(1),), (), "again", "")
    for _ in range(50):
        outcome = await carry_out(a.to, mine.attempt())
        if isinstance(outcome, Durable):
            break
    assert outcome == Durable(1, 1)
    await cluster.settled()
