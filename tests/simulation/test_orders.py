"""Orders that must do nothing: forged, late, repeated, of a collector that was replaced. The gate is production's."""

from collections.abc import Callable

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.epoch import LOT_BITS
from poolwarden_lab.virtual.world.bmc import BmcMode
from poolwarden_lab.virtual.world.pool import Simulation


def promote(sim: Simulation, i: int) -> pb.Order:
    """A promote order that the gate would obey, were it ever sent."""
    return pb.Order(
        order_id="forged",
        epoch=sim.ledger.epoch,
        term=sim.record.term + 1,
        pool_uuid=sim.record.pool,
        host_uuid=sim.uuid(i),
        boot_id=sim.invariants.boot_id(f"h{i}"),
        echo_mono_ms=sim.agent(i).mono(),
        valid_for_ms=15_000,
        promote=pb.Promote(),
    )


def deliver(sim: Simulation, i: int, order: pb.Order) -> pb.OrderResult:
    sim.agent(i).results.clear()
    sim.agent(i).arrived(pb.CollectorMessage(order=order).SerializeToString())
    sim.run(1_000)
    (result,) = sim.agent(i).results
    return result


def stored_term(sim: Simulation, i: int) -> int:
    side = sim.agent(i).side
    assert side is not None and side.executor.state.term > 1
    return int(side.executor.state.term)


def late(sim: Simulation, order: pb.Order) -> None:
    order.echo_mono_ms -= 15_001


FORGERIES: dict[str, Callable[[Simulation, pb.Order], None]] = {
    "wrong-pool": lambda sim, order: setattr(order, "pool_uuid", "another"),
    "wrong-host": lambda sim, order: setattr(order, "host_uuid", sim.uuid(3)),
    "wrong-boot": lambda sim, order: setattr(order, "boot_id", "another"),
    "stale-epoch": lambda sim, order: setattr(order, "epoch", sim.ledger.epoch - 1),
    "stale-term": lambda sim, order: setattr(order, "term", stored_term(sim, 2) - 1),
    "expired": late,
}


@pytest.mark.parametrize("reason", FORGERIES)
def test_a_forged_promotion_is_refused(reason: str) -> None:
    sim = watched_after_a_claim()
    order = promote(sim, 2)
    FORGERIES[reason](sim, order)
    result = deliver(sim, 2, order)
    assert pb.OrderResult.Outcome.Name(result.outcome) == "REFUSED"
    assert result.reason == reason
    assert sim.promote_calls() == []
    assert sim.pool.pool_conf("h2").startswith("slave:")


def watched_after_a_claim() -> Simulation:
    """A pool whose members have stored an epoch and a term: a failover was decided and given up."""
    sim = Simulation(3).begin()
    sim.kill_collector(restart_after_ms=1_000)
    sim.run_until(sim.settled, 60_000)
    sim.set_bmc(1, BmcMode.UNREACHABLE)
    sim.isolate(1)
    sim.run_until(lambda: sim.has(Kind.CLAIMED), 60_000)
    sim.rejoin(1)
    sim.run_until(lambda: sim.has(Kind.ABORTED), 60_000)
    sim.run(30_000)
    return sim


def test_every_order_delivered_twice_changes_nothing() -> None:
    sim = Simulation(3).begin()
    for agent in sim.agents.values():
        arrived = agent.arrived

        def twice(raw: bytes, arrived: Callable[[bytes], None] = arrived) -> None:
            arrived(raw)
            arrived(raw)

        agent.arrived = twice  # type: ignore[method-assign]
    sim.kill_collector(restart_after_ms=1_000)
    sim.run_until(sim.settled, 60_000)
    since = sim.now
    sim.power_off(1)
    sim.run_until(lambda: sim.healed("h2"), 120_000)
    assert sim.promote_calls() == ["h2"]
    assert [len(sim.pool.events("xapi-start", name, since)) for name in ("h2", "h3")] == [1, 1]
    assert len(sim.pool.events("fuse", "h3", since)) == 1


@pytest.mark.parametrize("delay_ms", [500, 5_000, 14_000])
def test_slow_links_heal_later_and_no_worse(delay_ms: int) -> None:
    sim = Simulation(3).begin()
    sim.power_off(1)
    sim.run_until(lambda: sim.has(Kind.DECIDED), 60_000)
    sim.network.delays[("collector", "h2")] = delay_ms
    sim.run(120_000)
    sim.network.delays.clear()
    sim.run_until(lambda: len(sim.masters()) == 1 and sim.healed(sim.masters()[0]), 400_000)
    assert len(sim.promote_calls()) == 1


def test_an_order_that_sat_in_a_stopped_agents_socket_is_dead_when_it_is_read() -> None:
    """The candidate stands still when the promotion arrives, for longer than the order is valid."""
    sim = Simulation(2).begin()
    sim.power_off(1)
    sim.run_until(lambda: sim.has(Kind.PROMOTE_INTENT), 60_000)
    sim.freeze(2)
    sim.run(60_000)
    assert sim.promote_calls() == []
    sim.thaw(2)
    stale = [result for result in sim.agent(2).results if result.kind == "promote"]
    assert [pb.OrderResult.Outcome.Name(result.outcome) for result in stale] in ([], ["REFUSED"])
    assert sim.promote_calls() == []
    sim.run_until(lambda: sim.healed("h2"), 200_000)
    assert sim.promote_calls() == ["h2"]


def activations(sim: Simulation) -> int:
    return sim.ledger.epoch >> LOT_BITS


def test_a_collector_with_a_lost_journal_raises_its_epoch_above_what_agents_have_seen() -> None:
    sim = Simulation(3).begin()
    for _ in range(4):
        sim.kill_collector(restart_after_ms=1_000)
        sim.run_until(sim.settled, 60_000)
    sim.power_off(1)
    sim.run_until(lambda: sim.healed("h2"), 120_000)
    assert activations(sim) == 5
    sim.kill_collector()
    sim.lose_journal()
    sim.start_collector()
    sim.run(30_000)
    assert activations(sim) == 6
    assert sim.record.term >= 2
    assert sim.record.master == sim.uuid(2)
