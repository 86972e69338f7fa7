"""Each safety rule taken away by a patch of production code, and noticed by a test that exists for another reason.

A patch's first line names the rule, the second who notices: ``catch: PYTEST-NODE``. The code is copied with its
bytecode (what the patch changes is compiled anew), patched there, and the catcher run on the copy; it must fail, and it
passes on the code as it is (`make test` runs it). A patch that does not apply any more is a failure: whoever changes a
rule's code says here how it is taken away now.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATCHES = sorted(Path(__file__).parent.glob("*.patch"))
CODE = ("protos", "agent", "collector", "lab")


def test_there_are_enough() -> None:
    assert len(PATCHES) >= 24


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_the_rule_is_missed(patch: Path, tmp_path: Path) -> None:
    rule, catch = patch.read_text().splitlines()[:2]
    assert rule.startswith("rule: ") and catch.startswith("catch: ")
    for part in (*CODE, "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns(".venv*"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    applied = subprocess.run(
        ["patch", "-p1", "--fuzz=0", "-s", "-i", str(patch)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert applied.returncode == 0, f"it does not apply any more: {applied.stdout}{applied.stderr}"
    pytest_ = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tier=long"]
    command = [*pytest_, catch.removeprefix("catch: ")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert found.returncode == 1, f"nobody has noticed: {rule}\n{found.stdout[-2000:]}{found.stderr[-500:]}"
