"""Feeds, outlets, boards, kernels: what a machine's power does, and what fence devices make of it."""

from __future__ import annotations

import pytest

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_lab.virtual.world.bmc import BmcMode
from poolwarden_lab.virtual.world.pool import PoolSpec, World
from poolwarden_lab.xapi.trees import VmSpec

SHOOTS = Policy(quiet_time=3_000, auto_fence_running=True, patience=20_000)


def world(devices: tuple[str, ...] = ("bmc", "pdu"), policy: Policy | None = None, hosts: int = 3) -> World:
    made = World([PoolSpec("lab", hosts, vms=[VmSpec("db", 0)], devices=devices, policy=policy)])
    made.begin()
    return made


def test_one_of_two_psus_is_not_enough_to_stop_a_host() -> None:
    w = world()
    w.lose_psu("h1", "a")
    w.run(30_000)
    assert w.find("h1").pool.pool.hosts["h1"].power
    assert w.of().verdict == "Healthy"
    w.lose_psu("h1", "b")
    assert not w.find("h1").pool.pool.hosts["h1"].power


def test_a_shared_psu_takes_the_bmc_along_and_both_outlets_are_the_next_level() -> None:
    w = world(policy=SHOOTS)
    w.power_loss_with_bmc("h1")
    w.run_until(lambda: w.of().healed("h2"), 400_000)
    assert not any(verb == "off" and ok == "ok" for _, verb, ok in w.bmc("bmc-h1").log)
    proof = w.ledger.of(Kind.PROOF)[0]
    assert proof.data["kind"] == "power"
    machine = w.of().machine("h1")
    assert machine.outlets == {"a": False, "b": False}


def test_one_outlet_that_is_stuck_keeps_the_machine_and_nobody_is_promoted() -> None:
    w = world(("pdu",), SHOOTS)
    w.set_bmc("pdu-b-h1", BmcMode.STUCK)
    w.freeze("h1")
    w.run(200_000)
    assert w.of().machine("h1").outlets == {"a": False, "b": True}
    assert w.of().pool.hosts["h1"].power
    assert w.of().promote_calls() == []


def test_power_that_comes_back_on_its_feeds_boots_the_host() -> None:
    w = world(("bmc",))
    w.lose_feed("h3", "a")
    w.lose_feed("h3", "b")
    w.run(20_000)
    assert not w.of().pool.hosts["h3"].power
    w.power_on("h3")
    w.run_until(w.settled, 200_000)


def test_a_clean_reboot_is_announced_and_a_reset_is_not() -> None:
    for clean in (True, False):
        w = world(("bmc",))
        w.slow_boot("h1", 60_000)
        w.reboot("h1", clean)
        w.run(6_000)
        assert (w.of().verdict == "PlannedDown") is clean
        assert w.bmc("h1").powered(), "a machine that reboots reads ON"
        w.run(200_000)
        assert w.of().promote_calls() == []
        assert w.of().masters() == ["h1"]


def test_a_shutdown_is_announced_and_then_reads_off() -> None:
    w = world(("bmc",))
    w.shutdown("h1")
    w.run(60_000)
    assert w.of().verdict == "PlannedDown"
    assert not w.bmc("h1").powered()
    assert w.of().promote_calls() == []


def test_nobody_refuses_a_connection_before_its_kernel_is_up() -> None:
    w = world(("bmc",))
    w.reboot("h1", clean=False)
    w.run(3_000)
    assert w.of().pool._connect_failure("h2", w.of().pool.hosts["h1"], "tls") == (127_000, "unreachable")
    w.run(7_000)
    assert w.of().pool._connect_failure("h2", w.of().pool.hosts["h1"], "tls") == (2, "refused")


def test_a_kernel_that_hangs_goes_on_only_after_a_power_cycle() -> None:
    w = world(("bmc",), SHOOTS)
    w.kernel_hang("h1")
    w.run(10_000)
    w.thaw("h1")
    assert w.of().pool.hosts["h1"].frozen
    w.run_until(lambda: w.of().healed("h2"), 200_000)
    assert w.shots() == ["bmc-h1"]
    w.power_on("h1")
    w.run_until(lambda: w.of().healed("h2") and not w.of().record.owed, 300_000)


def test_a_stall_recovers_by_itself() -> None:
    w = world(("bmc",))
    w.stall("h1", 90_000)
    w.run(60_000)
    assert w.of().verdict == "MasterVanished"
    w.run_until(w.settled, 120_000)
    assert not w.ledger.of(Kind.DECIDED)


def test_out_of_memory_kills_xapi_and_agent_and_both_come_back() -> None:
    w = world(("bmc",))
    before = w.of().pool.hosts["h2"].pid
    w.oom("h2")
    w.run_until(w.settled, 120_000)
    assert w.of().pool.hosts["h2"].pid != before
    assert w.of().agents["h2"].crashes == 1


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (BmcMode.UNREACHABLE, "Connection timed out"),
        (BmcMode.WRONG_CREDENTIALS, "Unable to connect/login"),
        (BmcMode.MISSING_AGENT, "cannot be started"),
        (BmcMode.HANGS, "killed"),
    ],
)
def test_a_device_that_fails_reads_unknown_and_proves_nothing(mode: BmcMode, why: str) -> None:
    w = world(("bmc",))
    w.set_bmc("h1", mode)
    w.power_off("h1")
    w.run(150_000)
    assert any(why in entry.text for entry in w.ledger.of(Kind.POWER_READING))
    assert w.of().promote_calls() == []


def test_a_device_of_the_wrong_host_reads_and_switches_that_one() -> None:
    w = world(("bmc",))
    w.set_bmc("bmc-h1", BmcMode.WRONG_HOST, other="h3")
    w.power_off("h3")
    assert w.bmc("h1").status(w.now, True)[0].value == "off"
    w.power_on("h3")
    w.bmc("h1").off(w.now, True)
    assert not w.of().pool.hosts["h3"].power and w.of().pool.hosts["h1"].power


def test_a_slow_device_is_right_in_the_end_and_one_beyond_its_limit_is_uncertain() -> None:
    w = world(("bmc",), SHOOTS)
    w.set_bmc("h1", BmcMode.SLOW, ms=20_000)
    w.freeze("h1")
    w.run_until(lambda: w.of().healed("h2"), 400_000)
    w = world(("bmc",), SHOOTS)
    w.freeze("h1")
    w.run_until(lambda: w.ledger.of(Kind.DECIDED) != [], 60_000)
    w.set_bmc("h1", BmcMode.SLOW, ms=60_000)
    w.run(200_000)
    results = w.ledger.of(Kind.FENCE_RESULT)
    assert all(not entry.data["certain"] for entry in results)
