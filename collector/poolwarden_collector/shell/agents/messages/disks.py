"""Agents' words about disks as the core's facts. Only shapes change here."""

from __future__ import annotations

from collections.abc import Callable

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.host_facts import Cleanable, Disk, DiskLevel, Filler, Filling
from poolwarden_collector.core.model.values import Ms

At = Callable[[int], Ms | None]
LEVELS = {
    pb.Disk.OK: DiskLevel.OK,
    pb.Disk.WARNING: DiskLevel.WARNING,
    pb.Disk.CRITICAL: DiskLevel.CRITICAL,
    pb.Disk.FULL: DiskLevel.FULL,
}


def disks(m: pb.DiskList, at: At) -> tuple[Disk, ...]:
    return tuple(_disk(d, at) for d in m.disks)


def _disk(m: pb.Disk, at: At) -> Disk:
    return Disk(
        mount=m.mount,
        total_bytes=m.total_bytes,
        free_bytes=m.free_bytes,
        total_inodes=m.total_inodes,
        free_inodes=m.free_inodes,
        own_mount=m.own_mount,
        level=LEVELS.get(m.level, DiskLevel.UNKNOWN),
        level_since=at(m.level_since_mono_ms),
        growth_per_hour=m.growth_bytes_per_hour,
        full_in_ms=m.full_in_ms,
        read_only=m.read_only,
    )


def filling(m: pb.DiskList) -> Filling | None:
    """What fills them; ``None`` where nobody has looked, which is so while no level is crossed."""
    if not m.looked_mono_ms:
        return None
    fillers = tuple(Filler(f.path, f.what, f.bytes, f.files, f.biggest, f.biggest_bytes) for f in m.fillers)
    cleanable = tuple(Cleanable(c.path, c.what, c.bytes, c.files, c.command) for c in m.cleanable)
    return Filling(fillers, cleanable, m.partial)
