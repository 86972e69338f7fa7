"""Pools at rest against pools that are ticked always: one story played twice, everything that came of it compared.

Compared are all commits of all collectors (with their instants, entries, alerts, the packed inputs of decisions) and
all effects that were begun. ``python -m tests.simulation.resting`` plays all stories and ``--seeds`` drawn ones.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from poolwarden_collector.core import engine, rest
from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.loop import engine_loop, rests
from poolwarden_lab.story import play
from poolwarden_lab.story.chance import draw
from poolwarden_lab.story.text import Script, read_text
from poolwarden_lab.virtual.collector.ledger import Commit, Ledger
from poolwarden_lab.virtual.collector.shell import SimShell

TESTS = Path(__file__).parents[1]


class Done(NamedTuple):
    """One thing that a collector did."""

    ms: int
    node: str
    pool: PoolId
    what: Commit | effects.Effect


class Course(NamedTuple):
    """What came of a story, and what it cost."""

    done: list[Done]
    lines: list[str]
    problems: list[str]
    steps: int
    seconds: float


@contextmanager
def _noted(done: list[Done], patch: pytest.MonkeyPatch) -> Iterator[None]:
    commit, perform = Ledger.commit, SimShell._perform

    def note_commit(self: Ledger, wanted: Commit) -> None:
        commit(self, wanted)
        done.append(Done(wanted.ms, "", wanted.pool, wanted))

    def note_effect(self: SimShell, pool: PoolId, effect: effects.Effect, number: int, name: str) -> None:
        done.append(Done(self.world.now, self.node, pool, effect))
        perform(self, pool, effect, number, name)

    patch.setattr(Ledger, "commit", note_commit)
    patch.setattr(SimShell, "_perform", note_effect)
    yield


def course(script: Script, always: bool) -> Course:
    """Play it; ``always``: no pool ever rests."""
    done: list[Done] = []
    steps = 0
    step = engine.step

    def counted(*given: Any) -> engine.StepResult:
        nonlocal steps
        steps += 1
        return step(*given)

    with pytest.MonkeyPatch.context() as patch, _noted(done, patch):
        patch.setattr(engine_loop, "step", counted)
        patch.setattr(rest, "step", counted)
        if always:
            patch.setattr(rests, "rest_of", lambda *_: None)
        began = time.perf_counter()
        played = play.play(script)
        return Course(done, played.lines, played.problems, steps, time.perf_counter() - began)


def difference(script: Script) -> tuple[str, Course, Course]:
    """The first thing that a collector did otherwise because its pools rested; empty: there is none."""
    resting, always = course(script, False), course(script, True)
    for found, wanted in zip(resting.done, always.done, strict=False):
        if found != wanted:
            return f"{script.name}: {found}\ninstead of {wanted}", resting, always
    if len(resting.done) != len(always.done):
        more = max(resting.done, always.done, key=len)[min(len(resting.done), len(always.done))]
        return f"{script.name}: only one of them did {more}", resting, always
    if (resting.lines, resting.problems) != (always.lines, always.problems):
        return f"{script.name}: another log or other problems", resting, always
    return "", resting, always


def stories() -> list[Path]:
    return sorted(each for folder in ("scenarios", "regressions") for each in (TESTS / folder).rglob("*.txt"))


def seed(number: int) -> Script:
    return read_text(f"seed-{number}", draw(number).text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("files", nargs="*", type=Path, help="stories; all of the project's unless named")
    given = parser.parse_args()
    scripts = [read_text(path.stem, path.read_text()) for path in given.files or stories()]
    scripts += [seed(number) for number in range(given.first, given.first + given.seeds)]
    bad, steps, seconds = 0, [0, 0], [0.0, 0.0]
    for script in scripts:
        why, *both = difference(script)
        bad += bool(why)
        if why:
            print(why, flush=True)
        for number, each in enumerate(both):
            steps[number] += each.steps
            seconds[number] += each.seconds
    print(
        f"{len(scripts)} played twice, {bad} differ; steps {steps[0]} resting, {steps[1]} always; "
        f"{seconds[0]:.0f} s resting, {seconds[1]:.0f} s always"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
