"""docs/alerts-by-channel.md shows the alerts of five stories as the channels make them now."""

import pytest

from .channel_alerts import DOCUMENT, OWN, in_document, named, story


@pytest.mark.slow
def test_the_document_shows_alerts_as_they_come_out() -> None:
    text = DOCUMENT.read_text()
    assert text == in_document(text), "look at it, then: python -m tests.screens.channel_alerts"


def test_five_stories_are_shown_and_each_says_why_it_is_there() -> None:
    names = named(DOCUMENT.read_text())
    assert len(set(names)) == len(names) == 5
    assert {path.stem for path in OWN.glob("*.txt")} <= set(names)
    assert [name for name in names if not story(name).read_text().startswith("# ")] == []
