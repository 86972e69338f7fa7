"""Administrators beside Poolwarden, and xapis that misbehave below them."""

from __future__ import annotations

import pytest

from poolwarden_collector.core.model.entries import Kind
from poolwarden_lab.virtual.world.ground import NoSuchThing
from poolwarden_lab.virtual.world.pool import Simulation
from poolwarden_lab.xapi.trees import VmSpec


def begun(hosts: int = 3) -> Simulation:
    return Simulation(hosts, vms=[VmSpec("web", 1), VmSpec("db", 0)]).begin()


def told(sim: Simulation, source: str) -> list[str]:
    return [line.text for line in sim.log() if line.source == source]


def test_a_designate_by_hand_is_observed_and_adopted() -> None:
    sim = begun()
    sim.designate("h2")
    sim.run_until(lambda: sim.masters() == ["h2"] and sim.record.master == sim.uuid(2), 120_000)
    sim.run_until(lambda: sim.verdict == "Healthy", 700_000)


def test_a_designate_that_xapi_refuses_is_in_the_log() -> None:
    sim = begun()
    sim.ha("arm")
    sim.designate("h2")
    sim.run(5_000)
    assert any("HA_IS_ENABLED" in text for text in told(sim, "xe"))
    assert sim.verdict == "HaManaged"


def test_a_promotion_by_hand_is_nobodys_failover() -> None:
    sim = begun()
    sim.kill_collector()
    sim.power_off(1)
    sim.promote_by_hand("h2")
    sim.run(60_000)
    sim.repoint_by_hand("h3", "h2")
    sim.start_collector()
    sim.run_until(lambda: sim.record.master == sim.uuid(2), 120_000)
    assert not sim.has(Kind.DECIDED)


def test_vms_are_started_moved_and_stopped() -> None:
    sim = begun()
    sim.migrate("web", "h3")
    sim.run(5_000)
    assert sim.vm_hosts("web") == ["h3"]
    sim.stop_vm("web")
    sim.start_vm("new", "h2")
    sim.run(5_000)
    assert sim.vm_hosts("web") == [] and sim.vm_hosts("new") == ["h2"]
    sim.start_vm("web", "h2")
    sim.run(5_000)
    assert sim.vm_hosts("web") == ["h2"]
    with pytest.raises(NoSuchThing):
        sim.migrate("nothing", "h2")


def test_an_ejected_host_leaves_and_can_join_again() -> None:
    sim = begun()
    sim.eject("h3")
    sim.run_until(lambda: sim.uuid(3) not in sim.record.hosts, 400_000)
    assert sim.masters().count("h1") == 1
    sim.join("h3")
    sim.run_until(lambda: sim.pool.pool_conf("h3").startswith("slave:") and sim.uuid(3) in sim.record.hosts, 400_000)
    sim.run_until(lambda: sim.verdict == "Healthy", 400_000)
    with pytest.raises(NoSuchThing):
        sim.eject("h1")


def test_a_busy_task_is_seen_by_the_masters_agent() -> None:
    sim = begun()
    sim.busy_task("VM.export")
    sim.run_until(lambda: bool(view(sim).busy_tasks), 120_000)


def view(sim: Simulation):  # type: ignore[no-untyped-def]
    found = sim.core.live.agents[sim.record.master].facts.pool_view
    assert found is not None
    return found


def test_a_rolling_upgrade_is_seen() -> None:
    sim = begun()
    sim.upgrade_pool()
    sim.run_until(lambda: sim.verdict == "Upgrading", 60_000)
    sim.upgrade_pool(under_way=False)
    sim.run_until(lambda: sim.verdict == "Healthy", 120_000)


def test_a_toolstack_restart_on_an_orphan_closes_its_port_443() -> None:
    sim = begun()
    sim.isolate("h3")
    sim.run(5_000)
    sim.admin_restart("h3")
    sim.run(30_000)
    assert "tls" not in sim.host(3).doors
    sim.rejoin("h3")
    sim.run_until(sim.settled, 700_000)


def test_a_crash_loop_and_a_hang_end() -> None:
    sim = begun()
    sim.crash_loop("h2", 40_000)
    sim.run(60_000)
    assert len(sim.pool.events("xapi-start", "h2")) > 5
    sim.run_until(sim.settled, 200_000)
    sim.hang_xapi("h1")
    sim.run(10_000)
    assert sim.verdict == "Suspect"
    sim.unhang_xapi("h1")
    sim.run_until(sim.settled, 60_000)


def test_a_slow_xapi_answers_late_and_beyond_the_limit_not_at_all() -> None:
    sim = begun()
    sim.slow_db("h1", 700)
    sim.run(20_000)
    assert sim.verdict == "Healthy"
    sim.slow_db("h1", 8_000)
    sim.run(20_000)
    assert sim.verdict != "Healthy" and sim.masters() == ["h1"]
    sim.slow_db("h1", 0)
    sim.run_until(sim.settled, 200_000)
    assert not sim.has(Kind.DECIDED)


def test_a_broken_role_shows_at_the_next_start() -> None:
    sim = begun()
    sim.role_broken("h2")
    sim.run(10_000)
    assert sim.masters() == ["h1"]
    sim.crash_xapi("h2")
    sim.run(30_000)
    assert sim.verdict == "RoleBroken"


def test_the_masters_new_address_orphans_its_members() -> None:
    sim = begun()
    sim.change_address("h1", "10.99.0.99")
    sim.run(120_000)
    assert sim.masters() == ["h1"]
    assert sim.core.live.agents[sim.uuid(1)].facts.address == "10.99.0.99"
    assert not sim.has(Kind.DECIDED)


def test_a_member_with_another_address_is_back_after_its_xapi_has_started() -> None:
    sim = begun()
    sim.change_address("h3", "10.99.0.99")
    sim.run_until(lambda: sim.verdict == "Healthy" and sim.record.address_of(sim.uuid(3)) == "10.99.0.99", 300_000)


def test_what_does_not_exist_is_refused() -> None:
    sim = begun()
    for act in (lambda: sim.power_off("h9"), lambda: sim.lose_psu("h1", "c"), lambda: sim.bmc("bmc-h9")):
        with pytest.raises(NoSuchThing):
            act()
