"""Between the host side's plain values and the contract's messages. Imports protobuf, never grpc."""

from typing import Any, List, Optional, Tuple

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent import PROTOCOL_VERSION, __version__, host_port
from poolwarden_agent.core import boot_gate, gate_state, health, host_now, order_gate, orders, probe_rules
from poolwarden_agent.core import memory as rules
from poolwarden_agent.dom0.xapi import database as statedb
from poolwarden_agent.messages.disks import LEVELS

LONGEST_FAULTS = 500  # characters: three faults
LONGEST_VIEW = 3 * 1024 * 1024  # bytes; a frame on the pipe holds 4 MiB
_ROLE = {
    host_now.MASTER: pb.RoleFacts.MASTER,
    host_now.MEMBER: pb.RoleFacts.MEMBER,
    host_now.BROKEN: pb.RoleFacts.BROKEN,
    "": pb.RoleFacts.KIND_UNSPECIFIED,
}
_LIVENESS = {
    probe_rules.ANSWERS: pb.XapiFacts.ANSWERS,
    probe_rules.DOWN: pb.XapiFacts.DOWN,
    probe_rules.STARTING: pb.XapiFacts.STARTING,
    probe_rules.SILENT: pb.XapiFacts.SILENT,
    probe_rules.UNKNOWN: pb.XapiFacts.LIVENESS_UNSPECIFIED,
}
_HEALTH = {
    probe_rules.ANSWERS: pb.XapiFacts.HEALTH_ANSWERS,
    health.SLOW: pb.XapiFacts.HEALTH_SLOW,
    probe_rules.STARTING: pb.XapiFacts.HEALTH_STARTING,
    probe_rules.DOWN: pb.XapiFacts.HEALTH_DOWN,
    health.HUNG: pb.XapiFacts.HEALTH_HUNG,
    health.WEDGED: pb.XapiFacts.HEALTH_WEDGED,
    health.ORPHANED: pb.XapiFacts.HEALTH_ORPHANED,
    health.EMERGENCY: pb.XapiFacts.HEALTH_EMERGENCY,
}
_PROBE = {
    probe_rules.ANSWERED: pb.Probe.ANSWERED,
    probe_rules.REFUSED: pb.Probe.REFUSED,
    probe_rules.NO_ANSWER: pb.Probe.NO_ANSWER,
    probe_rules.UNREACHABLE: pb.Probe.UNREACHABLE,
    probe_rules.NOT_XAPI: pb.Probe.NOT_XAPI,
}
_OUTCOME = {
    orders.DONE: pb.OrderResult.DONE,
    orders.REFUSED: pb.OrderResult.REFUSED,
    orders.FAILED: pb.OrderResult.FAILED,
    orders.UNKNOWN: pb.OrderResult.UNKNOWN,
}


def tri(value: Optional[bool]) -> Any:
    if value is None:
        return pb.TRISTATE_UNSPECIFIED
    return pb.YES if value else pb.NO


def machine(identity: host_port.Identity) -> pb.MachineIdentity:
    """What this machine and its BMC say they are."""
    return pb.MachineIdentity(
        system_uuid=identity.system_uuid,
        system_serial=identity.system_serial,
        bmc_address=identity.bmc_address,
        board_serial=identity.board_serial,
        chassis_serial=identity.chassis_serial,
        bmc_guid=identity.bmc_guid,
        vendor=identity.vendor,
        model=identity.model,
    )


def hello(
    identity: host_port.Identity, state: gate_state.GateState, pool: str, address: str, python_version: str
) -> pb.Hello:
    """The Hello of a stream, without what the host can carry out."""
    return pb.Hello(
        agent_version=__version__,
        protocol_version=PROTOCOL_VERSION,
        host_uuid=identity.host,
        pool_uuid=pool,
        boot_id=identity.boot_id,
        machine=machine(identity),
        highest_epoch=state.epoch,
        highest_term=state.term,
        tombstone=tombstone(state.tombstone) if state.tombstone is not None else None,
        last_results=[result(item, state) for item in order_gate.results_kept(state)],
        host_name=identity.name,
        management_address=address,
        python_version=python_version,
    )


def tombstone(value: Optional[gate_state.Tombstone]) -> pb.Tombstone:
    """Term 0 in a report says: none."""
    if value is None:
        return pb.Tombstone()
    return pb.Tombstone(term=value.term, successor_uuid=value.successor, successor_address=value.address)


def hold(value: Optional[gate_state.Hold], seen: Optional[host_port.Toolstack], boot_id: str) -> pb.HoldFacts:
    """The hold as it was observed; term 0 in a report says: not held."""
    if value is None:
        return pb.HoldFacts()
    if seen is None:
        seen = host_port.Toolstack(False, False, "it has not been looked at yet")
    since = value.since_ms if value.boot_id == boot_id else 0
    return pb.HoldFacts(
        term=value.term, stopped=seen.stopped, ports_closed=seen.ports_closed, since_mono_ms=since, text=seen.text
    )


def database_piece(item: host_port.DatabasePiece) -> pb.DatabasePiece:
    return pb.DatabasePiece(
        path=item.path,
        generation=item.generation,
        total_bytes=item.total_bytes,
        offset=item.offset,
        chunk=item.chunk,
        sha256=item.sha256,
    )


def result(item: gate_state.Result, state: gate_state.GateState, replayed: bool = False) -> pb.OrderResult:
    return pb.OrderResult(
        order_id=item.order_id,
        kind=item.kind,
        outcome=_OUTCOME[item.outcome],
        reason=item.reason,
        text=item.text,
        replayed=replayed,
        epoch=state.epoch,
        term=state.term,
    )


def probe(watch: probe_rules.Watch) -> pb.Probe:
    return pb.Probe(
        host_uuid=watch.target,
        address=watch.address,
        outcome=_PROBE[watch.outcome],
        probed_mono_ms=watch.probed_ms,
        answered_mono_ms=watch.answered_ms,
        unanswered_since_mono_ms=watch.unanswered_since_ms,
        certificate_sha256=watch.certificate,
        text=watch.text,
    )


_SAID = {
    boot_gate.SILENT: pb.RoleAnswer.SILENT,
    boot_gate.FOLLOWS: pb.RoleAnswer.FOLLOWS,
    boot_gate.ACTS: pb.RoleAnswer.ACTS,
    boot_gate.UNTOLD: pb.RoleAnswer.UNTOLD,
}


def role_answer(target: orders.Target, told: boot_gate.Told, there: bool) -> pb.RoleAnswer:
    """What one host says of its role; ``there``: a host answers at the address that it follows."""
    return pb.RoleAnswer(
        host_uuid=target.host,
        address=target.address,
        said=_SAID[told.said],
        follows=told.master,
        followed_answers=there,
        certificate=told.certificate,
        text=told.text,
    )


def placements(view: statedb.View) -> pb.PlacementView:
    items = [pb.Placement(vm_uuid=p.vm, host_uuid=p.host, name=p.name) for p in view.placements]
    found = pb.PlacementView(
        readable=view.readable, generation=view.generation, source=view.source, placements=items, text=view.text
    )
    found.host_uuids.extend(view.hosts)
    if found.ByteSize() > LONGEST_VIEW:  # half of them would look like all of them
        text = "%d placements are more than one message holds" % len(items)
        return pb.PlacementView(readable=False, generation=view.generation, source=view.source, text=text)
    return found


def role(conf: str, address: str, seen: Any) -> pb.RoleFacts:
    return pb.RoleFacts(
        pool_conf=_ROLE[conf],
        master_address=address,
        running=_ROLE[seen.running],
        running_master_address=seen.running_master,
        serves_as_master=seen.serves,
    )


def xapi(seen: Any, orphaned: bool, orphaned_since_ms: int) -> pb.XapiFacts:
    return pb.XapiFacts(
        liveness=_LIVENESS[seen.tcp],
        liveness_since_mono_ms=seen.tcp_since_ms,
        socket_liveness=_LIVENESS[seen.socket],
        socket_since_mono_ms=seen.socket_since_ms,
        pid=seen.process.pid,
        start_ticks=seen.process.start_ticks,
        emergency=tri(seen.emergency),
        emergency_code=seen.code,
        emergency_text=seen.text,
        orphaned=orphaned,
        orphaned_since_mono_ms=orphaned_since_ms if orphaned else 0,
        startup_cookie=seen.startup_cookie,
        health=_HEALTH.get(seen.health.word, pb.XapiFacts.HEALTH_UNSPECIFIED),
        health_text=seen.health.text,
        health_help=seen.health.help,
        health_since_mono_ms=seen.health_since_ms,
        slow_ms=seen.slow_ms,
        unasked_starts=seen.unasked_starts,
        ended_mono_ms=seen.ended_ms,
    )


def trouble(known: Any) -> pb.XapiTrouble:
    """Why xapi does not start, as it was found last (trouble_watch.Known); an empty cause: nothing is known."""
    found = known.trouble
    return pb.XapiTrouble(
        cause=found.cause,
        sentence=found.sentence,
        help=found.help,
        lines=found.lines,
        looked_mono_ms=known.at_ms,
        ended_mono_ms=known.ended_ms,
    )


def database(host: Any) -> pb.DatabaseFacts:
    return pb.DatabaseFacts(
        generation=host.generation,
        loaded_from=host.source,
        changed_mono_ms=host.generation_since_ms,
        ha_armed=tri(host.ha_armed),
        rolling_upgrade=tri(host.rolling_upgrade),
        written_wall_ms=host.written_s * 1000,
        sound=tri(host.sound),
        unsound_text=host.unsound[:LONGEST_FAULTS],
    )


def memory(
    found: Tuple[int, int], around: Any, standing: Optional[rules.Standing], users: Tuple[rules.User, ...]
) -> pb.MemoryFacts:
    """Memory as it is now, with swap as it was seen last, and what the memory guard makes of it."""
    swap = around.swap if around is not None else (0, 0)
    told = pb.MemoryFacts(
        total_bytes=found[0],
        available_bytes=found[1],
        swap_total_bytes=swap[0],
        swap_free_bytes=swap[1],
        biggest=[pb.MemoryUser(name=user.name, pid=user.pid, bytes=user.bytes) for user in users],
    )
    if standing is not None:
        told.level = LEVELS[standing.level]
        told.level_since_mono_ms = standing.since_ms
        told.empty_in_ms = standing.empty_in_ms
    return told


def domains(found: Optional[List[str]]) -> pb.DomainList:
    """UUIDs of the running VMs; None: they cannot be read."""
    return pb.DomainList(readable=found is not None, vm_uuids=found or [])


def software(identity: host_port.Identity, around: Any) -> pb.SoftwareFacts:
    return pb.SoftwareFacts(
        build=around.build if around is not None else "",
        xen_version=around.xen if around is not None else "",
        kernel_version=around.kernel if around is not None else "",
        product_brand=identity.product_brand,
        product_version=identity.product_version,
        xapi_version=identity.xapi_version,
    )


def vm_place(item: host_port.VmPlace) -> pb.VmPlace:
    hosts = [pb.VmHost(host_uuid=host, refusal=refusal) for host, refusal in item.hosts]
    place = pb.VmPlace(vm_uuid=item.vm, name=item.name, power_state=item.power_state, hosts=hosts, text=item.text)
    if item.wish is not None:
        wish = item.wish
        said = pb.StartWish(wished=wish.wished, against=wish.against, order=wish.order, delay_s=wish.delay_s)
        place.wish.CopyFrom(said)
    return place


def pool_view(view: host_port.PoolView) -> pb.PoolView:
    hosts = [
        pb.PoolHost(
            host_uuid=h.host,
            name=h.name,
            address=h.address,
            enabled=h.enabled,
            live=h.live,
            unplugged_srs=h.unplugged,
            default_sr_unplugged=h.default_unplugged,
            pending_guidances=h.guidances,
            https_only=tri(h.https_only),
        )
        for h in view.hosts
    ]
    return pb.PoolView(
        pool_uuid=view.pool,
        pool_name=view.name,
        master_uuid=view.master,
        hosts=hosts,
        ha_enabled=tri(view.ha_enabled),
        rolling_upgrade=tri(view.rolling_upgrade),
        busy_tasks=view.busy,
    )
