"""Of several collectors the owner of a pool dies for good at every point of one failover; then the next owner does.

A point is a state of etcd and of what was done: after each commit, before and after each effect, the first time for
each kind. The failover has a power-off, so the next owner may find one begun and not answered. Wherever it is cut, one
host is promoted, once, and the pool is healthy in the end; every invariant holds on the way, also those of several
collectors.

Points are enumerated by playing the story without that kill. Each cut is a story of its own, shown where it fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from poolwarden_lab.story import play
from poolwarden_lab.story.stage import Stage
from poolwarden_lab.story.text import read_text
from poolwarden_lab.virtual.collector.points import Point

STORY = """
pool 3
collectors {collectors}
policy auto_fence_running yes
policy patience 15s
policy quiet_time 5s
start
{kills}
stall h1
run until healed within 8m
expect promotions h2
expect failovers 1
expect master h2
"""
FIRST_DIES = "after journal claimed: kill c1"  # then c2 takes the pool over
MUST = ("after journal fence-intent", "after effect PowerOff", "after journal proof", "after order promote")
"""What each enumeration must find, or it does not see the story."""


class Points:
    """Every point of one play of a story, in order: whose, which, and the state of etcd and of what was done."""

    def __init__(self, text: str) -> None:
        self.found: list[tuple[str, Point, tuple[int, int]]] = []
        own = Stage._at_point

        def at_point(stage: Stage, node: str, point: Point) -> bool:
            if stage.book.zero:
                self.found.append((node, point, _state(stage, point)))
            return own(stage, node, point)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Stage, "_at_point", at_point)
            self.played = play.play(read_text("uncut", text))

    def moments(self, node: str) -> Iterator[str]:
        """Where this collector is at a point of a kind for the first time, in a state in which it was not before."""
        times: Counter[str] = Counter()
        known: set[str] = set()
        states: set[tuple[int, int]] = set()
        for who, point, state in self.found:
            moments = _moments(point)
            times.update(moments)
            new = [moment for moment in moments if who == node and moment not in known]
            known.update(new)
            if new and state not in states:
                states.add(state)
                when, _, kind = new[0].partition(" ")
                yield f"{when} {_nth(times[new[0]])}{kind}"


def _state(stage: Stage, point: Point) -> tuple[int, int]:
    """Commits in etcd, and effects that were begun."""
    before = point.what == "effect" and point.when == "before"
    return len(stage.world.collectors.ledger.commits), stage.world.counters.effects - before


def _moments(point: Point) -> list[str]:
    """The words by which stories know this point; before a commit nothing of it has happened yet."""
    words = point.names.split()
    if point.what == "commit" and point.when == "after":
        return [f"after journal {kind}" for kind in dict.fromkeys(point.names.split(", "))]
    if point.what == "effect":
        kind = f"order {words[1].replace('_', '-')}" if words[0] == "order" else f"effect {point.names}"
        return [f"{point.when} {kind}"]
    return []


def _nth(number: int) -> str:
    return "" if number == 1 else f"{number}{ {2: 'nd', 3: 'rd'}.get(number, 'th') } "


def dies(node: str, moment: str, first: str = "") -> None:
    """Play the story with this collector killed there; it must end as without."""
    text = STORY.format(collectors=3 if first else 2, kills=f"{first}\n{moment}: kill {node}")
    played = play.play(read_text("cut", text))
    assert any(line.endswith(f"kill {node}") for line in played.lines), f"{moment} did not come\n{text}"
    assert played.code == play.AS_EXPECTED, "\n".join([*played.problems, text, *played.lines])


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["after effect PowerOff", "after order promote"])
def test_the_owner_dies_between_what_was_begun_and_its_answer(moment: str) -> None:
    dies("c1", moment)


@pytest.mark.slow
def test_its_taker_dies_between_the_promotion_and_its_answer() -> None:
    dies("c2", "after order promote", FIRST_DIES)


@pytest.mark.long
def test_the_owner_dies_at_every_point() -> None:
    for moment in every_moment("c1", 2, ""):
        dies("c1", moment)


@pytest.mark.long
def test_its_taker_dies_at_every_third_point() -> None:
    for moment in every_moment("c2", 3, FIRST_DIES)[::3]:
        dies("c2", moment, FIRST_DIES)


def every_moment(node: str, collectors: int, first: str) -> list[str]:
    points = Points(STORY.format(collectors=collectors, kills=first))
    assert points.played.code == play.AS_EXPECTED, points.played.problems
    moments = list(points.moments(node))
    assert len(moments) >= 20 and set(MUST) <= set(moments), moments
    return moments
