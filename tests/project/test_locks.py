"""The lock files: everything pinned by hash, nothing but pins, in step with what pyproject.toml and dom0 ask for."""

import re
import tomllib
from pathlib import Path

import pytest

from .tree import ROOT

LOCKS = sorted((ROOT / "packaging").glob("*.lock"))
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ \\]+)( ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: Path) -> dict[str, str]:
    """Name to version."""
    found = (PIN.match(line) for line in lock.read_text().splitlines())
    return {canonical(match[1]): match[2] for match in found if match}


def test_all_locks_are_here() -> None:
    names = {"agent-cp36-bootstrap.lock", "agent-cp36-test.lock", "agent-cp36.lock", "collector.lock"}
    names |= {"agent-cp311.lock", "agent-cp312.lock", "clients.lock"}
    assert {lock.name for lock in LOCKS} == {*names, "collector-runtime.lock", "redfish-emulator.lock"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_only_pins_and_hashes(lock: Path) -> None:
    """No index address, no local path, no option, no line of any other kind."""
    lines = lock.read_text().splitlines()
    rest = [
        line for line in lines if line and not line.startswith("# ") and not PIN.match(line) and not HASH.match(line)
    ]
    assert rest == []
    comments = "\n".join(line for line in lines if line.startswith("#"))
    assert "/" not in comments
    assert "pip-compile" not in comments


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_pin_has_a_hash(lock: Path) -> None:
    lines = lock.read_text().splitlines()
    bare = [
        line for line, after in zip(lines, [*lines[1:], ""], strict=True) if PIN.match(line) and not HASH.match(after)
    ]
    assert bare == []
    assert pins(lock)


def test_the_agents_versions() -> None:
    expected = {
        "cffi": "1.15.1", "grpcio": "1.48.2", "protobuf": "3.19.6", "psutil": "7.2.2", "pynacl": "1.5.0",
        "six": "1.17.0", "xenapi": "26.21.1",
    }  # fmt: skip
    assert pins(ROOT / "packaging/agent-cp36.lock") == expected


@pytest.mark.parametrize("abi", ["cp311", "cp312"])
def test_a_newer_dom0_gets_the_versions_that_the_tests_run_on(abi: str) -> None:
    agents, tested = pins(ROOT / f"packaging/agent-{abi}.lock"), pins(ROOT / "packaging/collector.lock")
    assert {name: tested.get(name) for name in agents} == agents
    assert {*pins(ROOT / "packaging/agent-cp36.lock"), "typing-extensions"} - {"six"} == set(agents)


def test_the_agents_locks_name_one_wheel_each() -> None:
    """A hash of an sdist or of another platform's wheel would let a build step or a surprise in."""
    for lock in LOCKS:
        if lock.name.startswith("agent"):
            assert len(re.findall("--hash", lock.read_text())) == len(pins(lock)), lock.name


def test_the_collectors_lock_covers_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["dev"]
    wanted += project["build-system"]["requires"]
    names = {canonical(re.split(r"[<>=!~\[; ]", requirement)[0]) for requirement in wanted}
    assert names <= pins(ROOT / "packaging/collector.lock").keys()
