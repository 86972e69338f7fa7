"""Who is of a pool says its serving master; a certificate and a claim make no member and no successor."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import POOL, Guarded, Host, address, uuid

from poolwarden_collector.core.decision.candidate_ranking import rank
from poolwarden_collector.core.evidence.unlisted_hosts import TOLD_AFTER_MS
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import AgentReported
from poolwarden_collector.core.model.host_facts import HostFacts, PoolView
from poolwarden_collector.core.model.order_results import PlacementView
from poolwarden_collector.core.model.values import Role, Tri
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.core.state.transaction import Transaction

pytestmark = pytest.mark.slow  # minutes of a pool's life in each


class Claimed(Guarded):
    """Host 9 holds a valid certificate, says that it is of this pool, and has the newest database of all."""

    def __init__(self, members: int = 3) -> None:
        self.listed: tuple[Host, ...] | None = None  # None: all of them
        super().__init__(members)
        self.stranger = Host(9, False)
        self.stranger.generation = 10**9
        self.listed = tuple(self.hosts)

    def come(self) -> None:
        self.hosts.append(self.stranger)
        self.connect(self.stranger)
        self.report(self.stranger)

    def facts(self, host: Host) -> HostFacts:
        told = super().facts(host)
        view = told.pool_view
        if view is None or self.listed is None:
            return told
        names = {h.uuid for h in self.listed}
        kept = tuple(item for item in view.hosts if item.host in names)
        return replace(told, pool_view=replace(view, hosts=kept))


def test_the_masters_list_is_durable_and_written_when_it_changes() -> None:
    g = Claimed()
    assert g.pool.record.listed == {uuid(1), uuid(2), uuid(3)}
    g.run(60_000)
    assert g.kinds().count("pool-listed") == 1
    assert fold(PoolRecord(POOL), g.journal).listed == g.pool.record.listed


@pytest.mark.parametrize("after_restart", [False, True])
def test_a_stranger_with_the_newest_database_is_no_candidate(after_restart: bool) -> None:
    g = Claimed()
    g.come()
    if after_restart:
        g.restart_collector()
        for host in g.hosts:
            g.connect(host)
        g.run(70_000)
    g.cut_power()
    g.run(120_000)
    assert g.promoted() == [uuid(2)]
    assert uuid(9) not in g.pool.record.hosts and not g.stranger.orders


def test_a_stranger_neither_holds_nor_blocks_the_pool() -> None:
    """It says that it serves, that HA is armed, that an upgrade runs, and stores a term of its own."""
    g = Claimed()
    g.stranger.pool_conf = g.stranger.running = Role.MASTER
    g.stranger.serves, g.stranger.ha = True, Tri.YES
    g.hosts.append(g.stranger)
    g.connect(g.stranger, highest_term=999, highest_epoch=g.site.epoch + 5)
    g.run(10_000)
    assert g.verdict == "Healthy" and not g.has(Kind.RESTORED) and not g.has(Kind.STALE_EPOCH)
    g.cut_power()
    g.run(120_000)
    assert g.promoted() == [uuid(2)] and g.pool.record.master == uuid(2)


def test_a_stranger_is_no_survivor_and_no_witness() -> None:
    g = Claimed(2)
    g.come()
    g.host(2).agent = False
    g.cut_power()
    g.run(120_000)
    assert not g.promoted() and g.verdict == "PoolDark"


def test_a_stranger_is_told_once_it_stays_one_and_let_in_when_it_is_listed() -> None:
    g = Claimed()
    g.come()
    g.run(TOLD_AFTER_MS - 10_000)
    assert not g.has(Kind.STRANGER)
    g.run(20_000)
    assert g.kinds().count("stranger") == 1 and f"{POOL}/stranger-{uuid(9)}" in g.pool.record.open_alerts
    g.listed = tuple(g.hosts)
    g.run(10_000)
    assert uuid(9) in g.pool.record.hosts and not g.pool.live.strangers
    assert f"{POOL}/stranger-{uuid(9)}" not in g.pool.record.open_alerts
    assert uuid(9) in g.pool.record.listed


def test_a_host_that_the_master_lists_no_more_is_no_candidate_and_leaves() -> None:
    g = Claimed()
    g.host(2).generation += 5
    g.listed = (g.host(1), g.host(3))
    g.run(5_000)
    ranked = {r.host: str(r.limitation or "") for r in rank(Transaction(g.pool, g.now, g.site), uuid(1), None)}
    assert ranked[uuid(2)] == "it was never listed by this pool's master" and not ranked[uuid(3)]
    g.run(70_000)
    assert uuid(2) not in g.pool.record.hosts


def test_a_host_whom_a_listed_one_follows_is_let_in() -> None:
    """It joined and was designated while no collector ran."""
    g = Claimed()
    old, new = g.host(1), g.stranger
    for host in g.hosts:
        host.pool_conf = host.running = Role.MEMBER
        host.serves, host.master_address = False, address(9)
    new.pool_conf = new.running = Role.MASTER
    new.serves, new.master_address = True, ""
    g.come()
    g.listed = tuple(g.hosts)
    g.run(20_000)
    assert g.pool.record.master == uuid(9) and old.uuid in g.pool.record.hosts
    assert uuid(9) in g.pool.record.listed


def test_another_masters_list_of_these_hosts_changes_nothing() -> None:
    g = Claimed()
    before = g.pool.record
    for other in (
        PoolView("another-pool", "x", uuid(1), (), Tri.NO, Tri.NO),
        PoolView(POOL, "x", uuid(3), (), Tri.NO, Tri.NO),
    ):
        for host in (1, 3):
            told = replace(g.facts(g.host(host)), pool_view=other)
            g.feed(AgentReported(uuid(host), g.host(host).stream, told))
    assert g.pool.record.name == before.name and g.pool.record.listed == before.listed


def test_where_no_list_is_known_everything_is_asked() -> None:
    """A journal from before there were lists, and the master is gone already."""
    g = Claimed()
    g.journal[:] = [entry for entry in g.journal if entry.kind is not Kind.POOL_LISTED]
    g.pool = replace(g.pool, record=fold(PoolRecord(POOL), g.journal))
    g.cut_power()
    g.run(120_000)
    assert not g.promoted() and g.pool.record.question is not None
    reply = g.say("approve", id=g.pool.record.question.id, shoot="yes", accept_stale="3600000")
    assert reply is not None and reply.accepted, reply
    g.run(60_000)
    assert g.promoted() == [uuid(2)]


def without_a_list(members: int = 3) -> Claimed:
    """A journal from before there were lists, and the master is gone already."""
    g = Claimed(members)
    g.cut_power()
    g.journal[:] = [entry for entry in g.journal if entry.kind is not Kind.POOL_LISTED]
    g.pool = replace(g.pool, record=fold(PoolRecord(POOL), g.journal))
    return g


def yes(g: Guarded) -> None:
    """Whatever is asked, an operator says yes to it, with every number."""
    g.run(120_000)
    for _ in range(4):
        if (question := g.pool.record.question) is None:
            return
        reply = g.say("approve", id=question.id, accept_stale=str(question.needs.stale_ms))
        assert reply is not None and reply.accepted, reply
        g.run(60_000)


@pytest.mark.parametrize("told", ["everybody's", "the others'", "nobody's"])
def test_without_a_list_a_candidate_is_in_every_members_database(told: str) -> None:
    """A host that nobody knows has the newest database, and an operator says yes to everything."""
    g = without_a_list()
    g.come()
    true, its = (uuid(1), uuid(2), uuid(3)), (uuid(1), uuid(2), uuid(3), uuid(9))
    for host in g.hosts:
        hosts = its if host is g.stranger else true
        if told == "nobody's" or (told == "the others'" and host is g.stranger):
            hosts = ()
        host.placements = PlacementView(True, host.generation, "state.db", hosts=hosts)
    yes(g)
    # A database that tells no hosts speaks for and against nobody: then its generation is what is asked about.
    assert g.promoted() == [uuid(9) if told == "nobody's" else uuid(2)]
    ranking = g.entry(Kind.CANDIDATE).data["ranking"]
    assert told == "nobody's" or any("does not have it" in line and "host-9" in line for line in ranking), ranking


def test_with_a_list_the_members_databases_are_not_asked() -> None:
    """The master's list is newer than a copy that was taken before a host joined."""
    g = Claimed()
    for host in g.hosts:
        known = (uuid(1), uuid(3)) if host.uuid != uuid(2) else (uuid(1), uuid(2), uuid(3))
        host.placements = PlacementView(True, 50, "state.db", hosts=known)
    g.cut_power()
    g.run(60_000)
    assert g.promoted() == [uuid(2)]


def test_whose_own_copy_does_not_have_it_is_not_promoted_on_it() -> None:
    """Another pool's database, or one from before it joined: its xapi would kill what that does not know."""
    g = Claimed()
    for host in g.hosts:
        host.placements = PlacementView(True, 50, "state.db", hosts=(uuid(1), uuid(3)))
    g.cut_power()
    g.run(60_000)
    assert g.promoted() == [uuid(3)]
