"""Which tests cannot run on this machine, and that nobody mistakes them for tests that passed.

A test that needs something of the operating system says so: `@pytest.mark.needs("nft")` names a command,
`@pytest.mark.needs("namespaces")` the right to make user and network namespaces, "root" that right, "python3.6" one.
Where that is absent the test is left out and named in pytest's closing report; under CI=true nothing is left out, so it
fails there. `@pytest.mark.long` is for what takes minutes and runs with `--long` only. It runs on 3.6 too.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, List

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:" + str(_ROOT / ".venv-redfish" / "bin")
_FIND_PYTHON = str(_ROOT / "packaging" / "develop" / "find-python")
_left_out = {}  # what is lacking -> node ids


def _has_namespaces() -> bool:
    command = ["unshare", "-Urnm", "true"] if os.geteuid() else ["unshare", "-nm", "true"]
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def _is_here(thing: str) -> bool:
    if thing == "namespaces":
        return _has_namespaces()
    if thing == "root":
        return os.geteuid() == 0
    if thing == "python3.6":
        return subprocess.call([_FIND_PYTHON, "3.6"], stdout=subprocess.DEVNULL) == 0
    return shutil.which(thing, path=_PATH) is not None


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests that take minutes")


def pytest_configure(config: Any) -> None:
    config.addinivalue_line("markers", "long: takes minutes; runs only with --long")


def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    """Deselect what is too long for this run, and what cannot run here; remember the latter."""
    if not config.getoption("--long"):
        long = [item for item in items if item.get_closest_marker("long")]
        if long:
            config.hook.pytest_deselected(items=long)
            items[:] = [item for item in items if item not in long]
    _leave_out_what_lacks(config, items)


def _leave_out_what_lacks(config: pytest.Config, items: List[pytest.Item]) -> None:
    if os.environ.get("CI") == "true":
        return
    things = {thing for item in items for mark in item.iter_markers("needs") for thing in mark.args}
    absent = {thing for thing in things if not _is_here(thing)}
    kept = []
    for item in items:
        lacking = sorted(absent.intersection(thing for mark in item.iter_markers("needs") for thing in mark.args))
        if lacking:
            _left_out.setdefault(", ".join(lacking), []).append(item.nodeid)
        else:
            kept.append(item)
    if len(kept) != len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name each test that was left out, with what it lacks."""
    for lacking, names in sorted(_left_out.items()):
        terminalreporter.write_line("not run, no {}: {}".format(lacking, " ".join(sorted(names))))
