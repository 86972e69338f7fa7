"""Which tests cannot run on this machine, and that nobody mistakes them for tests that passed.

A test that needs something of the operating system says so: `@pytest.mark.needs("nft")` names a command,
`@pytest.mark.needs("namespaces")` the right to make user and network namespaces, "root" that right, "python3.12" one,
"async-xenapi", "xen-api" and "axe-core" what `make clients` makes. Where that is absent the test is left out and named
in pytest's closing report; under CI=true nothing is left out, so it fails there. But for a Python: no file of this
project can install one, so a test without its Python is named there too.

Three tiers (tests/README.md): what is not marked is quick, `@pytest.mark.slow` and the folders of SLOW run with
`--tier full` (the default), `@pytest.mark.long` and the folders of LONG with `--tier long` only. It runs on 3.6 too.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, List, Optional

import pytest

_TESTS = Path(__file__).parent
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
    if thing == "async-xenapi":
        return (_ROOT / ".venv-clients" / "bin" / "python").exists()
    if thing == "xen-api":
        return (_ROOT / ".node-clients" / "node_modules" / "xen-api").is_dir() and shutil.which("node") is not None
    if thing == "axe-core":
        return (_ROOT / ".node-clients" / "node_modules" / "axe-core" / "axe.min.js").is_file()
    if thing == "root":
        return os.geteuid() == 0
    if _is_python(thing):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
        return subprocess.call([_FIND_PYTHON, thing[6:]], env=environment, stdout=subprocess.DEVNULL) == 0
    return shutil.which(thing, path=_PATH) is not None


def _is_python(thing: str) -> bool:
    return thing.startswith("python3.")


TIERS = ("quick", "full", "long")
SLOW = (
    "lab",
    "fencing",
    "fuzz",
    "packaging",
    "crashpoints",
    "protocol",
    "simulation",
)  # whole processes, or whole stories again and again
LONG = ("mutations",)


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--tier", choices=TIERS, default="full", help="how much is run (tests/README.md); default: full")
    parser.addoption("--demo-runs", type=int, default=0, help="play each story of the demo so often in a row")


def pytest_configure(config: Any) -> None:
    config.addinivalue_line("markers", "slow: takes seconds of real time; runs with --tier full and long")
    config.addinivalue_line("markers", "long: takes long or is one of very many; runs with --tier long only")
    config.addinivalue_line("markers", "demo_runs: plays the demo again and again; runs with --demo-runs N only")


def pytest_ignore_collect(collection_path: Path, config: Any) -> Optional[bool]:
    """Do not even read a folder whose tests all belong to a longer tier."""
    most = TIERS.index(config.getoption("--tier"))
    folder = _folder(collection_path)
    later = folder in LONG and most < TIERS.index("long") or folder in SLOW and most < TIERS.index("full")
    return True if later else None


def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    """Deselect what is too long for this run, and what cannot run here; remember the latter."""
    most = TIERS.index(config.getoption("--tier"))
    runs = config.getoption("--demo-runs")
    left = [item for item in items if _left(item, most, runs)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not _left(item, most, runs)]
    _leave_out_what_lacks(config, items)


def _left(item: pytest.Item, most: int, runs: int) -> bool:
    """Is this test left out: of a longer tier, or one that is asked for by its own option alone?"""
    if item.get_closest_marker("demo_runs"):
        return not runs
    return _tier(item) > most


def _folder(path: Path) -> str:
    """The folder of tests/ that this path is or lies in; empty: none."""
    try:
        below = path.relative_to(_TESTS).parts
    except ValueError:
        return ""
    return below[0] if below else ""


def _tier(item: pytest.Item) -> int:
    """The tier of one test, by its marks or its folder below tests/."""
    folder = _folder(Path(str(item.fspath)))
    if folder in LONG or item.get_closest_marker("long"):
        return TIERS.index("long")
    return TIERS.index("full" if folder in SLOW or item.get_closest_marker("slow") else "quick")


def _leave_out_what_lacks(config: pytest.Config, items: List[pytest.Item]) -> None:
    things = {thing for item in items for mark in item.iter_markers("needs") for thing in mark.args}
    if os.environ.get("CI") == "true":
        things = {thing for thing in things if _is_python(thing)}
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
