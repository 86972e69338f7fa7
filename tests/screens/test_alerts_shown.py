"""The alerts of whole incidents are what their stories give; the document shows them as they come out."""

from pathlib import Path

import pytest

from . import alerts

ALL = sorted(alerts.ALERTS.glob("*.txt"))


@pytest.mark.slow
@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_the_alerts_are_as_they_were_last_looked_at(path: Path) -> None:
    found = alerts.render(path)
    assert found == path.read_text(), "look at it, then: python -m tests.screens.stage"
    assert found.startswith("# "), "it says why it is there"
    assert [line for line in found.split(alerts.MARK)[1].splitlines() if len(line) > alerts.WIDTH] == []


def test_the_document_shows_every_incident_as_it_comes_out() -> None:
    text = alerts.SHOWN.read_text()
    assert text == alerts.in_document(text), "python -m tests.screens.stage"
    assert len(ALL) == 6
    assert [path.stem for path in ALL if f"<!-- alerts: {path.stem} -->" not in text] == []
