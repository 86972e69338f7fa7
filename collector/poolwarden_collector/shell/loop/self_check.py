"""Does this collector run as a VM of a pool that it guards? Then it dies with that pool's master, and must say so."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterable
from pathlib import Path

from poolwarden_collector.core.state.live import Pool

_DMI = Path("/sys/class/dmi/id/product_uuid")  # a Xen guest's is its VM's UUID


@functools.cache
def own_system_uuid(file: Path = _DMI) -> str:
    """This machine's DMI system UUID in lower case; empty where it cannot be read (it takes root)."""
    try:
        return file.read_text(encoding="ascii").strip().lower()
    except (OSError, UnicodeDecodeError):
        return ""


def guards_its_own_host(pools: Iterable[Pool], own: str | None = None) -> list[str]:
    """One warning for each pool on whose hosts this collector itself runs."""
    ours = _spellings(own_system_uuid() if own is None else own)
    if not ours:
        return []
    return [
        f"this collector runs as a VM on {pool.record.name_of(host)} of pool {pool.record.display_name}, "
        "which it guards: it will die with that host; move it outside"
        for pool in pools
        for host, agent in pool.live.agents.items()
        if ours.intersection(agent.facts.domains or ())
    ]


def _spellings(text: str) -> set[str]:
    """A UUID and its other byte order: SMBIOS 2.6 and later store the first three fields little-endian."""
    try:
        given = uuid.UUID(text)
    except ValueError:
        return set()
    return {str(given), str(uuid.UUID(bytes_le=given.bytes))}
