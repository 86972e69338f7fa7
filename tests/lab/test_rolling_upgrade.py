"""Agents and collector of this release with those of the release before, both ways, as they meet while one is upgraded.

The release before is kept below previous/ as it was packed, so that no test needs the history of this repository. For
another release: `git archive --format=tar TAG agent/poolwarden_agent collector/poolwarden_collector protos/poolwarden |
xz -9e`.

Each way is a whole failover with real processes: agents attach and report, the master's power goes, claims and orders
are obeyed, and the old master is powered on again and gets its gate's answer.
"""

import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_rig import Lab

pytestmark = [pytest.mark.needs("namespaces", "ip", "nft"), pytest.mark.long]
HERE = Path(__file__).resolve().parent
(PREVIOUS,) = (HERE / "previous").glob("*.tar.xz")
PYTHON36 = HERE.parents[1] / ".venv36/bin/python"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release before, unpacked."""
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(PREVIOUS) as packed:
        packed.extractall(folder, filter="data")
    return folder


def path_of(before: Path, *parts: str) -> str:
    return os.pathsep.join(str(before / part) for part in parts)


def fails_over_and_lets_the_old_master_follow(lab: Lab) -> None:
    assert lab.pool().verdict == "Healthy"
    lab.lab("fault", "h1", "power")

    def other() -> str:
        pool = lab.pool()
        return pool.master_address if pool.verdict == "Healthy" and pool.master_address != "10.99.0.11" else ""

    address = lab.wait(other, "another master", 90)
    lab.lab("heal", "h1")
    lab.wait(lambda: any("stays shut" in entry.text for entry in lab.history()), "the gate's answer")
    lab.wait(lambda: not lab.pool().owed, "nothing is owed")
    kept = lab.lab("exec", "h1", "--", "cat", "etc/xensource/pool.conf").stdout.strip()
    kinds = [entry.kind for entry in lab.history()]
    assert kept == f"slave:{address}" and kinds.count("promote-intent") == 1 and "two-masters" not in kinds


def programs(lab: Lab, module: str) -> set[str]:
    """Where the running processes of this module have their code."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            environment = (entry / "environ").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if module in command and any(str(lab.home) in word for word in command):
            found |= {line for line in environment if line.startswith("PYTHONPATH=")}
    return found


def test_agents_of_the_release_before_with_this_collector(
    new_lab: Callable[[], Lab], before: Path, tmp_path: Path
) -> None:
    python = PYTHON36 if PYTHON36.exists() else sys.executable
    path = path_of(before, "agent", "protos")
    runs = tmp_path / "python"
    runs.write_text(f"#!/bin/sh\nexport PYTHONPATH='{path}'\nexec '{python}' \"$@\"\n")
    runs.chmod(0o755)
    lab = new_lab().up(2, "--time-factor", "20", "--agent-python", str(runs))
    assert programs(lab, "poolwarden_agent") == {f"PYTHONPATH={path}"}
    fails_over_and_lets_the_old_master_follow(lab)


def test_agents_of_this_release_with_the_collector_before(new_lab: Callable[[], Lab], before: Path) -> None:
    path = path_of(before, "collector", "protos")
    lab = new_lab().up(2, "--time-factor", "20", "--collector-code", path)
    assert {line.split(os.pathsep)[0] for line in programs(lab, "poolwarden_collector.shell.main")} == {
        f"PYTHONPATH={before / 'collector'}"
    }
    fails_over_and_lets_the_old_master_follow(lab)
