"""Lost answers, late writes, stuck leaders, restored backups: what a collector may still believe. On the model."""

from __future__ import annotations

import asyncio

import pytest

from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.cluster import commits
from poolwarden_collector.shell.cluster.commits import Deposed, Durable, NotDone, PoolJournal, Undecided
from poolwarden_collector.shell.cluster.etcd import (
    Delete,
    Get,
    Grant,
    InDoubt,
    KeepAlive,
    Put,
    Txn,
    behind,
    carry_out,
)
from poolwarden_collector.shell.cluster.membership import (
    RENEWALS,
    Joined,
    LeaseLost,
    Membership,
    NameTaken,
    Renewed,
    Told,
    Unanswered,
    members,
    stay,
)
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import Held, Ownership

from .clusters import ModelCluster, in_virtual_time
from .contract import POOL, Collector, generation, names, seen


async def owner(cluster: ModelCluster) -> tuple[Names, Collector, PoolJournal]:
    at = names()
    await generation(cluster, at)
    a = await Collector(cluster, "a", at).joined()
    return at, a, await a.owns()


async def keys(a: Collector, at: Names) -> list[str]:
    found = await a.to.ask(Get(at.journal(POOL), behind(at.journal(POOL))))
    return [kept.key[-4:] for kept in found.kept]


# ------------------------------------------------------------------------------------------------ commits


@in_virtual_time
async def test_an_answer_that_was_lost_is_found(cluster: ModelCluster) -> None:
    at, a, mine = await owner(cluster)
    cluster.model.lose("a")
    assert await a.commit(mine, seen(1)) == Durable(1, 1)
    cluster.model.lose("a")
    cluster.model.cut("a", 1, 2)
    mine.prepare((seen(2),), (), "second", "")
    task = asyncio.ensure_future(carry_out(a.to, mine.attempt()))
    await cluster.sleep(2)
    cluster.model.cut("a")
    assert isinstance(await task, Undecided), "the look was not answered either"
    cluster.model.heal("a")
    assert await carry_out(a.to, mine.attempt()) == Durable(2, 2), "sent again it is there already"
    assert await keys(a, at) == ["0001", "0002"]


@in_virtual_time
async def test_not_to_find_a_commit_proves_nothing(cluster: ModelCluster) -> None:
    """It is carried out after the look. Sent again until etcd says which, it is there once."""
    at, a, mine = await owner(cluster)
    cluster.model.linger("a", 5_000)
    assert isinstance(await a.commit(mine, seen(1)), Undecided)
    assert mine.open is not None and await keys(a, at) == []
    with pytest.raises(RuntimeError):
        mine.prepare((seen(2),), (), "another", "")
    with pytest.raises(RuntimeError):
        mine.close("by choice")
    await cluster.sleep(5)
    assert await keys(a, at) == ["0001"]
    assert await carry_out(a.to, mine.attempt()) == Durable(1, 1)
    assert await keys(a, at) == ["0001"]


@in_virtual_time
async def test_the_late_one_and_the_one_sent_again_are_one(cluster: ModelCluster) -> None:
    at, a, mine = await owner(cluster)
    cluster.model.linger("a", 9_000)
    assert isinstance(await a.commit(mine, seen(1)), Undecided)
    assert await carry_out(a.to, mine.attempt()) == Durable(1, 1)
    assert await a.commit(mine, seen(2)) == Durable(2, 2)
    await carry_out(a.to, a.member.renew())
    await cluster.sleep(8)
    tail = await carry_out(a.to, commits.read(at, POOL, mine.owned))
    assert isinstance(tail, commits.PoolTail) and tail.entries == (seen(1), seen(2))


@in_virtual_time
async def test_what_was_never_sent_is_not_done_and_what_was_may_come(cluster: ModelCluster) -> None:
    _, a, mine = await owner(cluster)
    cluster.model.cut("a")
    assert isinstance(await a.commit(mine, seen(1)), NotDone)
    assert mine.open is None
    cluster.model.heal("a")
    cluster.model.drop("a")
    assert isinstance(await a.commit(mine, seen(1)), Undecided)
    cluster.model.cut("a")
    assert isinstance(await carry_out(a.to, mine.attempt()), Undecided), "the first sending may still arrive"
    cluster.model.heal("a")
    assert await carry_out(a.to, mine.attempt()) == Durable(1, 1)


@in_virtual_time
async def test_a_late_commit_of_a_deposed_owner_is_refused(cluster: ModelCluster) -> None:
    at, a, mine = await owner(cluster)
    cluster.model.linger("a", 20_000)
    assert isinstance(await a.commit(mine, seen(1)), Undecided)
    b = await Collector(cluster, "b", at).joined()
    while isinstance(await b.claim(), Held):
        await cluster.sleep(1)
        await carry_out(b.to, b.member.renew())
    theirs = await b.owns()
    assert await b.commit(theirs, seen(2)) == Durable(1, 1)
    await cluster.sleep(15)
    assert isinstance(await carry_out(a.to, mine.attempt()), Deposed)
    tail = await carry_out(b.to, commits.read(at, POOL))
    assert isinstance(tail, commits.PoolTail) and tail.entries == (seen(2),)


@in_virtual_time
async def test_a_commit_that_is_found_by_who_owns_no_more_begins_nothing(cluster: ModelCluster) -> None:
    _, a, mine = await owner(cluster)
    cluster.model.lose("a")
    mine.prepare((seen(1),), (), "only", "")
    task = asyncio.ensure_future(carry_out(a.to, mine.attempt()))
    await cluster.sleep(1)
    assert a.member.standing is not None
    cluster.model.let_go(a.member.standing.lease)
    assert isinstance(await task, Deposed)


@in_virtual_time
async def test_two_writers_under_one_ownership_are_seen(cluster: ModelCluster) -> None:
    at, a, mine = await owner(cluster)
    twin = PoolJournal(at, mine.owned, commits.PoolTail(PoolRecord(POOL)))
    assert await a.commit(mine, seen(1)) == Durable(1, 1)
    told = await a.commit(twin, seen(2))
    assert isinstance(told, Deposed) and "somebody else" in told.why


@in_virtual_time
async def test_a_fold_that_arrives_late_replaces_no_newer_one(cluster: ModelCluster) -> None:
    at, a, mine = await owner(cluster)
    await a.commit(mine, seen(1))
    cluster.model.linger("a", 10_000)
    assert isinstance(await carry_out(a.to, mine.fold(fold(PoolRecord(POOL), (seen(1),)))), Undecided)
    await a.commit(mine, seen(2))
    assert await carry_out(a.to, mine.fold(fold(PoolRecord(POOL), (seen(1), seen(2))))) == Durable(2, 2)
    await cluster.sleep(10)
    tail = await carry_out(a.to, commits.read(at, POOL))
    assert isinstance(tail, commits.PoolTail) and list(tail.record.hosts) == ["h1", "h2"] and tail.last == 2


@in_virtual_time
async def test_a_sending_that_arrives_after_a_fold_is_none(cluster: ModelCluster) -> None:
    """The fold has made its number free again."""
    at, a, mine = await owner(cluster)
    cluster.model.linger("a", 9_000)
    assert isinstance(await a.commit(mine, seen(1)), Undecided)
    assert await carry_out(a.to, mine.attempt()) == Durable(1, 1)
    assert await carry_out(a.to, mine.fold(fold(PoolRecord(POOL), (seen(1),)))) == Durable(1, 1)
    await carry_out(a.to, a.member.renew())
    await cluster.sleep(8)
    assert await keys(a, at) == []
    assert await a.commit(mine, seen(2)) == Durable(2, 2)


@in_virtual_time
async def test_a_commit_after_a_fold_whose_answer_was_lost(cluster: ModelCluster) -> None:
    """It finds the fold there, is sent again on top of it, and nothing of the sending before can come."""
    at, a, mine = await owner(cluster)
    await a.commit(mine, seen(1))
    cluster.model.linger("a", 4_000)
    assert isinstance(await carry_out(a.to, mine.fold(fold(PoolRecord(POOL), (seen(1),)))), Undecided)
    cluster.model.linger("a", 9_000)
    assert isinstance(await a.commit(mine, seen(2)), Undecided), "by now the fold has arrived"
    await carry_out(a.to, a.member.renew())
    assert await carry_out(a.to, mine.attempt()) == Durable(2, 2)
    assert await keys(a, at) == ["0002"]
    await cluster.sleep(5)
    await carry_out(a.to, a.member.renew())
    assert await carry_out(a.to, mine.fold(fold(PoolRecord(POOL), (seen(1), seen(2))))) == Durable(2, 2)
    await cluster.sleep(5)
    assert await keys(a, at) == []


@in_virtual_time
async def test_a_fold_whose_answer_was_lost_is_built_on(cluster: ModelCluster) -> None:
    at, a, mine = await owner(cluster)
    await a.commit(mine, seen(1))
    cluster.model.lose("a")
    assert isinstance(await carry_out(a.to, mine.fold(fold(PoolRecord(POOL), (seen(1),)))), Undecided)
    both = fold(PoolRecord(POOL), (seen(1), seen(2)))
    assert isinstance(await carry_out(a.to, mine.fold(fold(PoolRecord(POOL), (seen(1),)))), Undecided), "it is there"
    assert mine.since_fold == 0
    assert await a.commit(mine, seen(2)) == Durable(2, 2)
    assert await carry_out(a.to, mine.fold(both)) == Durable(2, 2)
    assert await keys(a, at) == []


@in_virtual_time
async def test_a_slow_disk_leaves_a_commit_in_doubt_and_not_out(cluster: ModelCluster) -> None:
    at, a, mine = await owner(cluster)
    cluster.model.disk_ms = 4_000
    assert isinstance(await a.commit(mine, seen(1)), Undecided)
    cluster.model.disk_ms = 0
    await cluster.sleep(2)
    assert await carry_out(a.to, mine.attempt()) == Durable(1, 1)
    assert await keys(a, at) == ["0001"]


# ------------------------------------------------------------------------------------------------ leases


@in_virtual_time
async def test_the_right_is_counted_from_the_sending(cluster: ModelCluster) -> None:
    _, a, _ = await owner(cluster)
    cluster.model.latency_ms = 1_000
    sent = cluster.now()
    assert isinstance(await carry_out(a.to, a.member.renew()), Renewed)
    until = sent + 10_000 * 2 // 3
    assert cluster.now() >= sent + 2_000
    assert a.member.right(until - 1).why_not == "" and a.member.right(until - 1).until == until
    assert "10 s was renewed last 6.7 s ago" in a.member.right(until).why_not
    assert a.member.right(sent - 1).why_not, "a renewal from the future is none"


@in_virtual_time
async def test_a_renewal_without_the_read_after_it_does_not_count(cluster: ModelCluster) -> None:
    """The leader was stuck, the others let the lease go, it runs on and renews it."""
    at, a, _ = await owner(cluster)
    b = await Collector(cluster, "b", at).joined()
    stuck = cluster.model.stuck_leader()
    cluster.model.cut("a", *({0, 1, 2} - {stuck}))
    cluster.model.cut("b", stuck)
    assert a.member.standing is not None
    for _ in range(40):
        assert (await a.to.ask(KeepAlive(a.member.standing.lease))).ttl_s > 0, "it still renews"
        assert isinstance(await carry_out(a.to, a.member.renew()), Unanswered)
        told = await carry_out(b.to, b.member.renew())
        taken = await b.claim() if isinstance(told, Renewed) else None
        if isinstance(taken, Ownership):
            break
    assert isinstance(taken, Ownership)
    assert a.member.right(cluster.now()).why_not, "its right was over before anybody else had one"
    cluster.model.heal("a")
    cluster.model.join()
    for _ in range(9):
        told = await carry_out(a.to, a.member.renew())
        if isinstance(told, LeaseLost):
            break
    assert isinstance(told, LeaseLost)


@in_virtual_time
async def test_a_renewal_and_a_read_of_two_leaders_do_not_count(cluster: ModelCluster) -> None:
    """The read finds the key there: the lease is as old as it was, and ends before the right would."""
    at, a, _ = await owner(cluster)
    assert isinstance(await carry_out(a.to, a.member.renew()), Renewed)
    stuck = cluster.model.stuck_leader()
    cluster.model.cut("a", *({0, 1, 2} - {stuck}))
    await cluster.sleep(4)
    before = a.member.right(cluster.now()).until
    renewal = a.member.renew()
    alive = await a.to.ask(next(renewal))
    cluster.model.heal("a")
    cluster.model.cut("a", stuck)
    found = await a.to.ask(renewal.send(alive))
    assert alive.ttl_s == 10 and found.one is not None
    with pytest.raises(StopIteration) as end:
        renewal.send(found)
    assert isinstance(end.value.value, Unanswered)
    assert a.member.right(cluster.now()).until == before


@in_virtual_time
async def test_a_lease_let_go_too_early_is_seen_by_the_next_commit_and_renewal(cluster: ModelCluster) -> None:
    _, a, mine = await owner(cluster)
    assert a.member.standing is not None
    cluster.model.let_go(a.member.standing.lease)
    assert not a.member.right(cluster.now()).why_not, "which is why the right alone allows nothing"
    assert isinstance(await a.commit(mine, seen(1)), Deposed)
    assert isinstance(await carry_out(a.to, a.member.renew()), LeaseLost)
    assert a.member.right(cluster.now()).why_not


@in_virtual_time
async def test_a_right_that_ended_comes_back_with_the_same_ownership(cluster: ModelCluster) -> None:
    _, a, mine = await owner(cluster)
    cluster.model.change_leader()
    cluster.model.cut("a")
    await cluster.sleep(7)
    assert a.member.right(cluster.now()).why_not
    cluster.model.heal("a")
    assert isinstance(await carry_out(a.to, a.member.renew()), Renewed)
    assert not a.member.right(cluster.now()).why_not
    assert await a.commit(mine, seen(1)) == Durable(1, 1)


@in_virtual_time
async def test_a_join_whose_answer_was_lost(cluster: ModelCluster) -> None:
    at = names()
    a = Collector(cluster, "a", at)
    cluster.model.lose("a")
    assert isinstance(await carry_out(a.to, a.member.join()), Joined)
    assert isinstance(await carry_out(a.to, a.member.renew()), Renewed)
    b = Collector(cluster, "b", at)
    cluster.model.linger("b", 6_000)
    with pytest.raises(InDoubt):
        await carry_out(b.to, b.member.join())
    await cluster.sleep(3)
    assert isinstance(await carry_out(b.to, b.member.join()), NameTaken), "its own, which nobody renews"
    await cluster.sleep(10)
    assert isinstance(await carry_out(b.to, b.member.join()), Joined)


@in_virtual_time
async def test_a_place_that_somebody_made_anew_is_not_this_ones(cluster: ModelCluster) -> None:
    """The lease lives; its key was deleted, made again by hand, or is under another lease."""
    at = names()
    for again in ((), ("same",), ("other",)):
        a = await Collector(cluster, f"a{len(again)}{again}", at).joined()
        assert a.member.standing is not None
        key, lease = at.member(a.name), a.member.standing.lease
        granted = await a.to.ask(Grant(10))
        if "other" in again:
            await a.to.ask(Txn((), (Put(key, b"{}", granted.lease),)))
        else:
            await a.to.ask(Txn((), (Delete(key),)))
        if "same" in again:
            await a.to.ask(Txn((), (Put(key, b"{}", lease),)))
        assert (await a.to.ask(KeepAlive(lease))).ttl_s > 0
        assert isinstance(await carry_out(a.to, a.member.renew()), LeaseLost), again
        assert a.member.right(cluster.now()).why_not


@in_virtual_time
async def test_a_join_without_an_answer_takes_nobody_elses_place(cluster: ModelCluster) -> None:
    at = names()
    first = await Collector(cluster, "a", at).joined()
    second = Collector(cluster, "a", at)
    cluster.model.lose("a")
    with pytest.raises(InDoubt):
        await carry_out(second.to, second.member.join())
    assert second.member.standing is None
    assert isinstance(await carry_out(first.to, first.member.renew()), Renewed)


@in_virtual_time
async def test_a_pool_of_ones_own_name_is_another_processes(cluster: ModelCluster) -> None:
    """The process before owned it; its lease is over in a moment, and its ownership is not taken on."""
    at = names()
    await generation(cluster, at)
    a = await Collector(cluster, "a", at).joined()
    before = await a.claim()
    assert isinstance(before, Ownership) and a.member.standing is not None
    await a.to.ask(Txn((), (Delete(at.member("a")),)))
    again = await Collector(cluster, "a", at).joined()
    told = await again.claim()
    assert told == Held("a", before.revision)


@in_virtual_time
async def test_whoever_stays_joins_renews_and_joins_again(cluster: ModelCluster) -> None:
    at = names()
    a = Collector(cluster, "a", at)
    told: list[Told] = []
    task = asyncio.ensure_future(stay(a.to, a.member, told.append))
    await cluster.sleep(7)
    assert isinstance(told[0], Joined) and all(isinstance(each, Renewed) for each in told[1:])
    assert len(told) == 1 + 3  # each 2 s
    cluster.halt()
    await cluster.sleep(20)
    assert isinstance(told[-1], Unanswered) and a.member.right(cluster.now()).why_not
    cluster.go_on()
    await cluster.sleep(8)
    assert isinstance(told[-1], Renewed) and not a.member.right(cluster.now()).why_not
    assert a.member.standing is not None
    cluster.model.let_go(a.member.standing.lease)
    await cluster.sleep(5)
    assert [type(each) for each in told if isinstance(each, LeaseLost | Joined)] == [Joined, LeaseLost, Joined]
    task.cancel()


def test_a_lease_that_is_too_short_is_none() -> None:
    with pytest.raises(ValueError, match="5 s at least"):
        Membership(Names(), "a", "a:1", lambda: 0, ttl_s=4)
    assert RENEWALS >= 4, "more than one renewal may fail before the right ends"


@in_virtual_time
async def test_what_members_say_of_themselves(cluster: ModelCluster) -> None:
    at = names()
    a = await Collector(cluster, "a/b", at).joined()
    a.member.load, a.member.draining = 7, True
    assert isinstance(await carry_out(a.to, a.member.renew()), Renewed)
    late = Txn((), (Put(at.member("a/b"), b"an older word of its own", a.member.standing.lease),))  # type: ignore[union-attr]
    await a.to.ask(late)
    assert isinstance(await carry_out(a.to, a.member.renew()), Renewed)
    await a.to.ask(Txn((), (Put(at.member("odd"), b"{"),)))
    found = members(at, await a.to.ask(Get(at.members, behind(at.members))))
    assert list(found) == ["a/b", "odd"]
    assert (found["a/b"].load, found["a/b"].draining, found["a/b"].address) == (7, True, "a/b.example:7443")
    assert found["odd"].draining, "who cannot be read takes no pool"
    a.member.load = 8
    cluster.model.drop("a/b")
    assert isinstance(await carry_out(a.to, a.member.renew()), Renewed), "what is not told touches no right"
