"""What the lab's tests share: code run inside namespaces, and labs that are brought up and taken down."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_rig import Lab, lab_environment, left_behind

from poolwarden_lab.processes import network

_numbers = itertools.count()


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A directory with a short path; whatever ran below it must be gone at the end, with all its files."""
    where = Path(f"/tmp/pt{os.getpid()}x{next(_numbers)}")
    where.mkdir()
    yield where
    left = left_behind(where)
    shutil.rmtree(where, ignore_errors=True)
    assert not left


@pytest.fixture
def inside() -> Callable[[str], Any]:
    """Run Python code in fresh namespaces; it prints JSON as its last line."""

    def run(code: str) -> Any:
        done = subprocess.run(
            ["unshare", *network.flags(), sys.executable, "-c", textwrap.dedent(code)],
            env={**lab_environment(), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", network.MARKER: "yes"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def new_lab(short_tmp: Path) -> Iterator[Callable[[], Lab]]:
    """A maker of labs that are down at the end of the test, and leave nothing."""
    made: list[Lab] = []

    def make() -> Lab:
        made.append(Lab(short_tmp / f"l{len(made)}"))
        return made[-1]

    yield make
    for lab in made:
        lab.down()
