"""Which tests cannot run on this machine, and that nobody mistakes them for tests that passed.

A test that needs something of the operating system says so: `@pytest.mark.needs("nft")` names a command,
`@pytest.mark.needs("namespaces")` the right to make user and network namespaces. Where that is absent the test is left
out and named in pytest's closing report; under CI=true nothing is left out, so it fails there. This file runs on
Python 3.6 too.
"""

import os
import shutil
import subprocess
from typing import Any, List

import pytest

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
_left_out = {}  # what is lacking -> node ids


def _has_namespaces() -> bool:
    command = ["unshare", "-Urnm", "true"] if os.geteuid() else ["unshare", "-nm", "true"]
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def _is_here(thing: str) -> bool:
    return _has_namespaces() if thing == "namespaces" else shutil.which(thing, path=_PATH) is not None


def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    """Deselect what cannot run here, and remember it."""
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
