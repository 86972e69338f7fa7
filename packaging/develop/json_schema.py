"""Writes docs/json.schema.json: what each command prints with --json (JSON Schema 2020-12).

Messages of the operator's contract become definitions of their own, with the contract's comments; what a command puts
around them is written here. A field is only ever added, so nothing is closed, and every field named is always there.
The version is raised when a field goes or changes its meaning.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs/json.schema.json"
VERSION = 1
PROTOS = [ROOT / f"protos/poolwarden/v1/{name}.proto" for name in ("operator", "enrolment")]

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}


def ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def thing(**fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": list(fields)}


EVIDENCE = thing(subject=TEXT, value=TEXT, age_ms={"type": ["integer", "null"]}, witness=TEXT, text=TEXT)
DISKS_OF_HOST = thing(
    name=TEXT,
    host_uuid=TEXT,
    pool_name=TEXT,
    disks=array(ref("DiskStatus")),
    fillers=array(ref("FillerStatus")),
    cleanable=array(ref("CleanableStatus")),
    fillers_partial=FLAG,
)
MASTER = thing(uuid=TEXT, name=TEXT, address=TEXT)
REPLAYED = thing(
    kind=TEXT,
    at=TEXT,
    text=TEXT,
    verdict=TEXT,
    sentence=TEXT,
    evidence=array(EVIDENCE),
    entries=array(TEXT),
    plan=array(TEXT),
    differs=array(TEXT),
)
EXPORTED = thing(
    file=TEXT,
    sha256=TEXT,
    bytes=COUNT,
    entries=COUNT,
    decisions=COUNT,
    alerts=COUNT,
    capsules=COUNT,
    remarks=array(TEXT),
)
MONITORED: Schema = {"enum": ["OK", "WARNING", "CRITICAL", "UNKNOWN"]}
CHECKED = thing(
    status=MONITORED,
    code={"enum": [0, 1, 2, 3]},
    text=TEXT,
    findings=array(thing(status=MONITORED, text=TEXT)),
    values={"type": "object", "additionalProperties": {"type": ["number", "null"]}},
)
DRILL_STEP = thing(
    part=TEXT,
    host=TEXT,
    name=TEXT,
    state={"enum": ["passed", "failed", "skipped"]},
    phases=array(thing(phase=TEXT, took_ms={"type": ["integer", "null"]})),
    why=TEXT,
)
DRILL_OUTCOME: Schema = {"enum": ["passed", "partly", "failed", "abandoned"]}
DRILLED = thing(pool=TEXT, at=TEXT, drill=TEXT, by=TEXT, outcome=DRILL_OUTCOME, steps=array(DRILL_STEP))
CELL: Schema = {"type": ["string", "number", "null"]}
ACTS = (
    "acknowledge alerts-ack alerts-silence alerts-unsilence approve confirm-fenced declare-dead deny designate "
    "drain failover fence-bind fence-off fence-on fence-test hook-run host-enable host-why move pause recover-members "
    "release restart-xapi resume second start-lost"
)
DECISIONS = "certificate-deny enrolment-accept enrolment-refuse token-revoke"
COMMANDS: dict[str, Schema] = {
    "alerts": ref("AlertsReply"),
    "audit": ref("AuditReply"),
    "capsules": ref("ListCapsulesReply"),
    "check-collector": CHECKED,
    "check-host": CHECKED,
    "check-pool": CHECKED,
    "collectors": ref("CollectorsReply"),
    "disks": thing(hosts=array(DISKS_OF_HOST), asked=array(ref("Asked"))),
    "doctor": ref("DoctorReply"),
    "drill": DRILLED,
    "drill-abandon": ref("CommandReply"),
    "drill-plan": ref("DrillStatus"),
    "enrolment-list": ref("ListKeysReply"),
    "explain": ref("ExplainReply"),
    "export": EXPORTED,
    "fence-setup": ref("TryFenceReply"),  # with the block, below
    "fence-status": thing(host=TEXT, power=TEXT, fence_device=TEXT, devices=array(ref("FenceDeviceStatus"))),
    "history": ref("HistoryReply"),
    "history-follow": ref("HistoryEntry"),
    "host-late": ref("LateReply"),
    "host-show": ref("HostStatus"),
    "hosts": thing(hosts=array(ref("HostStatus")), asked=array(ref("Asked"))),
    "master": thing(pool=TEXT, master={"anyOf": [MASTER, {"type": "null"}]}, reason=TEXT),
    "plan": ref("PlanReply"),
    "advise-rebuild": ref("AdviseReply"),
    "advise-vms": ref("AdviseReply"),
    **dict.fromkeys(("pool-add", "pool-remove", "pool-upgrade"), ref("StatusReply")),
    "query": thing(columns=array(TEXT), rows=array(array(CELL)), more=FLAG),
    "query-views": thing(views=array(thing(name=TEXT, columns=array(TEXT), says=TEXT))),
    "readiness": ref("ReadinessReply"),
    "replay": REPLAYED,
    "status": ref("StatusReply"),
    "test-alerts": ref("TestAlertsReply"),
    "token-create": ref("CreateTokenReply"),
    "token-list": ref("ListTokensReply"),
    **{name: ref("EnrolmentReply") for name in DECISIONS.split()},
    **{name: ref("CommandReply") for name in ACTS.split()},
}


def schema() -> Schema:
    """The whole document."""
    from poolwarden.v1 import enrolment_pb2, operator_pb2

    known = {**operator_pb2.DESCRIPTOR.message_types_by_name, **enrolment_pb2.DESCRIPTOR.message_types_by_name}
    comments = _comments()
    messages: dict[str, Schema] = {}

    def add(name: str) -> None:
        if name not in messages:
            messages[name] = {}
            messages[name] = _message(known[name], comments.get(name, {}))
            for field in known[name].fields:
                if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                    add(field.message_type.name)

    for name in sorted(set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(COMMANDS)))):
        add(name)
    setup = messages["TryFenceReply"]
    commands = {**COMMANDS, "fence-setup": thing(**setup["properties"], block=TEXT)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What poolwarden prints with --json",
        "version": VERSION,
        "$defs": dict(sorted(messages.items())) | {f"command {name}": commands[name] for name in sorted(commands)},
    }


def _message(descriptor: Any, comments: dict[str, str]) -> Schema:
    fields = {}
    for field in descriptor.fields:
        kind = _kind(field)
        if descriptor.name == "HistoryEntry" and field.name == "data":
            kind = {"type": ["object", "string"]}
        if field.name in comments:
            kind = {"description": comments[field.name], **kind}
        fields[field.name] = kind
    return thing(**fields)


def _kind(field: Any) -> Schema:
    repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": TEXT}
        inner = ref(field.message_type.name)
        return array(inner) if repeated else {"anyOf": [inner, {"type": "null"}]}
    plain = {
        field.CPPTYPE_STRING: TEXT,
        field.CPPTYPE_BOOL: FLAG,
        field.CPPTYPE_DOUBLE: {"type": "number"},
        field.CPPTYPE_UINT32: COUNT,
        field.CPPTYPE_UINT64: COUNT,
    }[field.cpp_type]
    return array(plain) if repeated else plain


def _comments() -> dict[str, dict[str, str]]:
    """The contract's words on each field of each message."""
    found: dict[str, dict[str, str]] = {}
    text = "\n".join(proto.read_text() for proto in PROTOS)
    for name, body in re.findall(r"^message (\w+) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        lines = re.findall(r"^  [\w<>, ]+ (\w+) = \d+;\s*// (.*)$", body, re.MULTILINE)
        found[name] = dict(lines)
    return found


def text() -> str:
    return json.dumps(schema(), indent=1) + "\n"


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "protos")]
    TARGET.write_text(text())
    print(TARGET)
