"""``places.json`` (take_away.py) is about this code, and the tool that writes it notices."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.mutations import take_away

ROOT = take_away.ROOT
TOOL = [sys.executable, "-m", "tests.mutations.take_away"]
KNOWN = "poolwarden_collector.core.evidence.proof:_two_off: if pool.now - newest.true_at > pool.policy.reading_fresh"


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*TOOL, *(str(word) for word in words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3_000, check=False)


def test_each_place_that_none_can_miss_exists_and_says_why() -> None:
    kept = take_away.read()
    names = {place.name for place in take_away.places()}
    gone = sorted(set(kept["explained"]) - names)
    assert not gone, "no such condition any more: take it out of places.json, or say under its new words why"
    assert all(kept["explained"].values())
    assert sum(len(places) for places in kept.values()) == len({name for places in kept.values() for name in places})


def test_no_condition_is_left_that_no_test_misses_unexplained() -> None:
    """What the tool found nobody for: a test of its own, or the rule that implies it, or it goes."""
    assert not take_away.read()["unsettled"]


def test_each_catcher_exists() -> None:
    for node in set(take_away.read()["caught"].values()) - {take_away.NEVER_ENDS}:
        path, _, function = node.partition("::")
        name = function.partition("[")[0].rpartition("::")[2]
        assert f"def {name}(" in (ROOT / path).read_text(), f"{node} is gone: run python -m tests.mutations.take_away"


def test_the_tool_tells_who_misses_a_condition_and_that_nobody_does(tmp_path: Path) -> None:
    record = tmp_path / "places.json"
    missed = run("--only", KNOWN, "--record", record, "tests/core/test_each_condition.py")
    assert missed.returncode == 0, missed.stdout + missed.stderr
    assert "test_of_the_two_off_readings" in json.loads(record.read_text())["caught"][KNOWN]
    record.unlink()
    alone = run("--only", KNOWN, "--record", record, "tests/core/test_each_act.py")
    assert alone.returncode == 1 and f"nobody misses: {KNOWN}" in alone.stdout


def test_few_conditions_are_in_no_list() -> None:
    """``--new`` looks for who misses them; it takes an hour, and so is not a part of any tier."""
    kept = take_away.read()
    every = take_away.places()
    new = [place.name for place in every if not any(place.name in places for places in kept.values())]
    assert len(new) <= len(every) / 10, "run python -m tests.mutations.take_away --new:\n" + "\n".join(new)
