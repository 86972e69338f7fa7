"""A collector whose pools rest does what one does that ticks them always: the same journal and effects.

`.venv/bin/python -m tests.simulation.resting` plays all stories and three hundred drawn ones twice; here is a sample.
"""

from __future__ import annotations

import random

import pytest

from poolwarden_collector.core.rest import Bound
from poolwarden_lab.story.text import read_text

from . import resting

EVERY_NTH, SEEDS = 40, 8
TOO_LONG = "member-stays-disabled"  # hours, which a collector that always ticks takes a minute and a half for
# Reports that come between the ticks, and rarely: it is the tick that has to notice what is due.
QUIET = """\
pool 2
policy report_interval 4s
policy suspect_after 9s
policy vanished_after 13s
policy quiet_time 12s
policy xapi_hung_after 20s
policy collector_probe no
start
delay h1 - collector by 137ms
delay h2 - collector by 411ms
run 605s
"""


@pytest.mark.slow
def test_a_quiet_pool_costs_few_steps_and_misses_none_of_its_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its devices are read after ten minutes. The comparison can fail: deadlines that nobody knows are missed."""
    script = read_text("quiet", QUIET)
    why, rested, always = resting.difference(script)
    assert not why
    assert rested.done[-1].ms > 600_000 and rested.steps < always.steps / 10
    monkeypatch.setattr(Bound, "flips_at", lambda self, steady: 1 << 62)
    assert resting.course(script, always=False).done != always.done


def _sample() -> list[str]:
    names = [path.stem for path in resting.stories()]
    drawn = random.Random("resting").sample(names, len(names) // EVERY_NTH)
    return [name for name in drawn if name != TOO_LONG]


@pytest.mark.long
@pytest.mark.parametrize("name", _sample())
def test_a_story_ends_as_without_rests(name: str) -> None:
    path = next(path for path in resting.stories() if path.stem == name)
    assert not resting.difference(read_text(name, path.read_text()))[0]


@pytest.mark.long
@pytest.mark.parametrize("number", range(1, SEEDS + 1))
def test_a_drawn_story_ends_as_without_rests(number: int) -> None:
    assert not resting.difference(resting.seed(number))[0]
