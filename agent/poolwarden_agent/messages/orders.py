"""The contract's order as the plain value of its kind: once, and whole."""

from typing import Any, Callable, Dict, Iterable, Tuple

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import host_now, orders
from poolwarden_agent.core.piece import Piece

_ROLE = {
    pb.RoleFacts.MASTER: host_now.MASTER,
    pb.RoleFacts.MEMBER: host_now.MEMBER,
    pb.RoleFacts.BROKEN: host_now.BROKEN,
}
_RELEASE = {pb.ToolstackRelease.AS_MEMBER: orders.AS_MEMBER, pb.ToolstackRelease.AS_MASTER: orders.AS_MASTER}


def from_message(message: pb.Order, signed: bool = False) -> orders.Order:
    """The order; a kind that this agent does not know has no body."""
    kind = str(message.WhichOneof("kind"))
    pre = message.preconditions
    return orders.Order(
        order_id=message.order_id,
        epoch=message.epoch,
        term=message.term,
        pool=message.pool_uuid,
        host=message.host_uuid,
        boot_id=message.boot_id,
        echo_mono_ms=message.echo_mono_ms,
        valid_for_ms=message.valid_for_ms,
        # safety: a role that this agent does not know must not be met by a pool.conf that it cannot read.
        pool_conf_in=tuple(_ROLE.get(item) or "unknown" for item in pre.pool_conf_in),
        pool_conf_address=pre.pool_conf_master_address,
        ha_off=pre.ha_off,
        process=host_now.Process(pre.xapi_pid, pre.xapi_start_ticks),
        min_root_free_bytes=pre.min_root_free_bytes,
        not_tombstoned=pre.not_tombstoned,
        body=_BODIES[kind](getattr(message, kind)) if kind in _BODIES else None,
        signed=signed,
        approved_by=message.approval.by,
    )


def _target(each: pb.ProbeTarget) -> orders.Target:
    return orders.Target(each.host_uuid, each.address, each.port)


def _targets(some: Iterable[pb.ProbeTarget]) -> Tuple[orders.Target, ...]:
    return tuple(_target(each) for each in some)


def _place(b: pb.PlaceDatabase) -> orders.PlaceDatabase:
    piece = Piece(b.generation, b.total_bytes, b.offset, len(b.chunk), b.sha256, b.remove, b.held_master)
    return orders.PlaceDatabase(piece, b.chunk)


def _release(b: pb.ToolstackRelease) -> orders.ToolstackRelease:
    return orders.ToolstackRelease(
        _RELEASE.get(b.release_as, ""), b.master_address, b.restore_generation, b.master_uuid
    )


def _fence(b: pb.FenceProxy) -> orders.FenceProxy:
    given, secrets = dict(b.parameters), tuple(b.secrets)
    return orders.FenceProxy(b.agent, b.action, given, b.limit_ms, b.host_uuid, secrets, b.target_address)


def _show(b: pb.ShowMessage) -> orders.ShowMessage:
    return orders.ShowMessage(b.key, b.name, b.priority, b.body, b.repeated)


_BODIES: Dict[str, Callable[[Any], Any]] = {
    "claim": lambda b: orders.Claim(_target(b.old_master), b.probe_timeout_ms, b.want_placements),
    "promote": lambda b: orders.Promote(b.hold_gc),
    "repoint": lambda b: orders.Repoint(b.master_address, b.master_uuid),
    "restart_xapi": lambda b: orders.RestartXapi(b.as_master_ok),
    "set_tombstone": lambda b: orders.SetTombstone(b.clear, b.successor_uuid, b.successor_address),
    "toolstack_fence": lambda b: orders.ToolstackFence(b.successor_uuid),
    "toolstack_release": _release,
    "place_database": _place,
    "release_gc": lambda b: orders.ReleaseGc(),
    "sync_database": lambda b: orders.SyncDatabase(),
    "designate_master": lambda b: orders.DesignateMaster(b.host_uuid),
    "declare_host_dead": lambda b: orders.DeclareHostDead(b.host_uuid),
    "enable_host": lambda b: orders.EnableHost(b.host_uuid),
    "recover_members": lambda b: orders.RecoverMembers(),
    "start_vm": lambda b: orders.StartVm(b.vm_uuid, b.host_uuid, b.only_if_wished),
    "probe_now": lambda b: orders.ProbeNow(_targets(b.targets), b.probe_timeout_ms, b.nonce, _targets(b.ask_role)),
    "collect_evidence": lambda b: orders.CollectEvidence(b.want_placements, b.want_xapi_trouble),
    "read_database": lambda b: orders.ReadDatabase(b.path, b.offset, b.max_bytes),
    "locate_vms": lambda b: orders.LocateVms(tuple(b.vm_uuids)),
    "fence_proxy": _fence,
    "show_message": _show,
}
