"""The contract's order becomes the plain value of its kind: once, and whole."""

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import host_now, order_kinds, orders
from poolwarden_agent.core.piece import Piece
from poolwarden_agent.messages.orders import from_message

TARGET, PLAIN = pb.ProbeTarget(host_uuid="h2", address="10.0.0.2", port=80), orders.Target("h2", "10.0.0.2", 80)
CASES = [
    (
        {"claim": pb.Claim(old_master=TARGET, probe_timeout_ms=500, want_placements=True)},
        orders.Claim(PLAIN, 500, True),
    ),
    ({"promote": pb.Promote(hold_gc=True)}, orders.Promote(True)),
    ({"repoint": pb.Repoint(master_address="10.0.0.2")}, orders.Repoint("10.0.0.2")),
    ({"restart_xapi": pb.RestartXapi(as_master_ok=True)}, orders.RestartXapi(True)),
    (
        {"set_tombstone": pb.SetTombstone(clear=True, successor_uuid="h2", successor_address="10.0.0.2")},
        orders.SetTombstone(True, "h2", "10.0.0.2"),
    ),
    ({"toolstack_fence": pb.ToolstackFence(successor_uuid="h2")}, orders.ToolstackFence("h2")),
    (
        {
            "toolstack_release": pb.ToolstackRelease(
                release_as=pb.ToolstackRelease.AS_MASTER, master_address="10.0.0.2", restore_generation=7
            )
        },
        orders.ToolstackRelease(orders.AS_MASTER, "10.0.0.2", 7),
    ),
    (
        {"toolstack_release": pb.ToolstackRelease(master_address="10.0.0.2")},
        orders.ToolstackRelease("", "10.0.0.2", 0),
    ),
    (
        {
            "place_database": pb.PlaceDatabase(
                generation=5, total_bytes=9, offset=3, chunk=b"abc", sha256="s", remove=True, held_master=True
            )
        },
        orders.PlaceDatabase(Piece(5, 9, 3, 3, "s", True, True), b"abc"),
    ),
    ({"release_gc": pb.ReleaseGc()}, orders.ReleaseGc()),
    ({"sync_database": pb.SyncDatabase()}, orders.SyncDatabase()),
    ({"designate_master": pb.DesignateMaster(host_uuid="h2")}, orders.DesignateMaster("h2")),
    ({"declare_host_dead": pb.DeclareHostDead(host_uuid="h2")}, orders.DeclareHostDead("h2")),
    ({"enable_host": pb.EnableHost(host_uuid="h2")}, orders.EnableHost("h2")),
    ({"recover_members": pb.RecoverMembers()}, orders.RecoverMembers()),
    ({"start_vm": pb.StartVm(vm_uuid="v1", host_uuid="h2")}, orders.StartVm("v1", "h2")),
    (
        {"probe_now": pb.ProbeNow(targets=[TARGET], probe_timeout_ms=500, nonce="n", ask_role=[TARGET, TARGET])},
        orders.ProbeNow((PLAIN,), 500, "n", (PLAIN, PLAIN)),
    ),
    ({"collect_evidence": pb.CollectEvidence(want_placements=True)}, orders.CollectEvidence(True)),
    ({"read_database": pb.ReadDatabase(max_bytes=9, offset=3, path="p")}, orders.ReadDatabase("p", 3, 9)),
    ({"locate_vms": pb.LocateVms(vm_uuids=["v1", "v2"])}, orders.LocateVms(("v1", "v2"))),
    (
        {
            "fence_proxy": pb.FenceProxy(
                agent="fence_x",
                action="off",
                parameters={"ip": "10.0.0.9"},
                limit_ms=2000,
                host_uuid="h2",
                secrets=["password"],
                target_address="10.0.0.2",
            )
        },
        orders.FenceProxy("fence_x", "off", {"ip": "10.0.0.9"}, 2000, "h2", ("password",), "10.0.0.2"),
    ),
    (
        {"show_message": pb.ShowMessage(key="k", name="POOLWARDEN_X", priority=2, body="b", repeated=True)},
        orders.ShowMessage("k", "POOLWARDEN_X", 2, "b", True),
    ),
]


@pytest.mark.parametrize("body, expected", CASES, ids=lambda each: next(iter(each)) if isinstance(each, dict) else "")
def test_each_kind_is_converted_whole(body, expected):
    order = from_message(pb.Order(**body))
    assert order.body == expected and type(order.body) is type(expected) and order.kind == next(iter(body))


def test_every_kind_of_the_contract_has_a_name_a_row_and_a_case():
    contract = {field.name for field in pb.Order.DESCRIPTOR.oneofs_by_name["kind"].fields}
    assert set(orders.NAMES.values()) == set(order_kinds.KNOWN) == {next(iter(body)) for body, _ in CASES} == contract
    assert len(order_kinds.KINDS) == len(contract)


def test_what_is_common_to_all_kinds_is_converted_whole():
    message = pb.Order(
        order_id="o", epoch=1, term=2, pool_uuid="p", host_uuid="h", boot_id="b", echo_mono_ms=3, valid_for_ms=4
    )
    pre, said = message.preconditions, pb.RoleFacts
    pre.pool_conf_in.extend([said.MASTER, said.MEMBER, said.BROKEN, said.KIND_UNSPECIFIED])
    pre.pool_conf_master_address, pre.ha_off, pre.xapi_pid, pre.xapi_start_ticks = "10.0.0.1", True, 5, 6
    pre.min_root_free_bytes, pre.not_tombstoned = 7, True
    roles = (host_now.MASTER, host_now.MEMBER, host_now.BROKEN, "unknown")
    process = host_now.Process(5, 6)
    common = ("o", 1, 2, "p", "h", "b", 3, 4, roles, "10.0.0.1", True, process, 7, True, None)
    assert from_message(message) == (*common, False, "")
    message.approval.by = "anna"
    assert from_message(message, signed=True) == (*common, True, "anna")
