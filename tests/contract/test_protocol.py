"""The contract on the newest protobuf: every message survives its own bytes, and what the design promises is in it."""

import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto

from poolwarden.v1 import agent_link_pb2, agent_link_pb2_grpc, operator_pb2_grpc

from . import protocol_bytes

ROOT = Path(__file__).resolve().parents[2]
ORDERS = {
    "restart_xapi", "toolstack_fence", "toolstack_release", "promote", "repoint", "recover_members", "read_database",
    "place_database", "designate_master", "sync_database", "declare_host_dead", "enable_host", "claim", "set_tombstone",
    "probe_now", "collect_evidence", "fence_proxy", "start_vm", "locate_vms", "release_gc",
    "show_message",
}  # fmt: skip
MEASURES = re.compile(
    r"(^|_)(ms|interval|timeout|age|since|valid|duration|delay|bytes|size|ticks|time|memory|quiet|cooldown|up|free|total|percent)(_|$)"
)
UNITS = re.compile(r"(^|_)(ms|bytes|percent|inodes|ticks)(_|\b)|\b(ms|bytes|percent|inodes|clock ticks|seconds)\b")
FIELD = re.compile(r"\b(?:u?int32|u?int64|double|float)\s+(\w+)\s*=\s*\d+\s*;[^\S\n]*(//[^\n]*)?")
PROTOS = sorted((ROOT / "protos/poolwarden/v1").glob("*.proto"))


@pytest.mark.parametrize(
    ("name", "message"), list(protocol_bytes.fillings()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_round_trip(name: str, message: Any) -> None:
    data = message.SerializeToString()
    assert data or not message.DESCRIPTOR.fields, name
    assert type(message).FromString(data) == message
    assert type(message).FromString(b"") != message or not message.DESCRIPTOR.fields


def test_fillings_reach_every_field() -> None:
    """All fields of a type are set in its fillings together; otherwise the round trip proves less than it says."""
    reached: dict[str, set[str]] = {}
    for name, message in protocol_bytes.fillings():
        reached.setdefault(name.split("/")[0], set()).update(field.name for field, _ in message.ListFields())
    for kind in protocol_bytes.message_types():
        assert reached[kind.DESCRIPTOR.full_name] == {field.name for field in kind.DESCRIPTOR.fields}


def test_unknown_fields_are_ignored() -> None:
    """An agent of the next version may say more than we know."""
    extended = (
        agent_link_pb2.Goodbye(reason=agent_link_pb2.Goodbye.HOST_REBOOT).SerializeToString() + b"\xba\x3e\x03abc"
    )
    assert agent_link_pb2.Goodbye.FromString(extended).reason == agent_link_pb2.Goodbye.HOST_REBOOT


def test_every_order_of_the_design_is_there() -> None:
    (kind,) = agent_link_pb2.Order.DESCRIPTOR.oneofs
    assert {field.name for field in kind.fields} == ORDERS


def test_an_order_carries_what_the_gate_checks() -> None:
    fields = agent_link_pb2.Order.DESCRIPTOR.fields_by_name
    assert {
        "order_id",
        "epoch",
        "term",
        "pool_uuid",
        "host_uuid",
        "boot_id",
        "echo_mono_ms",
        "valid_for_ms",
        "preconditions",
    } <= set(fields)


@pytest.mark.parametrize("name", ["AgentMessage", "CollectorMessage", "Order"])
def test_lease_fields_stay_reserved(name: str) -> None:
    described = DescriptorProto()
    getattr(agent_link_pb2, name).DESCRIPTOR.CopyToProto(described)
    assert [(found.start, found.end) for found in described.reserved_range] == [(60, 70)]
    assert described.reserved_name
    assert all(word.startswith("lease_") for word in described.reserved_name)


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.name)
def test_every_measure_says_its_unit(proto: Any) -> None:
    fields = FIELD.findall(proto.read_text())
    assert len(fields) > 5
    unitless = [name for name, comment in fields if MEASURES.search(name) and not UNITS.search(f"{name} {comment}")]
    assert unitless == []


def test_services_are_there() -> None:
    assert callable(agent_link_pb2_grpc.AgentLinkStub)
    assert {"Status", "Explain", "Command", "History", "Follow", "Alerts"} <= set(
        vars(operator_pb2_grpc.OperatorServicer)
    )


def test_stubs_are_those_of_the_protos() -> None:
    """The committed Python was generated from the committed .proto: every message and field name stands in both."""
    for module, proto in zip(protocol_bytes.MODULES, PROTOS, strict=True):
        source = re.sub(r"//[^\n]*", "", proto.read_text())
        assert sorted(re.findall(r"\bmessage (\w+)", source)) == sorted(names_in(module))
        described = {field.name for kind in protocol_bytes.message_types() for field in kind.DESCRIPTOR.fields}
        assert set(re.findall(r"[\w.>]\s+(\w+)\s*=\s*\d+\s*;", source)) - enum_values(module) <= described


def names_in(module: Any) -> list[str]:
    """Names of the message types of one generated module, nested ones included."""
    file = module.DESCRIPTOR.name
    return [kind.DESCRIPTOR.name for kind in protocol_bytes.message_types() if kind.DESCRIPTOR.file.name == file]


def enum_values(module: Any) -> set[str]:
    """Names of all enum values of one generated module."""
    enums = list(module.DESCRIPTOR.enum_types_by_name.values())
    enums += [enum for kind in protocol_bytes.message_types() for enum in kind.DESCRIPTOR.enum_types]
    return {value.name for enum in enums for value in enum.values}
