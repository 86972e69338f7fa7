"""The toolstack path: the old master's dom0 lives, its xapi does not help, its VMs run on, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import Guarded, Host, address, played_once, running, uuid

from poolwarden_collector.core.model.effects import HandOver
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import DatabaseTransferred
from poolwarden_collector.core.model.host_facts import Liveness, ToolstackHold
from poolwarden_collector.core.model.order_results import OrderOutcome, PlacementView
from poolwarden_collector.core.model.order_results import Outcome as End
from poolwarden_collector.core.model.orders import Order, PlaceDatabase, ToolstackRelease
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.proof_kinds import ProofKind
from poolwarden_collector.core.model.values import Role, Tri
from poolwarden_collector.core.state.failover_record import Path
from poolwarden_collector.core.state.pool_record import OwedWork


@played_once
def hung(restarts: int = 0, **policy: object) -> Guarded:
    """A pool whose master's xapi accepts and never answers; a restart is not allowed unless it is asked for."""
    wanted = {"quiet_time": 3_000, "xapi_restarts": restarts, "collector_probe": False, **policy}
    g = Guarded(policy=Policy(**wanted))  # type: ignore[arg-type]
    hang(g)
    return g


def hang(g: Guarded) -> None:
    host = g.host(1)
    host.liveness = host.socket = Liveness.SILENT
    host.unwell_since, host.answers, host.serves = g.now, False, False
    host.generation, host.domains = 60, ("vm-new",)
    host.placements = PlacementView(True, 60, "state.db", (running("vm-new", uuid(1), "new"),))


def orders(g: Guarded, kind: str, n: int = 1) -> list[Order]:
    return [order for order in g.host(n).orders if order.kind_name == kind]


def until(g: Guarded, kind: Kind, limit: int = 400_000) -> None:
    end = g.now + limit
    while not g.has(kind):
        assert g.now < end, f"no {kind.value}: {[e.text for e in g.journal][-8:]}"
        g.run(250)


@pytest.mark.slow
@pytest.mark.parametrize("filtered, proven", [((80,), True), ((0,), True), ((), True), ((0, 80), False)])
def test_a_refusal_at_either_port_is_the_witness_and_a_filtered_port_is_none(
    filtered: tuple[int, ...], proven: bool
) -> None:
    g = hung()
    g.host(1).filtered = filtered
    g.run(400_000)
    assert bool(g.promoted()) is proven
    if not proven:
        assert "refused connection" in g.entry(Kind.BLOCKED).text
        assert "was held for 120 s in vain" in g.entry(Kind.ABORTED).text


def test_held_handed_over_promoted_released() -> None:
    g = hung()
    until(g, Kind.CLOSED)
    failover = g.pool.record.failover
    assert failover is not None and failover.path is Path.TOOLSTACK and failover.proof is not None
    assert failover.proof.kind is ProofKind.TOOLSTACK and failover.candidate == uuid(2)
    order = ["decided", "claimed", "candidate", "toolstack-intent", "handover-intent", "handover-result", "fenced"]
    order += ["proof", "promote-intent", "promoted"]
    kinds = g.kinds()
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)
    assert g.host(2).placed == 60  # the database in which vm-new is known
    g.run(60_000)
    release = orders(g, "toolstack_release")[0]
    assert release.kind == ToolstackRelease(False, address(2), master=uuid(2))
    old = g.host(1)
    assert (old.hold, old.pool_conf, old.master_address) == (None, Role.MEMBER, address(2))
    assert g.pool.record.owed == () and g.verdict == "Healthy"
    assert not [host for host in g.hosts if orders(g, "place_database", host.n)]  # used up, not removed


@pytest.mark.slow
def test_the_hold_is_ordered_only_after_two_restarts_did_not_help() -> None:
    g = hung(restarts=2)
    g.host(1).domains = ()
    until(g, Kind.TOOLSTACK_INTENT, 900_000)
    assert len(orders(g, "restart_xapi")) == 2
    first, second = (e for e in g.journal if e.kind is Kind.RESTART_INTENT)
    assert first is not second and g.kinds().index("restart-intent") < g.kinds().index("decided")


def test_a_timeout_is_no_refusal() -> None:
    g = hung()

    def silent(host: Host, order: Order) -> OrderOutcome | None:
        answer = g.default(host, order)
        g.host(1).closed = False  # held, but every probe of it times out
        return answer

    g.on_order = silent
    until(g, Kind.FENCED)
    g.run(60_000)
    assert not g.promoted()
    failover = g.pool.record.failover
    assert failover is not None and failover.standstill.blocker and "refused connection" in failover.standstill.why


def test_a_prober_that_never_reached_it_proves_nothing() -> None:
    g = hung()
    g.pool = replace(g.pool, record=replace(g.pool.record, standing={}))
    g.journal[:] = [entry for entry in g.journal if entry.kind is not Kind.STANDING]
    g.run(200_000)
    assert not g.has(Kind.DECIDED) and not g.promoted()


def test_an_answer_after_the_hold_is_a_conflict_and_is_undone() -> None:
    """S09: the agent says that xapi is stopped, and a member's probe is still answered."""
    g = hung()

    def lies(host: Host, order: Order) -> OrderOutcome | None:
        answer = g.default(host, order)
        if order.kind_name == "toolstack_fence":
            g.host(1).answers, g.host(1).closed = True, False
        return answer

    g.on_order = lies
    until(g, Kind.BLOCKED)
    assert g.entry(Kind.BLOCKED).data["code"] == "BLOCKED_EVIDENCE_CONFLICT"
    until(g, Kind.ABORTED)
    assert not g.promoted()
    term = g.pool.record.term
    g.run(30_000)
    release = orders(g, "toolstack_release")[0]
    assert release.kind == ToolstackRelease(True) and release.term == term  # at a new term, as master
    g.run(120_000)
    assert len(orders(g, "toolstack_fence")) == 1  # not tried again by itself in this incident


@pytest.mark.slow
def test_a_hold_that_is_not_verified_in_time_is_undone_at_a_new_term() -> None:
    g = hung()

    def stuck(host: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "toolstack_fence":
            g.hold_toolstack(host, order.term)
            assert host.hold is not None
            host.hold = replace(host.hold, stopped=False, text="xapi.service does not stop")
            done = OrderOutcome(order.order_id, order.kind_name, End.UNKNOWN, "timeout", "xapi.service does not stop")
            return replace(done, term=order.term)
        return g.default(host, order)

    g.on_order = stuck
    until(g, Kind.TOOLSTACK_INTENT)
    began = g.now
    until(g, Kind.ABORTED)
    assert 199_000 <= g.now - began <= 205_000, "not before systemd has killed a xapi that obeys no stop: 180 s"
    assert "does not stop" in g.entry(Kind.ABORTED).data["why"]
    g.run(10_000)
    assert orders(g, "toolstack_release")[0].kind == ToolstackRelease(True)


def test_without_a_handover_the_old_masters_new_vm_is_named_and_nothing_is_promoted() -> None:
    """S68: no database could be handed over; the copy does not know the VM that runs on the held host."""
    g = hung()

    def unreadable(effect: HandOver) -> DatabaseTransferred:
        text = "state.db: input/output error"
        return DatabaseTransferred(effect.transfer_id, effect.source, effect.target, False, 0, 0, "", text)

    g.hand_over = unreadable  # type: ignore[method-assign]
    until(g, Kind.HANDOVER_RESULT)
    g.run(30_000)
    assert not g.promoted()
    assert not g.entry(Kind.HANDOVER_RESULT).data["placed"]
    blocked = [e for e in g.journal if e.kind is Kind.BLOCKED]
    assert any("vm-new" in e.text for e in blocked)


def test_a_placed_database_is_removed_when_the_failover_is_aborted() -> None:
    """S81: nobody may find it at a later start as master."""
    g = hung()

    def silent(host: Host, order: Order) -> OrderOutcome | None:
        answer = g.default(host, order)
        g.host(1).closed = False
        return answer

    g.on_order = silent
    until(g, Kind.FENCED)
    g.run(5_000)
    assert g.host(2).placed == 60 and not g.promoted()
    g.host(1).boot = "boot-1-2"
    g.connect(g.host(1))
    g.run(5_000)
    assert g.has(Kind.ABORTED) and "booted anew" in g.entry(Kind.ABORTED).data["why"]
    [removal] = orders(g, "place_database", 2)
    assert removal.kind == PlaceDatabase(remove=True) and g.host(2).placed == 0
    assert not [item for item in g.pool.record.owed if item.what is OwedWork.REMOVE_DATABASE]


def test_a_held_master_that_loses_its_power_is_proven_by_power() -> None:
    g = hung()
    g.auto_answer = True
    until(g, Kind.TOOLSTACK_INTENT)
    if not g.promoted():
        g.cut_power()
    g.run(60_000)
    failover = g.pool.record.failover
    assert failover is not None and g.promoted() == [uuid(2)]


def test_full_root_means_no_restart_but_a_succession() -> None:
    """S70: with / full its database may be old; the newest one is handed over or taken from a member."""
    g = hung(restarts=2)
    g.host(1).free = 0
    until(g, Kind.CLOSED)
    assert orders(g, "restart_xapi") == [] and g.promoted() == [uuid(2)]


@pytest.mark.slow
def test_pool_split_is_held_by_default_and_relocated_by_policy_only_with_the_collectors_own_prober() -> None:
    for policy, relocated in (({}, False), ({"relocate_split": True, "collector_probe": False}, False)):
        g = Guarded(policy=Policy(quiet_time=3_000, **policy))  # type: ignore[arg-type]
        g.host(1).answers, g.host(1).unwell_since = False, 0
        g.run(200_000)
        assert g.verdict == "PoolSplit" and bool(orders(g, "toolstack_fence")) is relocated


def test_a_held_master_whose_xapi_never_ended_is_released_all_the_same() -> None:
    """S09: it serves under the hold; the next end of its xapi would leave the pool without a master."""
    g = hung()

    def never_ends(host: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "toolstack_fence":
            host.hold = ToolstackHold(order.term, False, False, g.now, "xapi runs")
            host.liveness = host.socket = Liveness.ANSWERS
            host.answers = host.serves = True
            return OrderOutcome(order.order_id, order.kind_name, End.FAILED, text="xapi runs", term=order.term)
        return g.default(host, order)

    g.on_order = never_ends
    until(g, Kind.ABORTED)
    g.run(10_000)
    assert [order.kind for order in orders(g, "toolstack_release")] == [ToolstackRelease(True)]
    assert g.host(1).hold is None and g.pool.record.owed == () and not g.promoted()
    assert not [key for key in g.pool.record.open_alerts if "/release-" in key]


def test_a_held_host_that_cannot_be_released_is_named_until_it_is() -> None:
    """S81: HA is armed on the way: hands off, but a person must know who is held, and that nobody serves."""
    g = hung()

    def unseen(host: Host, order: Order) -> OrderOutcome | None:
        answer = g.default(host, order)
        g.host(1).closed = False  # no prober's connection is refused
        return answer

    g.on_order = unseen
    until(g, Kind.FENCED)
    g.host(1).ha = Tri.YES
    g.run(15_000)
    assert g.has(Kind.ABORTED) and g.verdict == "HaManaged" and not orders(g, "toolstack_release")
    [alert] = [e for e in g.journal if e.kind is Kind.ALERT and "is held and not released" in e.text]
    assert "HA is armed" in alert.data["body"] and "no host of the pool serves" in alert.data["body"]
    g.host(1).ha = Tri.NO
    g.run(60_000)
    assert g.host(1).hold is None and alert.data["key"] not in g.pool.record.open_alerts


def test_a_release_that_its_agent_refuses_is_named() -> None:
    g = hung()

    def refuses(host: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "toolstack_fence":
            g.default(host, order)
            g.host(1).closed, g.host(1).answers = False, True
            return OrderOutcome(order.order_id, order.kind_name, End.DONE, term=order.term)
        if order.kind_name == "toolstack_release":
            text = "this host was superseded at term 9"
            return OrderOutcome(order.order_id, order.kind_name, End.REFUSED, "tombstoned", text, order.term)
        return g.default(host, order)

    g.on_order = refuses
    until(g, Kind.ABORTED)
    g.run(20_000)
    said = [e.data["body"] for e in g.journal if e.kind is Kind.ALERT and "is held and not released" in e.text]
    assert len(said) == 1 and "superseded at term 9" in said[0]
