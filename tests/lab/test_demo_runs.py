"""Each story of the demo, many times in a row, at the pace at which a user plays it: `pytest --demo-runs 10 tests/lab`.

One run in eleven that ends otherwise is a fault of the product or of the story, never of the machine: what the README
says of a story holds each time. Three stories go at a time, because they mostly wait; a run takes up to two minutes.
"""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab_rig import LAB, lab_environment, left_behind

from poolwarden_lab.demo.stories import STORIES

pytestmark = [pytest.mark.needs("namespaces", "ip", "nft"), pytest.mark.demo_runs]
AT_A_TIME = 3
ONE_RUN_S = 600


def one_run(name, number):
    """The last lines of a run that did not end as its story says; empty: it did."""
    where = Path(f"/tmp/pr{os.getpid()}{name}{number}")
    where.mkdir()
    done = subprocess.run(
        [*LAB, "demo", "--plain", "--fault", name],
        env={**lab_environment(), "TMPDIR": str(where)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=ONE_RUN_S,
    )
    left = left_behind(where)
    where.rmdir()
    said = [] if done.returncode == 0 and not left else done.stdout.splitlines()[-40:]
    return "\n".join([f"{name}, run {number}: exit {done.returncode}, left {left}", *said]) if said else ""


def in_a_row(name, runs):
    return [why for number in range(1, runs + 1) if (why := one_run(name, number))]


def test_every_story_ends_as_it_says_each_time(pytestconfig):
    runs = pytestconfig.getoption("--demo-runs")
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = dict(zip(STORIES, pool.map(lambda name: in_a_row(name, runs), STORIES), strict=True))
    failed = [why for name in STORIES for why in found[name]]
    assert not failed, "\n\n".join([f"{len(failed)} of {runs * len(STORIES)} runs", *failed])
