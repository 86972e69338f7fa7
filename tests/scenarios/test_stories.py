"""Every story beside this file is one test: read, played in virtual time, its log compared with its golden one.

``poolwarden lab story FILE`` plays one by hand. A story without a golden log fails: its author has to look at the log
and say ``--write``.
"""

from pathlib import Path

import pytest

from poolwarden_lab.story import play
from poolwarden_lab.story.text import read_file

HERE = Path(__file__).parent
STORIES = sorted([*HERE.glob("*.txt"), *(HERE.parent / "regressions").glob("*.txt")])


def test_there_are_stories() -> None:
    assert len(STORIES) > 20


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    script = read_file(path)
    assert script.why, "the comments at the top say why this story exists"
    assert script.golden is not None, "no golden log: read what `poolwarden lab story --write` gives, and explain it"
    played = play.play(script)
    assert played.code == play.AS_EXPECTED, "\n".join([*played.problems, *played.diff])
