"""A xapi that ends and begins again: counted by its agent, no service of a master, and no moment's answer a veto."""

from __future__ import annotations

import pytest
from tests.core.pool import QUIET, Guarded, Host, played_once, uuid

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.values import Role

LATER = 10**12  # as if it went on for ever


@played_once
def looping(n: int = 1, starts: int = 3, limit: int = 60_000, **policy: object) -> Guarded:
    """The xapi of this host ends and begins again, and answers whoever asks meanwhile."""
    g = Guarded(policy=Policy(quiet_time=QUIET, xapi_starting_limit=limit, **policy))  # type: ignore[arg-type]
    g.run(4_000)
    host = g.host(n)
    host.unasked_starts, host.ended_at, host.unwell_since = starts, LATER, LATER
    g.run(10_000)
    return g


def test_a_master_that_loops_is_no_healthy_pool() -> None:
    assert looping(limit=600_000).verdict == "Suspect"


def test_two_starts_are_no_loop_and_an_older_agent_counts_none() -> None:
    assert looping(starts=2).verdict == looping(starts=0).verdict == "Healthy"


def test_a_process_that_has_lived_for_three_minutes_has_ended_the_loop() -> None:
    g = looping(limit=600_000)
    g.host(1).ended_at = g.now - 180_000
    g.run(4_000)
    assert g.verdict == "Healthy"


def test_a_loop_that_lasts_is_succeeded_though_looks_meet_a_moment_of_service() -> None:
    g = looping()
    g.run(90_000)
    assert g.entry(Kind.DECIDED).data["loops"] and g.entry(Kind.DECIDED).data["path"] == "toolstack"
    assert not g.has(Kind.ABORTED) and not g.has(Kind.RESTART_INTENT)
    assert g.promoted() == [uuid(2)]


def test_a_present_process_that_stays_is_let_serve() -> None:
    """The count is of ten minutes: the last process of a loop may be the one that stays."""
    g = looping()
    g.host(1).unwell_since = g.now - 30_000
    g.run(120_000)
    assert not g.has(Kind.DECIDED)


def test_a_member_that_acts_as_master_vetoes_whatever_its_look_has_met() -> None:
    """It was made master by somebody else in the very moment in which it was asked."""
    g = looping()

    def answered(host: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "claim" and host.n == 3:
            host.pool_conf = host.running = Role.MASTER
            g.report(host)
        return g.default(host, order)

    g.on_order = answered
    g.run(60_000)
    assert g.has(Kind.ABORTED) and "host-3" in g.entry(Kind.ABORTED).text
    assert not g.has(Kind.CLAIMED) and not g.promoted()


def test_a_member_that_loops_is_told_and_not_restarted() -> None:
    g = looping(2)
    g.run(200_000)
    assert g.verdict == "MemberXapiDown"
    assert not g.has(Kind.RESTART_INTENT)


@pytest.mark.parametrize("stays", [False, True])
def test_a_new_master_that_loops_is_no_success(stays: bool) -> None:
    g = Guarded(policy=Policy(quiet_time=QUIET, xapi_starting_limit=120_000))
    g.run(4_000)
    g.cut_power()
    while not g.has(Kind.PROMOTED):
        g.run(1_000)
        new = g.host(2)
        new.unasked_starts, new.ended_at, new.unwell_since = 3, LATER, LATER
    g.run(60_000)
    assert not g.has(Kind.CLOSED) and g.entry(Kind.BLOCKED).data["code"] == "BLOCKED_NEW_MASTER_LOOPS"
    if stays:
        g.host(2).ended_at = g.now - 180_000
    g.run(120_000)
    assert g.entry(Kind.CLOSED).data.get("lasted", True) is stays
