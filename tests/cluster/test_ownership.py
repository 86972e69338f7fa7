"""Claims, generations and handovers when answers are lost or come late, and what every write compares. On the model."""

from __future__ import annotations

import itertools

import pytest

from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.cluster import commits, handover, ownership
from poolwarden_collector.shell.cluster.commits import Deposed, Durable
from poolwarden_collector.shell.cluster.etcd import (
    Alive,
    Created,
    EtcdError,
    Found,
    Get,
    Holds,
    InDoubt,
    KeepAlive,
    Kept,
    Txn,
    carry_out,
)
from poolwarden_collector.shell.cluster.membership import LeaseLost, Membership, Renewed, Standing, Unanswered
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import Ownership

from .clusters import ModelCluster, in_virtual_time
from .contract import POOL, Collector, generation, names, seen
from .test_when_etcd_fails import owner

# ------------------------------------------------------------------------------------------------ membership


@pytest.mark.parametrize(("renewed", "read", "counts"), [(3, 3, True), (3, 4, False), (0, 0, False)])
def test_a_renewal_counts_where_the_leader_is_named_and_the_same(renewed: int, read: int, counts: bool) -> None:
    """Who names none may be of a release that tells none: then nobody knows whether the one that renewed still led."""
    at, clock = names(), itertools.count(1_000, 1_000)
    member = Membership(at, "a", "a:1", lambda: next(clock))
    member.standing = Standing("a", 7, 5)
    renewing = member.renew()
    assert next(renewing) == KeepAlive(7)
    assert renewing.send(Alive(10, renewed)) == Get(at.member("a"))
    found = Found((Kept(at.member("a"), member._said(), 5, 5, 7),), 9, term=read)
    with pytest.raises(StopIteration) as ended:
        renewing.send(found)
    assert isinstance(ended.value.value, Renewed if counts else Unanswered)


# ------------------------------------------------------------------------------------------------ ownership


@in_virtual_time
async def test_a_claim_whose_answer_was_lost(cluster: ModelCluster) -> None:
    at = names()
    await generation(cluster, at)
    a = await Collector(cluster, "a", at).joined()
    cluster.model.lose("a")
    first = await a.claim(lot=3)
    assert isinstance(first, Ownership) and first.lot == 3
    cluster.model.linger("a", 4_000)
    with pytest.raises(InDoubt):
        await a.claim("another", lot=4)
    await carry_out(a.to, a.member.renew())
    await cluster.sleep(4)
    again = await a.claim("another", lot=5)
    assert isinstance(again, Ownership) and again.lot == 4, "the late one is its own"


@in_virtual_time
async def test_a_revision_that_no_epoch_can_say_makes_no_owner(cluster: ModelCluster) -> None:
    at = names()
    await generation(cluster, at)
    a = await Collector(cluster, "a", at).joined()
    cluster.model.revision = 1 << 36
    for _ in range(2):
        told = await a.claim()
        assert isinstance(told, ownership.NotClaimed) and "beyond 36 bits" in told.why


@in_virtual_time
async def test_a_claim_for_a_lease_that_is_gone_makes_no_owner(cluster: ModelCluster) -> None:
    at = names()
    await generation(cluster, at)
    a = await Collector(cluster, "a", at).joined()
    old = a.member.standing
    assert old is not None
    await carry_out(a.to, a.member.leave())
    await a.joined()
    told = await carry_out(a.to, ownership.claim(at, old, POOL, 1))
    assert isinstance(told, ownership.NotClaimed) and "place" in told.why


@in_virtual_time
async def test_a_generation_raised_in_the_middle_of_a_claim(cluster: ModelCluster) -> None:
    at = names()
    await generation(cluster, at)
    a = await Collector(cluster, "a", at).joined()
    assert a.member.standing is not None
    claim = ownership.claim(at, a.member.standing, POOL, 1)
    read = await a.to.ask(next(claim))
    asked = claim.send(read)
    await carry_out(a.to, ownership.raise_generation(at))
    with pytest.raises(StopIteration) as end:
        claim.send(await a.to.ask(asked))
    assert isinstance(end.value.value, ownership.NotClaimed) and "2 now" in end.value.value.why


@in_virtual_time
async def test_a_restored_etcd_hands_out_revisions_again_and_a_generation_helps(cluster: ModelCluster) -> None:
    """Without a new generation epochs are handed out again; the old owner's commits are refused after it."""
    at, a, mine = await owner(cluster)
    backup = cluster.model.snapshot()
    for number in range(1, 6):
        await a.commit(mine, seen(number))
    await carry_out(a.to, a.member.leave())
    b = await Collector(cluster, "b", at).joined()
    later = await b.claim()
    assert isinstance(later, Ownership)
    cluster.model.restore(backup)
    assert await carry_out(a.to, commits.still_owned(mine.owned)), "the backup says so"
    assert await carry_out(a.to, ownership.raise_generation(at)) == ownership.Raised(2)
    assert not await carry_out(a.to, commits.still_owned(mine.owned))
    assert isinstance(await a.commit(mine, seen(9)), Deposed)
    assert not await carry_out(b.to, commits.still_owned(later))
    await cluster.sleep(11)
    await b.to.ask(Get(at.generation))
    assert isinstance(await carry_out(b.to, b.member.renew()), LeaseLost)
    await b.joined()
    new = await b.claim()
    assert isinstance(new, Ownership)
    assert new.revision < later.revision, "an old revision again"
    assert new.epoch > later.epoch


@in_virtual_time
async def test_who_goes_on_over_a_restored_etcd_leaves_no_hole_that_nobody_could_read(cluster: ModelCluster) -> None:
    """Its lease, its name and its ownership are in the backup: only what it has recorded since is not."""
    await _goes_on_over_a_restored_etcd(cluster, folds=False)
    await _goes_on_over_a_restored_etcd(cluster, folds=True)


async def _goes_on_over_a_restored_etcd(cluster: ModelCluster, *, folds: bool) -> None:
    at, a, mine = await owner(cluster)
    await a.commit(mine, seen(1))
    backup = cluster.model.snapshot()
    for number in range(2, 5):
        await a.commit(mine, seen(number))
    if folds:
        record = (await carry_out(a.to, commits.read(at, POOL))).record
        assert isinstance(await carry_out(a.to, mine.fold(record)), Durable)
        await a.commit(mine, seen(5))
    cluster.model.restore(backup)
    done = await a.commit(mine, seen(6))
    assert isinstance(done, Deposed) and "restored" in done.why
    assert (await carry_out(a.to, commits.read(at, POOL))).last == 1, "it is read as of the backup"


# ------------------------------------------------------------------------------------------------ handing over


@in_virtual_time
async def test_a_release_in_doubt_ends_what_may_be_begun(cluster: ModelCluster) -> None:
    at, a, mine = await owner(cluster)
    await Collector(cluster, "b", at).joined()
    cluster.model.linger("a", 9_000)
    going = handover.Handover(at, mine, "b")
    assert isinstance(await carry_out(a.to, going.release()), handover.ReleaseUndecided)
    with pytest.raises(RuntimeError):
        mine.prepare((seen(1),), (), "x", "")
    cluster.model.cut("a")
    assert isinstance(await carry_out(a.to, going.release()), handover.ReleaseUndecided), "it may still come"
    assert mine.closed
    cluster.model.heal("a")
    await cluster.sleep(3)
    assert await carry_out(a.to, going.release()) == handover.Released()


@in_virtual_time
async def test_a_release_that_was_never_sent_changes_nothing(cluster: ModelCluster) -> None:
    at, a, mine = await owner(cluster)
    cluster.model.cut("a")
    told = await carry_out(a.to, handover.Handover(at, mine).release())
    assert isinstance(told, handover.NotReleased) and not told.lost
    cluster.model.heal("a")
    assert await a.commit(mine, seen(1)) == Durable(1, 1)


@in_virtual_time
async def test_after_a_doubt_a_refusal_is_no_no(cluster: ModelCluster) -> None:
    """The member is gone, the release refused; what was sent before is carried out once it is back."""
    at, a, mine = await owner(cluster)
    b = await Collector(cluster, "b", at).joined()
    cluster.model.linger("a", 9_000)
    going = handover.Handover(at, mine, "b")
    assert isinstance(await carry_out(a.to, going.release()), handover.ReleaseUndecided)
    await carry_out(b.to, b.member.leave())
    assert isinstance(await carry_out(a.to, going.release()), handover.ReleaseUndecided)
    await b.joined()
    await carry_out(a.to, a.member.renew())
    await cluster.sleep(6)
    assert await carry_out(a.to, going.release()) == handover.Released()


def test_only_a_pool_at_rest_is_moved() -> None:
    rest = PoolRecord(POOL)
    assert handover.why_stays(rest, Verdict.HEALTHY, under_way=False) == ""
    assert handover.why_stays(rest, Verdict.HEALTHY, under_way=True)
    for verdict in (None, *Verdict):
        assert bool(handover.why_stays(rest, verdict, under_way=False)) == (verdict is not Verdict.HEALTHY)


# ------------------------------------------------------------------------------------------------ compares


@in_virtual_time
async def test_every_write_of_a_pool_compares_its_owner_and_the_generation(cluster: ModelCluster) -> None:
    """Whatever an owner writes: without one of the two compares somebody else's pool is written to."""
    at, a, mine = await owner(cluster)
    asked: list[Txn] = []

    async def tapped(exchange: object) -> None:
        move = itertools.count()
        answer = None
        while True:
            try:
                request = next(exchange) if not next(move) else exchange.send(answer)  # type: ignore[attr-defined, call-overload]
            except StopIteration:
                return
            if isinstance(request, Txn):
                asked.append(request)
            answer = await a.to.ask(request)

    mine.prepare((seen(1),), (), "x", "")
    await tapped(mine.attempt())
    await tapped(mine.fold(fold(PoolRecord(POOL), (seen(1),))))
    await tapped(commits.read(at, POOL, mine.owned))
    await tapped(commits.still_owned(mine.owned))
    await tapped(handover.Handover(at, mine).release())
    assert len(asked) == 5
    for txn in asked:
        assert {Created(at.owner(POOL), mine.owned.revision), Holds(at.generation, b"1")} <= set(txn.compare)


@pytest.mark.asyncio
async def test_errors_are_thrown_into_the_exchange() -> None:
    class Dead:
        async def ask(self, request: object) -> object:
            raise InDoubt("no answer")

        async def health(self) -> list[object]:
            return []

    with pytest.raises(EtcdError, match="no answer"):
        await carry_out(Dead(), ownership.generation_of(Names()))  # type: ignore[arg-type]
