"""Many pools in one world: each is judged by itself, and what falls silent together is judged together."""

from __future__ import annotations

import pytest

from poolwarden_collector.core import engine
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.report.journal_view import JournalView
from poolwarden_collector.core.report.weaknesses import readiness
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_lab.virtual.world.pool import PoolSpec, World
from poolwarden_lab.xapi.trees import VmSpec

SITE = Policy(quiet_time=3_000, storm_pools=1, storm_percent=20)


def world(*specs: PoolSpec, seed: int = 0) -> World:
    made = World(specs, seed)
    made.begin()
    return made


def texts(w: World, source: str) -> list[str]:
    return [line.text for line in w.log() if line.source == source]


def test_two_pools_lose_their_masters_and_each_promotes_its_own() -> None:
    w = world(PoolSpec("A", 3, vms=[VmSpec("web", 1)]), PoolSpec("B", 3))
    w.power_off("A/h1")
    w.power_off("B/h1")
    w.run_until(lambda: w.of("A").healed("A/h2") and w.of("B").healed("B/h2"), 200_000)
    assert (w.of("A").promote_calls(), w.of("B").promote_calls()) == (["A/h2"], ["B/h2"])
    w.finish()


def test_readiness_knows_of_updates_and_closed_ports_by_the_masters_own_record() -> None:
    w = world(PoolSpec("A", 3, https_only=["h2"], guidances={"h3": ["reboot_host", "restart_vm"]}))
    w.run(20_000)
    found = {
        reason.code: reason.sentence for reason in readiness(Snapshot(w.of().core, w.now, Site(1, 0, 0)), JournalView())
    }
    assert "h3 was updated and not rebooted" in found["pending-reboot"]
    assert "https_only on A-h2: " in found["https-only"]


def test_a_pool_reads_the_power_of_its_own_hosts_only() -> None:
    w = world(PoolSpec("A", 2), PoolSpec("B", 2))
    w.power_loss_with_bmc("B/h1")
    w.run(60_000)
    readings = [entry.text for entry in w.ledger.entries(w.of("B").uuid) if entry.kind is Kind.POWER_READING]
    assert readings and not any("bmc-A" in text for text in readings)
    asked = [at for at, verb, _ in w.bmc("A/h1").log if verb == "status"]
    assert len(asked) <= 2


def test_hosts_of_one_address_plan_in_two_pools_never_meet() -> None:
    w = world(PoolSpec("A", 2), PoolSpec("B", 2))
    addresses = [host.address for pool in w.pools.values() for host in pool.pool.hosts.values()]
    assert len(set(addresses)) == 4


def test_silence_of_many_pools_of_a_site_is_the_collectors_own() -> None:
    specs = [PoolSpec(f"p{n}", 2, policy=SITE, site="north") for n in range(4)] + [PoolSpec("far", 2, site="south")]
    w = world(*specs)
    w.cut_both("collector", "far/h1")
    for pool in list(w.pools)[:3]:
        for name in w.of(pool).names:
            w.cut_both("collector", name)
    w.power_off("p0/h1")
    w.run(30_000)
    assert {w.of(f"p{n}").verdict for n in range(4)} == {"CollectorBlind"}
    assert w.of("far").verdict == "MasterUnreachableFromCollector"
    assert not any(pool.promote_calls() for pool in w.pools.values())


def test_after_a_storm_every_pool_is_quiet_and_then_judged_anew() -> None:
    w = world(*[PoolSpec(f"p{n}", 2, policy=SITE, site="north") for n in range(3)])
    w.cut_uplink()
    w.power_off("p1/h1")
    w.run(60_000)
    w.heal_uplink()
    w.run_until(lambda: w.of("p1").healed("p1/h2"), 300_000)
    assert [pool.promote_calls() for pool in w.pools.values()] == [[], ["p1/h2"], []]


def test_two_runs_of_a_seed_have_the_same_log() -> None:
    def run() -> list[tuple[int, str, str]]:
        w = world(PoolSpec("A", 3), PoolSpec("B", 2), seed=7)
        w.loss("A/h2", "A/h1", 30)
        w.reorder("A/h2", "collector", 2_000)
        w.power_off("A/h1")
        w.run(90_000)
        return [tuple(line) for line in w.log()]

    assert run() == run()


def test_the_log_tells_every_source_in_order() -> None:
    w = world(PoolSpec("A", 3, vms=[VmSpec("web", 0)]), PoolSpec("B", 2))
    w.say("pause", pool="B", reason="rack work")
    w.lose_psu("A/h1", "a")
    w.power_off("A/h1")
    w.run_until(lambda: w.of("A").healed("A/h2"), 200_000)
    log = w.log()
    assert [line.ms for line in log] == sorted(line.ms for line in log)
    assert any(text.startswith("A: ") and "A-h2" in text for text in texts(w, "promoted"))
    assert any("A/h1 loses PSU a" in text for text in texts(w, "power"))
    assert texts(w, "promote") == ["A/h2: promote-call"]
    assert any("B: paused by alice" in text for text in texts(w, "paused"))
    assert any(text.startswith("yes: paused") for text in texts(w, "answer"))
    assert any("is the new master" in text for text in texts(w, "alert"))


def test_a_command_about_one_pool_is_not_heard_by_the_other() -> None:
    w = world(PoolSpec("A", 2), PoolSpec("B", 2))
    w.say("pause", pool="A", reason="rack work")
    assert (w.of("A").record.paused, w.of("B").record.paused) == ("rack work", None)


def broken_in(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every step of pool A meets an error of the engine."""
    uuid = w.of("A").uuid

    def step(pool: Pool, event: ev.Event, now: int, site: Site) -> engine.StepResult:
        if pool.record.pool == uuid:
            raise AssertionError("one candidate per term")
        return engine.step(pool, event, now, site)

    monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", step)


def test_an_error_in_one_pools_step_ends_neither_the_loop_nor_the_other_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Production's rule; and once the fault is over that pool is guarded from where it stood."""
    w = world(PoolSpec("A", 3), PoolSpec("B", 3))
    w.may_break.add(w.of("A").uuid)
    broken_in(w, monkeypatch)
    w.power_off("A/h1")
    w.power_off("B/h1")
    w.run_until(lambda: w.of("B").healed("B/h2"), 200_000)
    reply = w.say("pause", pool="A", reason="x")
    assert reply is not None and (reply.accepted, reply.code) == (False, "internal-error")
    assert w.of("A").promote_calls() == [] and w.shell is not None and not w.shell.roster.stalled
    assert any("one candidate per term" in text for text in w.shell.roster.warnings())
    monkeypatch.undo()
    w.run_until(lambda: w.of("A").healed("A/h2"), 300_000)
    w.finish()


def test_an_error_that_no_test_has_made_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    w = world(PoolSpec("A", 2), PoolSpec("B", 2))
    broken_in(w, monkeypatch)
    w.power_off("A/h1")  # a pool to which nothing happens rests, and takes no step
    with pytest.raises(AssertionError, match="one candidate per term"):
        w.run(10_000)
