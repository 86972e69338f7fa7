"""Storage's garbage collection on a new master waits for the host whose VMs run on."""

from __future__ import annotations

from tests.core.pool import Guarded, uuid
from tests.core.test_toolstack import hung, orders, until

from poolwarden_collector.core.collecting import waits_for
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.facts import Power
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.status import status


def new_master(g: Guarded) -> int:
    return next(h.n for h in g.hosts if h.uuid == g.promoted()[0])


def test_it_is_held_by_the_promotion_and_let_go_once_the_old_master_is_attached() -> None:
    g = hung()
    until(g, Kind.PROMOTED)
    n = new_master(g)
    (promote,) = orders(g, "promote", n)
    assert promote.kind.hold_gc  # type: ignore[union-attr]
    assert g.host(n).gc_term == promote.term
    until(g, Kind.GC_INTENT)
    kinds = [entry.kind for entry in g.journal]
    done = max(i for i, entry in enumerate(g.journal) if entry.kind is Kind.OWED_DONE and entry.data["host"] == uuid(1))
    assert kinds.index(Kind.GC_INTENT) > done, "first the old master is attached, its tombstone cleared"
    g.run(10_000)
    assert g.host(n).gc_term == 0 and len(orders(g, "release_gc", n)) == 1


def test_it_stays_held_while_the_old_master_is_not_back() -> None:
    g = hung()
    until(g, Kind.PROMOTE_INTENT)
    g.host(1).agent = g.host(1).answers = False
    g.run(900_000)
    n = new_master(g)
    assert g.host(n).gc_term and not g.has(Kind.GC_INTENT)
    assert waits_for(Draft(g.pool, g.now, g.site), uuid(n)) == (uuid(1),)
    told = next(host for host in status(g.pool, g.now, g.site).hosts if host.host_uuid == uuid(n))
    assert [line.text for line in told.facts if line.name == "storage garbage collection"][0].endswith(
        "until host-1 is attached, because its VMs may still write"
    )


def test_an_old_master_that_reads_off_writes_nowhere() -> None:
    g = hung()
    until(g, Kind.PROMOTED)
    n = new_master(g)
    g.host(1).agent = g.host(1).answers = False
    g.host(1).power = Power.OFF
    g.run(900_000)
    assert g.has(Kind.GC_INTENT) and g.host(n).gc_term == 0


def test_a_host_that_is_no_master_is_let_go_at_once() -> None:
    g = Guarded()
    g.host(2).gc_term = 7
    g.run(10_000)
    assert len(orders(g, "release_gc", 2)) == 1 and g.host(2).gc_term == 0


def test_a_master_that_was_proven_off_leaves_nothing_to_wait_for() -> None:
    g = Guarded()
    g.run(4_000)
    g.cut_power()
    g.run(60_000)
    (promote,) = orders(g, "promote", new_master(g))
    assert not promote.kind.hold_gc  # type: ignore[union-attr]
