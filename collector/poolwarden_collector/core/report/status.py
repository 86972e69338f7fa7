"""The state of a pool and its hosts as plain values, for every way of showing it. Field names are the contract's."""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.decision.candidate_ranking import enabled
from poolwarden_collector.core.decision.questions import approve_command, expires_in
from poolwarden_collector.core.devices.power_view import is_bound
from poolwarden_collector.core.evidence.assessment import describe
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.signs import signs
from poolwarden_collector.core.evidence.verdict import judge
from poolwarden_collector.core.followups import declare_dead, overdue_work
from poolwarden_collector.core.followups import lost_vms as lost
from poolwarden_collector.core.followups.gc_release import waits_for
from poolwarden_collector.core.model.host_facts import Cleanable, Disk, Filler, Liveness
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.recovery import adopted_holds, restart_in_place
from poolwarden_collector.core.report.device_status import DeviceStatus, devices
from poolwarden_collector.core.report.host_environment import Line, lines
from poolwarden_collector.core.report.readiness import not_ready
from poolwarden_collector.core.state.followup_record import LostVm
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.pool_record import Owed, OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class DiskStatus:
    """One file system of dom0."""

    mount: str
    total_bytes: int
    free_bytes: int
    used_percent: float
    inodes_used_percent: float
    level: str
    level_age_ms: int
    growth_bytes_per_hour: int
    full_in_ms: int
    read_only: bool


@dataclass(frozen=True, slots=True)
class ProbeStatus:
    """What one host's probe of another one found."""

    target_uuid: str
    target_name: str
    outcome: str
    age_ms: int
    text: str
    counts: bool  # its silence counts: it has been answered by that master's xapi since the role was taken


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """What a host's dom0 says of its machine and of its BMC; empty where not known."""

    system_uuid: str = ""
    serial: str = ""
    vendor: str = ""
    model: str = ""
    bmc_address: str = ""
    bmc_guid: str = ""


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host."""

    host_uuid: str
    name: str
    address: str
    role: str
    agent_connected: bool
    agent_age_ms: int
    ever_heard: bool
    xapi: str
    emergency: str
    emergency_text: str
    orphaned: bool
    enabled: str
    power: str
    fence_device: str
    generation: int
    disks: tuple[DiskStatus, ...]
    running_vms: int
    running_vms_known: bool
    agent_version: str
    product: str
    boot_id: str
    tombstoned: bool
    highest_term: int
    memory_total_bytes: int
    memory_available_bytes: int
    probes: tuple[ProbeStatus, ...]
    pool_name: str
    pool_uuid: str
    fillers: tuple[Filler, ...] = ()
    cleanable: tuple[Cleanable, ...] = ()
    fillers_partial: bool = False
    xapi_health: str = ""
    xapi_text: str = ""
    xapi_help: str = ""
    xapi_age_ms: int = 0
    facts: tuple[Line, ...] = ()
    fence_devices: tuple[DeviceStatus, ...] = ()
    machine: MachineStatus = MachineStatus()


@dataclass(frozen=True, slots=True)
class FailoverStatus:
    """The open failover."""

    id: str
    step: str
    blocked: str
    blocker: str
    old_master_uuid: str
    candidate_uuid: str
    term: int
    age_ms: int


@dataclass(frozen=True, slots=True)
class LostVmStatus:
    """A VM that was lost with a dead host."""

    vm_uuid: str
    name: str
    state: str
    can_start_on: tuple[str, ...]
    why_not: str
    host_uuid: str


@dataclass(frozen=True, slots=True)
class QuestionStatus:
    """What is asked of an operator, what is at stake, and the two commands that answer it."""

    id: str
    kind: str
    text: str
    stakes: tuple[str, ...]
    approve: str
    deny: str
    expires_ms: int
    host_uuid: str


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """One pool."""

    pool_uuid: str
    name: str
    verdict: str
    sentence: str
    verdict_age_ms: int
    master_uuid: str
    master_name: str
    master_address: str
    term: int
    paused: bool
    pause_reason: str
    mode: str
    failover: FailoverStatus | None
    hosts: tuple[HostStatus, ...]
    not_ready: tuple[str, ...]
    owed: tuple[str, ...]
    cooldown_ms: int
    lost_vms: tuple[LostVmStatus, ...] = ()
    question: QuestionStatus | None = None


def status(pool: Pool, now: Ms, site: Site) -> PoolStatus:
    """This pool at this instant."""
    d = Snapshot(pool, now, site)
    verdict = judge(signs(d))
    master = verified(d)
    record = d.record
    cooldown = max(0, d.live.cooldown_until - now) if d.live.cooldown_until is not None else 0
    return PoolStatus(
        pool_uuid=record.pool,
        name=record.name or record.pool,
        verdict=verdict.word,
        sentence=describe(d, verdict),
        verdict_age_ms=now - d.live.verdict_since if d.live.verdict else 0,
        master_uuid=master,
        master_name=d.name(master) if master else "",
        master_address=record.address_of(master) if master else "",
        term=record.term,
        paused=record.paused is not None,
        pause_reason=record.paused or "",
        mode=d.policy.mode,
        failover=_failover(d),
        hosts=tuple(_host(d, host) for host in sorted(record.hosts, key=d.name)),
        not_ready=not_ready(d),
        owed=(*(_owed(d, item) for item in record.owed), *_held(d)),
        cooldown_ms=cooldown,
        lost_vms=lost_vms(d),
        question=_question(d),
    )


def _question(d: Snapshot) -> QuestionStatus | None:
    """What is asked now, with the commands that answer it."""
    asked = d.record.question
    if asked is None:
        return None
    yes, no = approve_command(asked.id, asked.needs), f"poolwarden deny {asked.id}"
    return QuestionStatus(asked.id, asked.kind.value, asked.what, asked.stakes, yes, no, expires_in(d), asked.host)


def _owed(d: Snapshot, item: Owed) -> str:
    of = f"successor {d.name(item.successor)}" if item.successor else ""
    waits = declare_dead.waits_for(d, item.host) if item.what is OwedWork.DECLARE_DEAD else of
    return f"{d.name(item.host)}: {item.what}{f' ({waits})' if waits else ''}{_for(overdue_work.age(d, item))}"


def _held(d: Snapshot) -> tuple[str, ...]:
    """What holds a host and is no owed work: a toolstack that nothing here will release, and garbage collection."""
    found = []
    for host in sorted(d.record.hosts, key=d.name):
        agent = d.heard(host)
        if agent is None:
            continue
        if host in adopted_holds.unowned(d) and agent.facts.hold is not None:
            age, term = _for(d.now - d.live.held_since.get(host, d.now)), agent.facts.hold.term
            found.append(
                f"{d.name(host)}: {adopted_holds.Held.TOOLSTACK} held since term {term}, by no failover here{age}"
            )
        if agent.facts.gc_term:
            age = _for(d.now - d.live.gc_since.get(host, d.now))
            found.append(f"{d.name(host)}: {adopted_holds.Held.COLLECTING} held since term {agent.facts.gc_term}{age}")
    return tuple(found)


def _for(age: Ms) -> str:
    """An age as this run of the collector knows it; empty below a minute."""
    minutes = age // 60_000
    if not minutes:
        return ""
    return f", for {minutes} min at the least" if minutes < 120 else f", for {minutes // 60} h at the least"


def lost_vms(d: Snapshot) -> tuple[LostVmStatus, ...]:
    """The VMs that were lost with a dead host, by name."""
    ordered = sorted(d.record.after.lost.values(), key=lambda vm: (d.name(vm.host), vm.name))
    return tuple(_lost_vm(d, vm) for vm in ordered)


def _lost_vm(d: Snapshot, vm: LostVm) -> LostVmStatus:
    can = tuple(sorted(d.name(host) for host in lost.possible(d, vm.vm)))
    where = (d.name(vm.on),) if vm.on and vm.state not in ("lost", "failed") else can
    return LostVmStatus(vm.vm, vm.name, vm.state, where, vm.why or lost.why_not(d, vm.vm), vm.host)


def _failover(d: Snapshot) -> FailoverStatus | None:
    f = d.failover
    if f is None:
        return None
    age = d.now - d.live.marks.get("decided", d.now)
    return FailoverStatus(f.id, f.step.value, f.blocked or "", f.blocker, f.old_master, f.candidate, f.term, age)


def _role(d: Snapshot, host: HostId) -> str:
    """What the host is, as far as it is known now: last words of a silent agent are not shown as the present."""
    if any(item.host == host and item.what is OwedWork.TOMBSTONE for item in d.record.owed):
        return "superseded"
    agent = d.heard(host)
    if agent is None:
        return "unknown"
    role = agent.facts.role
    if role.serves_as_master or role.pool_conf is Role.MASTER:
        return "master"
    return str(role.pool_conf.value)


def _xapi(d: Snapshot, host: HostId) -> str:
    agent = d.heard(host)
    if agent is None:
        return "unknown"
    x = agent.facts.xapi
    return "hung" if x.liveness is Liveness.SILENT else x.liveness.value


def _fence(d: Snapshot, host: HostId) -> tuple[str, str]:
    devices = d.pool.devices.get(host, ())
    if not devices:
        return "no device", "none"
    newest = [s.newest for x in devices if (s := d.live.power.get(x.name)) is not None and s.newest is not None]
    words = {reading.power.value for reading in newest}
    power = words.pop() if len(words) == 1 and len(newest) == len(devices) else "unknown"
    if any(x.name in d.record.devices.quarantined for x in devices):
        return power, "quarantined"
    return power, "bound" if all(is_bound(d, x.name, host) for x in devices) else "unbound"


def _gc(d: Snapshot, host: HostId, term: int) -> tuple[Line, ...]:
    """Storage's garbage collection where it is held: disks of deleted snapshots are not given back meanwhile."""
    if not term:
        return ()
    names = ", ".join(d.name(each) for each in waits_for(d, host))
    age = _for(d.now - d.live.gc_since.get(host, d.now))
    until = f"until {names} is attached, because its VMs may still write" if names else "and is being let go"
    return (Line(adopted_holds.Held.COLLECTING, f"held since term {term}{age} {until}", "warning"),)


def _hold(d: Snapshot, host: HostId) -> tuple[Line, ...]:
    """The toolstack where it is held: nothing but Poolwarden starts xapi there."""
    agent = d.heard(host)
    if agent is None or agent.facts.hold is None:
        return ()
    term, name, failover = agent.facts.hold.term, d.name(host), d.failover
    item = next((item for item in d.record.owed if (item.host, item.what) == (host, OwedWork.RELEASE)), None)
    if failover is not None and failover.old_master == host:
        until = f"by failover {failover.id}"
    elif d.record.in_place is not None and d.record.in_place.host == host:
        until = f"for its restart in place: {restart_in_place.stands_at(d, d.record.in_place)}"
    elif item is not None:
        until = f"and owed its release{_for(overdue_work.age(d, item))}"
    else:
        since = d.live.held_since.get(host, d.now)
        until = f"by no failover here{_for(d.now - since)}: poolwarden release {name}"
    return (Line(adopted_holds.Held.TOOLSTACK, f"held since term {term} {until}", "warning"),)


def _machine(d: Snapshot, host: HostId) -> MachineStatus:
    agent = d.agent(host)
    if agent is None:
        return MachineStatus()
    m = agent.hello.machine
    return MachineStatus(m.system_uuid, m.system_serial, m.vendor, m.model, m.bmc_address, m.bmc_guid)


def _host(d: Snapshot, host: HostId) -> HostStatus:
    agent, known = d.agent(host), d.record.hosts[host]
    facts = agent.facts if agent is not None else None
    power, device = _fence(d, host)
    heard = d.heard(host)
    health = heard.facts.xapi.health if heard is not None else None
    return HostStatus(
        host_uuid=host,
        name=d.name(host),
        address=known.address,
        role=_role(d, host),
        agent_connected=agent is not None and agent.connected,
        agent_age_ms=d.now - agent.last_heard if agent is not None else 0,
        ever_heard=agent is not None,
        xapi=_xapi(d, host),
        emergency=facts.xapi.emergency.value if facts else "unknown",
        emergency_text=facts.xapi.emergency_text if facts else "",
        orphaned=bool(facts and facts.xapi.orphaned),
        enabled=enabled(d, host).value,
        power=power,
        fence_device=device,
        fence_devices=devices(d, host),
        machine=_machine(d, host),
        generation=facts.database.generation if facts else 0,
        disks=_disks(d, host),
        running_vms=len(facts.domains) if facts and facts.domains is not None else 0,
        running_vms_known=bool(facts and facts.domains is not None),
        agent_version=agent.hello.agent_version if agent is not None else "",
        product=facts.product if facts else "",
        boot_id=known.boot_id,
        tombstoned=bool(facts and facts.tombstone is not None),
        highest_term=agent.hello.highest_term if agent is not None else 0,
        memory_total_bytes=facts.memory_total if facts else 0,
        memory_available_bytes=facts.memory_available if facts else 0,
        probes=_probes(d, host),
        pool_name=d.record.name,
        pool_uuid=d.record.pool,
        fillers=facts.filling.fillers if facts and facts.filling else (),
        cleanable=facts.filling.cleanable if facts and facts.filling else (),
        fillers_partial=bool(facts and facts.filling and facts.filling.partial),
        facts=(*lines(facts, d.now), *_hold(d, host), *_gc(d, host, facts.gc_term)) if facts else (),
        xapi_health=health.word if health else "",
        xapi_text=health.text if health else "",
        xapi_help=health.help.replace("HOST", d.name(host)).replace("POOL", d.record.name) if health else "",
        xapi_age_ms=d.now - health.since if health and health.since is not None else 0,
    )


def _disks(d: Snapshot, host: HostId) -> tuple[DiskStatus, ...]:
    agent = d.agent(host)
    disks = agent.facts.disks if agent is not None else ()
    return tuple(_disk(d, x) for x in disks)


def _disk(d: Snapshot, x: Disk) -> DiskStatus:
    return DiskStatus(
        mount=x.mount,
        total_bytes=x.total_bytes,
        free_bytes=x.free_bytes,
        used_percent=x.used_percent,
        inodes_used_percent=x.inodes_used_percent,
        level=x.level.value,
        level_age_ms=d.now - x.level_since if x.level_since is not None else 0,
        growth_bytes_per_hour=x.growth_per_hour,
        full_in_ms=x.full_in_ms,
        read_only=x.read_only,
    )


def _probes(d: Snapshot, host: HostId) -> tuple[ProbeStatus, ...]:
    agent = d.agent(host)
    probes = agent.facts.probes if agent is not None else ()
    stands = d.record.master if host in d.record.standing else ""
    return tuple(
        ProbeStatus(
            p.target,
            d.name(p.target),
            p.outcome.value,
            max(0, d.now - p.probed_at),
            p.text,
            bool(stands) and p.target == stands,
        )
        for p in probes
    )
