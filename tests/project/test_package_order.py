"""The order of the packages: each may import those that its row names, and every name in a row is used.

``.`` is what lies beside the packages: the program's main module, and what every package may use. *contract* is the
generated messages, *shared* what else lies in the one package that both programs ship. The order of the rows is that of
the floors: a package imports rows above its own.
"""

from __future__ import annotations

import pytest

from .test_import_rules import imports, package_of
from .tree import ROOT, name_of, python_files

TABLES = {
    "collector/poolwarden_collector/core": """
        model:
        catalogue: model shared
        state:     model catalogue shared
        devices:   model catalogue state shared
        evidence:  model catalogue state devices shared
        decision:  model catalogue state devices evidence shared
        failover:  model catalogue state devices evidence decision shared
        followups: model catalogue state devices evidence decision failover shared
        recovery:  model catalogue state devices evidence decision failover followups shared
        operator:  model catalogue state devices evidence decision failover followups recovery shared
        report:    model catalogue state devices evidence decision failover followups recovery operator shared
        .:         model state devices evidence decision failover followups recovery operator report
    """,
    "collector/poolwarden_collector/shell": """
        store:     core contract .
        cluster:   core store .
        config:    core cluster .
        queue:     core
        enrolment: core shared config store cluster .
        agents:    core shared contract config store queue enrolment .
        fencing:   core shared config .
        loop:      core config store cluster queue agents fencing .
        migration: core config store cluster loop
        alerts:    core config store queue .
        hooks:     core config store queue fencing .
        doctor:    core config store cluster enrolment agents loop hooks .
        operators: core shared contract config store cluster queue enrolment agents fencing loop alerts hooks doctor .
        metrics:   core config store queue agents loop operators .
        page:      core contract config store enrolment operators .
        .: cluster config store queue enrolment migration agents fencing loop alerts hooks operators metrics page
    """,
    "agent/poolwarden_agent": """
        core:     shared
        dom0:     core shared .
        messages: contract core dom0 .
        host:     contract core dom0 messages shared .
        process:  contract core dom0 host
        commands: core dom0 host process shared .
        link:     core process .
        .:        core dom0 host process commands link shared
    """,
    "lab/poolwarden_lab": """
        xapi:      .
        processes: contract core shell xapi
        demo:      contract shell processes
        virtual:   contract agent core shell xapi shared .
        story:     contract core shell xapi virtual shared
        .:         processes demo story
    """,
}
CONTRACT, SHARED = "poolwarden.v1", "poolwarden"
OURS = {"poolwarden_collector.core": "core", "poolwarden_collector.shell": "shell", "poolwarden_agent": "agent"}


def table(area: str) -> dict[str, set[str]]:
    rows = (line.split(":") for line in TABLES[area].split("\n") if line.strip())
    return {name.strip(): set(allowed.split()) for name, allowed in rows}


def package(area: str, module: str) -> str | None:
    """The row of a dotted module of this area; None for one that is not of it."""
    prefix = ".".join(area.split("/")[1:])
    if module != prefix and not module.startswith(prefix + "."):
        return None
    first = module.removeprefix(prefix).strip(".").split(".")[0]
    return first if (ROOT / area / first).is_dir() and first else "."


def crossings(area: str) -> dict[str, dict[str, str]]:
    """Row -> the rows that its modules import -> one place where they do."""
    found: dict[str, dict[str, str]] = {}
    for path in python_files(area):
        own = package(area, package_of(path)) or "."
        for line, module in imports(path):
            other = package(area, module)
            if other is None:
                other = next((name for full, name in OURS.items() if module.startswith(full)), None)
                other = "shared" if module.split(".")[0] == SHARED else other
                other = "contract" if module.startswith(CONTRACT) else other
            if other is not None and other != own:
                found.setdefault(own, {}).setdefault(other, f"{name_of(path)}:{line}")
    return found


@pytest.mark.parametrize("area", TABLES)
def test_no_package_imports_what_its_row_does_not_name(area: str) -> None:
    rows = table(area)
    wrong = [
        f"{where}: {own} imports {other}"
        for own, others in crossings(area).items()
        for other, where in others.items()
        if other not in rows.get(own, set())
    ]
    assert wrong == []


@pytest.mark.parametrize("area", TABLES)
def test_every_name_in_a_row_is_used(area: str) -> None:
    found = crossings(area)
    assert [f"{own}: {each}" for own, row in table(area).items() for each in row - set(found.get(own, {}))] == []
    there = {path.name for path in (ROOT / area).iterdir() if (path / "__init__.py").exists()}
    assert there == set(table(area)) - {"."}


@pytest.mark.parametrize("area", TABLES)
def test_a_row_names_only_rows_above_it(area: str) -> None:
    """Where two packages need each other the floors are wrong."""
    above: set[str] = {"contract", "shared", *OURS.values()}
    for own, row in table(area).items():
        assert row <= above | ({"."} if own != "." else set()), own
        above.add(own)


def test_the_engine_is_driven_by_the_loop_alone() -> None:
    """``engine.step`` has one caller; the service and the simulated world both drive that one."""
    engine = "poolwarden_collector.core.engine"
    users = {
        name_of(path)
        for path in python_files("collector/poolwarden_collector/shell", "lab")
        if any(module == engine or module.startswith(engine + ".") for _, module in imports(path))
    }
    assert users == {"collector/poolwarden_collector/shell/loop/engine_loop.py"}
