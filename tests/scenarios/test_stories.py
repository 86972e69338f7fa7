"""Every story beside this file is one test: read, played in virtual time, its log compared with its golden one.

``poolwarden lab story FILE`` plays one by hand. A story without a golden log fails: its author has to look at the log
and say ``--write``.
"""

from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from poolwarden_lab.story import play
from poolwarden_lab.story.advice import Follower
from poolwarden_lab.story.stage import Stage
from poolwarden_lab.story.text import read_file

HERE = Path(__file__).parent
STORIES = sorted([*HERE.glob("*.txt"), *(HERE.parent / "regressions").glob("*.txt")])
LONG = "# Tier: long"  # a line of a story that plays for minutes of real time
# One story per rule that a change breaks most easily: these are quick, the others run in `make test`.
QUICK = (
    *("s01", "s02", "s05", "s11-shot", "s19", "s26", "s33", "s38", "s41", "s48", "s72", "s80"),
    "owner-and-master-die",
)


def _one(path: Path) -> ParameterSet:
    long = LONG in path.read_text().splitlines()
    marks = [pytest.mark.long] if long else [] if path.stem in QUICK else [pytest.mark.slow]
    return pytest.param(path, marks=marks, id=path.stem)


def test_there_are_stories() -> None:
    assert len(STORIES) > 20
    assert set(QUICK) <= {path.stem for path in STORIES}


@pytest.mark.parametrize("path", [_one(path) for path in STORIES])
def test_story(path: Path, request: pytest.FixtureRequest) -> None:
    """The long tier follows what its alerts and refusals advise as well: in copies, so the story itself is the same."""
    script = read_file(path)
    assert script.why, "the comments at the top say why this story exists"
    assert script.golden is not None, "no golden log: read what `poolwarden lab story --write` gives, and explain it"
    follower: list[Follower] = []

    def beside(stage: Stage) -> Follower:
        follower.append(Follower(stage))
        return follower[0]

    follows = request.config.getoption("--tier") == "long"
    played = play.play(script, beside if follows else None)
    assert played.code == play.AS_EXPECTED, "\n".join([*played.problems, *played.diff])
    assert not follows or not follower[0].refused, "\n".join(follower[0].refused)
