"""The agent's package, built once for all tests and workers of a run."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(out: Path, *words: str) -> Path:
    command = [sys.executable, ROOT / "packaging/agent/build.py", "--out", out, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.split()[-1])


def shared(tmp_path_factory: pytest.TempPathFactory, name: str, *words: str) -> Path:
    """A built RPM; workers of one run share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / name
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = list(folder.glob("out/*.rpm"))
        return found[0] if found else build(folder / "out", *words)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built RPM."""
    return shared(tmp_path_factory, "agent-rpm")


@pytest.fixture(scope="session")
def next_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The next release of it."""
    return shared(tmp_path_factory, "agent-rpm-2", "--release", "2")
