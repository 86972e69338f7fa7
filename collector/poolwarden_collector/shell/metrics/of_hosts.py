"""A host's series: is it heard, how its xapi behaves, its file systems, its copy of the database, its fence devices.

What its agent told is put while it is heard alone. Its fence devices are asked by the collector or by other hosts.
"""

from __future__ import annotations

from poolwarden_collector.core.decision.database_age import CopyAge
from poolwarden_collector.core.model.host_facts import HostEnvironment, HostFacts
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.report.status import DiskStatus, HostStatus
from poolwarden_collector.core.state.live import PowerState
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.shell.metrics import catalogue as of
from poolwarden_collector.shell.metrics.board import Board, label

ROLES = ("master", "member", "superseded", "broken", "unknown")
XAPI_STATES = ("answers", "slow", "starting", "down", "hung", "wedged", "orphaned", "emergency", "unknown")
DISK_LEVELS = ("ok", "warning", "critical", "full")
DEVICE_STATES = ("bound", "unbound", "quarantined")
POWER = ("on", "off", "unknown")
MOST_DISKS, MOST_CERTIFICATES = 32, 16
DAY_S = 86_400

Labels = tuple[str, ...]


def put_host(board: Board, pool: Snapshot, host: HostStatus, of_pool: Labels) -> None:
    """Everything of a host but its copy of the database."""
    at = (*of_pool, host.host_uuid, label(host.name))
    board.put(of.UP, at, host.heard)
    if host.ever_heard:
        board.put(of.HEARD_AGE, at, max(0, host.agent_age_ms) / 1000)
    board.put_info(of.ABOUT, (*at, label(host.address), label(host.product), label(host.agent_version)))
    board.put_state(of.ROLE, at, ROLES, host.role)
    board.put_state(of.XAPI, at, XAPI_STATES, (host.xapi_health or host.xapi) if host.heard else "unknown")
    agent = pool.heard(host.host_uuid)
    if agent is not None:
        _xapi(board, at, host, agent.facts)
        _dom0(board, at, host, agent.facts.around)
        _disks(board, at, host.disks)
    _devices(board, pool, host, at)


def put_copy(board: Board, copy: CopyAge, of_pool: Labels) -> None:
    """How old a member's copy of the database is."""
    at = (*of_pool, copy.host, label(copy.name))
    if copy.age_ms is not None:
        board.put(of.COPY_AGE, at, copy.age_ms / 1000)
        board.put(of.COPY_BEHIND, at, max(0, copy.behind))


def put_latency(board: Board, pool: Snapshot, host: HostId, seconds: float, of_pool: Labels) -> None:
    """How fast the collector's own probe of the master's xapi was answered."""
    board.put(of.PROBE_LATENCY, (*of_pool, host, label(pool.name(host))), seconds)


def _xapi(board: Board, at: Labels, host: HostStatus, facts: HostFacts) -> None:
    board.put(of.XAPI_SLOW, at, facts.xapi.slow_ms / 1000)
    board.put(of.ORPHANED, at, host.orphaned)
    if host.emergency in ("yes", "no"):
        board.put(of.EMERGENCY, at, host.emergency == "yes")
    if host.enabled in ("yes", "no"):
        board.put(of.ENABLED, at, host.enabled == "yes")
    if host.running_vms_known:
        board.put(of.VMS, at, host.running_vms)
    if host.generation:
        board.put(of.GENERATION, at, host.generation)


def _dom0(board: Board, at: Labels, host: HostStatus, around: HostEnvironment) -> None:
    if host.memory_total_bytes:
        board.put(of.MEMORY, at, host.memory_total_bytes)
        board.put(of.MEMORY_FREE, at, host.memory_available_bytes)
    if around.clock_offset_ms is not None:
        board.put(of.CLOCK, at, around.clock_offset_ms / 1000)
    known = {label(each.name): each.days_left for each in around.certificates[:MOST_CERTIFICATES]}
    for name, days in known.items():
        if days is not None:
            board.put(of.CERTIFICATE, (*at, name), days * DAY_S)


def _disks(board: Board, at: Labels, disks: tuple[DiskStatus, ...]) -> None:
    for mount, disk in {label(disk.mount): disk for disk in disks[:MOST_DISKS]}.items():
        here = (*at, mount)
        board.put(of.DISK_SIZE, here, disk.total_bytes)
        board.put(of.DISK_FREE, here, disk.free_bytes)
        board.put(of.DISK_INODES, here, disk.inodes_used_percent / 100)
        board.put(of.DISK_READ_ONLY, here, disk.read_only)
        if disk.level:
            board.put_state(of.DISK_LEVEL, here, DISK_LEVELS, disk.level)
        if disk.full_in_ms:
            board.put(of.DISK_FULL_IN, here, disk.full_in_ms / 1000)


def _devices(board: Board, pool: Snapshot, host: HostStatus, at: Labels) -> None:
    for device in host.fence_devices:
        here = (*at, label(device.name))
        board.put_state(of.DEVICE_STATE, here, DEVICE_STATES, device.state)
        board.put_state(of.DEVICE_POWER, here, POWER, device.power)
        board.put(of.DEVICE_AGE, here, _unread(pool, device.name) / 1000)
        if device.trouble:
            board.put(of.DEVICE_TROUBLE, (*here, device.trouble), 1)


def _unread(pool: Snapshot, device: str) -> Ms:
    """Since when this device has given no power; before its first reading as long as the collector runs."""
    good = pool.live.power.get(device, PowerState()).good_at
    return max(0, pool.now - (good if good is not None else pool.site.started_at))
