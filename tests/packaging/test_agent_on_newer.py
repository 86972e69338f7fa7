"""Some of the agent's own tests on the Python of XCP-ng 9, with what its package for it brings.

The whole of tests/agent runs on the Python of .venv and on 3.6. What is chosen here meets what differs between Pythons:
ssl, sockets, threads, the contract's stubs, libsodium, files. (asyncio and gRPC: test_agent_installed.py.) pytest is
that of .venv, which is pure Python; everything else that is imported is the package's.
"""

import importlib.metadata
import os
import subprocess
from pathlib import Path

import pytest
from tests.packaging.conftest import EVERY_ABI, ROOT, package_for, python_of

pytestmark = [pytest.mark.needs("rpmbuild")]
CHOSEN = ("xapi_client", "roles", "pipe", "slots", "signed")
TOOLS = ("iniconfig", "packaging", "pluggy", "pygments", "pytest")


def modules_of(name: str) -> set[Path]:
    """Its top-level packages and modules in this environment."""
    files = importlib.metadata.files(name) or []
    tops = {file.parts[0] for file in files if file.suffix == ".py" and not file.parts[0].startswith((".", "_virtual"))}
    return {Path(str(importlib.metadata.distribution(name).locate_file(top))) for top in tops}


def unpacked(package: Path, folder: Path) -> Path:
    """The package's vendor directory, below a folder."""
    files = subprocess.run(["rpm2cpio", package], stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["cpio", "-idm", "--quiet", "./opt/poolwarden/vendor/*"], cwd=folder, input=files, check=True)
    return folder / "opt/poolwarden/vendor"


@pytest.mark.parametrize("abi", EVERY_ABI[2:])
def test_the_agent_passes_them_there(abi: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    vendor, tools = unpacked(package_for(abi, tmp_path_factory), tmp_path), tmp_path / "tools"
    tools.mkdir()
    for module in {module for name in TOOLS for module in modules_of(name)}:
        (tools / module.name).symlink_to(module)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": f"{vendor}:{tools}", "PYTHONDONTWRITEBYTECODE": "1"}
    words = [python_of(abi), "-s", "-m", "pytest", "-p", "no:cacheprovider"]
    chosen = [f"tests/agent/test_{name}.py" for name in CHOSEN]
    done = subprocess.run(
        [*words, *chosen], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout and " skipped" not in done.stdout and "not run, no" not in done.stdout
    print(f"{abi}: {done.stdout.splitlines()[-1]}")
