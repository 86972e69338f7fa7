"""Each page of the command line is what its story gives, at 80 columns; the document shows pages as they come out."""

from pathlib import Path

import pytest

from poolwarden_lab.story.advice import Advice, commands, follow, in_a_copy

from .stage import DOCUMENT, MARK, STORIES, Screens, in_document, parts, render

ALL = sorted(STORIES.glob("*.txt"))


# Seconds each, or the same page of another pool.
LONG = ("denied", "disk-full", "many-pools", "not-ready", "plan-after-a-failover", "ready", "vms-down")


def marked(path: Path) -> object:
    return pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in LONG else [])


@pytest.mark.parametrize("path", [marked(path) for path in ALL])
def test_the_screen_is_as_it_was_last_looked_at(path: Path) -> None:
    found = render(path)
    assert found == path.read_text(), "look at it, then: python -m tests.screens.stage"
    assert found.startswith("# "), "it says why it is there"
    pages = found.split(f"\n{MARK}", 1)[1].splitlines()
    assert [line for line in pages if len(line) > 80] == []


def test_the_document_shows_every_screen_as_it_comes_out() -> None:
    text = DOCUMENT.read_text()
    assert text == in_document(text), "python -m tests.screens.stage"
    assert [path.stem for path in ALL if f"<!-- screen: {path.stem} -->" not in text] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_what_you_are_told_to_type_is_accepted(path: Path) -> None:
    """In a copy of the story's world at its end: each command of ``YOU:``, as the page shows it."""
    screens = Screens(path.stem, parts(path)[0])
    refused = []
    for pool in screens.status_reply().pools:
        for line in pool.situation.todo:
            for command in commands(line):
                advice = Advice(command, " ".join(pool.situation.todo), pool.name, 0)
                came = in_a_copy(lambda advice=advice: follow(screens.stage, advice))  # type: ignore[misc]
                if isinstance(came, str) or came.status:
                    refused.append(came if isinstance(came, str) else came.line)
    assert refused == []
