"""Storage's garbage collection on a new master waits for the host whose VMs run on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.failover.test_toolstack import hung, orders, until
from tests.core.pool import Guarded, played_once, uuid

from poolwarden_collector.core.followups import gc_release
from poolwarden_collector.core.followups.gc_release import waits_for
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.report.status import status
from poolwarden_collector.core.state.pool_record import apply
from poolwarden_collector.core.state.transaction import Transaction

pytestmark = pytest.mark.slow  # minutes of a pool's life in each


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
    assert waits_for(Transaction(g.pool, g.now, g.site), uuid(n)) == (uuid(1),)
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


def silent_for_good(g: Guarded, n: int) -> None:
    """Its agent, its xapi and its device are gone: nothing tells whether its VMs run on."""
    host = g.host(n)
    host.agent, host.answers, host.power = False, False, Power.UNKNOWN
    g.feed(ev.AgentGone(host.uuid, host.stream))


@played_once
def left_behind() -> Guarded:
    """Host 3 was held by an earlier failover and is not attached since; now the master loses its power."""
    g = Guarded()
    g.run(4_000)
    silent_for_good(g, 3)
    for what in ("tombstone", "release"):
        data = {"host": uuid(3), "what": what, "successor": uuid(1)}
        entry = Entry(Kind.OWED, f"host-3 is owed its {what}", data, "", g.pool.record.term)
        g.journal.append(entry)
        g.pool = replace(g.pool, record=apply(g.pool.record, entry))
    g.run(20_000)
    g.cut_power()
    g.run(180_000)
    assert g.pool.record.master == uuid(2)
    return g


def test_a_later_promotion_holds_it_for_what_an_earlier_one_left() -> None:
    g = left_behind()
    (promote,) = orders(g, "promote", 2)
    assert promote.kind.hold_gc and g.host(2).gc_term == promote.term  # type: ignore[union-attr]
    g.run(120_000)
    assert g.host(2).gc_term and waits_for(Transaction(g.pool, g.now, g.site), uuid(2)) == (uuid(3),)


def test_a_persons_word_that_such_a_host_is_off_lets_it_go() -> None:
    g = left_behind()
    reply = g.say("confirm-fenced", 3, typed_name="host-3", how="sold")
    assert reply is not None and reply.accepted, reply
    g.run(30_000)
    assert g.host(2).gc_term == 0


def test_its_age_survives_a_restart_of_its_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc_release, "LONG_MS", 120_000)
    g = hung()
    until(g, Kind.PROMOTE_INTENT)
    silent_for_good(g, 1)
    until(g, Kind.PROMOTED)
    host = g.host(new_master(g))
    for _ in range(3):
        g.run(60_000)
        host.agent = False
        g.feed(ev.AgentGone(host.uuid, host.stream))
        g.run(8_000)
        host.agent = True
        g.connect(host)
    g.run(10_000)
    assert any(key.endswith(f"/gc-{host.uuid}") for key in g.pool.record.open_alerts)
    assert sum("/gc-" in entry.data.get("key", "") for entry in g.journal) == 1
    shown = next(each for each in status(g.pool, g.now, g.site).hosts if each.host_uuid == host.uuid)
    assert any("for 3 min at the least" in line.text for line in shown.facts)
