"""Holds that no failover owns: who may end them, and what is asked first."""

from __future__ import annotations

from dataclasses import replace

from tests.core.pool import Guarded, played_once, uuid

from poolwarden_collector.core.followups.gc_release import waits_for
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.recovery.adopted_holds import unowned
from poolwarden_collector.core.report.status import status
from poolwarden_collector.core.state.transaction import Transaction


@played_once
def held() -> Guarded:
    """A pool that is only observed, whose master is held by nothing that its journal knows."""
    g = Guarded(policy=Policy(quiet_time=3_000, mode="observe"))
    g.run(30_000)
    g.hold_toolstack(g.host(1), 1)
    g.host(1).answers = False
    g.run(10_000)
    return g


def test_it_is_named_with_what_to_type_once_it_has_lasted() -> None:
    g = held()
    assert unowned(Transaction(g.pool, g.now, g.site)) == (uuid(1),)
    assert not any("/hold-" in key for key in g.pool.record.open_alerts)
    g.run(90_000)
    (alert,) = [e for e in g.journal if e.kind is Kind.ALERT and "/hold-" in e.data["key"]]
    assert "poolwarden release host-1 --as-master" in alert.data["body"]


def test_as_master_only_by_name_and_after_every_other_host_was_heard() -> None:
    g = held()
    wrong = g.say("release", 1, as_master="yes", typed_name="host-9")
    assert wrong is not None and wrong.code == "name-differs"
    member = g.say("release", 1)
    assert member is not None and member.code == "no-master"
    other = g.say("release", 2)
    assert other is not None and other.code == "not-held"
    g.host(3).agent = g.host(3).answers = False
    g.run(20_000)
    g.say("release", 1, as_master="yes", typed_name="host-1")
    g.run(3_000)
    assert g.entry(Kind.OPERATOR_REFUSED).data["code"] == "host-unheard"
    assert g.host(1).hold is not None
    g.host(3).agent = g.host(3).answers = True
    g.run(20_000)
    g.say("release", 1, as_master="yes", typed_name="host-1")
    g.run(20_000)
    assert g.host(1).hold is None and not unowned(Transaction(g.pool, g.now, g.site))


def test_garbage_collection_that_this_journal_knows_nothing_of_waits_for_whoever_does_not_follow() -> None:
    g = Guarded()
    g.run(30_000)
    g.host(3).agent = g.host(3).answers = False
    g.run(30_000)
    g.host(1).gc_term = 5
    g.run(30_000)
    tx = Transaction(g.pool, g.now, g.site)
    assert waits_for(tx, uuid(1)) == (uuid(3),) and g.host(1).gc_term == 5
    lost = replace(g.pool, record=replace(g.pool.record, master=""))
    assert waits_for(Transaction(lost, g.now, g.site), uuid(1)) == (uuid(2), uuid(3))


def test_a_hold_that_is_named_stays_so_while_its_agent_restarts() -> None:
    g = held()
    g.run(90_000)
    host = g.host(1)
    host.agent = False
    g.feed(ev.AgentGone(host.uuid, host.stream))
    g.run(30_000)
    host.agent = True
    g.connect(host)
    g.run(10_000)
    raised = [e.kind for e in g.journal if "/hold-" in e.data.get("key", "")]
    assert raised == [Kind.ALERT]
    line = next(line for line in status(g.pool, g.now, g.site).owed if "toolstack" in line)
    assert line.startswith("host-1: toolstack held since term 1, by no failover here, for 2 min")
