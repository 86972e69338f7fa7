"""Reading apart from writing: what only judges or tells takes a Snapshot, and can neither journal, send nor alert."""

import ast

import pytest
from tests.project.tree import ROOT, name_of, parsed, python_files

CORE = ROOT / "collector/poolwarden_collector/core"
READ_ONLY = (
    "evidence/proof.py",
    "evidence/signs.py",
    "evidence/evidence_lines.py",
    "evidence/verdict.py",
    "evidence/membership.py",
    "devices/power_view.py",
    "decision/permission.py",
    "decision/candidate_ranking.py",
    "decision/kill_forecast.py",
    "decision/fencing_stakes.py",
    "report/status.py",
    "report/explain.py",
    "report/readiness.py",
    "report/device_status.py",
)
ALERTS = {"disk_alerts.py", "host_environment.py", "incident_alerts.py", "latent_faults.py"}  # these may raise and end


@pytest.mark.parametrize("name", READ_ONLY)
def test_nothing_here_can_write(name: str) -> None:
    names = {node.id for node in ast.walk(parsed(CORE / name)) if isinstance(node, ast.Name)}
    assert "Snapshot" in names or name == "evidence/verdict.py"
    assert "Transaction" not in names


def test_every_module_of_the_report_is_in_one_of_the_two_lists() -> None:
    told = {path.name for path in python_files("collector/poolwarden_collector/core/report")} - {"__init__.py"}
    assert told == ALERTS | {name.removeprefix("report/") for name in READ_ONLY if name.startswith("report/")}


def test_a_snapshot_has_no_way_to_write() -> None:
    """What a transaction adds is all that changes anything."""
    methods = {
        node.name
        for path in python_files("collector/poolwarden_collector/core/state")
        if path.name == "snapshot.py"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef)
    }
    assert methods and not methods & {"change", "note", "write", "do", "send", "raise_alert", "resolve_alert"}


def test_only_the_engine_begins_a_transaction() -> None:
    begun = [
        name_of(path)
        for path in python_files("collector")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Transaction"
    ]
    assert begun == [f"{name_of(CORE)}/engine.py", f"{name_of(CORE)}/replay.py"]
