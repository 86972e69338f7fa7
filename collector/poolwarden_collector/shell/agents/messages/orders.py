"""The core's orders as messages to agents. The shell adds what the core does not know: epoch, pool, echoed stamp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model import orders as core
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.values import Ms, PoolId, Role

PROTOCOL_VERSION = 1
_POOL_VIEW_EVERY_MS = 10_000
_GATE_VALID_MS = 15_000

_ROLE = {
    Role.MASTER: pb.RoleFacts.MASTER,
    Role.MEMBER: pb.RoleFacts.MEMBER,
    Role.BROKEN: pb.RoleFacts.BROKEN,
    Role.UNKNOWN: pb.RoleFacts.KIND_UNSPECIFIED,
}


def order(
    given: core.Order,
    epoch: int,
    pool: PoolId,
    echo_mono_ms: int,
    probe_timeout_ms: int,
    wall_ms: Callable[[Ms], int] = lambda at: 0,
) -> pb.CollectorMessage:
    """One order, expiring ``valid_for_ms`` after ``echo_mono_ms`` on the agent's own clock.

    ``wall_ms``: what the wall clock said at an instant of the collector's own.
    """
    message = pb.Order(
        order_id=given.order_id,
        epoch=epoch,
        term=given.term,
        pool_uuid=pool,
        host_uuid=given.host,
        boot_id=given.boot_id,
        echo_mono_ms=echo_mono_ms,
        valid_for_ms=given.valid_for_ms,
        preconditions=_preconditions(given.preconditions),
    )
    if given.approval is not None:
        word = given.approval
        message.approval.CopyFrom(pb.Approval(by=word.by, question=word.question, at_wall_ms=wall_ms(word.at)))
    getattr(message, given.kind_name).CopyFrom(_KINDS[type(given.kind)](given.kind, probe_timeout_ms))
    return pb.CollectorMessage(order=message)


def challenge(nonce: str) -> pb.CollectorMessage:
    return pb.CollectorMessage(challenge=pb.Challenge(nonce=nonce))


def full_report(sections: Sequence[int] = ()) -> pb.CollectorMessage:
    """Ask for these sections of a report, by their field numbers; none: for all of it."""
    return pb.CollectorMessage(full_report_request=pb.FullReportRequest(sections=sections))


def settings(policy: Policy, targets: tuple[core.Target, ...] = ()) -> pb.Settings:
    """What an agent does on its own, and which xapis it probes."""
    return pb.Settings(
        report_interval_ms=policy.report_interval,
        probe_interval_ms=policy.probe_interval,
        probe_timeout_ms=policy.probe_timeout,
        probe_targets=[_target(target) for target in targets],
        pool_view_wanted=True,
        pool_view_interval_ms=_POOL_VIEW_EVERY_MS,
    )


def settings_message(policy: Policy, targets: tuple[core.Target, ...]) -> pb.CollectorMessage:
    return pb.CollectorMessage(settings=settings(policy, targets))


def welcome(epoch: int, policy: Policy, collector_name: str) -> pb.CollectorMessage:
    """The first answer on a stream. Targets follow as Settings once the core has heard of the agent."""
    return pb.CollectorMessage(
        welcome=pb.Welcome(epoch=epoch, settings=settings(policy), collector_name=collector_name, pongs=True)
    )


def _preconditions(p: core.Preconditions) -> pb.Preconditions:
    return pb.Preconditions(
        pool_conf_in=[_ROLE[role] for role in p.pool_conf_in],
        pool_conf_master_address=p.pool_conf_master_address,
        ha_off=p.ha_off,
        xapi_pid=p.process.pid,
        xapi_start_ticks=p.process.start_ticks,
        min_root_free_bytes=p.min_root_free_bytes,
        not_tombstoned=p.not_tombstoned,
    )


def _target(target: core.Target) -> pb.ProbeTarget:
    return pb.ProbeTarget(host_uuid=target.host, address=target.address, port=target.port)


def _claim(k: core.Claim, timeout: int) -> pb.Claim:
    return pb.Claim(old_master=_target(k.old_master), probe_timeout_ms=timeout, want_placements=k.want_placements)


def _probe_now(k: core.ProbeNow, timeout: int) -> pb.ProbeNow:
    targets, asked = [_target(target) for target in k.targets], [_target(target) for target in k.ask_role]
    return pb.ProbeNow(targets=targets, probe_timeout_ms=timeout, nonce=k.nonce, ask_role=asked)


def _tombstone(k: core.SetTombstone, timeout: int) -> pb.SetTombstone:
    return pb.SetTombstone(clear=k.clear, successor_uuid=k.successor, successor_address=k.successor_address)


def _release(k: core.ToolstackRelease) -> pb.ToolstackRelease:
    as_ = pb.ToolstackRelease.AS_MASTER if k.as_master else pb.ToolstackRelease.AS_MEMBER
    return pb.ToolstackRelease(
        release_as=as_, master_address=k.master_address, restore_generation=k.restore, master_uuid=k.master
    )


def _fence_proxy(k: core.FenceProxy) -> pb.FenceProxy:
    return pb.FenceProxy(
        agent=k.agent,
        action=k.action,
        parameters=dict(k.parameters),
        limit_ms=k.limit_ms,
        host_uuid=k.host,
        secrets=k.secrets,
        target_address=k.target_address,
    )


def _show(k: core.ShowMessage) -> pb.ShowMessage:
    return pb.ShowMessage(key=k.key, name=k.name, priority=k.priority, body=k.body, repeated=k.repeated)


def _place(k: core.PlaceDatabase) -> pb.PlaceDatabase:
    return pb.PlaceDatabase(
        generation=k.generation,
        total_bytes=k.total_bytes,
        offset=k.offset,
        chunk=k.chunk,
        sha256=k.sha256,
        remove=k.remove,
        held_master=k.held_master,
    )


_GATE = {"open": pb.GateAnswer.OPEN, "shut": pb.GateAnswer.SHUT, "wait": pb.GateAnswer.WAIT}


def gate_answer(given: effects.AnswerGate, epoch: int, echo_mono_ms: int) -> pb.CollectorMessage:
    """The collector's word on a boot gate, expiring on the agent's own clock."""
    answer = pb.GateAnswer(
        boot_id=given.boot_id,
        decision=_GATE[given.decision],
        reason=given.reason,
        successor_uuid=given.successor,
        successor_address=given.successor_address,
        epoch=epoch,
        term=given.term,
        echo_mono_ms=echo_mono_ms,
        valid_for_ms=_GATE_VALID_MS,
    )
    return pb.CollectorMessage(gate_answer=answer)


_KINDS: dict[type, Callable[[Any, int], Any]] = {
    core.Claim: _claim,
    core.ProbeNow: _probe_now,
    core.CollectEvidence: lambda k, _: pb.CollectEvidence(
        want_placements=k.want_placements, want_xapi_trouble=k.want_xapi_trouble
    ),
    core.Promote: lambda k, _: pb.Promote(hold_gc=k.hold_gc),
    core.ReleaseGc: lambda k, _: pb.ReleaseGc(),
    core.Repoint: lambda k, _: pb.Repoint(master_address=k.master_address, master_uuid=k.master),
    core.RestartXapi: lambda k, _: pb.RestartXapi(as_master_ok=k.as_master_ok),
    core.SetTombstone: _tombstone,
    core.ToolstackFence: lambda k, _: pb.ToolstackFence(successor_uuid=k.successor),
    core.ToolstackRelease: lambda k, _: _release(k),
    core.RecoverMembers: lambda k, _: pb.RecoverMembers(),
    core.ReadDatabase: lambda k, _: pb.ReadDatabase(max_bytes=k.max_bytes, offset=k.offset, path=k.path),
    core.PlaceDatabase: lambda k, _: _place(k),
    core.DesignateMaster: lambda k, _: pb.DesignateMaster(host_uuid=k.host),
    core.SyncDatabase: lambda k, _: pb.SyncDatabase(),
    core.DeclareHostDead: lambda k, _: pb.DeclareHostDead(host_uuid=k.host),
    core.EnableHost: lambda k, _: pb.EnableHost(host_uuid=k.host),
    core.StartVm: lambda k, _: pb.StartVm(vm_uuid=k.vm, host_uuid=k.host, only_if_wished=k.only_if_wished),
    core.FenceProxy: lambda k, _: _fence_proxy(k),
    core.ShowMessage: lambda k, _: _show(k),
    core.LocateVms: lambda k, _: pb.LocateVms(vm_uuids=k.vms),
}
