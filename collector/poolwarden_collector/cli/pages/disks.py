"""Disks: each host's file systems with level and trend, what fills them, and what could be given back."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from poolwarden_collector.cli.layout import Line, Page, Piece, Table, Tone
from poolwarden_collector.cli.words import size, span

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

TONES: dict[str, Tone] = {"ok": "good", "warning": "warn", "critical": "bad", "full": "bad"}
HEADERS = ("HOST", "DISK", "LEVEL", "USED", "FREE", "OF", "INODES", "GROWS", "FULL IN")
MOST_FILLERS = 5


def disks_page(hosts: Iterable["api.HostStatus"]) -> Page:
    """A table of all file systems, then what is known of those hosts on which a level is crossed."""
    found = list(hosts)
    rows = [_row(host, disk) for host in found for disk in host.disks]
    if not rows:
        return [Line("no host has told of its disks yet")]
    page: Page = [Table(HEADERS, rows)]
    for host in found:
        page += _filled(host)
    return page


def level_of(disk: "api.DiskStatus") -> Piece:
    """The agent's judgement in a word; "?": it makes none."""
    if disk.read_only:
        return Piece("read-only", "bad" if disk.mount == "/" else "warn")
    return Piece(disk.level or "?", TONES.get(disk.level, "dim"))


def _row(host: "api.HostStatus", disk: "api.DiskStatus") -> list[Piece | str]:
    return [
        host.name or host.host_uuid,
        disk.mount,
        level_of(disk),
        f"{disk.used_percent:.0f}%",
        size(disk.free_bytes),
        size(disk.total_bytes),
        f"{disk.inodes_used_percent:.0f}%",
        f"{size(disk.growth_bytes_per_hour)}/h" if disk.growth_bytes_per_hour else "-",
        span(disk.full_in_ms) if disk.full_in_ms else "-",
    ]


def _filled(host: "api.HostStatus") -> Page:
    if not host.fillers and not host.cleanable:
        return []
    name = host.name or host.host_uuid
    least = "at least " if host.fillers_partial else ""
    page: Page = [Line(), Line("what takes the room", label=f"{name}: ")]
    rows = [
        (
            least + size(item.bytes),
            f"/{item.path}",
            f"{item.what}; biggest: {item.biggest} ({size(item.biggest_bytes)})",
        )
        for item in host.fillers[:MOST_FILLERS]
    ]
    page.append(Table(("SIZE", "WHERE", "WHAT"), rows, 2))
    if not host.cleanable:
        page.append(Line("nothing of it is known to be safe to delete", indent=2))
        return page
    page.append(Line("what could be given back, if nobody needs it any more (nothing has been deleted):", indent=2))
    for clean in host.cleanable:
        page.append(Line(f"{clean.what}: {clean.command}", indent=4, label=f"{size(clean.bytes):>9}  "))
    return page
