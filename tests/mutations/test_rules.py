"""Each safety rule taken away by a patch of production code, and noticed by a test that exists for another reason.

A patch's first line names the rule, the second who notices: ``catch: PYTEST-NODE``. The code is copied with its
bytecode, once for all patches of a process; each patches the copy (what it changes is compiled anew) and puts back what
was there. The catcher is run on the patched copy; it must fail, and it passes on the code as it is (`make test` runs
it). A patch that does not apply any more is a failure: whoever changes a rule says here how it is taken away now.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATCHES = sorted(Path(__file__).parent.glob("*.patch"))
CODE = ("protos", "agent", "collector", "lab")


def test_there_are_enough() -> None:
    assert len(PATCHES) >= 24


@pytest.fixture(scope="session")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The code and its tests, as they are."""
    made = tmp_path_factory.mktemp("copy")
    for part in (*CODE, "tests"):
        shutil.copytree(ROOT / part, made / part, ignore=shutil.ignore_patterns(".venv*"))
    shutil.copy(ROOT / "pyproject.toml", made)
    yield made
    shutil.rmtree(made)


@contextlib.contextmanager
def patched(copy: Path, patch: Path) -> Iterator[None]:
    """With this patch; afterwards each file is what it was, by its time as well, so that its bytecode holds again."""
    names = [line.split()[1].partition("/")[2] for line in patch.read_text().splitlines() if line.startswith("--- ")]
    kept = {copy / name: ((copy / name).read_bytes(), (copy / name).stat()) for name in names}
    applied = subprocess.run(
        ["patch", "-p1", "--fuzz=0", "-s", "--no-backup-if-mismatch", "-i", str(patch)],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        assert applied.returncode == 0, f"it does not apply any more: {applied.stdout}{applied.stderr}"
        yield
    finally:
        for file, (before, times) in kept.items():
            file.write_bytes(before)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_the_rule_is_missed(patch: Path, copy: Path) -> None:
    rule, catch = patch.read_text().splitlines()[:2]
    assert rule.startswith("rule: ") and catch.startswith("catch: ")
    pytest_ = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tier=long"]
    command = [*pytest_, catch.removeprefix("catch: ")]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    with patched(copy, patch):
        found = subprocess.run(
            command, cwd=copy, capture_output=True, text=True, env=environment, timeout=900, check=False
        )
    assert found.returncode == 1, f"nobody has noticed: {rule}\n{found.stdout[-2000:]}{found.stderr[-500:]}"
