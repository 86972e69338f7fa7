"""Another configuration in the middle of a failover: wherever it comes, what follows is what a restart would do.

Rule: between any two events of a lost master's failover the file is replaced and the collector told (SIGHUP), or, in
the same world, killed and started again with that file. What comes of the failover has to be the same: who is promoted,
who is shot, what is asked. Only time may differ. Every invariant is checked after every event of both.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_lab.virtual.collector.points import Point
from poolwarden_lab.virtual.collector.surroundings import Settings
from poolwarden_lab.virtual.world.pool import Simulation

USUAL = Policy(quiet_time=3_000)
SHOOTS = replace(USUAL, auto_fence_running=True, patience=20_000)
AWAY_MS = 500
AFTERWARDS_MS = 120_000

Change = Callable[[Simulation], Settings]


def policy(**changes: object) -> Change:
    """The pool's policy otherwise."""

    def settings(sim: Simulation) -> Settings:
        now = sim.settings
        return replace(
            now,
            policy=replace(now.policy, **changes),
            pools={uuid: replace(p, **changes) for uuid, p in now.pools.items()},
        )

    return settings


def device(**changes: object) -> Change:
    """The master's fence device otherwise; nothing given: it has none any more."""

    def settings(sim: Simulation) -> Settings:
        devices, host = dict(sim.settings.devices), sim.uuid(1)
        if changes:
            devices[host] = tuple(replace(each, **changes) for each in devices[host])
        else:
            del devices[host]
        return replace(sim.settings, devices=devices)

    return settings


CHANGES: dict[str, Change] = {
    "observe": policy(mode="observe"),
    "ask": policy(mode="ask"),
    "another-candidate": policy(never_promote=("h2",)),
    "no-shots": policy(auto_fence_running=False),
    "other-intervals": policy(report_interval=1_000, probe_interval=3_000, vanished_after=10_000),
    "no-own-probe": policy(collector_probe=False),
    "another-block": device(block="another address"),
    "no-device": device(),
}


def lost(sim: Simulation) -> None:
    """The master's power is gone: proven, and nobody is shot."""
    sim.power_off(1)


def hung(sim: Simulation) -> None:
    """The master stands still at full power: it is shot."""
    sim.freeze(1)


@dataclass(frozen=True)
class Came:
    """What came of a failover."""

    promoted: tuple[str, ...]
    shot: bool
    closed: bool
    asked: bool
    masters: tuple[str, ...]


def came(sim: Simulation) -> Came:
    open_question = sim.record.asked.open is not None
    shot = bool(sim.lab.shots())
    return Came(tuple(sim.promote_calls()), shot, sim.has(Kind.CLOSED), open_question, tuple(sim.masters()))


def begun(rules: Policy, harm: Callable[[Simulation], None]) -> Simulation:
    sim = Simulation(3, policy=rules).begin()
    harm(sim)
    return sim


def length(rules: Policy, harm: Callable[[Simulation], None]) -> int:
    """How many events an undisturbed failover has, from the harm to its end."""
    sim = begun(rules, harm)
    first = sim.events
    sim.run_until(lambda: sim.has(Kind.CLOSED))
    return sim.events - first


def cut(
    rules: Policy, harm: Callable[[Simulation], None], events: int, change: Change, *, restart: bool
) -> Came | None:
    """What comes of it; None: the configuration was refused, because a power switch was under way."""
    sim = begun(rules, harm)
    last = sim.events + events
    while sim.events < last and sim.clock.next_due is not None:
        sim.clock.step()
    settings = change(sim)
    if restart:
        sim.kill_collector()
        sim.settings = settings
        sim.later(AWAY_MS, sim.start_collector)
    else:
        sim.reload_collector(settings)
        assert sim.shell is not None
        if sim.shell.reload_refused:
            assert "may be switching lab-h1" in sim.shell.reload_refused
            return None
        assert sim.shell.roster.config.policy == settings.policy
    sim.run(AFTERWARDS_MS)
    sim.finish()
    return came(sim)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("rules", "harm"), [(USUAL, lost), (SHOOTS, hung)], ids=["lost", "shot"])
def test_wherever_it_comes_what_follows_is_what_a_restart_does(
    change: str, rules: Policy, harm: Callable[[Simulation], None]
) -> None:
    """At one place of each failover, by lot."""
    whole = length(rules, harm)
    events = random.Random(f"{change}/{harm.__name__}").randrange(1, whole)
    reloaded = cut(rules, harm, events, CHANGES[change], restart=False)
    if reloaded is not None:
        assert reloaded == cut(rules, harm, events, CHANGES[change], restart=True), f"after {events} of {whole} events"


def test_a_device_is_not_exchanged_under_a_power_off() -> None:
    sim = begun(SHOOTS, hung)
    sim.set_bmc("h1", "slow", ms=10_000)
    sim.run_until(lambda: sim.has(Kind.FENCE_INTENT))
    for change in (device(block="another address"), device(hard_limit_ms=5_000), device()):
        sim.reload_collector(change(sim))
        assert sim.shell is not None and "may be switching lab-h1" in sim.shell.reload_refused
    sim.settings = sim.shell.settings
    sim.reload_collector(policy(mode="ask")(sim))
    assert not sim.shell.reload_refused
    sim.run_until(lambda: sim.has(Kind.FENCE_RESULT))
    sim.run(60_000)
    sim.finish()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_collector_that_dies_with_the_record_of_another_configuration_starts_with_the_file(when: str) -> None:
    sim = begun(USUAL, lost)
    sim.run_until(lambda: sim.has(Kind.DECIDED))

    def dies(point: Point) -> bool:
        return point.when == when and Kind.CONFIGURED.value in point.names

    assert sim.shell is not None
    sim.shell.saboteur = dies
    sim.restart_after_ms = AWAY_MS
    sim.reload_collector(policy(mode="observe")(sim))
    assert not sim.station.runs and sim.kills_of_collector == 1
    recorded = [entry for commit in sim.ledger.commits for entry in commit.entries if entry.kind is Kind.CONFIGURED]
    assert bool(recorded) == (when == "after")
    sim.run(AFTERWARDS_MS)
    assert sim.shell.roster.config.policy.mode == "observe"
    sim.finish()
