"""Another policy and other fence devices in a pool that goes on being guarded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.pool import POOL, Guarded, uuid

from poolwarden_collector.core import engine
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import ProbeFromCollector, ReadPower, SendSettings
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import FenceDevice, Power
from poolwarden_collector.core.reconfigure import changed_devices, reconfigured, switching
from poolwarden_collector.core.replay import replay
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.core.state.pool_record import PoolRecord, fold

QUIET = Policy(quiet_time=3_000)


def reload(g: Guarded, text: str = "", **changes: Any) -> None:
    """Policy and ``devices`` as given, others as they are."""
    devices = changes.pop("devices", g.pool.devices)
    done = reconfigured(g.pool, replace(g.pool.policy, **changes), devices, g.now, g.site, text=text, actor="anna")
    g.pool = done.pool
    g.journal.extend(done.entries)
    g.folded = fold(g.folded, done.entries)


def other(g: Guarded, n: int, **changes: Any) -> dict[str, tuple[FenceDevice, ...]]:
    """The pool's devices, and that of host n otherwise."""
    return {**g.pool.devices, uuid(n): tuple(replace(device, **changes) for device in g.pool.devices[uuid(n)])}


def without(g: Guarded, n: int) -> dict[str, tuple[FenceDevice, ...]]:
    return {host: devices for host, devices in g.pool.devices.items() if host != uuid(n)}


def until(g: Guarded, kind: Kind) -> None:
    """Run to the step that writes such an entry."""
    for _ in range(1_000):
        if any(entry.kind is kind for entry in g.journal):
            return
        g.run(250)
    raise AssertionError(f"no {kind.value}")


def at(g: Guarded, kind: Kind) -> Pool:
    """What a collector makes of the journal that ends with the first entry of this kind."""
    end = next(number for number, entry in enumerate(g.journal, 1) if entry.kind is kind)
    return Pool(fold(PoolRecord(POOL), g.journal[:end]), g.pool.policy, g.pool.devices)


def restarted(g: Guarded) -> Pool:
    """What a collector that starts now makes of the journal, with the same configuration."""
    return Pool(fold(PoolRecord(POOL), g.journal), g.pool.policy, g.pool.devices)


# ------------------------------------------------------------------------------------------------ devices


def test_a_device_is_the_same_only_where_nothing_of_it_differs() -> None:
    one = FenceDevice("a", "h1", 1, 40_000, "x", "fence_x")
    before = {"h1": (one,), "h2": (replace(one, name="b", host="h2"),)}
    assert changed_devices(before, before) == frozenset() == changed_devices({}, before)
    for change in ({"level": 2}, {"hard_limit_ms": 9_000}, {"block": "y"}, {"agent": "fence_y"}, {"via_members": True}):
        assert changed_devices(before, {**before, "h1": (replace(one, **change),)}) == {"a"}, change  # type: ignore[arg-type]
    moved = {"h2": (*before["h2"], replace(one, host="h2"))}
    assert changed_devices(before, moved) == {"a"} and changed_devices(before, {}) == {"a", "b"}


def test_nothing_that_was_read_of_a_device_counts_for_another_one_by_its_name() -> None:
    """The power of the master reads OFF, by the BMC of another machine; its block is set right then."""
    g = Guarded()
    g.cut_power()
    until(g, Kind.DECIDED)
    assert any(reading.power is Power.OFF for reading in g.pool.live.power["bmc-1"].readings)
    reload(g, devices=other(g, 1, block="another address"))
    assert "bmc-1" not in g.pool.live.power and "bmc-2" in g.pool.live.power
    g.run(200_000)
    assert g.promoted() == [] and "bmc-1" not in g.pool.record.devices.bonds


def test_a_reading_under_way_is_not_the_other_devices() -> None:
    g = Guarded()
    run = next(effect for effect in reversed(g.effects) if isinstance(effect, ReadPower) and effect.device == "bmc-1")
    state = g.pool.live.power["bmc-1"]
    g.pool = replace(g.pool, live=replace(g.pool.live, power={"bmc-1": replace(state, running=run.run_id)}))
    reload(g, devices=other(g, 1, block="another address"))
    g.feed(ev.PowerRead(uuid(1), run.run_id, g.hosts[0].read(run, g.now, Power.OFF)))
    assert not any(r.power is Power.OFF for r in g.pool.live.power.get("bmc-1", state).readings)


@pytest.mark.parametrize("change", [{"block": "another address"}, {"host": uuid(3)}, {"level": 2}, {"name": "bmc-x"}])
def test_bonds_and_attestations_come_to_the_same_as_at_a_restart(change: dict[str, Any]) -> None:
    g = Guarded()
    g.say("fence-bind", 1, typed_name="host-1", how="saw it go dark")
    moved = {device.host: (device,) for device in other(g, 1, **change)[uuid(1)]}
    reload(g, "configuration reloaded", devices={**without(g, 1), **moved})
    after, fresh = (engine.step(pool, ev.Tick(), g.now, g.site).pool for pool in (g.pool, restarted(g)))
    assert after.record.devices == fresh.record.devices
    assert [e.text for e in g.journal if e.kind is Kind.CONFIGURED] == ["configuration reloaded"]


def test_a_device_that_is_changed_is_forgotten_durably_and_bound_anew() -> None:
    g = Guarded()
    reload(g, devices=other(g, 1, block="another address"))
    begun = len(g.journal)
    g.feed(ev.Tick())
    kinds = [entry.kind for entry in g.journal[begun:]]
    assert kinds.index(Kind.DEVICE_CLEARED) < kinds.index(Kind.DEVICE_BOUND)
    assert g.pool.record.devices.bonds["bmc-1"].block == "another address"


def test_a_device_that_may_be_switching_a_host_is_named() -> None:
    g = Guarded(policy=replace(QUIET, auto_fence_running=True, patience=20_000))
    assert switching(g.pool) == {}
    g.hosts[0].agent = g.hosts[0].answers = False
    g.feed(ev.AgentGone(uuid(1), g.hosts[0].stream))
    until(g, Kind.FENCE_INTENT)
    assert switching(at(g, Kind.FENCE_INTENT)) == {"bmc-1": uuid(1)}


def test_a_device_that_switches_at_a_persons_word_is_named_and_so_is_the_next_one() -> None:
    g = Guarded()
    g.say("fence-off", 2, typed_name="host-2", force="yes")
    assert switching(at(g, Kind.SWITCH_INTENT)) == {"bmc-2": uuid(2)}


# ------------------------------------------------------------------------------------------------ policies


def test_agents_are_told_other_intervals_and_nothing_else_is_told_again() -> None:
    g = Guarded()
    g.effects.clear()
    reload(g, patience=200_000)
    g.feed(ev.Tick())
    assert not [effect for effect in g.effects if isinstance(effect, SendSettings)]
    reload(g, report_interval=1_500)
    g.feed(ev.Tick())
    assert {effect.host for effect in g.effects if isinstance(effect, SendSettings)} == {uuid(n) for n in (1, 2, 3)}


def test_without_its_own_probe_the_collector_remembers_no_answer_of_it() -> None:
    g = Guarded()
    g.feed(ev.CollectorProbed(uuid(1), ProbeOutcome.ANSWERED, g.now, ""))
    assert g.pool.live.own_probe.newest is not None and g.pool.live.own_probe.standing is not None
    g.effects.clear()
    reload(g, collector_probe=False)
    assert (g.pool.live.own_probe.newest, g.pool.live.own_probe.standing) == (None, None)
    g.feed(ev.Tick())
    assert [effect.target.address for effect in g.effects if isinstance(effect, ProbeFromCollector)] == [""]
    g.feed(ev.CollectorProbed(uuid(1), ProbeOutcome.ANSWERED, g.now, ""))  # it was on its way
    assert g.pool.live.own_probe.newest is None
    g.feed(ev.Tick())
    reload(g, collector_probe=True)
    g.feed(ev.Tick())
    aimed = [effect.target.host for effect in g.effects if isinstance(effect, ProbeFromCollector)]
    assert aimed == ["", uuid(1)]


def test_the_policy_holds_from_the_next_step_on() -> None:
    g = Guarded()
    reload(g, "the configuration was reloaded: policy: mode", mode="observe")
    assert (g.journal[-1].kind, g.journal[-1].actor) == (Kind.CONFIGURED, "anna")
    g.cut_power()
    g.run(200_000)
    assert g.promoted() == []


def test_a_decision_from_before_is_made_again_with_the_policy_of_its_time() -> None:
    g = Guarded()
    g.cut_power()
    until(g, Kind.DECIDED)
    reload(g, "configuration reloaded", mode="observe", devices=without(g, 1))
    decided = next(entry for entry in g.journal if entry.kind is Kind.DECIDED)
    assert replay(decided.data["input"], tuple(decided.data["step"])).differs == ()
