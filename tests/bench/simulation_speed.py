"""How fast the simulation is, and a failover's phases at the default policy beside HA-Lizard's shipped defaults.

Speed is CPU time of this process. The phases are virtual time: xapi's model with the durations of its source (fuse
10 s, start 10 to 60 s), default policy, three hosts, a BMC that answers; cuts are spread over the reports' interval.
HA-Lizard's figures are arithmetic on its published defaults (monitor every 15 s, XAPI_COUNT x (XAPI_DELAY + 2) = 24 s,
reading its configuration 6 s, pings, fuse and start of xapi), best and worst; they are not measured here.
"""

from __future__ import annotations

import time

from figures import Figure, reproduce
from settings import Settings, progress

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_lab.story import simulate
from poolwarden_lab.virtual.world.pool import Simulation

NAME = "simulation"
SIZES = (3, 16, 64)
SEEDS = 300
PHASES = (Kind.DECIDED, Kind.CLAIMED, Kind.CANDIDATE, Kind.PROOF, Kind.PROMOTE_INTENT, Kind.PROMOTED, Kind.CLOSED)
PEER = {
    "power loss to promote order": "HA-Lizard's shipped defaults: about 35 s at best, 75 s at worst (computed)",
    "power loss to a serving master": "HA-Lizard's shipped defaults: about 65 s at best, 150 s at worst (computed)",
}


def main(settings: Settings) -> list[Figure]:
    """Speed for three sizes, seeds, phases."""
    return [*_speed(settings), *_phases(settings), *_seeds(settings)]


def _speed(settings: Settings) -> list[Figure]:
    found = []
    for hosts in SIZES:
        rates, costs = [], []
        for number in range(max(1, min(settings.rounds, 90 // hosts))):
            began = time.process_time()
            sim = Simulation(hosts, seed=number).begin()
            sim.power_off(1)
            sim.run_until(lambda sim=sim: sim.has(Kind.CLOSED), 1_800_000)  # type: ignore[misc]
            cost = time.process_time() - began
            rates.append(sim.pool.clock.done / cost)
            costs.append(1 / cost)
            progress(f"{hosts} hosts: {rates[-1]:.0f} events/s")
        note = reproduce(NAME, settings.rounds)
        found.append(
            Figure(NAME, f"simulated events per CPU second, {hosts} hosts", "1/s", tuple(rates), None, (note,))
        )
        what = f"stories of a power loss per CPU second, {hosts} hosts"
        found.append(Figure(NAME, what, "1/s", tuple(costs), None, (note,)))
    return found


def _phases(settings: Settings) -> list[Figure]:
    spent: dict[str, list[float]] = {}
    for number in range(settings.rounds):
        sim = Simulation(3, seed=number, policy=Policy()).begin()
        sim.run(number * 2_000 // settings.rounds)
        before = cut = sim.now
        sim.power_off(1)
        sim.run_until(lambda sim=sim: sim.has(Kind.CLOSED), 1_800_000)  # type: ignore[misc]
        for kind in PHASES:
            at = sim.ledger.when(kind)[0]
            spent.setdefault(f"... of it until {kind.value}", []).append((at - before) / 1000)
            before = at
        ends = {"power loss to promote order": Kind.PROMOTE_INTENT, "power loss to a serving master": Kind.PROMOTED}
        for what, kind in ends.items():
            spent.setdefault(what, []).append((sim.ledger.when(kind)[0] - cut) / 1000)
    found = []
    for what, samples in spent.items():
        budget = 20.0 if what == "power loss to promote order" else None
        notes = (PEER[what],) if what in PEER else ()
        found.append(Figure(NAME, f"{what} (virtual time)", "s", tuple(samples), budget, notes))
    return found


def _seeds(settings: Settings) -> list[Figure]:
    began = time.process_time()
    runs = list(simulate.many(1, SEEDS))
    cost = time.process_time() - began
    failed = sum(1 for run in runs if run.failure)
    virtual = sum(run.virtual_ms for run in runs) / 3_600_000
    notes = (f"{failed} failed; {sum(run.events for run in runs)} events, {virtual:.0f} h of virtual time",)
    return [Figure(NAME, f"{SEEDS} seeds", "CPU s", (cost,), None, notes)]
