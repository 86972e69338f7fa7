"""Stories in which nobody may be promoted: what looks like a dead master is none, or cannot be proven to be."""

from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_lab.virtual.world.bmc import BmcMode
from poolwarden_lab.virtual.world.pool import QUIET_MS, Simulation
from poolwarden_lab.xapi.database import write_local
from poolwarden_lab.xapi.trees import VmSpec


def alerts(sim: Simulation) -> list[str]:
    return [o.alert.title for o in sim.ledger.outbox if isinstance(o.alert, AlertRaised)]


def nobody_promoted(sim: Simulation) -> bool:
    return not sim.promote_calls() and not sim.has(Kind.PROMOTE_INTENT)


def test_a_healthy_pool_is_left_alone() -> None:
    sim = Simulation(3, vms=[VmSpec("web", 1), VmSpec("db", 0)]).begin()
    sim.run(900_000)
    assert sim.verdict == "Healthy"
    assert alerts(sim) == []
    assert not sim.has(Kind.DECIDED)
    assert all(not agent.results for agent in sim.agents.values())


def test_only_the_collector_loses_the_master() -> None:
    sim = Simulation(3).begin()
    sim.cut_both("h1", "collector")
    sim.run(300_000)
    assert sim.verdict == "MasterUnreachableFromCollector"
    assert not sim.has(Kind.DECIDED) and nobody_promoted(sim)
    assert any("the collector does not reach master" in title for title in alerts(sim))
    sim.heal("h1", "collector")
    sim.run(20_000)
    assert sim.verdict == "Healthy"


def test_the_agent_of_the_master_dies_alone() -> None:
    sim = Simulation(3).begin()
    sim.crash_agent(1, restart_after_ms=60_000)
    sim.run(40_000)
    assert sim.verdict == "AgentLost"
    sim.run(40_000)
    assert sim.verdict == "Healthy"
    assert not sim.has(Kind.DECIDED) and nobody_promoted(sim)


def test_a_bmc_that_lies_is_found_out_by_the_life_after_its_reading() -> None:
    """dom0 stands still for a while and its BMC says OFF: it lives after the first reading."""
    sim = Simulation(3).begin()
    sim.set_bmc(1, BmcMode.LIES_OFF)
    sim.freeze(1)
    sim.run_until(lambda: sim.has(Kind.POWER_READING), 60_000)
    sim.thaw(1)
    sim.run(60_000)
    assert "FenceDisputed" in sim.verdicts()
    assert sim.has(Kind.DEVICE_QUARANTINED)
    assert nobody_promoted(sim)
    assert sim.record.failover is None or not sim.record.failover.open
    assert sim.masters() == ["h1"]


def test_a_lying_bmc_stays_quarantined_when_the_master_vanishes_for_real() -> None:
    sim = Simulation(3).begin()
    sim.set_bmc(1, BmcMode.LIES_OFF)
    sim.freeze(1)
    sim.run_until(lambda: sim.has(Kind.POWER_READING), 60_000)
    sim.thaw(1)
    sim.run(120_000)
    sim.power_off(1)
    sim.run(120_000)
    assert nobody_promoted(sim)
    failover = sim.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_NEEDS_HUMAN"
    assert "quarantined" in failover.standstill.why


def test_a_machine_that_reads_on_is_asked_about_and_not_shot() -> None:
    sim = Simulation(3, vms=[VmSpec("db", 0)]).begin()
    sim.freeze(1)
    sim.run(300_000)
    assert nobody_promoted(sim)
    assert sim.shots() == []
    assert "1 VM was last seen running there" in sim.ledger.of(Kind.ASKED)[-1].text
    sim.thaw(1)
    sim.run(30_000)
    assert sim.verdict == "Healthy"
    assert sim.has(Kind.WITHDRAWN)
    assert sim.masters() == ["h1"]


def test_a_stall_of_ninety_seconds_is_left_alone_even_by_the_policy_that_shoots() -> None:
    sim = Simulation(3, policy=Policy(quiet_time=QUIET_MS, auto_fence_running=True)).begin()
    sim.freeze(1)
    sim.run(90_000)
    sim.thaw(1)
    sim.run(60_000)
    assert sim.shots() == [] and nobody_promoted(sim)
    assert sim.verdict == "Healthy"


def test_armed_ha_means_hands_off() -> None:
    sim = Simulation(3).begin()
    for i in (1, 2, 3):
        write_local(sim.host(i).disk, **{"ha.armed": "true"})
    sim.run(10_000)
    assert sim.verdict == "HaManaged"
    sim.power_off(1)
    sim.run(300_000)
    assert not sim.has(Kind.DECIDED) and nobody_promoted(sim)


def test_ha_that_is_armed_between_decision_and_promotion_stops_it() -> None:
    sim = Simulation(3).begin()
    sim.power_off(1)
    sim.run_until(lambda: sim.has(Kind.CANDIDATE), 60_000)
    for i in (2, 3):
        write_local(sim.host(i).disk, **{"ha.armed": "true"})
    sim.run(120_000)
    assert sim.promote_calls() == []


def test_a_paused_pool_is_not_touched_and_heals_after_resume() -> None:
    sim = Simulation(3).begin()
    reply = sim.say("pause", reason="rack work")
    assert reply is not None and reply.accepted
    sim.power_off(1)
    sim.run(120_000)
    assert not sim.has(Kind.DECIDED)
    sim.say("resume")
    sim.run_until(lambda: sim.healed("h2"), 120_000)


def test_a_vm_that_moved_after_the_candidates_copy_blocks_the_promotion() -> None:
    """The copies on the members are older than the migration: promoting would kill the VM where it runs now."""
    sim = Simulation(3, vms=[VmSpec("web", 1)]).begin()
    session = sim.pool.call_now("h1", "unix", "session.login_with_password", ("root", "", "1.0", "test"))
    vm = next(iter(sim.host(2).domains.domains()))
    sim.pool.call("h1", "unix", "lab.vm_migrate", (session.value, vm, sim.uuid(3)), lambda _: None)  # type: ignore[union-attr]
    sim.run(6_000)
    assert vm in sim.host(3).domains.domains()
    sim.power_off(1)
    sim.run(120_000)
    assert nobody_promoted(sim)
    failover = sim.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_KILL_FORECAST"
    assert "web on lab-h3" in failover.standstill.why
    assert [
        kill for host in sim.pool.hosts.values() for kill in host.domains.kills if kill.why != "migrated-away"
    ] == []


def test_a_member_whose_last_look_is_answered_vetoes() -> None:
    """The master is cut off from everybody; its member reaches it again just when it is asked to look once more."""
    sim = Simulation(2).begin()
    sim.set_bmc(1, BmcMode.UNREACHABLE)
    sim.isolate(1)
    sim.run_until(lambda: sim.has(Kind.CLAIM_SENT), 60_000)
    sim.heal("h1", "h2")
    sim.run(60_000)
    aborted = sim.ledger.of(Kind.ABORTED)
    assert len(aborted) == 1 and "vetoed by lab-h2" in aborted[0].text
    assert sim.record.term == aborted[0].data["new_term"] == 3
    assert nobody_promoted(sim)
    assert sim.masters() == ["h1"]


def test_life_seen_by_a_last_look_after_an_off_reading_is_a_dispute() -> None:
    sim = Simulation(3).begin()
    sim.set_bmc(1, BmcMode.LIES_OFF)
    sim.isolate(1)
    sim.run_until(lambda: sim.has(Kind.DECIDED), 60_000)
    sim.heal("h1", "h3")
    sim.run(60_000)
    assert "FenceDisputed" in sim.verdicts() and sim.has(Kind.DEVICE_QUARANTINED)
    assert nobody_promoted(sim)


def test_a_device_that_was_never_bound_proves_nothing() -> None:
    sim = Simulation(3)
    sim.set_bmc(1, BmcMode.UNREACHABLE)
    sim.begin(settle=False)
    sim.run(60_000)
    assert sim.verdict == "Healthy"
    sim.set_bmc(1, BmcMode.TRUE)
    sim.power_off(1)
    sim.run(120_000)
    assert nobody_promoted(sim)
    failover = sim.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_NEEDS_HUMAN"
    assert "not bound" in failover.standstill.why


def test_without_any_device_a_person_is_asked() -> None:
    sim = Simulation(3, devices=False).begin()
    sim.power_off(1)
    sim.run(120_000)
    assert nobody_promoted(sim)
    failover = sim.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_NEEDS_HUMAN"
    assert "no fence device" in failover.standstill.why


def test_the_whole_pool_dark_is_held() -> None:
    sim = Simulation(3).begin()
    for i in (1, 2, 3):
        sim.power_off(i)
    sim.run(300_000)
    assert sim.verdict == "PoolDark"
    assert not sim.has(Kind.DECIDED)


def test_a_blind_collector_decides_nothing() -> None:
    sim = Simulation(3).begin()
    assert sim.shell is not None
    sim.shell.anchors = (False, False)
    sim.power_off(1)
    sim.run(120_000)
    assert sim.verdict == "CollectorBlind"
    assert not sim.has(Kind.DECIDED)


def test_a_promotion_that_is_accepted_and_not_carried_out_is_not_given_to_another() -> None:
    """xapi answers OK and never restarts: its fuse does not burn."""
    sim = Simulation(3).begin()
    sim.power_off(1)
    sim.run_until(lambda: bool(sim.promote_calls()), 60_000)
    model = sim.host(2).model
    assert model is not None
    model.exit = lambda *_args, **_named: None  # type: ignore[method-assign]
    sim.run(400_000)
    failover = sim.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_UNVERIFIED"
    assert "has not restarted" in failover.standstill.why
    assert sim.promote_calls() == ["h2"]
    assert len(sim.ledger.of(Kind.PROMOTE_INTENT)) == 1
