"""The state of a pool and its hosts as plain values, for every way of showing it. Field names are the contract's."""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.decision.candidate_ranking import enabled
from poolwarden_collector.core.decision.questions import approve_command, expires_in
from poolwarden_collector.core.devices.power_view import is_bound
from poolwarden_collector.core.evidence import storage_stalls, xapi_troubles
from poolwarden_collector.core.evidence.assessment import describe
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.signs import signs
from poolwarden_collector.core.evidence.verdict import judge
from poolwarden_collector.core.followups import declare_dead, overdue_work, policy_starts, vm_places
from poolwarden_collector.core.followups.gc_release import waits_for
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.host_facts import Cleanable, Disk, Filler, Liveness
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.recovery import adopted_holds, restart_in_place
from poolwarden_collector.core.report.assumptions_shown import AssumptionStatus, of_host
from poolwarden_collector.core.report.device_status import DeviceStatus, devices
from poolwarden_collector.core.report.drill_report import DrillStatus, drill_status
from poolwarden_collector.core.report.host_environment import Line, lines
from poolwarden_collector.core.report.open_alerts import OpenAlert, open_alerts
from poolwarden_collector.core.report.progress import StepStatus, silent_since, steps_of
from poolwarden_collector.core.report.readiness import not_ready
from poolwarden_collector.core.report.situation import Situation, situation
from poolwarden_collector.core.state.drill_record import held_by
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
    heard: bool = False
    place: str = ""
    assumptions: tuple[AssumptionStatus, ...] = ()


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
    steps: tuple[StepStatus, ...] = ()
    silent_ms: int = 0


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
    pause_left_ms: int = 0  # 0: it lasts until it is resumed, or there is none
    situation: Situation = Situation("", "", 0)
    alerts: tuple[OpenAlert, ...] = ()
    drill: DrillStatus | None = None
    site: str = ""


def status(state: Pool, now: Ms, site: Site) -> PoolStatus:
    """This pool at this instant."""
    pool = Snapshot(state, now, site)
    verdict = judge(signs(pool))
    master = verified(pool)
    record = pool.record
    cooldown = max(0, pool.live.backoff.cooldown_until - now) if pool.live.backoff.cooldown_until is not None else 0
    return PoolStatus(
        pool_uuid=record.pool,
        name=record.display_name,
        verdict=verdict.word,
        sentence=describe(pool, verdict),
        verdict_age_ms=now - pool.live.verdict.since if pool.live.verdict.word else 0,
        master_uuid=master,
        master_name=pool.name(master) if master else "",
        master_address=record.address_of(master) if master else "",
        term=record.term,
        paused=record.paused is not None,
        pause_reason=record.paused or "",
        mode=pool.policy.mode,
        failover=_failover(pool),
        hosts=tuple(_host(pool, host) for host in sorted(record.hosts, key=pool.name)),
        not_ready=not_ready(pool),
        owed=owed(pool),
        cooldown_ms=cooldown,
        lost_vms=lost_vms(pool),
        question=_question(pool),
        pause_left_ms=max(1, record.pause_end.at - now) if record.pause_end is not None else 0,
        situation=situation(pool, verdict),
        alerts=open_alerts(pool),
        drill=drill_status(pool),
        site=pool.policy.site,
    )


def _question(pool: Snapshot) -> QuestionStatus | None:
    """What is asked now, with the commands that answer it."""
    asked = pool.record.question
    if asked is None:
        return None
    yes, no = approve_command(asked.id, asked.needs), f"poolwarden deny {asked.id}"
    return QuestionStatus(asked.id, asked.kind.value, asked.what, asked.stakes, yes, no, expires_in(pool), asked.host)


_OWED = {
    OwedWork.TOMBSTONE: "once it is back it is kept from acting as master, and attached to {successor}",
    OwedWork.REPOINT: "has to be pointed at {successor}",
    OwedWork.RELEASE: "xapi is held stopped there, and has to be let go",
    OwedWork.REMOVE_DATABASE: "a database that was placed there and not used has to be removed",
    OwedWork.WAKE: "has to be powered on again",
    OwedWork.DECLARE_DEAD: "xapi has to be told that it is dead",
}


def owed(pool: Snapshot) -> tuple[str, ...]:
    """Everything that is owed to hosts of this pool, or holds one, in words."""
    return (*(_owed(pool, item) for item in pool.record.owed), *_held(pool))


def _owed(pool: Snapshot, item: Owed) -> str:
    """What a host is owed, in words; kept until it is done."""
    words = _OWED[item.what].format(successor=pool.name(item.successor or pool.record.master))
    waits = declare_dead.waits_for(pool, item.host) if item.what is OwedWork.DECLARE_DEAD else ""
    return f"{pool.name(item.host)}: {words}{f' ({waits})' if waits else ''}{_for(overdue_work.age(pool, item))}"


def _held(pool: Snapshot) -> tuple[str, ...]:
    """What holds a host and is no owed work: a toolstack that nothing here will release, and garbage collection."""
    found = []
    for host in sorted(pool.record.hosts, key=pool.name):
        agent = pool.heard(host)
        if agent is None:
            continue
        if host in adopted_holds.unowned(pool) and agent.facts.hold is not None:
            age, term = _for(pool.now - pool.live.held_since.get(host, pool.now)), agent.facts.hold.term
            found.append(
                f"{pool.name(host)}: {adopted_holds.Held.TOOLSTACK} held since term {term}, by no failover here{age}"
            )
        if agent.facts.gc_term:
            age = _for(pool.now - pool.live.gc_since.get(host, pool.now))
            found.append(
                f"{pool.name(host)}: {adopted_holds.Held.COLLECTING} held since term {agent.facts.gc_term}{age}"
            )
    return tuple(found)


def _for(age: Ms) -> str:
    """An age as this run of the collector knows it; empty below a minute."""
    minutes = age // 60_000
    if not minutes:
        return ""
    return f", for {minutes} min at the least" if minutes < 120 else f", for {minutes // 60} h at the least"


def lost_vms(pool: Snapshot) -> tuple[LostVmStatus, ...]:
    """The VMs that were lost with a dead host, by name."""
    ordered = sorted(pool.record.after.lost.values(), key=lambda vm: (pool.name(vm.host), vm.name))
    return tuple(_lost_vm(pool, vm) for vm in ordered)


def _why_down(pool: Snapshot, vm: LostVm) -> str:
    return vm.why or policy_starts.held_back(pool, vm.vm) or vm_places.why_not(pool, vm.vm)


def _lost_vm(pool: Snapshot, vm: LostVm) -> LostVmStatus:
    can = tuple(sorted(pool.name(host) for host in vm_places.possible(pool, vm.vm)))
    where = (pool.name(vm.on),) if vm.on and vm.state not in ("lost", "failed") else can
    return LostVmStatus(vm.vm, vm.name, vm.state, where, _why_down(pool, vm), vm.host)


def _failover(pool: Snapshot) -> FailoverStatus | None:
    f = pool.failover
    if f is None:
        return None
    age = pool.now - pool.live.phases.marks.get("decided", pool.now)
    silent = pool.now - since if (since := silent_since(pool)) is not None else 0
    return FailoverStatus(
        f.id,
        f.step.value,
        f.standstill.blocker or "",
        f.standstill.why,
        f.old_master,
        f.candidate,
        f.term,
        age,
        steps_of(pool, f),
        silent,
    )


def _role(pool: Snapshot, host: HostId) -> str:
    """What the host is, as far as it is known now: last words of a silent agent are not shown as the present."""
    if any(item.host == host and item.what is OwedWork.TOMBSTONE for item in pool.record.owed):
        return "superseded"
    agent = pool.heard(host)
    if agent is None:
        return "unknown"
    role = agent.facts.role
    if role.serves_as_master or role.pool_conf is Role.MASTER:
        return "master"
    return str(role.pool_conf.value)


def _place(pool: Snapshot, host: HostId) -> str:
    """What the host is in its pool, by the record: it holds for a silent host as well."""
    failover = pool.failover
    if any(item.host == host and item.what is OwedWork.TOMBSTONE for item in pool.record.owed):
        return "old master"
    if failover is not None and host == failover.candidate and host != pool.record.master:
        return "next master"
    agent = pool.heard(host)
    conf = agent.facts.role.pool_conf if agent is not None else Role.UNKNOWN
    if host != pool.record.master:
        return "broken" if conf is Role.BROKEN else "member"
    return "master" if host == verified(pool) or conf is Role.MASTER else "last master"


def _xapi(pool: Snapshot, host: HostId) -> str:
    agent = pool.heard(host)
    if agent is None:
        return "unknown"
    x = agent.facts.xapi
    return "hung" if x.liveness is Liveness.SILENT else x.liveness.value


def _fence(pool: Snapshot, host: HostId) -> tuple[str, str]:
    devices = pool.all_devices(host)
    if not devices:
        return "no device", "none"
    newest = [s.newest for x in devices if (s := pool.live.power.get(x.name)) is not None and s.newest is not None]
    words = {reading.power.value for reading in newest}
    power = words.pop() if len(words) == 1 and len(newest) == len(devices) else "unknown"
    if any(x.name in pool.record.devices.quarantined for x in devices):
        return power, "quarantined"
    return power, "bound" if all(is_bound(pool, x.name, host) for x in devices) else "unbound"


def _trouble(pool: Snapshot, host: HostId) -> tuple[Line, ...]:
    """Why its xapi does not start, what helps, and the lines of its log that say so."""
    trouble = xapi_troubles.trouble_of(pool, host)
    if trouble is None:
        return ()
    age = f" (read {span(max(0, pool.now - trouble.looked_at))} ago)" if trouble.looked_at is not None else ""
    said = [Line("log", text) for text in trouble.lines]
    helps = Line("helps", xapi_troubles.help_of(pool, host, trouble))
    return (Line("xapi does not start", f"{trouble.cause}: {trouble.sentence}{age}", "critical"), helps, *said)


def _storage(pool: Snapshot, host: HostId) -> tuple[Line, ...]:
    """Where this host's storage is, as its pool's master told last, and what of it hangs."""
    agent = pool.heard(host)
    found = [
        Line(
            "storage",
            f"{each.name}{f' ({link.where})' if link.where else ''}, {each.type}: "
            f"{'attached' if link.attached else 'NOT ATTACHED'}{', default' if each.default else ''}",
            "" if link.attached else "warning",
        )
        for each in storage_stalls.repositories(pool)
        for link in each.links
        if link.host == host
    ]
    for stall in agent.facts.storage.stalls if agent is not None else ():
        lasts = f" for {span(max(0, pool.now - stall.since))}" if stall.since is not None else ""
        found.append(Line("storage hangs", f"{stall.what}{lasts}", "critical"))
    errors = agent.facts.storage.errors if agent is not None else ()
    return (*found, *(Line("SMlog", text) for text in errors))


def _gc(pool: Snapshot, host: HostId, term: int) -> tuple[Line, ...]:
    """Storage's garbage collection where it is held: disks of deleted snapshots are not given back meanwhile."""
    if not term:
        return ()
    names = ", ".join(pool.name(each) for each in waits_for(pool, host))
    age = _for(pool.now - pool.live.gc_since.get(host, pool.now))
    until = f"until {names} is attached, because its VMs may still write" if names else "and is being let go"
    return (Line(adopted_holds.Held.COLLECTING, f"held since term {term}{age} {until}", "warning"),)


def _hold(pool: Snapshot, host: HostId) -> tuple[Line, ...]:
    """The toolstack where it is held: nothing but Poolwarden starts xapi there."""
    agent = pool.heard(host)
    if agent is None or agent.facts.hold is None:
        return ()
    term, name, failover = agent.facts.hold.term, pool.name(host), pool.failover
    item = next((item for item in pool.record.owed if (item.host, item.what) == (host, OwedWork.RELEASE)), None)
    if failover is not None and failover.old_master == host:
        until = f"by failover {failover.id}"
    elif pool.record.in_place is not None and pool.record.in_place.host == host:
        until = f"for its restart in place: {restart_in_place.stands_at(pool, pool.record.in_place)}"
    elif held_by(pool.record.drill) == host:
        until = "by the drill that runs"
    elif item is not None:
        until = f"and owed its release{_for(overdue_work.age(pool, item))}"
    else:
        since = pool.live.held_since.get(host, pool.now)
        until = f"by no failover here{_for(pool.now - since)}: poolwarden release {name}"
    return (Line(adopted_holds.Held.TOOLSTACK, f"held since term {term} {until}", "warning"),)


def _machine(pool: Snapshot, host: HostId) -> MachineStatus:
    agent = pool.agent(host)
    if agent is None:
        return MachineStatus()
    m = agent.hello.machine
    return MachineStatus(m.system_uuid, m.system_serial, m.vendor, m.model, m.bmc_address, m.bmc_guid)


def _host(pool: Snapshot, host: HostId) -> HostStatus:
    agent, known = pool.agent(host), pool.record.hosts[host]
    facts = agent.facts if agent is not None else None
    power, device = _fence(pool, host)
    heard = pool.heard(host)
    health = heard.facts.xapi.health if heard is not None else None
    return HostStatus(
        host_uuid=host,
        name=pool.name(host),
        address=known.address,
        role=_role(pool, host),
        agent_connected=agent is not None and agent.connected,
        agent_age_ms=pool.now - agent.last_heard if agent is not None else 0,
        ever_heard=agent is not None,
        xapi=_xapi(pool, host),
        emergency=facts.xapi.emergency.value if facts else "unknown",
        emergency_text=facts.xapi.emergency_text if facts else "",
        orphaned=bool(facts and facts.xapi.orphaned),
        enabled=enabled(pool, host).value,
        power=power,
        fence_device=device,
        fence_devices=devices(pool, host),
        machine=_machine(pool, host),
        heard=heard is not None,
        place=_place(pool, host),
        assumptions=of_host(pool, host),
        generation=facts.database.generation if facts else 0,
        disks=_disks(pool, host),
        running_vms=len(facts.domains) if facts and facts.domains is not None else 0,
        running_vms_known=bool(facts and facts.domains is not None),
        agent_version=agent.hello.agent_version if agent is not None else "",
        product=facts.product if facts else "",
        boot_id=known.boot_id,
        tombstoned=bool(facts and facts.tombstone is not None),
        highest_term=agent.hello.highest_term if agent is not None else 0,
        memory_total_bytes=facts.memory_total if facts else 0,
        memory_available_bytes=facts.memory_available if facts else 0,
        probes=_probes(pool, host),
        pool_name=pool.record.name,
        pool_uuid=pool.record.pool,
        fillers=facts.filling.fillers if facts and facts.filling else (),
        cleanable=facts.filling.cleanable if facts and facts.filling else (),
        fillers_partial=bool(facts and facts.filling and facts.filling.partial),
        facts=(
            *_trouble(pool, host),
            *lines(facts, pool.now),
            *_storage(pool, host),
            *_hold(pool, host),
            *_gc(pool, host, facts.gc_term),
        )
        if facts
        else (),
        xapi_health=health.word if health else "",
        xapi_text=health.text if health else "",
        xapi_help=xapi_troubles.with_names(pool, host, health.help) if health else "",
        xapi_age_ms=pool.now - health.since if health and health.since is not None else 0,
    )


def _disks(pool: Snapshot, host: HostId) -> tuple[DiskStatus, ...]:
    agent = pool.agent(host)
    disks = agent.facts.disks if agent is not None else ()
    return tuple(_disk(pool, x) for x in disks)


def _disk(pool: Snapshot, x: Disk) -> DiskStatus:
    return DiskStatus(
        mount=x.mount,
        total_bytes=x.total_bytes,
        free_bytes=x.free_bytes,
        used_percent=x.used_percent,
        inodes_used_percent=x.inodes_used_percent,
        level=x.level.value,
        level_age_ms=pool.now - x.level_since if x.level_since is not None else 0,
        growth_bytes_per_hour=x.growth_per_hour,
        full_in_ms=x.full_in_ms,
        read_only=x.read_only,
    )


def _probes(pool: Snapshot, host: HostId) -> tuple[ProbeStatus, ...]:
    agent = pool.agent(host)
    probes = agent.facts.probes if agent is not None else ()
    stands = pool.record.master if host in pool.record.standing else ""
    return tuple(
        ProbeStatus(
            p.target,
            pool.name(p.target),
            p.outcome.value,
            max(0, pool.now - p.probed_at),
            p.text,
            bool(stands) and p.target == stands,
        )
        for p in probes
    )
