"""The door's lists and texts: what is too long is cut and marked, or not known; never taken for all there is."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.values import Tri
from poolwarden_collector.shell.agents.messages import bounds, facts
from poolwarden_collector.shell.agents.messages.bounds import Implausible, Limits, admit
from poolwarden_collector.shell.agents.messages.wire import Envelope, NoMessage, envelope
from poolwarden_collector.shell.plain_text import cut, printable

FORGED = "ha\nERROR x: all is well\r\x1b[2J\u2028\u202e"


def every_field(kind: Any, seen: set[str]) -> list[tuple[str, Any]]:
    if kind.name in seen:
        return []
    seen.add(kind.name)
    inside = [found for f in kind.fields if f.message_type is not None for found in every_field(f.message_type, seen)]
    return [(f"{kind.name}.{f.name}", f) for f in kind.fields] + inside


FIELDS = every_field(pb.AgentMessage.DESCRIPTOR, set())


def test_every_list_and_every_text_of_the_contract_has_a_bound() -> None:
    lists = {name for name, field in FIELDS if field.is_repeated}
    texts = {name for name, field in FIELDS if field.cpp_type == FieldDescriptor.CPPTYPE_STRING}
    assert lists == set(bounds.LISTS)
    assert not (set(bounds.TEXTS) | set(bounds.EXACT)) - texts and not set(bounds.TEXTS) & set(bounds.EXACT)
    planned: set[int] = set()

    def walk(plan: Any, kind: Any) -> None:
        for field in kind.fields:
            if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
                assert (field.number in plan.texts) != (field.number in plan.exact), f"{kind.name}.{field.name}"
                assert field.number in plan.exact or field.type != FieldDescriptor.TYPE_BYTES, field.name
                planned.add(field.number)
            if field.message_type is not None:
                walk(plan.inside[field.number], field.message_type)
        bounded = {*plan.numbers, *plan.texts, *plan.exact, *plan.lists}
        assert plan.looked_at == bounded | {number for number, each in plan.inside.items() if each.looked_at}

    walk(bounds._MESSAGE, pb.AgentMessage.DESCRIPTOR)
    assert planned


def report(**sections: Any) -> pb.AgentMessage:
    return pb.AgentMessage(sequence=1, mono_ms=1, report=pb.Report(full=True, **sections))


def test_too_many_domains_are_not_readable() -> None:
    most = report(domains=pb.DomainList(readable=True, vm_uuids=["vm"] * bounds.MOST_DOMAINS))
    assert admit(most, Limits) == () and len(facts.domains(most.report.domains) or ()) == bounds.MOST_DOMAINS
    more = report(domains=pb.DomainList(readable=True, vm_uuids=["vm"] * (bounds.MOST_DOMAINS + 1)))
    assert admit(more, Limits) == ("report.domains.vm_uuids has more than 4096 items",)
    assert more.report.HasField("domains") and facts.domains(more.report.domains) is None


def test_a_view_of_too_many_hosts_is_no_view() -> None:
    def view(hosts: int) -> pb.AgentMessage:
        listed = [pb.PoolHost(host_uuid=str(n)) for n in range(hosts)]
        return report(pool_view=pb.PoolView(pool_uuid="p", master_uuid="m", hosts=listed, ha_enabled=pb.NO))

    most, more = view(bounds.MOST_HOSTS), view(bounds.MOST_HOSTS + 1)
    assert admit(most, Limits) == () and admit(more, Limits)
    seen = facts.pool_view(most.report.pool_view)
    assert seen is not None and seen.ha_enabled is Tri.NO and len(seen.hosts) == bounds.MOST_HOSTS
    assert more.report.HasField("pool_view") and facts.pool_view(more.report.pool_view) is None


@pytest.mark.parametrize("listed", ["placements", "host_uuids"])
def test_too_many_places_are_not_readable_and_say_so(listed: str) -> None:
    most = bounds.LISTS[f"PlacementView.{listed}"]
    items: list[Any] = [pb.Placement(vm_uuid="v")] if listed == "placements" else ["h"]
    given: dict[str, Any] = {listed: items * (most + 1)}
    view = pb.PlacementView(readable=True, generation=7, **given)
    message = pb.AgentMessage(order_result=pb.OrderResult(order_id="o", placements=view))
    admit(message, Limits)
    told = facts.result(message.order_result, lambda ms: ms).placements
    assert told is not None and not told.readable and not told.placements and f"more than {most}" in told.text


def test_of_another_list_the_first_are_kept() -> None:
    disks = [pb.Disk(mount="/") for _ in range(bounds.MOST_DISKS + 9)]
    message = report(disks=pb.DiskList(disks=disks))
    assert "256" in admit(message, Limits)[0] and len(message.report.disks.disks) == bounds.MOST_DISKS


def test_a_text_that_is_too_long_is_cut_and_marked_and_equals_nothing() -> None:
    host = pb.PoolHost(host_uuid="h", name="é" * 200_000, unplugged_srs=["s" * 300])
    message = report(pool_view=pb.PoolView(pool_uuid="p", master_uuid="m", hosts=[host]))
    told = admit(message, Limits)
    assert told == (
        "report.pool_view.hosts.name is longer than 256 bytes",
        "report.pool_view.hosts.unplugged_srs is longer than 256 bytes",
    )
    held = message.report.pool_view.hosts[0]
    assert held.name.startswith("éé") and held.name.endswith("…") and 250 < len(held.name.encode()) <= 256
    assert held.unplugged_srs[0] == "s" * 253 + "…"
    exactly = report(software=pb.SoftwareFacts(build="b" * 256, xen_version="é" * 128))
    assert admit(exactly, Limits) == () and exactly.report.software.xen_version == "é" * 128


def test_nothing_that_an_agent_says_makes_a_line_or_moves_a_cursor() -> None:
    message = pb.AgentMessage(hello=pb.Hello(host_uuid="h", host_name=FORGED, capabilities=["promote", FORGED]))
    assert admit(message, Limits) == ()
    for held in (message.hello.host_name, message.hello.capabilities[1]):
        assert held.isprintable() and held == "ha\\nERROR x: all is well\\r\\x1b[2J\\u2028\\u202e"
    run = pb.OrderResult(order_id="o", fence_run=pb.FenceRun(output="a\n\x1b[2Jb", text="a\nb"))
    message = pb.AgentMessage(order_result=run)
    admit(message, Limits)
    assert message.order_result.fence_run.output == "a\n\\x1b[2Jb" and message.order_result.fence_run.text == "a\\nb"


@pytest.mark.parametrize(
    "body",
    [
        {"hello": pb.Hello(boot_id="b" * 65)},
        {"hello": pb.Hello(pool_uuid="p\nq")},
        {"order_result": pb.OrderResult(order_id="o" * 257)},
        {
            "order_result": pb.OrderResult(
                order_id="o", database=pb.DatabasePiece(chunk=b"x" * (bounds.LONGEST_PIECE + 1))
            )
        },
        {"challenge_answer": pb.ChallengeAnswer(nonce="\x00")},
        {"renewal_request": pb.RenewalRequest(csr_pem="c" * (bounds.LONGEST_CSR + 1))},
    ],
)
def test_who_speaks_and_what_is_carried_is_never_cut(body: dict[str, Any]) -> None:
    with pytest.raises(Implausible):
        admit(pb.AgentMessage(**body), Limits)


def test_what_is_carried_goes_through_whole() -> None:
    whole = pb.OrderResult(order_id="o", database=pb.DatabasePiece(path="var/x", chunk=b"\x00" * bounds.LONGEST_PIECE))
    csr = pb.RenewalRequest(csr_pem="-----BEGIN-----\nx\n", signature=b"\x00\n")
    for message in (pb.AgentMessage(order_result=whole), pb.AgentMessage(renewal_request=csr)):
        before = message.SerializeToString()
        assert admit(message, Limits) == () and message.SerializeToString() == before


# ------------------------------------------------------------------------------------------------ text


def test_text_is_escaped_where_it_is_kept() -> None:
    assert printable("plain é 日本") == "plain é 日本"
    assert printable("a\tb\nc", "\n") == "a\\tb\nc" and printable("\ud800") == "\\ud800"
    assert cut("abcdef", 6) == "abcdef" and cut("abcdefg", 6) == "abc…" and len(cut("日" * 50, 20).encode()) <= 20


# ------------------------------------------------------------------------------------------------ on the wire


def test_a_message_is_known_by_its_bytes() -> None:
    assert envelope(b"") == Envelope("", 0)
    raw = report(domains=pb.DomainList(vm_uuids=["x" * 300])).SerializeToString()
    assert envelope(raw) == Envelope("report", len(raw))
    piece = pb.DatabasePiece(chunk=b"c" * 5_000)
    raw = pb.AgentMessage(sequence=2**63, order_result=pb.OrderResult(order_id="o", database=piece)).SerializeToString()
    assert envelope(raw) == Envelope("order_result", len(raw), piece.ByteSize())
    for name, field in FIELDS:
        if name.startswith("AgentMessage.") and field.message_type is not None:
            body = {field.name: {}}
            assert envelope(pb.AgentMessage(**body).SerializeToString()).body == field.name


@pytest.mark.parametrize(
    "raw",
    [
        b"\x22\x05abc",  # a report of five bytes that has three
        b"\x22\xff",  # ends within its length
        b"\xff" * 12,  # no number has so many bytes
        b"\x23\x00",  # a group: not of this contract
        b"\x22\x00\x22\x00",  # two bodies
        b"\x08\x01" * 33,  # more fields than a message has
        b"\x09abc",  # a wide number that ends too early
    ],
)
def test_bytes_that_are_no_message_are_refused_without_a_look_into_them(raw: bytes) -> None:
    with pytest.raises(NoMessage):
        envelope(raw)


def test_a_later_versions_field_is_walked_over() -> None:
    raw = pb.AgentMessage(goodbye=pb.Goodbye()).SerializeToString() + b"\xf2\x06\x03abc" + b"\xf5\x06abcd"
    assert envelope(raw).body == "goodbye"


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("fd00::1", "fd00::1"),
        ("[fd00::1]", "fd00::1"),
        ("FD00:0:0:0:0:0:0:1", "fd00::1"),
        ("fd00:0000::0001", "fd00::1"),
        ("198.51.100.1", "198.51.100.1"),
        ("xen1.example.org", "xen1.example.org"),
        ("", ""),
        ("[fd00::x]", "[fd00::x]"),
    ],
)
def test_an_address_has_one_form_behind_the_door(told: str, kept: str) -> None:
    message = pb.AgentMessage(
        report=pb.Report(
            management_address=told,
            role=pb.RoleFacts(master_address=told, running_master_address=told),
            probes=pb.ProbeList(probes=[pb.Probe(address=told)]),
            pool_view=pb.PoolView(hosts=[pb.PoolHost(address=told, name=told)]),
            tombstone=pb.Tombstone(term=1, successor_address=told),
        )
    )
    admit(message, Limits)
    role = facts.role(message.report.role, lambda at: at)
    assert (role.master_address, role.running_master_address) == (kept, kept)
    host = message.report.pool_view.hosts[0]
    assert (host.address, host.name, message.report.probes.probes[0].address) == (kept, told, kept)
    assert (message.report.management_address, message.report.tombstone.successor_address) == (kept, kept)
    answer = pb.AgentMessage(
        order_result=pb.OrderResult(order_id="o", roles=[pb.RoleAnswer(address=told, follows=told)])
    )
    admit(answer, Limits)
    assert (answer.order_result.roles[0].address, answer.order_result.roles[0].follows) == (kept, kept)


def test_every_address_of_the_contract_has_that_form() -> None:
    """But a BMC's, which nothing is compared with."""
    texts = {name for name, field in FIELDS if field.cpp_type == FieldDescriptor.CPPTYPE_STRING}
    named = {name for name in texts if "address" in name.rpartition(".")[2]} - {"MachineIdentity.bmc_address"}
    assert named | {"RoleAnswer.follows"} == bounds.ADDRESSES


# ------------------------------------------------------------------------------------------------ looked at together

_TEXTS = (
    "",
    "plain",
    "10.0.0.1",
    "fe80::1",
    "[2001:DB8::1]",
    "é",
    "a\nb",
    "\x1b[2J",
    "x" * 256,
    "x" * 257,
    "x" * 1_025,
)
_NUMBERS = (0, 1, bounds.MOST, bounds.MOST + 1, (1 << 63) - 1)


def _quick_kinds() -> list[tuple[bounds._Plan, Any]]:
    found: dict[str, tuple[bounds._Plan, Any]] = {}

    def walk(plan: bounds._Plan, kind: Any) -> None:
        found[kind.full_name] = plan, kind
        for field in kind.fields:
            if field.message_type is not None:
                walk(plan.inside[field.number], field.message_type)

    walk(bounds._MESSAGE, pb.AgentMessage.DESCRIPTOR)
    return list(found.values())


@pytest.mark.parametrize("plan,kind", _quick_kinds(), ids=lambda each: getattr(each, "name", ""))
def test_what_is_looked_at_together_is_what_each_field_by_itself_would_leave_as_it_is(plan: Any, kind: Any) -> None:
    """Whatever one field holds; and of a message of a host that runs the short way is taken."""
    make = message_factory.GetMessageClass(kind)
    alone = not (plan.exact or plan.lists or plan.inside)
    decides = {bounds._Bound.EPOCH, bounds._Bound.TERM} & set(plan.numbers.values())
    assert plan.quick(make()) == (alone and not decides)
    for field in kind.fields:
        texts = field.number in plan.texts and not field.is_repeated
        for value in _TEXTS if texts else _NUMBERS if field.number in plan.numbers else ():
            message = make(**{field.name: value})
            before, walk = message.SerializeToString(), bounds._Walk(Limits)
            quick = plan.quick(message)
            try:
                walk.through(message, plan, "report")
                left = message.SerializeToString() == before and not walk.cut
            except Implausible:
                left = False
            assert left or not quick, (field.name, value)
            plain = value in ("", "plain", "10.0.0.1", 0, 1, bounds.MOST)
            assert quick or not alone or decides or not plain, (field.name, value)
