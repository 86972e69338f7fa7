"""Each point at which a process can be killed, one run each: ``python -m poolwarden_lab.virtual.checks.crashes STORY``.

The story is run once. At every point the run is forked: the child kills the collector (or the agent) right there, lets
it come back after the given time, and plays the story to its end; the parent goes on to the next point. So the points
are enumerated, not sampled, and each child shares its past with the reference run exactly.

Two points with the same durable state, the same effects done and the same instant are one (after a commit is before its
first effect); ``points`` counts the different ones. No point at all is a failure.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from poolwarden_collector.core.model.entries import Kind
from poolwarden_lab.virtual.agent.agent import nobody_dies
from poolwarden_lab.virtual.collector.points import Point, nobody
from poolwarden_lab.virtual.world.scenes import STORIES, Story

COLLECTOR_DELAYS_MS = (1_000, 70_000)
AGENT_DELAYS_MS = (1_000,)


@dataclass
class End:
    """How one run ended."""

    point: str
    restart_after_ms: int
    failure: str = ""
    promote_calls: list[str] = field(default_factory=list)
    failovers: list[str] = field(default_factory=list)
    decided_before: bool = False
    masters: list[str] = field(default_factory=list)
    xapi_starts: dict[str, int] = field(default_factory=dict)  # after the first
    kills: int = 0


@dataclass
class Survey:
    """All runs of one story; ``reference`` is the one without a kill."""

    story: str
    points: int
    reference: End
    ends: list[End]

    def failures(self) -> list[str]:
        """What went wrong anywhere, one line per run."""
        return [f"{end.point}, back after {end.restart_after_ms} ms: {end.failure}" for end in self.ends if end.failure]


class Explorer:
    """Forks a story at every point. In a child ``here`` names the point at which this run was cut."""

    def __init__(self, story: Story, victim: str) -> None:
        self.story = story
        self.victim = victim
        self.delays = COLLECTOR_DELAYS_MS if victim == "collector" else AGENT_DELAYS_MS
        self.sim = story.build()
        self.here: tuple[str, int] | None = None
        self.decided_before = False
        self.points = 0
        self.ends: list[End] = []
        self._seen: set[tuple[object, ...]] = set()
        self._pipe = -1

    def survey(self) -> Survey | None:
        """The whole survey in the parent; None in a child, which has already told its end."""
        if self.victim == "collector":
            self._arm_collector(self._at_collector)
        else:
            self._arm_agents()
        end = self._play()
        if self.here is not None:
            os.write(self._pipe, json.dumps(asdict(end)).encode())
            os._exit(0)
        return Survey(self.story.name, self.points, end, self.ends)

    def _play(self) -> End:
        failure = ""
        try:
            self.story.play(self.sim)
            self.sim.invariants.finish()
        except AssertionError as error:
            failure = str(error)
        point, delay = self.here or ("nowhere", 0)
        decided = self.sim.ledger.of(Kind.DECIDED)
        starts = {name: len(self.sim.pool.events("xapi-start", name)) - 1 for name in self.sim.names}
        return End(
            point,
            delay,
            failure,
            self.sim.promote_calls(),
            [entry.failover for entry in decided],
            self.decided_before,
            self.sim.masters(),
            starts,
            self.sim.kills_of_collector + sum(agent.crashes for agent in self.sim.agents.values()),
        )

    # ------------------------------------------------------------------------------------------ victims

    def _arm_collector(self, saboteur: Callable[[Point], bool]) -> None:
        self.sim.saboteur = saboteur
        if self.sim.shell is not None:
            self.sim.shell.saboteur = saboteur

    def _at_collector(self, point: Point) -> bool:
        counters = self.sim.counters
        done = counters.effects - (point.what == "effect" and point.when == "before")
        key = (len(self.sim.ledger.commits), done, self.sim.now, point.what == "commit" and point.when == "before")
        if not self._fork(key, str(point)):
            return False
        self._arm_collector(nobody)
        return True

    def _arm_agents(self) -> None:
        for agent in self.sim.agents.values():
            agent.dies = lambda step, name=agent.name: self._at_agent(name, step)  # type: ignore[misc]

    def _at_agent(self, name: str, step: str) -> bool:
        if not self._fork((name, step, self.points), f"{name}: {step}"):
            return False
        for agent in self.sim.agents.values():
            agent.dies = nobody_dies
        return True

    # ------------------------------------------------------------------------------------------ forking

    def _fork(self, key: tuple[object, ...], name: str) -> bool:
        """True in a child: die here. False in the parent, after all children of this point have ended."""
        if key in self._seen:
            return False
        self._seen.add(key)
        self.points += 1
        for delay in self.delays:
            readable, writable = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(readable)
                self._pipe = writable
                self.here = (name, delay)
                self.sim.restart_after_ms = delay
                self.decided_before = self.sim.has(Kind.DECIDED)
                return True
            os.close(writable)
            with os.fdopen(readable, "rb") as told:
                self.ends.append(_end_of(told.read(), name, delay))
            os.waitpid(child, 0)
        return False


def _end_of(told: bytes, name: str, delay: int) -> End:
    if not told:
        return End(name, delay, "the run ended without a word")
    return End(**json.loads(told))


def main(arguments: list[str]) -> int:
    """Survey a story; prints one JSON object. Exit status 1 if a run failed or there was no point."""
    if len(arguments) != 2 or arguments[0] not in STORIES or arguments[1] not in ("collector", "agent"):
        print(f"usage: crashes {{{','.join(STORIES)}}} {{collector,agent}}", file=sys.stderr)
        return 2
    survey = Explorer(STORIES[arguments[0]], arguments[1]).survey()
    assert survey is not None
    json.dump(asdict(survey), sys.stdout)
    return 1 if survey.failures() or not survey.points else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
