"""A planned switchover: what it needs, how it is verified, and how it ends badly."""

from dataclasses import replace

import pytest
from tests.core.pool import CAPABLE, Guarded, Host, address, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import PoolView
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome
from poolwarden_collector.core.model.orders import DesignateMaster, Order
from poolwarden_collector.core.model.values import ProcessId, Role, Tri

pytestmark = pytest.mark.slow  # minutes of a pool's life in each

ABLE = CAPABLE | {"sync_database", "designate_master"}


def guarded(answer: Outcome = Outcome.DONE, moves: bool = True) -> Guarded:
    """A pool whose master hands the role over when it is told to (``moves``)."""
    g = Guarded()
    for host in g.hosts:
        g.connect(host, capabilities=ABLE)

    def obey(host: Host, order: Order) -> OrderOutcome | None:
        done = g.default(host, order)
        if isinstance(order.kind, DesignateMaster):
            if moves:
                move(g, g.by_uuid(order.kind.host))
            return OrderOutcome(order.order_id, order.kind_name, answer, text="" if moves else "HOST_OFFLINE h3")
        return done

    g.on_order = obey
    g.run(30_000)
    return g


def move(g: Guarded, new: Host) -> None:
    for host in g.hosts:
        host.serves = host is new
        host.pool_conf = host.running = Role.MASTER if host is new else Role.MEMBER
        host.master_address = "" if host is new else address(new.n)
        host.process = ProcessId(host.process.pid + 1000, host.process.start_ticks + 1000)


def orders(g: Guarded) -> list[str]:
    return [order.kind_name for order in g.host(1).orders if order.kind_name in ("sync_database", "designate_master")]


def test_the_role_is_handed_over_and_verified_by_facts() -> None:
    g = guarded()
    reply = g.say("designate", 2)
    assert reply is not None and reply.accepted
    g.run(20_000)
    assert orders(g) == ["sync_database", "designate_master"]
    assert g.entry(Kind.DESIGNATE_RESULT).data["outcome"] == "done"
    assert g.pool.record.master == uuid(2) and g.pool.record.term == 2
    assert g.promoted() == [] and not g.has(Kind.DECIDED)
    observed = g.entry(Kind.MASTER_OBSERVED)
    assert "alice" in observed.text and g.pool.record.after.designation is None


def test_failover_to_a_host_of_a_healthy_pool_is_the_same_planned_way() -> None:
    g = guarded()
    reply = g.say("failover-to", 3)
    assert reply is not None and reply.accepted
    g.run(20_000)
    assert g.pool.record.master == uuid(3)
    assert g.promoted() == [] and not [o for h in g.hosts for o in h.orders if o.kind_name == "promote"]


def test_a_dry_run_does_nothing() -> None:
    g = guarded()
    reply = g.say("designate", 2, dry_run="yes")
    assert reply is not None and reply.accepted and "nothing stands against it" in reply.text
    g.run(20_000)
    assert orders(g) == []


def test_an_ok_without_facts_is_no_success() -> None:
    g = guarded(moves=False)
    g.say("designate", 2)
    g.run(300_000)
    assert not g.has(Kind.DESIGNATE_RESULT)
    g.run(400_000)
    failed = g.entry(Kind.DESIGNATE_RESULT)
    assert failed.data["outcome"] == "failed" and "does not serve as master" in failed.text
    assert orders(g).count("designate_master") == 1


def test_a_refusal_by_xapi_ends_it_with_its_words() -> None:
    g = guarded(Outcome.FAILED, moves=False)
    g.host(3).pool_conf = Role.MEMBER
    g.say("designate", 2)
    g.run(20_000)
    assert "HOST_OFFLINE h3" in g.entry(Kind.DESIGNATE_RESULT).text
    assert any("/designate-" in key for key in g.pool.record.open_alerts)
    assert g.pool.record.master == uuid(1) and g.pool.record.after.designation is None


def test_a_broken_pool_conf_is_named_in_the_failure() -> None:
    g = guarded(Outcome.UNKNOWN, moves=False)
    g.say("designate", 2)
    g.run(4_000)
    g.host(2).pool_conf = Role.BROKEN
    g.run(700_000)
    assert "pool.conf says broken on host-2" in g.entry(Kind.DESIGNATE_RESULT).text


def view(g: Guarded, **changes: object) -> None:
    honest = g.facts

    def facts(host: Host):  # type: ignore[no-untyped-def]
        told = honest(host)
        seen = told.pool_view
        return replace(told, pool_view=replace(seen, **changes)) if isinstance(seen, PoolView) else told

    g.facts = facts  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("trouble", "word"),
    [
        ({"busy_tasks": ("VM.export",)}, "VM.export"),
        ({"rolling_upgrade": Tri.YES}, "rolling upgrade"),
        ({"rolling_upgrade": Tri.UNKNOWN}, "rolling upgrade"),
        ({"hosts": "disabled"}, "host-3 is not live and enabled"),
        ({"hosts": "offline"}, "host-3 is"),
    ],
)
def test_what_the_master_sees_can_stand_against_it(trouble: dict[str, object], word: str) -> None:
    g = guarded()
    seen = g.facts(g.host(1)).pool_view
    assert seen is not None
    if "hosts" in trouble:
        change = {"enabled": False} if trouble["hosts"] == "disabled" else {"live": False}
        trouble = {"hosts": tuple(replace(h, **change) if h.name == "host-3" else h for h in seen.hosts)}
    view(g, **trouble)
    g.run(4_000)
    reply = g.say("designate", 2)
    assert reply is not None and not reply.accepted and word in reply.text
    assert orders(g) == []


def test_the_master_itself_is_no_target() -> None:
    g = guarded()
    reply = g.say("designate", 1)
    assert reply is not None and not reply.accepted and "master already" in reply.text


def test_a_full_disk_is_no_target() -> None:
    g = guarded()
    g.host(2).free = 1000
    g.run(4_000)
    reply = g.say("designate", 2)
    assert reply is not None and not reply.accepted and "full" in reply.text


def test_with_the_master_gone_it_is_refused_with_what_to_do() -> None:
    g = guarded()
    g.pool = replace(g.pool, devices={})
    g.cut_power()
    g.run(60_000)
    for verb in ("failover-to", "designate"):
        reply = g.say(verb, 2)
        assert reply is not None and not reply.accepted
    assert not [o for o in g.host(1).orders if o.kind_name == "designate_master"]


def test_a_failed_push_gives_the_plan_up() -> None:
    g = guarded()
    obey = g.on_order
    assert obey is not None

    def fail(host: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "sync_database":
            return OrderOutcome(order.order_id, order.kind_name, Outcome.FAILED, text="HOST_OFFLINE h3")
        return obey(host, order)

    g.on_order = fail
    g.say("designate", 2)
    g.run(10_000)
    assert g.entry(Kind.DESIGNATE_RESULT).data["outcome"] == "abandoned"
    assert orders(g) == ["sync_database"]


def test_a_collector_restarted_before_the_order_gives_the_plan_up() -> None:
    g = guarded()
    obey = g.on_order
    assert obey is not None
    g.on_order = lambda host, order: None if order.kind_name == "sync_database" else obey(host, order)
    g.say("designate", 2)
    g.restart_collector()
    g.run(10_000)
    assert g.entry(Kind.DESIGNATE_RESULT).data["outcome"] == "abandoned"
    assert orders(g) == ["sync_database"]


def test_a_collector_restarted_after_the_order_watches_on_and_orders_nothing_again() -> None:
    g = guarded(Outcome.UNKNOWN, moves=False)
    g.say("designate", 2)
    g.run(2_000)
    assert g.pool.record.after.designation is not None and g.pool.record.after.designation.order
    g.restart_collector()
    move(g, g.host(2))
    g.run(20_000)
    assert g.entry(Kind.DESIGNATE_RESULT).data["outcome"] == "done"
    assert orders(g).count("designate_master") == 1


def test_pausing_before_the_order_gives_the_plan_up() -> None:
    g = guarded()
    obey = g.on_order
    assert obey is not None
    g.on_order = lambda host, order: None if order.kind_name == "sync_database" else obey(host, order)
    g.say("designate", 2)
    g.say("pause", reason="wait")
    order = g.pool.record.after.sync_order
    answer = OrderOutcome(order, "sync_database", Outcome.DONE)
    g.feed(ev.OrderAnswered(uuid(1), g.host(1).stream, answer))
    g.run(5_000)
    assert "paused" in g.entry(Kind.DESIGNATE_RESULT).text
    assert orders(g) == ["sync_database"]
