"""Orders to the serving master in virtual time: they take as long as xapi does, and nothing waits for them."""

from __future__ import annotations

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_lab.simulation.world import Simulation

DONE, FAILED, REFUSED = pb.OrderResult.DONE, pb.OrderResult.FAILED, pb.OrderResult.REFUSED


def order(sim: Simulation, i: int, order_id: str, **kind: object) -> pb.CollectorMessage:
    """An order that the gate of host i lets pass."""
    made = pb.Order(
        order_id=order_id,
        epoch=sim.ledger.epoch,
        term=sim.record.term,
        pool_uuid=sim.record.pool,
        host_uuid=sim.uuid(i),
        boot_id=sim.invariants.boot_id(f"h{i}"),
        echo_mono_ms=sim.agent(i).mono(),
        valid_for_ms=15_000,
        **kind,  # type: ignore[arg-type]
    )
    return pb.CollectorMessage(order=made)


def deliver(sim: Simulation, i: int, order_id: str, within_ms: int = 60_000, **kind: object) -> pb.OrderResult:
    sim.agent(i).arrived(order(sim, i, order_id, **kind).SerializeToString())
    sim.run_until(lambda: any(r.order_id == order_id for r in sim.agent(i).results), within_ms)
    return next(r for r in sim.agent(i).results if r.order_id == order_id)


def test_members_get_the_present_database_and_other_orders_do_not_wait() -> None:
    sim = Simulation(3).begin()
    slow = order(sim, 1, "sync", sync_database=pb.SyncDatabase())
    sim.agent(1).arrived(slow.SerializeToString())
    assert deliver(sim, 1, "look", collect_evidence=pb.CollectEvidence()).outcome == DONE
    sim.run_until(lambda: any(r.order_id == "sync" for r in sim.agent(1).results), 60_000)
    assert {r.order_id: r.outcome for r in sim.agent(1).results} == {"look": DONE, "sync": DONE}


def test_with_a_host_away_it_fails_and_says_so() -> None:
    sim = Simulation(3).begin()
    sim.power_off(3)
    result = deliver(sim, 1, "sync", 700_000, sync_database=pb.SyncDatabase())
    assert result.outcome != DONE and result.text


def test_a_member_refuses_what_only_a_master_can_do() -> None:
    sim = Simulation(3).begin()
    result = deliver(sim, 2, "sync", sync_database=pb.SyncDatabase())
    assert (result.outcome, result.reason) == (REFUSED, "precondition")


def test_the_role_is_handed_over_by_order() -> None:
    sim = Simulation(3).begin()
    result = deliver(sim, 1, "designate", 120_000, designate_master=pb.DesignateMaster(host_uuid=sim.uuid(2)))
    assert result.outcome == DONE, result.text
    sim.run_until(lambda: sim.masters() == ["h2"], 120_000)
    assert sim.vms_killed() == []


def test_an_agent_that_dies_in_a_slow_order_answers_it_when_it_comes_again() -> None:
    sim = Simulation(3).begin()
    message = order(sim, 1, "sync", sync_database=pb.SyncDatabase()).SerializeToString()
    sim.agent(1).arrived(message)
    sim.agent(1).crash()
    sim.run(5_000)
    assert sim.agent(1).results == []
    sim.agent(1).arrived(message)
    sim.run_until(lambda: bool(sim.agent(1).results), 60_000)
    assert sim.agent(1).results[0].outcome == DONE


@pytest.mark.parametrize("point", ["before save", "after save", "before act", "after act", "before answer"])
def test_an_agent_that_dies_at_any_point_of_a_slow_order_comes_back(point: str) -> None:
    sim = Simulation(3).begin()
    agent = sim.agent(1)
    reached: list[str] = []

    def dies(name: str) -> bool:
        reached.append(name)
        return name == point and reached.count(point) == 1

    agent.dies = dies
    message = order(sim, 1, "sync", sync_database=pb.SyncDatabase()).SerializeToString()
    agent.arrived(message)
    sim.run(5_000)
    assert agent.crashes == 1
    agent.arrived(message)
    sim.run_until(lambda: bool(agent.results), 60_000)
    assert agent.results[-1].outcome == DONE


def test_two_runs_are_equal() -> None:
    def story() -> list[str]:
        sim = Simulation(3).begin()
        for number in range(3):
            deliver(sim, 1, f"sync-{number}", sync_database=pb.SyncDatabase())
        return [str(entry) for entry in sim.pool.log]

    assert story() == story()
