"""Every story of tests/scenarios again, with its collector killed on the way.

The five stories of ``test_kills`` are cut at *every* point and must end alike. Here a story goes on by its clock: what
comes out may be later, or another, equally right end; what may never come out is a broken invariant. Every eighth story
is cut at one point, a third of them before the long tier; and of those that are soon played every third one at two.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet

from poolwarden_lab.story import play
from poolwarden_lab.story.stage import Stage
from poolwarden_lab.story.text import read_text
from poolwarden_lab.virtual.collector.points import Point

STORIES = sorted((Path(__file__).parents[1] / "scenarios").glob("*.txt"))[::32]  # all of them would take too long
FIRST_POINTS = 60
FEW_EVENTS = 10_000  # of the world in one play of a story: most have fewer, a story of hours ten times as many
AWAY_MS = 1_000


class Cut:
    """Counts a story's points; kills the collector at one of them, once."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.points = 0
        self.done = ""

    def into(self, monkeypatch: pytest.MonkeyPatch) -> None:
        own = Stage._at_point

        def at_point(stage: Stage, node: str, point: Point) -> bool:
            dies = own(stage, node, point)
            self.points += 1
            if self.points != self.at or self.done:
                return dies
            self.done = str(point)
            stage.world.restart_after_ms = AWAY_MS
            return True

        monkeypatch.setattr(Stage, "_at_point", at_point)


def played(path: Path, cut: Cut) -> play.Played:
    content = path.read_text().partition("\n--- log")[0] + "\n"
    with pytest.MonkeyPatch.context() as patched:
        cut.into(patched)
        return play.play(read_text(path.stem, content))


def at_some_point(path: Path, number: int, points: int = FIRST_POINTS) -> tuple[Cut, play.Played]:
    """A point by the story's name and a number, among the first or as many as it is known to have; where the story has
    fewer, one of those that it has.
    """
    wanted = zlib.crc32(f"{path.stem} {number}".encode())
    cut = Cut(1 + wanted % min(FIRST_POINTS, points))
    found = played(path, cut)
    if cut.done or not cut.points:
        return cut, found
    cut = Cut(1 + wanted % cut.points)
    return cut, played(path, cut)


def _one(number: int, path: Path) -> ParameterSet:
    return pytest.param(path, marks=[pytest.mark.long] if number % 3 else [], id=path.stem)


@pytest.mark.parametrize("path", [_one(number, path) for number, path in enumerate(STORIES)])
def test_a_killed_collector_breaks_nothing(path: Path, request: Any) -> None:
    cut, found = at_some_point(path, 0)
    _holds(cut, found)
    soon = found.events <= FEW_EVENTS and STORIES.index(path) % 3 == 1
    if request.config.getoption("--tier") == "long" and cut.points and soon:
        _holds(*at_some_point(path, 1, cut.points))


def _holds(cut: Cut, found: play.Played) -> None:
    assert cut.done or not cut.points, "the story did not come to this point again"
    assert found.code != play.BROKEN, f"killed {cut.done}: {found.problems}"
