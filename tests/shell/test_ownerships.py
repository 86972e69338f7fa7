"""Collectors that take pools over from each other, hand them on, lose them and leave, on the model of etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.clusters import ModelCluster
from tests.cluster.contract import generation

from poolwarden_collector.core.decision.storm_brake import Blind
from poolwarden_collector.core.model import epoch
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.cluster import assignment, commits, membership, ownership, rounds
from poolwarden_collector.shell.cluster.commit_text import Unreadable
from poolwarden_collector.shell.cluster.etcd import Put, Txn, carry_out
from poolwarden_collector.shell.cluster.handover import NotReleased, Released
from poolwarden_collector.shell.cluster.membership import Membership, Right
from poolwarden_collector.shell.loop import ownership_alerts, ownerships, shared_service
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.neighbourhood import Neighbourhood
from poolwarden_collector.shell.loop.ownership_alerts import OwnershipAlerts
from poolwarden_collector.shell.loop.ownerships import Ownerships
from poolwarden_collector.shell.loop.scouts import BACK_WITHIN_MS

from .rig import HOSTS, POOL, until
from .shared import AGAIN_S, OTHER, One, Two

pytestmark = pytest.mark.asyncio
EVERY_S = 0.03
LEASE_S = 1


class Several(One):
    """One collector that owns what its rounds tell it to."""

    ownerships: Ownerships

    def join(self, cluster: ModelCluster) -> None:
        name = self.collector.name
        member = Membership(self.collector.names, name, f"{name}:7443", cluster.now, LEASE_S)
        self.ownerships = Ownerships(self.collector.to, self.collector.names, member, self.service, now=cluster.now)
        # The model counts time as the loop does, and not as this machine.
        self.roster.right = lambda: member.right(cluster.now()).why_not
        self.ownerships.start()

    @property
    def owned(self) -> set[str]:
        return {pool for pool in self.roster.pools if self.roster.owns(pool)}


class Company:
    """Any number of them, and their etcd."""

    def __init__(self, folder: Path) -> None:
        self.two = Two(folder)
        self.cluster: ModelCluster = self.two.cluster
        self.names = self.two.at
        self.all: dict[str, Several] = {}

    async def another(self, name: str) -> Several:
        made = Several(self.two.folder / f"{name}{len(self.all)}", self.cluster, name, self.names)
        self.all[name] = made
        made.join(self.cluster)
        await until(lambda: made.ownerships.newest is not None)
        return made

    async def ask(self, exchange: Any) -> Any:
        return await carry_out(self.cluster.client("asks"), exchange)

    async def know(self, *pools: str) -> None:
        for pool in pools:
            await self.ask(assignment.announce(self.names, pool))

    async def owner(self, pool: str = POOL) -> str:
        held = await self.ask(ownership.owner_of(self.names, pool))
        return held.by if held is not None else ""

    async def settled(self, *pools: str) -> dict[str, str]:
        """Each pool's owner, once every one has one that guards it."""

        def found() -> dict[str, str]:
            return {pool: name for name, one in self.all.items() for pool in one.owned & set(pools)}

        await until(lambda: len(found()) == len(pools))
        return found()


@asynccontextmanager
async def company(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Company]:
    monkeypatch.setattr(shared_service, "AGAIN_S", AGAIN_S)
    monkeypatch.setattr(ownerships, "EVERY_S", EVERY_S)
    monkeypatch.setattr(ownerships, "_AGAIN_S", EVERY_S)
    monkeypatch.setattr(ownerships, "STAYS_FOR_S", 3 * EVERY_S)
    monkeypatch.setattr(membership, "SHORTEST_TTL_S", LEASE_S)
    made = Company(folder)
    await generation(made.cluster, made.names)
    try:
        yield made
    finally:
        for each in made.all.values():
            each.inbox.end()
            await each.ownerships.leave()
            each.archive.journal.close()


def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes on in any pool."""
    monkeypatch.setattr(shared_service, "why_stays", lambda *_: "")


@pytest.mark.slow
async def test_a_pool_of_which_an_agent_has_come_gets_an_owner_and_every_collector_knows_him(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with company(tmp_path, monkeypatch) as them:
        a, b = await them.another("a"), await them.another("b")
        told = a.ownerships.owner_of(POOL)
        assert told is not None and told.address == "", "nobody knows it yet"
        [(_, name)] = (await them.settled(POOL)).items()
        owner, other = (a, b) if name == "a" else (b, a)
        assert owner.ownerships.owner_of(POOL) is None
        await until(lambda: (other.ownerships.owner_of(POOL) or told).address == f"{name}:7443")
        assert owner.roster.charge(POOL).epoch >> (epoch.REVISION_BITS + epoch.LOT_BITS) == 1
        assert POOL not in other.roster.pools and owner.roster.why_no_act(POOL) == ""


@pytest.mark.slow
async def test_a_pool_is_handed_over_with_a_promise_and_its_agents_are_sent_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        await them.know(POOL)
        await them.settled(POOL)
        b = await them.another("b")
        await until(lambda: a.ownerships._able() == ["a", "b"])
        stays = await a.ownerships.hand_over(POOL, "b")
        assert isinstance(stays, NotReleased) and stays.why == "it is not healthy" and not stays.lost
        assert a.owned == {POOL} and await them.owner() == "a"
        gone = await a.ownerships.hand_over(POOL, "nobody")
        assert isinstance(gone, NotReleased) and "no collector that is there" in gone.why
        healthy(monkeypatch)
        before = a.roster.charge(POOL).epoch
        assert isinstance(await a.ownerships.hand_over(POOL, "b"), Released)
        assert not a.owned and a.forgotten == [POOL]
        assert (await them.settled(POOL)) == {POOL: "b"}
        assert b.ownerships._mine[POOL].handed_by == before >> epoch.LOT_BITS & ((1 << epoch.REVISION_BITS) - 1)
        assert b.roster.charge(POOL).epoch > before


@pytest.mark.slow
async def test_advice_moves_a_pool_as_soon_as_nothing_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        await them.know(POOL, OTHER)
        await them.settled(POOL, OTHER)
        b = await them.another("b")
        await them.ask(_written(them, POOL, "b"))
        await until(lambda: a.ownerships.newest.gives == {POOL: "b"})
        assert a.owned == {POOL, OTHER}
        told = a.roster.elsewhere(POOL)
        healthy(monkeypatch)
        await until(lambda: b.owned == {POOL})
        assert a.owned == {OTHER} and told.address == ""
        await until(lambda: a.roster.elsewhere(POOL).address == "b:7443")


def _written(them: Company, pool: str, to: str) -> Any:
    yield Txn((), (Put(them.names.assigned(pool), ownership.advice(to)),))


@pytest.mark.slow
async def test_while_a_pool_is_handed_over_nothing_of_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        await them.know(POOL, OTHER)
        await them.settled(POOL, OTHER)
        await them.another("b")
        await until(lambda: a.ownerships._able() == ["a", "b"])
        healthy(monkeypatch)
        release, waits = a.store.release, asyncio.Event()

        async def late(handover: Any) -> Any:
            await waits.wait()
            return await release(handover)

        monkeypatch.setattr(a.store, "release", late)
        running = asyncio.ensure_future(a.service.run())
        moving = asyncio.ensure_future(a.ownerships.hand_over(POOL, "b"))
        await until(lambda: POOL in a.service._open)
        a.inbox.post(POOL, ev.OperatorSaid("r-1", "anna", "pause", "", (("reason", "work"),)))
        a.inbox.post(OTHER, ev.OperatorSaid("r-2", "anna", "pause", "", (("reason", "work"),)))
        await until(lambda: a.replies())
        assert len(a.replies()) == 1, "that of the other pool"
        waits.set()
        assert isinstance(await moving, Released)
        await until(lambda: len(a.replies()) == 2)
        assert a.replies()[1] == (False, "stood-down")
        a.inbox.end()
        await running


@pytest.mark.slow
async def test_who_stops_hands_over_what_may_be_moved_and_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        await them.know(POOL, OTHER)
        await them.settled(POOL, OTHER)
        b = await them.another("b")
        await until(lambda: a.ownerships._able() == ["a", "b"])
        monkeypatch.setattr(shared_service, "why_stays", lambda record, *_: "work" if record.pool == OTHER else "")
        await a.ownerships.leave()
        del them.all["a"]
        a.archive.journal.close()
        assert await them.settled(POOL, OTHER) == {POOL: "b", OTHER: "b"}
        handed = {pool: bool(owned.handed_by) for pool, owned in b.ownerships._mine.items()}
        assert handed == {POOL: True, OTHER: False}, "of what was not handed over something may be under way"
        assert a.ownerships.membership.standing is None and not a.owned


async def test_the_only_one_that_stops_leaves_a_promise_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy(monkeypatch)
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        await them.know(POOL)
        await them.settled(POOL)
        await a.ownerships.leave()
        a.archive.journal.close()
        again = await them.another("a")
        await them.settled(POOL)
        assert again.ownerships._mine[POOL].handed_by


@pytest.mark.slow
async def test_a_lost_lease_ends_every_ownership_and_another_one_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        await them.know(POOL)
        await them.settled(POOL)
        b = await them.another("b")
        before = a.roster.charge(POOL).epoch
        them.cluster.model.cut("a")
        assert a.owned == {POOL} and POOL not in a.roster.stood_down
        await until(lambda: b.owned == {POOL})
        assert a.roster.why_no_act(POOL).startswith("its lease of 1 s was renewed last")
        assert a.owned == {POOL}, "it looks on until it hears that it lost the pool"
        assert b.roster.charge(POOL).epoch > before and not b.ownerships._mine[POOL].handed_by
        them.cluster.model.heal("a")
        await until(lambda: not a.owned and a.ownerships.membership.standing is not None and not a.roster.right())
        assert a.forgotten == [POOL] and await them.owner() == "b"


@pytest.mark.slow
async def test_a_start_while_etcd_is_away_waits_for_it_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with company(tmp_path, monkeypatch) as them:
        them.cluster.model.cut("a")
        one = Several(tmp_path / "late", them.cluster, "a", them.names)
        them.all["a"] = one
        one.join(them.cluster)
        await until(lambda: one.ownerships.trouble)
        told = one.ownerships.owner_of(POOL)
        assert told is not None and told.address == "" and not one.service.alive() or not one.roster.pools
        assert any("ACTS IN NO POOL: it has not joined" in text for text in one.roster.warnings())
        them.cluster.model.heal("a")
        await them.settled(POOL)
        await until(lambda: one.ownerships.trouble == "" and one.roster.warnings() == ())


def told_of(one: Several) -> list[str]:
    """The titles of its open alerts."""
    return [each["title"] for each in one.archive.journal.alerts(open_only=True)]


@pytest.mark.slow
async def test_who_cannot_read_a_pool_leaves_it_to_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, cannot = commits.read, {"a", "b"}

    def of(names: Any, pool: str, owned: Any = None) -> Any:
        if owned is not None and owned.collector in cannot:
            raise Unreadable("a field of a later release")
        return (yield from read(names, pool, owned))

    monkeypatch.setattr(commits, "read", of)
    monkeypatch.setattr(rounds, "AVOIDS_MS", 200)
    monkeypatch.setattr(rounds, "ALONE_AFTER_MS", 100)
    monkeypatch.setattr(assignment, "PATIENCE_MS", 50)
    async with company(tmp_path, monkeypatch) as them:
        a, b = await them.another("a"), await them.another("b")
        for one in (a, b):
            OwnershipAlerts(one.ownerships, one.service, one.archive.journal)
        await them.know(POOL)
        await until(lambda: a.ownerships.unreadable and b.ownerships.unreadable and told_of(a) + told_of(b))
        [title] = told_of(a) + told_of(b)
        assert title.startswith(f"{POOL}: no collector owns this pool for ") and not a.owned and not b.owned
        cannot.discard("b")
        assert await them.settled(POOL) == {POOL: "b"}
        await until(lambda: not told_of(a) + told_of(b))
        assert not b.ownerships.unreadable and a.ownerships.unreadable == {POOL: "a field of a later release"}


async def test_a_raised_generation_has_every_pool_claimed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        await them.know(POOL)
        await them.settled(POOL)
        await them.ask(ownership.raise_generation(them.names, 4))
        await until(lambda: a.owned and a.roster.charge(POOL).epoch >> (epoch.REVISION_BITS + epoch.LOT_BITS) == 4)
        assert await them.owner() == "a" and a.roster.why_no_act(POOL) == ""


async def test_a_pool_that_is_lost_while_it_is_taken_over_is_guarded_by_nobody_who_does_not_own_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        taking, goes_on, take_over = asyncio.Event(), asyncio.Event(), a.service.take_over

        async def slow(*about: Any) -> bool:
            taking.set()
            await goes_on.wait()
            return await take_over(*about)

        monkeypatch.setattr(a.service, "take_over", slow)
        await them.know(POOL)
        await taking.wait()
        before = a.ownerships._mine[POOL].epoch
        await them.ask(ownership.raise_generation(them.names, 4))
        await until(lambda: POOL not in a.ownerships._mine)
        goes_on.set()
        await until(lambda: a.owned and a.roster.charge(POOL).epoch > before)
        assert a.owned == set(a.ownerships.owned), "what it guards is what it owns"


async def test_hosts_that_have_obeyed_more_are_owned_anew_with_a_higher_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        await them.know(POOL)
        await them.settled(POOL)
        before = a.roster.charge(POOL).epoch
        a.service._carry_out(a.service.loop.lost(POOL, "a host has obeyed more"))
        a.service._on_give_up(on.GiveUp(POOL, "a host has obeyed more", before + 1))
        await until(lambda: a.owned and a.roster.charge(POOL).epoch > before and not a.roster.stood_down)
        assert not a.ownerships.too_low


@pytest.mark.slow
async def test_where_no_epoch_is_high_enough_the_pool_is_read_only_until_the_generation_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        await them.know(POOL)
        await them.settled(POOL)
        above = epoch.of_ownership(7, 1, 0)
        monkeypatch.setattr(ownership_alerts, "SETTLES_MS", 0)
        OwnershipAlerts(a.ownerships, a.service, a.archive.journal)
        for _ in range(2):
            before = a.roster.charge(POOL).epoch
            await until(lambda: a.owned and not a.roster.stood_down)
            a.service._carry_out(a.service.loop.lost(POOL, "a host has obeyed more"))
            a.service._on_give_up(on.GiveUp(POOL, "a host has obeyed more", above))
            if not a.ownerships.too_low:
                await until(lambda: a.owned and a.roster.charge(POOL).epoch > before)  # noqa: B023
        assert a.ownerships.too_low[POOL].generation == 8 and a.owned == {POOL}
        await until(lambda: told_of(a))
        assert told_of(a) == [f"{POOL}: its hosts obey none of the collectors any more"]
        [alert] = a.archive.journal.alerts(open_only=True)
        assert "poolwarden-collector generation raise --to 8 --yes" in alert["body"]
        assert a.roster.why_no_act(POOL) == "a host has obeyed more"
        await them.ask(ownership.raise_generation(them.names, 8))
        await until(lambda: a.owned and not a.roster.stood_down and not a.ownerships.too_low)
        assert a.roster.charge(POOL).epoch > above
        await until(lambda: not told_of(a))


async def test_hosts_that_say_more_each_time_end_the_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        await them.know(POOL)
        await them.settled(POOL)
        for times in range(ownerships.GIVEN_UP_AT_MOST + 1):
            await until(lambda: a.owned and not a.roster.stood_down)
            assert not a.ownerships.too_low, times
            before = a.roster.charge(POOL).epoch
            a.service._carry_out(a.service.loop.lost(POOL, "more"))
            a.service._on_give_up(on.GiveUp(POOL, "more", before + 1))
            await asyncio.sleep(0)
        assert set(a.ownerships.too_low) == {POOL} and a.owned == {POOL}


async def test_a_pool_that_is_anothers_in_etcd_is_lost_without_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        await them.know(POOL)
        await them.settled(POOL)
        owned = a.ownerships._mine[POOL]
        await them.ask(ownership.leave_it(owned))
        await until(lambda: POOL in a.forgotten)
        await until(lambda: a.owned and a.ownerships._mine[POOL].revision > owned.revision)


@pytest.mark.slow
async def test_one_that_drains_gives_its_pools_up_goes_on_and_takes_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy(monkeypatch)
    async with company(tmp_path, monkeypatch) as them:
        a, b = await them.another("a"), await them.another("b")
        await them.know(POOL, OTHER)
        owners = await them.settled(POOL, OTHER)
        view = Neighbourhood(a.collector.to, them.names, a.ownerships, a.service, lambda: 7, lambda _: 4_200)
        view.drain(True)
        await until(lambda: b.owned == {POOL, OTHER})
        seen = await view.look()
        assert seen.members["a"].draining and {held.by for held in seen.owners.values()} == {"b"}
        assert view.assigner() in ("a", "b")
        assert view.told_age_ms("b") == 4_200, "since its last sign there"
        assert view.why_stays(POOL) == "this collector does not own the pool"
        assert await view.give(POOL, "b") == "this collector does not own the pool"
        b.service.roster.sites = {"": Blind("2 of 2 pools there have changed their collector", 0, False, young=True)}
        assert b.service.why_stays(POOL) == f"its site cannot be judged yet: {b.service.roster.sites[''].why}"
        b.service.roster.sites = {}
        assert b.service.why_stays(POOL) == ""
        view.drain(False)
        knows = (a.ownerships, b.ownerships)
        await until(lambda: all(each.newest and not each.newest.seen.members["a"].draining for each in knows))
        mine = Neighbourhood(b.collector.to, them.names, b.ownerships, b.service, lambda: 7, lambda _: 0)
        mine._ownerships.looked_at = clock.awake_or_not_ms() - 60_000
        assert mine.told_age_ms("a") >= 60_000, "who cannot read etcd knows of no newer sign"
        assert await mine.give(POOL, "nobody") == "nobody is no collector that is there and takes pools"
        assert await mine.give(POOL, "a") == ""
        await until(lambda: a.owned == {POOL} and b.owned == {OTHER})
        assert owners.keys() == {POOL, OTHER}
        await until(lambda: a.ownerships.newest is not None and view.overview() is a.ownerships.newest.seen)


async def test_after_the_right_is_back_whoever_was_sent_away_has_time_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        roster, over = a.roster, a.roster.quiet_until(POOL)
        a.ownerships._cut_off()
        assert roster.quiet_until(POOL) == over and not roster.cut_off
        right = Right(0, "its lease is over")
        a.ownerships._right = lambda: right  # type: ignore[method-assign]
        roster.right = lambda: right.why_not
        for scouts, ms in (({}, 0), ({POOL: HOSTS[0]}, BACK_WITHIN_MS)):
            roster.scouts = scouts
            a.ownerships._cut_off()
            assert roster.cut_off and roster.acts_from == roster.now() + ms and roster.quiet_until(POOL) == over
        right, roster.now = Right(1), lambda: over
        roster.acts_from = over + 5
        assert roster.quiet_until(POOL) == over + 5


async def test_nothing_is_begun_by_a_process_that_outlives_the_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the right goes along to whatever is begun (fencing/leave.py)."""
    async with company(tmp_path, monkeypatch) as them:
        a = await them.another("a")
        member = Membership(them.names, "c", "c:7443", clock.awake_or_not_ms, LEASE_S)
        Ownerships(a.collector.to, them.names, member, a.service)
        assert a.roster.right() and a.roster.right_until() == 0
        await them.ask(member.join())
        now = clock.awake_or_not_ms()
        assert not a.roster.right() and now < a.roster.right_until() <= now + LEASE_S * 1_000 * 2 // 3
