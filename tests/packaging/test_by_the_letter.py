"""An administrator follows docs/installing.md to the letter, no step more: the agent connects."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.packaging.conftest import ROOT
from tests.packaging.test_agent_installed import stand_in

pytestmark = [pytest.mark.needs("rpmbuild", "namespaces", "root", "python3.6"), pytest.mark.long]


@pytest.fixture(scope="module")
def followed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("letter")
    here = Path(__file__).resolve().parent
    build = [sys.executable, ROOT / "packaging/collector/build.py", "--out", folder / "build"]
    archive = subprocess.run(build, capture_output=True, text=True, check=True).stdout.strip()
    finder = subprocess.run([ROOT / "packaging/develop/find-python", "3.6"], capture_output=True, text=True, check=True)
    wheels = folder / "wheels"  # the document's way where no index is reached: the network inside is a loopback
    lock = ROOT / "packaging/collector-runtime.lock"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    fetch = [*pip, "--require-hashes", "-r", lock, "-d", wheels]
    subprocess.run(fetch, check=True, capture_output=True)
    inside = [sys.executable, here / "letter.py", folder, archive, finder.stdout.strip(), stand_in(folder), package]
    offline = {"PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1"}
    environment = {**os.environ, **offline, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = ["unshare", "-mn", "--propagation", "private", *inside]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_command_of_the_document_does_what_it_says(followed: dict[str, Any]) -> None:
    for step in followed["collector"] + followed["host"]:
        assert step["status"] == 0, step


def test_the_documents_that_the_installer_names_are_in_the_archive(followed: dict[str, Any]) -> None:
    (named,) = [step["named"] for step in followed["collector"] if "named" in step]
    assert named and all(named.values()), followed["collector"]


def test_the_agent_connects_and_its_key_is_roots_alone(followed: dict[str, Any]) -> None:
    said = {step["command"]: step["said"] for step in followed["host"]}
    assert '"agent_connected": true' in said["poolwarden --json hosts"], f"{said['agent']}\n{followed['log']}"
    assert said["key"] == "600 0"
