"""Reading apart from writing: what only judges or tells takes a Snapshot, and can neither journal, send nor alert."""

import ast

import pytest
from tests.project.tree import ROOT, name_of, parsed, python_files

from poolwarden_collector.core.state.decision_input import NOT_STORED

CORE = ROOT / "collector/poolwarden_collector/core"
READ_ONLY = (
    "evidence/proof.py",
    "evidence/signs.py",
    "evidence/evidence_lines.py",
    "evidence/verdict.py",
    "evidence/membership.py",
    "evidence/storage_stalls.py",
    "evidence/xapi_troubles.py",
    "devices/power_view.py",
    "decision/permission.py",
    "decision/candidate_ranking.py",
    "decision/kill_forecast.py",
    "decision/fencing_stakes.py",
    "report/advise.py",
    "report/rebuild_advice.py",
    "report/role_advice.py",
    "report/assumptions_shown.py",
    "report/status.py",
    "report/explain.py",
    "report/readiness.py",
    "report/device_status.py",
    "report/drill_report.py",
    "report/journal_view.py",
    "report/matters.py",
    "report/next_step.py",
    "report/plan.py",
    "report/weaknesses.py",
    "report/open_alerts.py",
    "report/progress.py",
    "report/running_vms.py",
    "report/pool_details.py",
    "report/pool_line.py",
    "report/situation.py",
    "report/timeline.py",
)
OF_THE_JOURNAL = ("report/journal_view.py", "report/timeline.py")  # they read no pool's state
ALERTS = {
    "absent_hosts.py",
    "assumption_alerts.py",
    "disk_alerts.py",
    "host_environment.py",
    "incident_alerts.py",
    "latent_faults.py",
    "memory_alerts.py",
    "trouble_alerts.py",
}


@pytest.mark.parametrize("name", READ_ONLY)
def test_nothing_here_can_write(name: str) -> None:
    names = {node.id for node in ast.walk(parsed(CORE / name)) if isinstance(node, ast.Name)}
    assert "Snapshot" in names or name in ("evidence/verdict.py", *OF_THE_JOURNAL)
    assert "Transaction" not in names


def test_every_module_of_the_report_is_in_one_of_the_two_lists() -> None:
    told = {path.name for path in python_files("collector/poolwarden_collector/core/report")} - {"__init__.py"}
    assert told == ALERTS | {name.removeprefix("report/") for name in READ_ONLY if name.startswith("report/")}


def test_what_no_stored_decision_holds_is_read_by_the_report_alone() -> None:
    left = {field for names in NOT_STORED.values() for field in names}
    readers = {
        path.parent.name
        for path in python_files("collector/poolwarden_collector/core")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and node.attr in left
    }
    assert readers == {"report"}


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
    assert set(begun) == {f"{name_of(CORE)}/{each}.py" for each in ("engine", "reconfigure", "replay")}


def test_what_a_snapshot_shows_is_set_in_one_place() -> None:
    """Its parts are plain attributes: no module puts another record or other facts into it."""
    shown = {"pool", "record", "live", "policy"}
    set_in = {
        name_of(path)
        for path in python_files("collector/poolwarden_collector/core")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in shown
    }
    assert set_in == {f"{name_of(CORE)}/state/snapshot.py"}
