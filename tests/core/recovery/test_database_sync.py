"""The hourly push of the database: when it is made, when it is not, and what readiness says of it."""

from dataclasses import replace

import pytest
from tests.core.pool import CAPABLE, QUIET, Guarded, Host, played_once

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import PoolView
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.values import Tri
from poolwarden_collector.core.report.readiness import not_ready
from poolwarden_collector.core.state.transaction import Transaction

HOURLY = 200_000  # an hour, in these tests


@played_once
def guarded(mode: str = "auto") -> Guarded:
    g = Guarded(policy=Policy(quiet_time=QUIET, sync_interval=HOURLY, mode=mode))
    g.connect(g.host(1), capabilities=CAPABLE | {"sync_database"})
    return g


def pushes(g: Guarded) -> int:
    return sum(order.kind_name == "sync_database" for host in g.hosts for order in host.orders)


def ready(g: Guarded) -> tuple[str, ...]:
    return not_ready(Transaction(g.pool, g.now, g.site))


def seen(g: Guarded, **changes: object) -> None:
    """From now on the master's view of the pool has these changes."""
    honest = g.facts

    def facts(host: Host):  # type: ignore[no-untyped-def]
        told = honest(host)
        view = told.pool_view
        return replace(told, pool_view=replace(view, **changes)) if isinstance(view, PoolView) else told

    g.facts = facts  # type: ignore[method-assign]


@pytest.mark.slow
def test_the_database_is_pushed_at_its_interval_by_the_master_alone() -> None:
    g = guarded()
    g.run(HOURLY - 20_000)
    assert pushes(g) == 0
    g.run(20_000)
    assert [o.kind_name for o in g.host(1).orders] == ["sync_database"]
    assert g.entry(Kind.SYNC_RESULT).data["outcome"] == "done"
    g.run(HOURLY + 10_000)
    assert pushes(g) == 2 and not ready(g)


@pytest.mark.slow
def test_a_failed_push_is_a_readiness_reason_until_one_succeeds() -> None:
    g = guarded()
    fails = [True]

    def answer(host: Host, order: Order) -> OrderOutcome | None:
        done = g.default(host, order)
        if order.kind_name == "sync_database" and fails[0] and done is not None:
            return replace(done, outcome=Outcome.FAILED, text="xapi refused: HOST_OFFLINE h3")
        return done

    g.on_order = answer
    g.run(HOURLY)
    assert any("HOST_OFFLINE h3" in reason for reason in ready(g))
    fails[0] = False
    g.run(HOURLY + 10_000)
    assert not any("push" in reason for reason in ready(g))


def test_an_offline_host_holds_the_push_and_readiness_says_so() -> None:
    g = guarded()
    view = g.facts(g.host(1)).pool_view
    assert view is not None
    seen(g, hosts=tuple(replace(h, live=h.name != "host-3") for h in view.hosts))
    g.run(HOURLY + 10_000)
    assert pushes(g) == 0
    assert any("host-3 is offline" in reason for reason in ready(g))


def test_no_push_during_a_rolling_upgrade() -> None:
    g = guarded()
    seen(g, rolling_upgrade=Tri.YES)
    g.run(HOURLY + 10_000)
    assert pushes(g) == 0


@pytest.mark.slow
def test_no_push_in_a_paused_pool_nor_in_mode_observe() -> None:
    g = guarded()
    g.say("pause", reason="work")
    g.run(HOURLY + 10_000)
    assert pushes(g) == 0
    watched = guarded("observe")
    watched.run(HOURLY + 10_000)
    assert pushes(watched) == 0


@pytest.mark.slow
@pytest.mark.parametrize("answers", [True, False])
def test_a_push_whose_answer_is_lost_with_the_collector_is_not_believed(answers: bool) -> None:
    g = guarded()
    g.on_order = lambda host, order: None if order.kind_name == "sync_database" else g.default(host, order)
    g.run(HOURLY)
    order = g.pool.record.after.sync_order
    assert order
    g.restart_collector()
    if answers:
        kept = OrderOutcome(order, "sync_database", Outcome.DONE)
        g.connect(g.host(1), capabilities=CAPABLE | {"sync_database"}, last_results=(kept,))
    g.run(70_000)
    assert g.entry(Kind.SYNC_RESULT).data["outcome"] == ("done" if answers else "unknown")
    assert any("push" in reason for reason in ready(g)) is not answers
