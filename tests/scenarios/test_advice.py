"""Whatever an alert or a refusal of a story tells somebody to type is accepted when it is typed at that very moment.

Every command of every alert's body and of every refusal's next step is given in a copy of the story's world, right when
it is printed (``poolwarden_lab.story.advice``). None may be refused, and none may have a hole that no program can fill.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import poolwarden_collector.doctor  # noqa: F401 - commands that were imported before a story reach its collector too
from poolwarden_lab.story import play
from poolwarden_lab.story.advice import Follower, commands, holes
from poolwarden_lab.story.stage import Stage
from poolwarden_lab.story.text import read_file

HERE = Path(__file__).parent
STANDSTILLS = sorted((HERE.parent / "simulation" / "standstills").glob("*.txt"))
# One per kind of advice, for the full tier. The long one follows every story's (test_stories.py) and standstill's.
FULL = ("s11-approve", "s13", "hold-beside-an-unheard-host", "copy-beside-an-unknown-vm", "owner-cut-from-etcd")


@pytest.mark.parametrize("path", [HERE / f"{name}.txt" for name in FULL], ids=FULL)
@pytest.mark.slow
def test_every_advice_is_accepted(path: Path) -> None:
    assert followed(path)


@pytest.mark.parametrize("path", STANDSTILLS, ids=lambda path: path.stem)
@pytest.mark.long
def test_every_advice_of_a_standstill_is_accepted(path: Path) -> None:
    followed(path)


def followed(path: Path) -> int:
    """How many commands were followed; each was accepted."""
    made: list[Follower] = []

    def beside(stage: Stage) -> Follower:
        made.append(Follower(stage))
        return made[0]

    play.play(read_file(path), beside)
    assert not made[0].refused, "\n".join(made[0].refused)
    return len(made[0].followed)


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
