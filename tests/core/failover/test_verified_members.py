"""After a promotion each member is verified against how it was before; what is missing is named, and once mended."""

from collections.abc import Callable
from dataclasses import replace

from tests.core.pool import CAPABLE, Guarded, Host, played_once, uuid

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import HostFacts, PoolHost
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome
from poolwarden_collector.core.model.orders import EnableHost, Order

Change = Callable[[str, PoolHost], PoolHost]


def seen(g: Guarded, change: Change) -> None:
    """Each serving master's view goes through ``change`` (its own UUID, the entry)."""

    def facts(host: Host) -> HostFacts:
        told = Guarded.facts(g, host)
        if told.pool_view is None:
            return told
        hosts = tuple(change(host.uuid, item) for item in told.pool_view.hosts)
        return replace(told, pool_view=replace(told.pool_view, hosts=hosts))

    g.facts = facts  # type: ignore[method-assign]


@played_once
def guarded() -> Guarded:
    g = Guarded()
    for host in g.hosts:
        g.connect(host, capabilities=CAPABLE | {"enable_host"})
    return g


def enabled_orders(g: Guarded) -> list[Order]:
    return [order for host in g.hosts for order in host.orders if order.kind_name == "enable_host"]


def back(g: Guarded) -> str:
    return str(g.entry(Kind.MEMBER_BACK).data["remark"])


def final_alert(g: Guarded) -> str:
    return next(e.data["body"] for e in g.journal if e.kind is Kind.ALERT and e.data["key"].endswith("/done"))


def disabled_under_new_master(master: str, item: PoolHost) -> PoolHost:
    return replace(item, enabled=False) if (master, item.host) == (uuid(2), uuid(3)) else item


def test_a_member_that_stays_disabled_is_enabled_once_and_then_named() -> None:
    g = guarded()
    seen(g, disabled_under_new_master)
    g.run(4_000)
    g.cut_power()
    g.run(60_000)
    assert enabled_orders(g) == [] and not g.has(Kind.MEMBER_BACK)
    g.run(120_000)
    assert [(o.host, o.kind) for o in enabled_orders(g)] == [(uuid(2), EnableHost(uuid(3)))]
    assert "disabled" in back(g) and "host-3: the new master has it disabled" in final_alert(g)


def test_a_member_that_was_enabled_by_that_is_back_without_a_remark() -> None:
    g = guarded()
    helped = []

    def view(master: str, item: PoolHost) -> PoolHost:
        return item if helped else disabled_under_new_master(master, item)

    def answer(host: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "enable_host":
            helped.append(order)
            return OrderOutcome(order.order_id, order.kind_name, Outcome.DONE)
        return g.default(host, order)

    seen(g, view)
    g.on_order = answer
    g.cut_power()
    g.run(120_000)
    assert helped and back(g) == ""


def test_a_member_that_was_disabled_before_is_left_so() -> None:
    g = guarded()
    seen(g, lambda _, item: replace(item, enabled=False) if item.host == uuid(3) else item)
    g.run(4_000)
    g.cut_power()
    g.run(40_000)
    assert back(g) == "disabled, as it was before"
    assert enabled_orders(g) == []


def test_a_collector_that_does_not_know_how_it_was_enables_nobody() -> None:
    g = guarded()
    seen(g, disabled_under_new_master)
    g.cut_power()
    g.run(2_000)
    g.restart_collector()
    for host in g.hosts[1:]:
        g.connect(host, capabilities=CAPABLE | {"enable_host"})
    g.run(200_000)
    assert g.pool.record.master == uuid(2)
    assert enabled_orders(g) == [] and "whether it was so before is not known" in back(g)


def test_storage_that_is_not_plugged_any_more_is_named_and_what_was_not_before_is_not() -> None:
    g = guarded()

    def view(master: str, item: PoolHost) -> PoolHost:
        if item.host != uuid(3):
            return item
        return replace(item, unplugged_srs=("iso",) if master == uuid(1) else ("iso", "nfs-1"))

    seen(g, view)
    g.run(4_000)
    g.cut_power()
    g.run(60_000)
    assert not g.has(Kind.MEMBER_BACK)
    g.run(120_000)
    assert back(g) == "storage not plugged there: nfs-1"
    assert "host-3: storage not plugged there: nfs-1" in final_alert(g)


def test_how_it_was_before_survives_the_collector() -> None:
    g = guarded()
    seen(g, lambda _, item: replace(item, enabled=False) if item.host == uuid(3) else item)
    g.run(4_000)
    honest = g.on_order
    g.on_order = lambda host, order: None if order.kind_name == "repoint" else g.default(host, order)
    g.cut_power()
    g.run(20_000)
    assert g.has(Kind.PROMOTED) and not g.has(Kind.MEMBER_BACK)
    g.restart_collector()
    g.on_order = honest
    g.run(60_000)
    assert back(g) == "disabled, as it was before"
