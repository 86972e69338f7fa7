"""Who should have which pool, who claims it, and the sums that the storm brake judges."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from poolwarden_collector.shell.cluster import assignment, handover, site_sums
from poolwarden_collector.shell.cluster.assignment import MOVES, PATIENCE_MS, SLACK, Overview, claims, order, plan
from poolwarden_collector.shell.cluster.etcd import carry_out
from poolwarden_collector.shell.cluster.membership import Member
from poolwarden_collector.shell.cluster.ownership import Held
from poolwarden_collector.shell.cluster.site_sums import STALE_AFTER_MS, SiteCount, Sums

from .clusters import ModelCluster, in_virtual_time
from .contract import POOL, Collector, generation, names

POOLS = [f"pool-{n:03}" for n in range(90)]


def member(name: str, draining: bool = False) -> Member:
    return Member(name, f"{name}:7443", 0, draining, 1, 1)


def seen(members: str, owners: dict[str, str], advised: dict[str, str] | None = None, drains: str = "") -> Overview:
    there = {name: member(name, name in drains) for name in members}
    owned = {pool: Held(by, 1) for pool, by in owners.items()}
    return Overview(there, owned, dict.fromkeys(POOLS, "") | owners if advised is None else advised)


def spread(members: str) -> dict[str, str]:
    return {pool: order(pool, members)[0] for pool in POOLS}


# ------------------------------------------------------------------------------------------------ the hash


def test_each_has_about_its_share_and_only_shares_move() -> None:
    three, two, four = spread("abc"), spread("ab"), spread("abcd")
    for name in "abc":
        assert 18 <= sum(by == name for by in three.values()) <= 42
    assert all(two[pool] == by for pool, by in three.items() if by != "c")
    assert all(four[pool] in (by, "d") for pool, by in three.items())
    assert order("p", "abc") == order("p", "cba")


# ------------------------------------------------------------------------------------------------ advice


def test_pools_without_an_owner_are_advised_at_once_all_of_them() -> None:
    wanted = plan(seen("abc", {}))
    assert wanted == spread("abc")
    assert plan(seen("abc", {}, wanted)) == {}, "and not again"
    assert plan(seen("", {}, dict.fromkeys(POOLS, ""))) == {}
    assert plan(seen("ab", {}, dict.fromkeys(POOLS, ""), drains="ab")) == {}, "all are to leave: nobody takes any"


def test_an_owner_who_is_gone_is_none() -> None:
    left = spread("abc")
    wanted = plan(seen("ab", left))
    assert wanted == {pool: order(pool, "ab")[0] for pool, by in left.items() if by == "c"}


def test_nothing_is_moved_between_shares() -> None:
    has = dict(zip(POOLS, itertools.cycle("abc"), strict=False))
    assert plan(seen("abc", has)) == {}
    tipped = has | {pool: "a" for pool, by in list(has.items())[: 2 * SLACK] if by != "a"}
    assert sum(by == "a" for by in tipped.values()) > 30 and plan(seen("abc", tipped)) == {}


def test_a_new_collector_gets_its_share_a_few_at_a_time() -> None:
    has = dict(zip(POOLS, itertools.cycle("ab"), strict=False))
    advised = dict(has)
    assert plan(seen("abc", has, advised | {"fresh": "c"})) == {}, "first every pool gets an owner"
    for _ in range(100):
        wanted = plan(seen("abc", has, advised))
        assert len(wanted) <= MOVES
        advised |= wanted
        assert plan(seen("abc", has, advised)) == {} or not wanted, "as many as are under way are not asked for again"
        if not wanted:
            break
        assert all(to == "c" for to in wanted.values())
        has |= wanted
    assert [sum(by == name for by in has.values()) for name in "abc"] == [32, 32, 26]
    assert max(sum(by == name for by in has.values()) for name in "abc") <= 30 + SLACK


def test_whoever_is_to_leave_is_emptied() -> None:
    has = dict(zip(POOLS, itertools.cycle("abc"), strict=False))
    advised, rounds = dict(has), 0
    while wanted := plan(seen("abc", has, advised, drains="b")):
        assert set(wanted.values()) <= {"a", "c"} and len(wanted) <= MOVES
        advised |= wanted
        has |= wanted
        rounds += 1
    assert "b" not in has.values() and rounds == -(-30 // MOVES)


def test_pools_that_cannot_be_moved_now_hold_up_no_other() -> None:
    has = dict.fromkeys(POOLS, "a")
    advised = has | dict.fromkeys(POOLS[:MOVES], "b")
    assert plan(seen("ab", has, advised)) == {}
    more = plan(seen("ab", has, advised), staying=POOLS[:MOVES])
    assert len(more) == MOVES and not set(more) & set(POOLS[:MOVES])
    assert len(plan(seen("ab", has, advised, drains="a"), staying=POOLS[:1])) == 1


def test_old_advice_does_not_call_a_pool_back() -> None:
    """B was away, A took the pool, B comes back: that is no reason to move it."""
    assert plan(seen("a", {"p": "a"}, {"p": "b"})) == {"p": "a"}
    assert plan(seen("a", {"p": "a"}, {"p": ""})) == {"p": "a"}
    assert plan(seen("ab", {"p": "a"}, {"p": "a"})) == {}


# ------------------------------------------------------------------------------------------------ claims


def test_whom_the_advice_names_claims_and_the_others_wait() -> None:
    first, second, third = order("p", "abc")
    for advised in "abc":
        others = [name for name in (first, second, third) if name != advised]
        view = seen("abc", {}, {"p": advised})
        assert claims(view, advised, {}) == ["p"]
        for place, name in enumerate(others, 1):
            assert claims(view, name, {"p": place * PATIENCE_MS - 1}) == []
            assert claims(view, name, {"p": place * PATIENCE_MS}) == ["p"]
    gone = seen("abc", {}, {"p": "d"})
    assert claims(gone, first, {}) == ["p"] and claims(gone, second, {"p": PATIENCE_MS - 1}) == []
    assert claims(gone, third, {"p": 2 * PATIENCE_MS}) == ["p"]


def test_nobody_claims_what_is_owned_or_while_he_is_to_leave() -> None:
    long = {"p": 10 * PATIENCE_MS}
    assert claims(seen("ab", {"p": "b"}, {"p": "a"}), "a", long, {"p"}) == []
    assert claims(seen("ab", {}, {"p": "a"}, drains="a"), "a", long) == []
    assert claims(seen("b", {}, {"p": "a"}), "a", long) == [], "who is no member claims nothing"


def test_a_pool_of_ones_own_name_that_is_not_known_is_claimed_again() -> None:
    """A claim that was carried out late: otherwise nobody would ever take that pool, nor act in it."""
    view = seen("ab", {"p": "a", "q": "a", "r": "b"}, {"p": "b", "q": "a", "r": "b"})
    assert claims(view, "a", {}, mine={"q"}) == ["p"] and claims(view, "a", {}, mine={"p", "q"}) == []
    assert claims(view, "b", {}, mine={"r"}) == []
    leaving = seen("ab", {"p": "a"}, {"p": "b"}, drains="a")
    assert claims(leaving, "a", {}) == ["p"], "to be given up in order"


@in_virtual_time
async def test_one_gives_advice_and_the_next_one_after_him(cluster: ModelCluster) -> None:
    at = names()
    await generation(cluster, at)
    a, b = await Collector(cluster, "a", at).joined(), await Collector(cluster, "b", at).joined()
    assert a.member.standing is not None and b.member.standing is not None
    first = await carry_out(a.to, assignment.campaign(at, a.member.standing))
    assert isinstance(first, assignment.Assigner)
    assert await carry_out(a.to, assignment.campaign(at, a.member.standing)) == first
    told = await carry_out(b.to, assignment.campaign(at, b.member.standing))
    assert isinstance(told, Held) and told.by == "a"
    await carry_out(b.to, assignment.announce(at, POOL))
    view = await carry_out(a.to, assignment.look(at))
    assert view.pools == [POOL] and set(view.members) == {"a", "b"} and not view.owners
    wanted = plan(view)
    assert await carry_out(a.to, assignment.advise(at, first, wanted))
    await carry_out(b.to, assignment.announce(at, POOL))
    view = await carry_out(b.to, assignment.look(at))
    assert dict(view.advised) == wanted, "what is known already is not announced anew"
    one, other = (a, b) if wanted[POOL] == "a" else (b, a)
    assert claims(view, one.name, {}) == [POOL] and claims(view, other.name, {}) == []
    journal = await one.owns()
    assert (await carry_out(b.to, assignment.look(at))).owners[POOL].by == one.name
    await carry_out(one.to, handover.Handover(at, journal, other.name).release())
    view = await carry_out(b.to, assignment.look(at))
    assert claims(view, other.name, {}) == [POOL]
    await carry_out(a.to, a.member.leave())
    assert not await carry_out(a.to, assignment.advise(at, first, {POOL: "a"}))
    assert isinstance(await carry_out(b.to, assignment.campaign(at, b.member.standing)), assignment.Assigner)


@in_virtual_time
async def test_many_pools_are_one_look(cluster: ModelCluster) -> None:
    at = names()
    await generation(cluster, at)
    a = await Collector(cluster, "a", at).joined()
    assert a.member.standing is not None
    me = await carry_out(a.to, assignment.campaign(at, a.member.standing))
    assert isinstance(me, assignment.Assigner)
    many = {f"pool/{n}": "a" for n in range(1_203)}
    assert await carry_out(a.to, assignment.advise(at, me, many))
    before = cluster.now()
    view = await carry_out(a.to, assignment.look(at))
    assert dict(view.advised) == many
    assert cluster.now() - before <= 10, "a few requests, not one a pool"


# ------------------------------------------------------------------------------------------------ sums of sites

CALM = SiteCount(pools=4, agents=40, storm_pools=3, storm_percent=20)


def summed(counts: dict[str, SiteCount], members: str, now: int = 0) -> site_sums.SiteSum:
    sums = Sums()
    sums.take({"site": counts}, 0)
    return sums.of("site", members, now)


def test_a_storm_that_no_share_sees_is_seen_in_the_sum() -> None:
    part = replace(CALM, silent_pools=2, silent=10)
    assert part.silent_pools <= part.storm_pools, "each by itself sees none"
    assert summed({"a": part}, "a").why_blind == ""
    whole = summed({"a": part, "b": part, "c": CALM}, "abc")
    assert whole.count == replace(CALM, pools=12, agents=120, silent=20, silent_pools=4) and whole.why_blind == ""
    assert "30 of 120 agents in 6 pools" in summed(dict.fromkeys("abc", part), "abc").why_blind


@pytest.mark.parametrize(("silent_pools", "silent", "blind"), [(3, 40, False), (4, 8, False), (4, 9, True)])
def test_both_thresholds_must_be_passed(silent_pools: int, silent: int, blind: bool) -> None:
    count = replace(CALM, pools=8, silent_pools=silent_pools, silent=silent)
    assert bool(summed({"a": count}, "a").why_blind) == blind


def test_the_most_cautious_threshold_counts_and_who_has_no_pools_has_none() -> None:
    stormy = replace(CALM, pools=2, agents=20, silent_pools=2, silent=10, storm_pools=1, storm_percent=10)
    assert summed({"a": CALM, "b": stormy, "c": SiteCount()}, "abc").why_blind
    assert not summed({"a": CALM, "b": replace(stormy, storm_pools=3)}, "ab").why_blind


def test_a_takeover_is_no_silence_and_no_calm() -> None:
    young = replace(CALM, agents=0, young=3)
    assert "3 of 4 pools" in summed({"a": young}, "a").why_blind
    assert not summed({"a": replace(CALM, young=2)}, "a").why_blind


def test_what_cannot_be_counted_brakes() -> None:
    assert "collector b" in summed({"a": CALM}, "ab").why_blind
    assert summed({"a": CALM}, "ab").missing == ("b",)
    sums = Sums()
    for now in range(0, STALE_AFTER_MS + 2_000, 1_000):
        sums.take({"site": {"a": replace(CALM, number=now), "b": CALM}}, now)
    assert sums.of("site", "a", now).missing == ()
    assert sums.of("site", "ab", now).missing == ("b",), "its count does not change any more"
    sums.take({"site": {"a": replace(CALM, number=1)}}, now)
    assert sums.of("site", "b", now).missing == ("b",)


@in_virtual_time
async def test_counts_go_with_their_collector(cluster: ModelCluster) -> None:
    at = names()
    a, b = await Collector(cluster, "a", at).joined(), await Collector(cluster, "b", at).joined()
    for each in (a, b):
        assert each.member.standing is not None
        await carry_out(each.to, site_sums.tell(at, each.member.standing, {"": CALM, "north/1": CALM}))
    assert await carry_out(a.to, site_sums.read(at)) == {
        "": {"a": CALM, "b": CALM},
        "north/1": {"a": CALM, "b": CALM},
    }
    standing = b.member.standing
    await carry_out(b.to, b.member.leave())
    assert await carry_out(a.to, site_sums.read(at)) == {"": {"a": CALM}, "north/1": {"a": CALM}}
    assert standing is not None
    with pytest.raises(Exception, match="lease"):
        await b.joined()
        await carry_out(b.to, site_sums.tell(at, replace(standing, revision=b.member.standing.revision), {"": CALM}))  # type: ignore[union-attr]
