"""Agents' messages as the core's facts. Only shapes change here: nothing is judged, nothing is defaulted to "no".

Every function takes ``at``, which turns one of the agent's monotonic stamps into the collector's clock; 0 on the wire
is "never" and becomes ``None``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from poolwarden import assumptions as table
from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden.xapi_health import HELPS
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.host_facts import (
    AssumptionSeen,
    AssumptionsSeen,
    BootGate,
    DatabaseFacts,
    DiskLevel,
    Finding,
    Freshness,
    GateState,
    Liveness,
    Machine,
    MemoryUser,
    PoolHost,
    PoolView,
    Probe,
    ProbeOutcome,
    RoleFacts,
    Tombstone,
    ToolstackHold,
    XapiFacts,
    XapiHealth,
)
from poolwarden_collector.core.model.order_results import (
    ClaimOutcome,
    DatabasePiece,
    FenceRun,
    OrderOutcome,
    Outcome,
    Placement,
    PlacementView,
    RoleAnswer,
    RoleClaim,
    StartWish,
    VmPlace,
)
from poolwarden_collector.core.model.values import Ms, ProcessId, Role, Tri
from poolwarden_collector.shell.agents.messages import troubles
from poolwarden_collector.shell.agents.messages.disks import LEVELS

At = Callable[[int], Ms | None]
HIGHEST_ORDER = 1 << 31  # of a VM, and the longest delay after it: an agent's own bounds (core/start_wish.py)
LONGEST_DELAY_S = 3_600

_TRI = {pb.YES: Tri.YES, pb.NO: Tri.NO}
_ROLE = {pb.RoleFacts.MASTER: Role.MASTER, pb.RoleFacts.MEMBER: Role.MEMBER, pb.RoleFacts.BROKEN: Role.BROKEN}
_LIVENESS = {
    pb.XapiFacts.ANSWERS: Liveness.ANSWERS,
    pb.XapiFacts.DOWN: Liveness.DOWN,
    pb.XapiFacts.STARTING: Liveness.STARTING,
    pb.XapiFacts.SILENT: Liveness.SILENT,
}
_PROBE = {
    pb.Probe.ANSWERED: ProbeOutcome.ANSWERED,
    pb.Probe.REFUSED: ProbeOutcome.REFUSED,
    pb.Probe.NO_ANSWER: ProbeOutcome.NO_ANSWER,
    pb.Probe.UNREACHABLE: ProbeOutcome.UNREACHABLE,
    pb.Probe.NOT_XAPI: ProbeOutcome.NOT_XAPI,
}
_OUTCOME = {
    pb.OrderResult.DONE: Outcome.DONE,
    pb.OrderResult.REFUSED: Outcome.REFUSED,
    pb.OrderResult.FAILED: Outcome.FAILED,
    pb.OrderResult.UNKNOWN: Outcome.UNKNOWN,
}
GOODBYES = {
    pb.Goodbye.AGENT_STOP: "agent_stop",
    pb.Goodbye.AGENT_UPGRADE: "agent_upgrade",
    pb.Goodbye.HOST_SHUTDOWN: "host_shutdown",
    pb.Goodbye.HOST_REBOOT: "host_reboot",
}


def machine(m: pb.MachineIdentity) -> Machine:
    """What a machine and its BMC say they are."""
    return Machine(
        m.system_uuid, m.system_serial, m.bmc_address, m.board_serial, m.chassis_serial, m.bmc_guid, m.vendor, m.model
    )


def hello(m: pb.Hello, pool: str) -> Hello:
    """How an agent opened its stream; ``pool`` is the pool that it belongs to (m.pool_uuid may be empty)."""
    return Hello(
        host=m.host_uuid,
        pool=pool,
        boot_id=m.boot_id,
        name=m.host_name,
        address=m.management_address,
        agent_version=m.agent_version,
        capabilities=frozenset(m.capabilities),
        machine=machine(m.machine),
        highest_epoch=m.highest_epoch,
        highest_term=m.highest_term,
        tombstone=tombstone(m.tombstone),
        last_results=tuple(_kept_result(result) for result in m.last_results),
        python_version=m.python_version,
        hold=hold(m.hold, never) if m.HasField("hold") else None,
        boot_gate=boot_gate(m.boot_gate, never) if m.HasField("boot_gate") else None,
        fence_agents=frozenset(m.fence_agents),
    )


def _kept_result(m: pb.OrderResult) -> OrderOutcome:
    """A result from the agent's durable slots. Its probes are left out: their stamps may be of another boot's clock."""
    return OrderOutcome(m.order_id, m.kind, _outcome(m), m.reason, m.text, True, m.epoch, m.term)


def tombstone(m: pb.Tombstone) -> Tombstone | None:
    return Tombstone(m.term, m.successor_uuid, m.successor_address) if m.term else None


def never(_mono_ms: int) -> Ms | None:
    """For stamps that came with a Hello: they may be of another boot's clock."""
    return None


def hold(m: pb.HoldFacts, at: At) -> ToolstackHold | None:
    return ToolstackHold(m.term, m.stopped, m.ports_closed, at(m.since_mono_ms), m.text) if m.term else None


_GATE_STATE = {
    pb.BootGateFacts.UNGATED: GateState.UNGATED,
    pb.BootGateFacts.ASKING: GateState.ASKING,
    pb.BootGateFacts.SHUT: GateState.SHUT,
    pb.BootGateFacts.OPEN: GateState.OPEN,
}


def boot_gate(m: pb.BootGateFacts, at: At) -> BootGate:
    return BootGate(_GATE_STATE.get(m.state, GateState.UNKNOWN), m.reason, at(m.since_mono_ms), m.term)


def role_kind(kind: int) -> Role:
    return _ROLE.get(kind, Role.UNKNOWN)  # type: ignore[call-overload,no-any-return]


def freshness(m: pb.Freshness, at: At) -> Freshness:
    return Freshness(at(m.host_mono_ms), at(m.xapi_mono_ms), at(m.probes_mono_ms), at(m.pool_view_mono_ms))


def role(m: pb.RoleFacts, at: At) -> RoleFacts:
    return RoleFacts(
        pool_conf=_ROLE.get(m.pool_conf, Role.UNKNOWN),
        master_address=m.master_address,
        running=_ROLE.get(m.running, Role.UNKNOWN),
        running_master_address=m.running_master_address,
        serves_as_master=m.serves_as_master,
    )


def xapi(m: pb.XapiFacts, at: At) -> XapiFacts:
    return XapiFacts(
        liveness=_LIVENESS.get(m.liveness, Liveness.UNKNOWN),
        liveness_since=at(m.liveness_since_mono_ms),
        socket_liveness=_LIVENESS.get(m.socket_liveness, Liveness.UNKNOWN),
        socket_since=at(m.socket_since_mono_ms),
        process=ProcessId(m.pid, m.start_ticks),
        emergency=tri(m.emergency),
        emergency_code=m.emergency_code,
        emergency_text=m.emergency_text,
        orphaned=m.orphaned,
        orphaned_since=at(m.orphaned_since_mono_ms),
        startup_cookie=m.startup_cookie,
        health=_health(m, at),
        slow_ms=m.slow_ms,
        unasked_starts=m.unasked_starts,
        ended_at=at(m.ended_mono_ms) if m.ended_mono_ms else None,
    )


_HEALTH = {
    pb.XapiFacts.HEALTH_ANSWERS: "answers",
    pb.XapiFacts.HEALTH_SLOW: "slow",
    pb.XapiFacts.HEALTH_STARTING: "starting",
    pb.XapiFacts.HEALTH_DOWN: "down",
    pb.XapiFacts.HEALTH_HUNG: "hung",
    pb.XapiFacts.HEALTH_WEDGED: "wedged",
    pb.XapiFacts.HEALTH_ORPHANED: "orphaned",
    pb.XapiFacts.HEALTH_EMERGENCY: "emergency",
}


def _health(m: pb.XapiFacts, at: At) -> XapiHealth | None:
    """``None`` from an agent that does not judge it, or has not looked yet."""
    word = _HEALTH.get(m.health)
    helps = m.health_help if m.health_help in HELPS else ""  # a host decides no command that is typed elsewhere
    return XapiHealth(word, m.health_text, helps, at(m.health_since_mono_ms)) if word else None


def database(m: pb.DatabaseFacts, at: At) -> DatabaseFacts:
    return DatabaseFacts(
        generation=m.generation,
        loaded_from=m.loaded_from,
        changed_at=at(m.changed_mono_ms),
        ha_armed=tri(m.ha_armed),
        rolling_upgrade=tri(m.rolling_upgrade),
        sound=tri(m.sound),
        unsound_text=m.unsound_text,
    )


def domains(m: pb.DomainList) -> tuple[str, ...] | None:
    """Running VMs; ``None`` where the list is not known, which is not the same as none."""
    return tuple(m.vm_uuids) if m.readable else None


def probes(m: pb.ProbeList, at: At) -> tuple[Probe, ...]:
    return tuple(found for found in (probe(p, at) for p in m.probes) if found is not None)


def probe(m: pb.Probe, at: At) -> Probe | None:
    """One probe; ``None`` for one that was never made, which says nothing about its target."""
    probed = at(m.probed_mono_ms)
    if probed is None:
        return None
    return Probe(
        target=m.host_uuid,
        address=m.address,
        outcome=_PROBE.get(m.outcome, ProbeOutcome.UNKNOWN),
        probed_at=probed,
        answered_at=at(m.answered_mono_ms),
        unanswered_since=at(m.unanswered_since_mono_ms),
        certificate=m.certificate_sha256,
        text=m.text,
    )


def pool_view(m: pb.PoolView) -> PoolView | None:
    if not m.pool_uuid and not m.master_uuid:
        return None
    hosts = tuple(_pool_host(h) for h in m.hosts)
    upgrade, busy = tri(m.rolling_upgrade), tuple(m.busy_tasks)
    return PoolView(m.pool_uuid, m.pool_name, m.master_uuid, hosts, tri(m.ha_enabled), upgrade, busy)


def _pool_host(m: pb.PoolHost) -> PoolHost:
    return PoolHost(
        m.host_uuid,
        m.name,
        m.address,
        m.enabled,
        m.live,
        tuple(m.unplugged_srs),
        m.default_sr_unplugged,
        tuple(m.pending_guidances),
        tri(m.https_only),
    )


def memory(m: pb.MemoryFacts, at: At) -> dict[str, Any]:
    """The fields of HostFacts that are about dom0's memory."""
    return {
        "memory_total": m.total_bytes,
        "memory_available": m.available_bytes,
        "memory_level": LEVELS.get(m.level, DiskLevel.UNKNOWN),
        "memory_level_since": at(m.level_since_mono_ms),
        "memory_empty_in_ms": m.empty_in_ms,
        "memory_users": tuple(MemoryUser(user.name, user.pid, user.bytes) for user in m.biggest),
    }


def product(m: pb.SoftwareFacts) -> str:
    return f"{m.product_brand} {m.product_version}".strip()


_FINDINGS = {pb.AssumptionResult.HOLDS: Finding.HOLDS, pb.AssumptionResult.FAILS: Finding.FAILS}


def assumptions(m: pb.AssumptionList, boot_id: str, at: At) -> AssumptionsSeen:
    """What a host has shown of the table's; the last word on each counts, and of others only how many there are."""
    results: dict[str, AssumptionSeen] = {}
    unknown = 0
    for each in m.results:
        if each.id not in table.BY_ID:
            unknown += 1
        elif (finding := _FINDINGS.get(each.finding)) is not None:
            # A stamp of another boot is of another clock.
            seen_at = at(each.seen_mono_ms) if each.boot_id == boot_id else None
            results[each.id] = AssumptionSeen(each.id, finding, each.evidence, each.release, seen_at)
    return AssumptionsSeen(tuple(results.values()), unknown)


def result(m: pb.OrderResult, at: At) -> OrderOutcome:
    """An answer to an order of this stream."""
    return OrderOutcome(
        order_id=m.order_id,
        kind=m.kind,
        outcome=_outcome(m),
        reason=m.reason,
        text=m.text,
        replayed=m.replayed,
        epoch=m.epoch,
        term=m.term,
        claim=_claim(m.claim, at) if m.HasField("claim") else None,
        probes=probes(m.probes, at),
        nonce=m.nonce,
        placements=_placements(m.placements) if m.HasField("placements") else None,
        database=_piece(m.database) if m.HasField("database") else None,
        vm_places=tuple(_vm_place(place) for place in m.vm_places),
        hold=hold(m.hold, at) if m.HasField("hold") else None,
        roles=tuple(_role_answer(answer) for answer in m.roles),
        fence_run=_fence_run(m.fence_run) if m.HasField("fence_run") else None,
        trouble=troubles.trouble(m.xapi_trouble, at) if m.HasField("xapi_trouble") else None,
        looked=m.HasField("xapi_trouble"),
    )


_SAID = {
    pb.RoleAnswer.FOLLOWS: RoleClaim.FOLLOWS,
    pb.RoleAnswer.ACTS: RoleClaim.ACTS,
    pb.RoleAnswer.UNTOLD: RoleClaim.UNTOLD,
}


def _role_answer(m: pb.RoleAnswer) -> RoleAnswer:
    said = _SAID.get(m.said, RoleClaim.SILENT)
    return RoleAnswer(m.host_uuid, said, m.follows, m.followed_answers, m.certificate, m.text)


def _fence_run(m: pb.FenceRun) -> FenceRun:
    return FenceRun(m.code, m.output, m.errors, m.text)


def _piece(m: pb.DatabasePiece) -> DatabasePiece:
    return DatabasePiece(m.path, m.generation, m.total_bytes, m.offset, m.chunk, m.sha256)


def _vm_place(m: pb.VmPlace) -> VmPlace:
    hosts = tuple((h.host_uuid, h.refusal) for h in m.hosts)
    return VmPlace(m.vm_uuid, m.name, m.power_state, hosts, m.text, _wish(m.wish) if m.HasField("wish") else None)


def _wish(m: pb.StartWish) -> StartWish:
    return StartWish(m.wished, m.against, min(m.order, HIGHEST_ORDER), 1_000 * min(m.delay_s, LONGEST_DELAY_S))


def _outcome(m: pb.OrderResult) -> Outcome:
    return _OUTCOME.get(m.outcome, Outcome.UNKNOWN)


def _claim(m: pb.ClaimResult, at: At) -> ClaimOutcome:
    return ClaimOutcome(
        last_look=probe(m.last_look, at) if m.HasField("last_look") else None,
        placements=_placements(m.placements) if m.HasField("placements") else None,
        # safety: a veto without words is still a veto; the core reads the text.
        veto=(m.veto_text or "it vetoes without saying why") if m.veto else "",
    )


def _placements(m: pb.PlacementView) -> PlacementView:
    placed = tuple(Placement(p.vm_uuid, p.host_uuid, p.name) for p in m.placements)
    return PlacementView(m.readable, m.generation, m.source, placed, m.text, tuple(m.host_uuids))


def tri(value: int) -> Tri:
    return _TRI.get(value, Tri.UNKNOWN)  # type: ignore[call-overload,no-any-return]
