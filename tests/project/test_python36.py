"""The agent stays within Python 3.6 (dom0's), as far as that can be told without running a 3.6.

`make test` also runs tests/agent on a real 3.6 where there is one; these checks always run, what a file imports with
`make lint` and `make test` alone.
"""

import ast
import subprocess
import sys

import pytest

from .tree import ROOT, python_files

ON_36 = ("agent", "protos", "tests/agent", "tests/conftest.py", "tests/contract/protocol_bytes.py")


def test_syntax() -> None:
    assert python_files("agent")
    for path in python_files(*ON_36):
        ast.parse(path.read_text(), filename=str(path), feature_version=(3, 6))


@pytest.mark.slow
def test_library_and_language_features() -> None:
    paths = [str(path) for path in python_files(*ON_36)]
    options = ["-t=3.6-", "--eval-annotations", "--no-tips", "--violations"]
    command = [sys.executable, "-c", "import vermin; vermin.main()", *options, *paths]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_annotations_are_not_postponed() -> None:
    """`from __future__ import annotations` is 3.7; ast.parse does not mind it."""
    late = [str(path) for path in python_files(*ON_36) if "from __future__ import annotations\n" in path.read_text()]
    assert late == []
