"""--json of every command keeps to docs/json.schema.json, and prints nothing that is not in it."""

import copy
import importlib.util
import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.project.tree import ROOT

from poolwarden.v1 import enrolment_pb2 as enrolment
from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli.commands import ListingOrCommand
from poolwarden_collector.cli.main import poolwarden as group

from .conftest import Said
from .fake_collector import HOSTS, POOL, FakeCollector
from .test_query import ask, state  # noqa: F401  (fixtures)

Call = Callable[..., Said]
SCHEMA = ROOT / "docs/json.schema.json"
ACTS = {
    "alerts-ack": ("alerts", "ack", "disk"),
    "alerts-silence": ("alerts", "silence", "disk", "--for", "2h"),
    "alerts-unsilence": ("alerts", "unsilence", "disk"),
    "acknowledge": ("acknowledge",),
    "approve": ("approve", "demo"),
    "certificate-deny": ("certificate", "deny", "host-1"),
    "confirm-fenced": ("confirm-fenced", "host-1", "--name", "host-1", "--how", "off"),
    "declare-dead": ("declare-dead", "host-1", "--name", "host-1"),
    "deny": ("deny", "demo"),
    "designate": ("designate", "host-2"),
    "drain": ("drain", "hall-b"),
    "enrolment-accept": ("enrolment", "accept", "0123456789"),
    "enrolment-refuse": ("enrolment", "refuse", "0123456789"),
    "failover": ("failover", "--dry-run"),
    "fence-bind": ("fence", "bind", "host-1", "--name", "host-1", "--how", "seen"),
    "fence-off": ("fence", "off", "host-1", "--name", "host-1"),
    "fence-on": ("fence", "on", "host-1"),
    "fence-test": ("fence", "test", "host-1"),
    "hook-run": ("hook", "run", "50-dns"),
    "host-enable": ("host", "enable", "host-1"),
    "host-why": ("host", "why", "host-1"),
    "move": ("move", "demo", "hall-b"),
    "recover-members": ("recover-members",),
    "pause": ("pause", "--for", "2h"),
    "release": ("release", "host-1"),
    "restart-xapi": ("restart-xapi", "host-1"),
    "resume": ("resume",),
    "second": ("second", "3f7a21", "--name", "host-1"),
    "start-lost": ("start-lost", "--dry-run"),
    "token-create": ("token", "create", "--pool", "demo"),
    "token-revoke": ("token", "revoke", "0badcafe"),
}
LOOKS = {
    "advise-rebuild": ("advise", "rebuild", "host-1"),
    "advise-vms": ("advise", "vms"),
    "alerts": ("alerts",),
    "audit": ("audit", "--since", "2h"),
    "capsules": ("capsules",),
    "check-collector": ("check", "collector"),
    "check-host": ("check", "host", "host-1"),
    "check-pool": ("check", "pool"),
    "collectors": ("collectors",),
    "disks": ("disks",),
    "doctor": ("doctor",),
    "enrolment-list": ("enrolment", "list"),
    "explain": ("explain",),
    "fence-status": ("fence", "status", "host-1"),
    "history": ("history",),
    "host-late": ("host", "late", "host-1"),
    "host-show": ("host", "show", "host-1"),
    "hosts": ("hosts",),
    "master": ("master",),
    "plan": ("plan",),
    "readiness": ("readiness",),
    "status": ("status",),
    "test-alerts": ("test-alerts",),
    "token-list": ("token", "list"),
}
ELSEWHERE = {"query", "query-views", "history-follow"}  # below
BY_THEIR_OWN_TESTS = {
    "drill",
    "drill-abandon",
    "drill-plan",
    "export",
    "fence-setup",
    "replay",
    "pool-add",
    "pool-remove",
    "pool-upgrade",
}
WITHOUT_JSON = {"completion", "lab", "watch"}


def module() -> Any:
    spec = importlib.util.spec_from_file_location("json_schema", ROOT / "packaging/develop/json_schema.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def closed(schema: Any) -> Any:
    """The same, in which nothing may be that is not named."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    done = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and isinstance(schema["properties"], dict) and "required" in schema:
        done["additionalProperties"] = False
    return done


def held_against(command: str, value: Any) -> None:
    whole = closed(copy.deepcopy(json.loads(SCHEMA.read_text())))
    checker = Draft202012Validator({"$ref": f"#/$defs/command {command}", "$defs": whole["$defs"]})
    assert [f"{list(error.path)}: {error.message}"[:300] for error in checker.iter_errors(value)] == []


def filled(message: Any, deep: int = 4) -> Any:
    """The message with every field set, lists with one item, as deep as that."""
    for field in message.DESCRIPTOR.fields:
        held = getattr(message, field.name)
        if field.message_type is None:
            value: Any = {field.CPPTYPE_STRING: "text", field.CPPTYPE_BOOL: True}.get(field.cpp_type, 7)
            if isinstance(held, str | int | float | bytes):
                setattr(message, field.name, value)
            else:
                held.append(value)
        elif field.message_type.GetOptions().map_entry:
            held["key"] = "value"
        elif deep and hasattr(held, "DESCRIPTOR"):
            filled(held, deep - 1)
        elif deep:
            filled(held.add(), deep - 1)
    return message


@pytest.fixture
def everything(fake: FakeCollector) -> FakeCollector:
    """A collector that has something in every field."""
    filled(fake.status)
    fake.pages = True
    fake.explanation, fake.reply = filled(api.ExplainReply()), filled(api.CommandReply())
    fake.entries, fake.late = [filled(api.HistoryEntry())], [filled(api.LateEntry())]
    fake.alerts, fake.kept = [filled(api.Alert())], [filled(api.KeptCapsule())]
    fake.keys, fake.tokens = [filled(enrolment.HostKey())], [filled(enrolment.Token())]
    fake.plan, fake.readiness = filled(api.PlanReply()), filled(api.ReadinessReply())
    fake.collectors = filled(api.CollectorsReply())
    fake.advice = filled(api.AdviseReply())
    fake.condition, fake.trial = filled(api.DoctorReply()), filled(api.TestAlertsReply())
    for check in fake.condition.checks:
        check.level = "ok"
    del fake.status.pools[1:]
    pool = fake.status.pools[0]
    filled(pool)
    pool.name, pool.pool_uuid = "demo", POOL
    for number, host in enumerate(pool.hosts[:3], 1):
        filled(host)
        host.name, host.host_uuid, host.role = f"host-{number}", HOSTS[number - 1], "member"
    fake.status.overview.lines[0].name, fake.status.overview.lines[0].pool_uuid = "demo", POOL
    del pool.hosts[3:]
    return fake


def test_the_document_is_the_contracts() -> None:
    """Made anew: .venv/bin/python packaging/develop/json_schema.py"""
    assert SCHEMA.read_text() == module().text()
    Draft202012Validator.check_schema(json.loads(SCHEMA.read_text()))


def test_every_command_has_its_schema() -> None:
    leaves = set()
    for name, command in group.commands.items():
        below = command.commands if isinstance(command, type(group)) else {}
        leaves |= {f"{name}-{each}" for each in below}
        if not below or isinstance(command, ListingOrCommand):
            leaves.add(name)
    documented = set(module().COMMANDS)
    assert leaves - WITHOUT_JSON == documented - {"query-views", "history-follow", "drill-abandon", "drill-plan"}
    assert documented == set(ACTS) | set(LOOKS) | ELSEWHERE | BY_THEIR_OWN_TESTS


@pytest.mark.parametrize("command", sorted(ACTS | LOOKS))
@pytest.mark.parametrize("full", [True, False], ids=["full", "bare"])
def test_what_is_printed(request: pytest.FixtureRequest, poolwarden: Call, command: str, full: bool) -> None:
    fake: FakeCollector = request.getfixturevalue("everything" if full else "fake")
    said = poolwarden(*(ACTS | LOOKS)[command], "--json")
    no = command == "readiness" and not full  # no pool is known, so none is ready
    status = said.json["code"] if command.startswith("check-") else 1 if no else 0
    assert fake.asked and said.status == status, said.err
    held_against(command, said.json)


def test_a_refusal_and_a_master_that_is_none(fake: FakeCollector, poolwarden: Call) -> None:
    fake.reply = api.CommandReply(text="no", code="agent-alive", next_step="wait")
    held_against("pause", poolwarden("pause", "--json").json)
    fake.status.pools[0].master_uuid = ""
    held_against("master", poolwarden("master", "--json").json)


def test_history_that_is_followed(everything: FakeCollector, poolwarden: Call) -> None:
    for line in poolwarden("history", "--follow", "--json").out.splitlines():
        held_against("history-follow", json.loads(line))


def test_query(ask: Call) -> None:  # noqa: F811
    held_against("query", ask("SELECT seq, text, NULL, 1.5, x'ff' FROM entries", "--json").json)
    held_against("query-views", ask("--json").json)


def test_a_field_that_is_not_documented_would_be_seen() -> None:
    with pytest.raises(AssertionError):
        held_against("query", {"columns": [], "rows": [], "more": False, "new": 1})
    with pytest.raises(AssertionError):
        held_against("query", {"columns": [], "rows": []})
