"""The model is pure: one module set with two drivers, and no way for either to be bypassed."""

import ast
from pathlib import Path

import pytest

import poolwarden_lab.xapi

PACKAGE = Path(poolwarden_lab.xapi.__file__).parent
OUTSIDE = {
    "asyncio",
    "contextlib",
    "datetime",
    "logging",
    "os",
    "pathlib",
    "random",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
}
DRIVERS = {
    "__main__",
    "certificate",
    "http1",
    "hypervisor",
    "sockets",
    "trees",
    "virtual",
    "virtual_driver",
    "virtual_host",
    "jsonrpc",
    "wire",
}
PURE = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in DRIVERS)


def imported(name: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def test_the_model_is_where_it_is_looked_for() -> None:
    assert {"model", "calls", "verbs", "startup", "mastering", "membership", "database", "records"} <= set(PURE)


@pytest.mark.parametrize("name", PURE)
def test_a_module_of_the_model_imports_nothing_of_the_outside_world(name: str) -> None:
    modules = imported(name)
    assert not modules & OUTSIDE
    assert not modules & {f"poolwarden_lab.xapi.{driver}" for driver in DRIVERS}


def test_virtual_time_knows_no_clock_socket_or_file() -> None:
    assert not (imported("virtual") | imported("virtual_driver") | imported("virtual_host")) & OUTSIDE
