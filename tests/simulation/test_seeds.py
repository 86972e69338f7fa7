"""Stories by chance: seeds of the normal run, and what the machinery around them promises.

`make test` plays forty, the long tier five hundred, ``poolwarden lab simulate`` any number; of several collectors four
and thirty (``--several``). A seed that fails is kept by ``poolwarden lab simulate --seed N --runs 1`` as a story under
tests/regressions/, made small; it is a test of its own from then on.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolwarden_collector.core.decision import kill_forecast
from poolwarden_lab.story import play, simulate
from poolwarden_lab.story.chance import MOMENTS, Drawn
from poolwarden_lab.story.shrink import Shrinker
from poolwarden_lab.story.text import read_text

SEEDS, MORE, BLOCK = 40, 400, 20
OF_SEVERAL, MORE_OF_SEVERAL = 4, 30


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, SEEDS + 1, BLOCK))
def test_seeds(first: int) -> None:
    failed = [run.failure for run in simulate.many(first, BLOCK) if run.failure]
    assert not failed, "\n".join(failed)


@pytest.mark.long
@pytest.mark.parametrize("first", range(SEEDS + 1, MORE + 1, BLOCK))
def test_more_seeds(first: int) -> None:
    failed = [run.failure for run in simulate.many(first, BLOCK) if run.failure]
    assert not failed, "\n".join(failed)


@pytest.mark.slow
def test_seeds_of_several_collectors() -> None:
    failed = [run.failure for run in simulate.many(1, OF_SEVERAL, several=True) if run.failure]
    assert not failed, "\n".join(failed)


@pytest.mark.long
def test_more_seeds_of_several_collectors() -> None:
    """They are not tame: there are promotions, power-offs, aborted failovers and questions among them."""
    runs = list(simulate.many(OF_SEVERAL + 1, MORE_OF_SEVERAL - OF_SEVERAL, several=True))
    failed = [run.failure for run in runs if run.failure]
    assert not failed, "\n".join(failed)
    counts = sum((run.counts for run in runs), simulate.Counter())
    assert {"promoted", "closed", "aborted", "asked", "fence-result"} <= set(counts), counts


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_moment_that_is_drawn_is_one_of_the_language(moment: str) -> None:
    """A kind of entry that is gone from the journal is gone from here as well."""
    read_text("moment", f"pool 3\nstart\nbefore {moment}: try kill collector for 0ms\nrun 1s\n")


@pytest.mark.parametrize("several", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_seed_is_a_story_and_two_runs_of_it_are_equal(several: bool) -> None:
    text = simulate.drawn(2, several=several).text("twice")
    first, second = (play.play(read_text("twice", text)) for _ in range(2))
    assert first.lines == second.lines and len(first.lines) > 10


@pytest.mark.long
def test_seeds_lead_to_all_ends() -> None:
    """The schedules are not tame: there are promotions, blocked and aborted failovers, and questions among them."""
    counts = sum((run.counts for run in simulate.many(1, 60)), simulate.Counter())
    assert {"promoted", "closed", "blocked", "aborted", "asked"} <= set(counts), counts


STORY = Drawn(
    0,
    ("pool 4", "vm web on h1", "vm db on h3", "seed 0", "policy patience 15s"),
    (
        "at 900ms agent crash h2 for 1s",
        "at 1s xapi crash h4",
        "at 3400ms new vm young on h3",
        "at 13700ms power off h1",
        "at 20s cut h4 - collector for 7s",
    ),
    ("run 3m",),
)


@pytest.mark.slow
def test_a_failing_story_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the kill forecast a VM younger than the copies is terminated; two commands are enough for that."""
    assert simulate.one(STORY).what == ""
    monkeypatch.setattr(kill_forecast, "kills_on", lambda d, host, loads: ())
    failed = simulate.one(STORY)
    assert failed.what == "I17"
    shrinker = Shrinker(lambda tried: simulate.one(tried).what == "I17")
    small = shrinker.shrink(STORY)
    assert [line.split(" ", 2)[2] for line in small.body] == ["new vm young on h3", "power off h1"]
    assert not any(line.startswith(("vm ", "policy ")) for line in small.head)
    assert simulate.one(replace(small, body=small.body[:1])).what == ""
