"""A xapi that ends and begins again: counted by its agent, no service of a master, and no moment's answer a veto."""

from __future__ import annotations

import pytest
from tests.core.pool import QUIET, Guarded, Host, played_once, uuid

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Liveness, ProcessId
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


@pytest.mark.slow
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


# ------------------------------------------------------------------------------------------------ starts that we order


def hung(restarts: int) -> Guarded:
    """The xapi of the master hangs, each new one as well, and is restarted by order so many times."""
    g = Guarded(
        policy=Policy(
            quiet_time=QUIET,
            collector_probe=False,
            xapi_restarts=restarts,
            xapi_hung_after=30_000,
            xapi_down_after=30_000,
            xapi_starting_limit=60_000,
            xapi_restart_budget=20_000,
        )
    )
    host = g.host(1)
    host.liveness = host.socket = Liveness.SILENT
    host.unwell_since, host.answers, host.serves = g.now, False, False

    def begins_anew(host: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "restart_xapi":
            host.process = ProcessId(host.process.pid + 1, host.process.start_ticks + 1)
            host.unwell_since = g.now
        return g.default(host, order)

    g.on_order = begins_anew
    return g


def test_the_starts_that_we_order_are_no_starts_too_many() -> None:
    """Its database loaded each time: it goes to the successor, and nobody is asked about a VM that it alone knows."""
    g = hung(restarts=3)
    while not g.has(Kind.DECIDED):
        g.run(1_000)
    assert len([e for e in g.journal if e.kind is Kind.RESTART_INTENT]) == 3
    assert g.entry(Kind.DECIDED).data["why"].startswith("MasterXapiHung") and not g.entry(Kind.DECIDED).data["restless"]


@pytest.mark.parametrize("starts, counted", [(1, False), (2, True)])
def test_starts_that_nobody_ordered_count_from_the_last_that_was(starts: int, counted: bool) -> None:
    g = hung(restarts=1)
    while not g.has(Kind.RESTART_INTENT):
        g.run(1_000)
    g.run(4_000)
    host = g.host(1)
    for _ in range(4):  # each lives for 18 s, too short to be one that hangs
        if starts:
            host.process = ProcessId(host.process.pid + 1, host.process.start_ticks + 1)
            starts -= 1
        host.unwell_since = g.now
        g.run(18_000)
    assert g.has(Kind.DECIDED) is counted
    assert not counted or g.entry(Kind.DECIDED).data["restless"]
