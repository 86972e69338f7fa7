"""The agent's packages, each built once for all tests and workers of a run."""

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


# dom0's Python, and what its packages are called.
DISTRIBUTIONS = {"3.6": "xs8", "3.11": "xs9", "3.12": "el10"}
EVERY_ABI = [pytest.param(abi, marks=pytest.mark.needs(f"python{abi}")) for abi in DISTRIBUTIONS]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The RPM for Python 3.6."""
    return package_for("3.6", tmp_path_factory)


@pytest.fixture(scope="session")
def next_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The next release of it."""
    return shared(tmp_path_factory, "agent-rpm-2", "--release", "2")


def package_for(abi: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The RPM for a dom0 with this Python."""
    return shared(tmp_path_factory, f"agent-rpm-{abi}", "--abi", abi)


def python_of(abi: str) -> str:
    """The path of a Python of this version; the test says that it needs one."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    finder = [ROOT / "packaging/develop/find-python", abi]
    return subprocess.run(finder, env=environment, capture_output=True, text=True, check=True).stdout.strip()
