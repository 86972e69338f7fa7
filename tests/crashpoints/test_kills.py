"""Kill -9 at every point: of the collector at each journal commit and effect, of an agent at each step of an order.

Every run must end like the one without a kill: one failover, one promote call, one master, everybody attached, no
invariant broken, no VM lost. Points are enumerated by running the story (see poolwarden_lab.virtual.checks.crashes), in
a process of its own because it forks at each of them.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STORIES = {"power": 40, "human": 40, "shot": 40, "return": 20, "late-return": 8}
"""Each with the least number of points that its enumeration must find for the collector."""
EACH = [pytest.param(name, marks=[] if name == "return" else [pytest.mark.long]) for name in STORIES]


def survey(story: str, victim: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "poolwarden_lab.virtual.checks.crashes", story, victim]
    path = ":".join(str(ROOT / part) for part in ("protos", "agent", "collector", "lab"))
    done = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, timeout=900, check=False)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("story", EACH)
def test_the_collector_dies_at_every_commit_and_effect(story: str) -> None:
    found = survey(story, "collector")
    ends = found["ends"]
    assert found["reference"]["failure"] == ""
    assert found["points"] >= STORIES[story], "too few points: the enumeration does not see the story"
    assert {end["restart_after_ms"] for end in ends} == {1_000, 70_000}
    kinds = Counter(" ".join(end["point"].split()[:2]) for end in ends)
    assert min(kinds[kind] for kind in ("before commit", "after commit", "after effect")) > 0
    print(f"{story}: {found['points']} points, {len(ends)} runs: {dict(kinds)}")
    assert [first_line(end) for end in ends if end["failure"]] == []
    for end in ends:
        assert end["kills"] == 1
        assert end["promote_calls"] == ["h2"] and end["masters"] == ["h2"]
        assert end["failovers"] == found["reference"]["failovers"]
        assert end["xapi_starts"]["h2"] == end["xapi_starts"]["h3"] == 1


@pytest.mark.parametrize("story", EACH)
def test_an_agent_dies_at_every_step_of_every_order(story: str) -> None:
    """A redelivered order has the same result: each xapi is restarted once, whoever died when."""
    found = survey(story, "agent")
    ends = found["ends"]
    assert found["reference"]["failure"] == ""
    steps = {end["point"].partition(": ")[2] for end in ends}
    assert steps == {"before save", "after save", "before act", "after act", "before answer"}
    print(f"{story}: {found['points']} points, {len(ends)} runs")
    assert [first_line(end) for end in ends if end["failure"]] == []
    for end in ends:
        assert end["kills"] == 1
        assert len(end["promote_calls"]) == 1 and end["masters"] == end["promote_calls"]
        assert end["failovers"] == found["reference"]["failovers"]
        assert end["xapi_starts"]["h2"] == end["xapi_starts"]["h3"] == 1


@pytest.mark.long
@pytest.mark.parametrize("victim", ["collector", "agent"])
def test_a_restart_in_place_that_is_cut_off_anywhere_promotes_nobody(victim: str) -> None:
    """The same master serves again, nothing lies there any more, and nobody else was told to become master."""
    found = survey("in-place", victim)
    assert found["reference"]["failure"] == "" and found["points"] >= 25
    print(f"in-place: {found['points']} points, {len(found['ends'])} runs")
    assert [first_line(end) for end in found["ends"] if end["failure"]] == []
    for end in found["ends"]:
        assert end["kills"] == 1
        assert end["promote_calls"] == [] and end["masters"] == ["h1"] and end["failovers"] == []
        assert end["xapi_starts"]["h2"] == end["xapi_starts"]["h3"] == 0


def first_line(end: dict[str, Any]) -> str:
    return f"{end['point']}, back after {end['restart_after_ms']} ms: {end['failure'].splitlines()[0]}"
