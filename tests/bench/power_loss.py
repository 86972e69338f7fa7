"""Power loss to promote order, and what the collector itself adds to its evidence, in a lab of real processes.

One round: cut the power of whoever is master, wait until the failover is closed, power the old master on again, wait
until the pool is healthy, all devices bound, nothing owed. The roles wander through the hosts from round to round.

Stamps (one machine, one CLOCK_MONOTONIC):
 * the cut: read before the cable is pulled, so the time to pull it counts against us;
 * readings and intent: the journal's, made before the commit, so durability counts in what follows the intent;
 * the last look's answers and the order's arrival: `watch`.
xapi's model runs 10 times as fast. Up to the promote order nothing waits for xapi: suspicion, power readings, their
gap, claim, probes and look run in real time with the default policy. Only the healing between rounds is quicker for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from figures import Figure, Stopped, reproduce
from settings import Settings, progress
from watch import Seen, Watch
from worlds import Stage, stage

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_lab.processes.operator_link import Entry

NAME = "power"
HOSTS = 3
BUDGET_S = 20.0
OVERHEAD_BUDGET_MS = 1_000.0
ROUND_LIMIT_S = 180.0
REPORT_INTERVAL_S = 2.0
GOLDEN = 0.618034  # spreads the cuts evenly over the reports' interval, whatever the number of rounds
_LOOKED = "order probe_now: done"
_FACTOR = (
    "xapi's model runs 10x: nothing before the promote order waits for xapi; "
    "silence, power readings, claim and look run in real time with the default policy"
)


@dataclass(frozen=True, slots=True)
class Round:
    """Instants of one failover, ms on CLOCK_MONOTONIC."""

    cut: float
    verdict: float
    reading: float  # the end of the last power reading that came before the intent
    look: float  # the last look's last answer
    intent: float
    arrival: float  # at the gate of the candidate's agent


class RoundFailed(Exception):
    """A round did not end in a healthy pool; the text says why."""


async def run(settings: Settings) -> list[Figure]:
    """Both figures from the same rounds."""
    rounds: list[Round] = []
    async with stage(HOSTS, settings.refused) as made:
        watch = Watch(*_places(made))
        try:
            for number in range(settings.rounds):
                rounds.append(await _round(made, watch, number))
                progress(f"round {number + 1} of {settings.rounds}: {_say(rounds[-1])}")
        except (RoundFailed, TimeoutError, OSError) as failure:
            raise Stopped(failure, _figures(rounds, settings, made.notes()) if rounds else []) from failure
        finally:
            watch.stop()
    return _figures(rounds, settings, made.notes())


def _places(made: Stage) -> tuple[list[Path], list[Path]]:
    hosts = [machine.host for machine in made.world.machines]
    logs = [made.world.places.logs / f"{host.node}-agent.log" for host in hosts]
    return logs, [host.root / "var/lib/poolwarden" for host in hosts]


async def _round(made: Stage, watch: Watch, number: int) -> Round:
    pool = await made.healthy()
    old = pool.master_uuid
    await asyncio.sleep(REPORT_INTERVAL_S * (number * GOLDEN % 1))
    cut = await made.world.fault(old, "power") * 1000
    closed = await _next(made, "closed", cut)
    found = _instants(made, watch, cut, old)
    await made.world.heal(old)
    await _next(made, "owed-done", closed.mono_ms)
    return found


async def _next(made: Stage, kind: str, after: float) -> Entry:
    """The first entry of this kind after an instant. Raises RoundFailed with where the failover stands."""
    try:
        return await made.feed.wait_for(lambda e: e.kind == kind and e.mono_ms >= after, ROUND_LIMIT_S)
    except TimeoutError:
        pool = await made.link.pool() or pb.PoolStatus()
        why = f"{pool.verdict}: {pool.sentence} {pool.failover.blocker}"
        raise RoundFailed(f"no journal entry {kind!r} within {ROUND_LIMIT_S:.0f} s: {why}") from None


def _instants(made: Stage, watch: Watch, cut: float, old: str) -> Round:
    entries = made.feed.since(int(cut))
    intent = next(entry for entry in entries if entry.kind == "promote-intent")
    readings = [
        e.data["ended_ms"]
        for e in entries
        if e.kind == "power-reading" and e.data["host"] == old and e.seq < intent.seq
    ]
    verdict = next(e for e in entries if e.kind == "verdict" and e.data["verdict"] == "MasterVanished")
    seen = watch.since(cut)
    slots = made.world.machine(intent.data["host"]).host.root / "var/lib/poolwarden"
    return Round(
        cut,
        verdict.mono_ms,
        max(readings),
        _last_look(seen, intent.mono_ms),
        intent.mono_ms,
        next(item.mono_ms for item in seen if item.path.parent == slots and item.mono_ms >= intent.mono_ms),
    )


def _last_look(seen: list[Seen], intent: float) -> float:
    """The answer that was still lacking; the journal's stamp is cut to its millisecond, so one more is allowed."""
    answers = [item.mono_ms for item in seen if _LOOKED in item.text and item.mono_ms < intent + 1]
    if not answers:
        raise RoundFailed("no agent has logged an answer to the last look")
    return max(answers)


def _say(found: Round) -> str:
    verdict, reading, look, intent = (
        (at - found.cut) / 1000 for at in (found.verdict, found.reading, found.look, found.intent)
    )
    return (
        f"power loss to promote order {intent:.2f} s"
        f" (verdict {verdict:.2f} s, last reading {reading:.2f} s, last look {look:.2f} s),"
        f" last evidence to order {found.arrival - max(found.reading, found.look):.1f} ms"
    )


def _figures(rounds: list[Round], settings: Settings, notes: tuple[str, ...]) -> list[Figure]:
    again = reproduce(NAME, settings.rounds)

    def of(what: str, unit: str, samples: list[float], budget: float | None, *more: str) -> Figure:
        return Figure(NAME, what, unit, tuple(samples), budget, (*more, again))

    evidence = "last evidence: the later of the last OFF reading's end and the last look's last answer"
    return [
        of(
            f"power loss to promote order ({HOSTS} hosts)",
            "s",
            [(r.intent - r.cut) / 1000 for r in rounds],
            BUDGET_S,
            "from the cut to the journal's promote-intent",
            _FACTOR,
            *notes,
        ),
        of("... of it until MasterVanished", "s", [(r.verdict - r.cut) / 1000 for r in rounds], None),
        of("... of it until the last OFF reading", "s", [(r.reading - r.cut) / 1000 for r in rounds], None),
        of(
            f"last evidence to promote intent ({HOSTS} hosts)",
            "ms",
            [max(0.0, r.intent - max(r.reading, r.look)) for r in rounds],
            OVERHEAD_BUDGET_MS,
            evidence,
            "the journal's stamps are whole milliseconds, rounded down",
        ),
        of(
            f"last evidence to the order's arrival at the candidate's agent ({HOSTS} hosts)",
            "ms",
            [r.arrival - max(r.reading, r.look) for r in rounds],
            OVERHEAD_BUDGET_MS,
            evidence,
            "arrival: the agent's started mark is written, before it acts; the journal's commit is in it",
        ),
    ]


def main(settings: Settings) -> list[Figure]:
    return asyncio.run(run(settings))
