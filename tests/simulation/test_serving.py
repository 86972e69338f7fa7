"""Orders to the serving master in virtual time: they take as long as xapi does, and nothing waits for them."""

from __future__ import annotations

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_lab.virtual.world.pool import Simulation
from poolwarden_lab.xapi.trees import VmSpec

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


def unplugged_and_busy(sim: Simulation) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    side = sim.agent(1).side
    assert side is not None and side.observer.view is not None
    return {sim.name_of(h.host): h.unplugged for h in side.observer.view.hosts}, side.observer.view.busy


def test_the_view_tells_what_is_unplugged_and_what_xapi_is_busy_with() -> None:
    sim = Simulation(3, vms=[VmSpec("web")]).begin()
    sim.run(60_000)
    assert unplugged_and_busy(sim) == ({"h1": (), "h2": (), "h3": ()}, ())
    sim.pool.lose_storage("h2")
    sim.pool.call_now("h1", "unix", "lab.task_create", (sim.pool.local_session("h1"), "VM.export"))
    sim.run(75_000)
    assert unplugged_and_busy(sim) == ({"h1": (), "h2": ("Shared storage",), "h3": ()}, ("VM.export",))


def test_a_message_is_shown_in_the_pool_once_over_a_restart_of_its_agent() -> None:
    sim = Simulation(2).begin()
    message = pb.ShowMessage(key="0123456789abcdef", name="POOLWARDEN_TEST", priority=3, body="Died: nobody")

    def shown() -> list[str]:
        return [str(entry.event) for entry in sim.pool.log if entry.event.name == "message"]

    assert deliver(sim, 1, "first", show_message=message).outcome == DONE
    assert deliver(sim, 1, "again", show_message=message).text == "it is shown already"
    assert deliver(sim, 2, "elsewhere", show_message=message).outcome == REFUSED
    sim.crash_agent(1)
    sim.run(60_000)
    message.repeated = True
    assert deliver(sim, 1, "after", show_message=message).text == "xapi shows it already"
    assert shown() == ["message called=POOLWARDEN_TEST priority=3 cls=Pool"]


def test_lost_vms_are_declared_dead_located_and_started() -> None:
    vms = [VmSpec("web", host=2), VmSpec("local", host=2, storage="local")]
    sim = Simulation(3, vms=vms).begin()
    uuids = {name: uuid for uuid, name in sim.pool.hosts["h3"].domains.domains().items()}
    sim.run_until(sim.initialised, 120_000)
    sim.power_off(3)
    dead = deliver(sim, 1, "dead", 700_000, declare_host_dead=pb.DeclareHostDead(host_uuid=sim.uuid(3)))
    assert dead.outcome == DONE, dead.text
    where = deliver(sim, 1, "where", locate_vms=pb.LocateVms(vm_uuids=[uuids["web"], uuids["local"], "none"]))
    web, local, none = where.vm_places
    assert web.power_state == "Halted" and "" in [host.refusal for host in web.hosts]
    assert all(host.refusal for host in local.hosts) and "VM_REQUIRES_SR" in str(local)
    assert "UUID_INVALID" in none.text and not none.hosts
    start = pb.StartVm(vm_uuid=uuids["web"], host_uuid=sim.uuid(2))
    assert deliver(sim, 1, "start", start_vm=start).outcome == DONE
    assert uuids["web"] in sim.pool.hosts["h2"].domains.domains()
    again = deliver(sim, 1, "start-2", start_vm=start)
    assert (again.outcome, again.text) == (DONE, "it runs there already")
    elsewhere = pb.StartVm(vm_uuid=uuids["web"], host_uuid=sim.uuid(1))
    assert deliver(sim, 1, "start-3", start_vm=elsewhere).outcome == FAILED


def test_a_database_is_carried_by_orders_and_loaded_by_the_new_master() -> None:
    sim = Simulation(3).begin()
    whole = deliver(sim, 1, "read", read_database=pb.ReadDatabase()).database
    newer = whole.generation + 100_000
    place = pb.PlaceDatabase(
        generation=newer, total_bytes=whole.total_bytes, offset=0, chunk=whole.chunk, sha256=whole.sha256
    )
    assert deliver(sim, 2, "place", place_database=place).outcome == DONE
    assert sim.agent(2).port is not None and sim.agent(2).port.generation() == ("var/lib/xcp/restore_db.db", newer)
    assert deliver(sim, 2, "remove", place_database=pb.PlaceDatabase(remove=True)).outcome == DONE
    assert not [path for path in sim.pool.hosts["h2"].disk.files if "restore_db" in path]


def test_a_candidate_that_is_designated_meanwhile_does_not_load_what_was_placed_on_it() -> None:
    sim = Simulation(3).begin()
    whole = deliver(sim, 1, "read", read_database=pb.ReadDatabase()).database
    place = pb.PlaceDatabase(
        generation=whole.generation + 1, total_bytes=whole.total_bytes, chunk=whole.chunk, sha256=whole.sha256
    )
    assert deliver(sim, 2, "place", place_database=place).outcome == DONE
    assert deliver(sim, 1, "go", 120_000, designate_master=pb.DesignateMaster(host_uuid=sim.uuid(2))).outcome == DONE
    sim.run_until(lambda: sim.masters() == ["h2"], 120_000)
    (loaded,) = sim.pool.events("db-loaded", "h2")
    assert "path=var/lib/xcp/state.db" in str(loaded)
