"""The disk guard's findings as the contract's messages. Imports protobuf, never grpc."""

from typing import Dict, Iterable, Optional

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import disks as rules
from poolwarden_agent.core.disk_fillers import Result
from poolwarden_agent.host_port import Disk

LEVELS = {
    rules.OK: pb.Disk.OK,
    rules.WARNING: pb.Disk.WARNING,
    rules.CRITICAL: pb.Disk.CRITICAL,
    rules.FULL: pb.Disk.FULL,
}
MOST = 12  # of each list: the biggest


def disks(items: Iterable[Disk], standings: Dict[str, rules.Standing], fillers: Optional[Result]) -> pb.DiskList:
    """File systems with what is known of each, and what fills them while that is known."""
    found = pb.DiskList(disks=[_disk(item, standings.get(item.mount)) for item in items])
    if fillers is not None:
        _fillers(found, fillers)
    return found


def _disk(item: Disk, standing: Optional[rules.Standing]) -> pb.Disk:
    message = pb.Disk(
        mount=item.mount,
        total_bytes=item.total_bytes,
        free_bytes=item.free_bytes,
        total_inodes=item.total_inodes,
        free_inodes=item.free_inodes,
        own_mount=item.own_mount,
        read_only=item.read_only,
    )
    if standing is not None:
        message.level = LEVELS[standing.level]
        message.level_since_mono_ms = standing.since_ms
        message.growth_bytes_per_hour = standing.growth
        message.full_in_ms = standing.full_in_ms
    return message


def _fillers(message: pb.DiskList, result: Result) -> None:
    message.partial = result.partial
    message.looked_mono_ms = result.at_ms
    for item in result.found[:MOST]:
        message.fillers.add(**item._asdict())
    for clean in result.cleanable[:MOST]:
        message.cleanable.add(**clean._asdict())
