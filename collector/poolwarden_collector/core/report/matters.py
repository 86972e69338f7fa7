"""What a person has to see to in a pool whose verdict may well be Healthy: VMs that are down, hosts that are off, disks
that are full, a pause, open alerts. Each with its severity, a few words for a headline, and what to do.

Rules
-----
* Nothing here decides anything. What a silent host said last counts for nothing but what ran there.
* A command that stands here is accepted when it is typed.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence.membership import master_view
from poolwarden_collector.core.evidence.signs import silence_of
from poolwarden_collector.core.followups.declare_dead import attached_again
from poolwarden_collector.core.model.host_facts import Disk, DiskLevel
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.report.open_alerts import RANK, counted, open_alerts
from poolwarden_collector.core.report.running_vms import down
from poolwarden_collector.core.state.alert_topic import Matter as Topic
from poolwarden_collector.core.state.snapshot import Snapshot

DISABLED_MS: Ms = 120_000
FULL_PERCENT = 97.0  # as the agent's own "critical" (agent: core/disks.py)


@dataclass(frozen=True, slots=True)
class Matter:
    """One thing that is not as it should be: ``words`` for a headline, ``todo`` what a person does about it."""

    severity: str  # critical, warning, info
    words: str
    todo: tuple[str, ...] = ()


def matters(pool: Snapshot) -> tuple[Matter, ...]:
    """Everything of that kind, the gravest first."""
    found = [*_lost_vms(pool), *_disks(pool), *_silent_hosts(pool), *_paused(pool), *_disabled(pool), *_drill(pool)]
    found.sort(key=lambda matter: RANK[matter.severity])
    alerts = _alerts(pool)
    return (*_graver(found[0], alerts), *found) if found else tuple(alerts)


def _graver(first: Matter, alerts: list[Matter]) -> list[Matter]:
    """Alerts are mostly of what is named already: they are a matter of their own where they are graver."""
    return [each for each in alerts if RANK[each.severity] < RANK[first.severity]]


def _lost_vms(pool: Snapshot) -> list[Matter]:
    vms = down(pool)
    if not vms:
        return []
    hosts = sorted({vm.host for vm in vms}, key=pool.name)
    names = ", ".join(pool.name(host) for host in hosts)
    words = f"{len(vms)} VM{'s' if len(vms) > 1 else ''} DOWN since {names} died"
    held = pool.record.paused is not None or pool.quiet
    startable = not held and all(_gone(pool, host) for host in hosts)
    command = f"poolwarden start-lost {pool.record.display_name}"
    return [Matter("critical", words, (command if startable else f"{command} --dry-run",))]


def _gone(pool: Snapshot, host: HostId) -> bool:
    """Are this host's VMs gone for certain, as ``start-lost`` asks (followups/lost_vms.py)?"""
    dead = pool.record.after.dead.get(host)
    return dead is not None and (dead.declared or attached_again(pool, host))


def _disks(pool: Snapshot) -> list[Matter]:
    agents = {host: agent for host in pool.record.hosts if (agent := pool.heard(host)) is not None}
    todo = (f"poolwarden disks {pool.record.display_name}",)
    return [
        Matter(severity, f"{disk.mount} of {pool.name(host)} {_disk_state(disk)}", todo)
        for host in sorted(agents, key=pool.name)
        for disk in agents[host].facts.disks
        if (severity := _disk_severity(disk))
    ]


def _disk_severity(disk: Disk) -> str:
    used = max(disk.used_percent, disk.inodes_used_percent)
    if (disk.read_only and disk.mount == "/") or disk.level in (DiskLevel.CRITICAL, DiskLevel.FULL):
        return "critical"
    if disk.level is DiskLevel.UNKNOWN and used >= FULL_PERCENT:
        return "critical"
    return "warning" if disk.level is DiskLevel.WARNING else ""


def _disk_state(disk: Disk) -> str:
    if disk.read_only and disk.mount == "/":
        return "is mounted read-only"
    return f"is {max(disk.used_percent, disk.inodes_used_percent):.0f} % full"


def _silent_hosts(pool: Snapshot) -> list[Matter]:
    """Hosts other than the master's matter: silent for as long as a master would have to be."""
    quiet = [
        host
        for host in sorted(pool.record.hosts, key=pool.name)
        if pool.heard(host) is None and silence_of(pool, host) >= pool.policy.vanished_after and not pool.quiet
    ]
    return [_silent_host(pool, host) for host in quiet]


def _silent_host(pool: Snapshot, host: HostId) -> Matter:
    name, known, dead = pool.name(host), pool.record.hosts[host], pool.record.after.dead.get(host)
    if view(pool, host).power is Power.OFF or (dead is not None and dead.boot_id == known.boot_id):
        return Matter("warning", f"{name} is off", (f"Repair {name} and switch it on: it comes back as a member.",))
    look = f"Look at {name}: is it up, and does systemctl status poolwarden-agent there say that it runs?"
    return Matter("warning", f"{name} is silent", (look,))


def _paused(pool: Snapshot) -> list[Matter]:
    if pool.record.paused is None:
        return []
    return [Matter("warning", "PAUSED: nothing is done by itself", (f"poolwarden resume {pool.record.display_name}",))]


def _disabled(pool: Snapshot) -> list[Matter]:
    """Hosts on which no VM can start, by the word of the serving master, for longer than xapi's own start takes."""
    seen = master_view(pool, pool.record.master) if pool.record.master else None
    off = {item.host for item in seen.hosts if item.live and not item.enabled} if seen is not None else set()
    since = {host: pool.live.lingering.get((Topic.DISABLED.word, host), pool.now) for host in off if pool.heard(host)}
    lasting = sorted(pool.name(host) for host, at in since.items() if pool.now - at >= DISABLED_MS)
    return [Matter("warning", f"{name} is disabled", (f"poolwarden host enable {name}",)) for name in lasting]


def _drill(pool: Snapshot) -> list[Matter]:
    """A drill that runs goes on by itself; one that waits is left to nobody else."""
    drill = pool.record.drill
    if drill is None:
        return []
    if (number := drill.running) is not None:
        step = drill.steps[number]
        return [Matter("warning", f"a drill runs: {step.part.value} of {pool.name(step.host)}")]
    todo = f"poolwarden drill {pool.record.display_name} --resume, or --abandon"
    return [Matter("warning", "a drill is open and waits for you", (todo,))]


def _alerts(pool: Snapshot) -> list[Matter]:
    alerts = open_alerts(pool)
    if not alerts:
        return []
    words = f"{counted(alerts)} alert{'s' if len(alerts) > 1 else ''} open"
    severity = alerts[0].severity
    return [Matter(severity, words, (f"poolwarden alerts {pool.record.display_name}",))]
