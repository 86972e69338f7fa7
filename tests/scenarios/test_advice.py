"""Whatever an alert or a refusal of a story tells somebody to type is accepted when it is typed at that very moment.

Every command of every alert's body and of every refusal's next step is given in a copy of the story's world, right when
it is printed (``poolwarden_lab.story.advice``). None may be refused, and none may have a hole that no program can fill.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from poolwarden_lab.story import play
from poolwarden_lab.story.advice import Followed, Follower, commands, holes
from poolwarden_lab.story.stage import Stage
from poolwarden_lab.story.text import read_file

HERE = Path(__file__).parent
STANDSTILLS = HERE.parent / "simulation" / "standstills"
STORIES = sorted([*HERE.glob("*.txt"), *STANDSTILLS.glob("*.txt")])
# One per kind of advice, for the full tier; the long one follows them all.
FULL = ("s11-approve", "s13", "hold-beside-an-unheard-host", "paused", "needs-human", "copy-beside-an-unknown-vm")


def _one(path: Path) -> ParameterSet:
    mark = pytest.mark.slow if path.stem in FULL else pytest.mark.long
    return pytest.param(path, marks=[mark], id=path.stem)


def followed(path: Path) -> Follower:
    made: list[Follower] = []

    def beside(stage: Stage) -> Follower:
        made.append(Follower(stage))
        return made[0]

    play.play(read_file(path), beside)
    return made[0]


@pytest.mark.parametrize("path", [_one(path) for path in STORIES])
def test_every_advice_is_accepted(path: Path) -> None:
    follower = followed(path)
    refused = [each.line if isinstance(each, Followed) else each for each in follower.followed if not _is_done(each)]
    assert not refused and not follower.holes, "\n".join([*refused, *follower.holes])
    assert follower.followed or path.stem not in FULL


def _is_done(each: Followed | str) -> bool:
    return isinstance(each, Followed) and each.status == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Yes: poolwarden approve q1. No: poolwarden deny q1.", [("approve q1",), ("deny q1",)]),
        ("Make sure that h1 is off, then: poolwarden confirm-fenced h1", [("confirm-fenced h1",)]),
        ("poolwarden confirm-fenced h2; then: poolwarden release h1", [("confirm-fenced h2", "release h1")]),
        ("poolwarden fence off h1, then poolwarden fence on h1.", [("fence off h1", "fence on h1")]),
        (
            "poolwarden release h1 --as-master. Once another serves: poolwarden release h1",
            [("release h1 --as-master",)],
        ),
        ("poolwarden explain lab shows more", [("explain lab",)]),
        ("To have Poolwarden act: poolwarden resume lab", [("resume lab",)]),
    ],
)
def test_commands_are_found_in_texts(text: str, found: list[tuple[str, ...]]) -> None:
    assert commands(text) == found


def test_a_hole_is_found() -> None:
    assert holes("on h2: xe host-management-reconfigure pif-uuid=PIF_UUID") == []
    assert holes("on h2: xe pool-join master-address=ADDRESS host HOST") == ["HOST"]
