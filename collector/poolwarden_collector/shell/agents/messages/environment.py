"""Agents' words about what surrounds xapi, as the core's facts. Wall clocks meet here, for people alone.

Rules
-----
* A host's clock is off by how far its stamp is ahead of ours when the message arrives; being under way makes it look
  late, so what counts is the smallest lateness of some messages (``Clock``).
* A certificate's days are counted from our own clock: a host whose clock is wrong would be wrong about them as well.
"""

from __future__ import annotations

from typing import Any

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.changed import changed
from poolwarden_collector.core.model.host_facts import Certificate, HostEnvironment, MultipathMap, Nic
from poolwarden_collector.core.model.values import Ms, Tri

SECTIONS = ("services", "network", "certificates", "multipath")
_DAY_MS = 86_400_000
_KEPT = 16  # messages
_COARSE_MS = 500
_TRI = {pb.YES: Tri.YES, pb.NO: Tri.NO}


class Clock:
    """One host's wall clock against ours."""

    def __init__(self) -> None:
        self._seen: list[Ms] = []

    def offset(self, told_ms: int, wall_ms: int) -> Ms | None:
        """Ahead of ours by that much (negative: behind); ``None`` where either clock is not told."""
        if not told_ms or not wall_ms:
            return None
        self._seen = [*self._seen[-_KEPT + 1 :], told_ms - wall_ms]
        # Coarse, so that a trembling figure makes no new facts of a quiet report.
        return round(max(self._seen) / _COARSE_MS) * _COARSE_MS


def merged(before: HostEnvironment, name: str, m: Any, wall_ms: int) -> HostEnvironment:
    """The surroundings with this section in them; ``wall_ms``: our clock now, 0 if it is not to be had."""
    if name == "services":
        return changed(before, services=tuple((s.name, s.state) for s in m.services))
    if name == "network":
        nics = tuple(Nic(n.name, _tri(n.link), n.speed_mbit, n.bond) for n in m.nics)
        return changed(
            before, management_interface=m.management_interface, management_link=_tri(m.management_link), nics=nics
        )
    if name == "certificates":
        return changed(before, certificates=tuple(_certificate(c, wall_ms) for c in m.certificates))
    if name == "multipath":
        return changed(before, maps=tuple(MultipathMap(x.name, x.live_paths, x.paths, x.most_paths) for x in m.maps))
    if name == "memory":
        if (before.swap_total, before.swap_free) == (m.swap_total_bytes, m.swap_free_bytes):
            return before
        return changed(before, swap_total=m.swap_total_bytes, swap_free=m.swap_free_bytes)
    if name == "software":
        return changed(before, build=m.build, xen=m.xen_version, kernel=m.kernel_version)
    return before


def _certificate(m: pb.Certificate, wall_ms: int) -> Certificate:
    known = m.expires_wall_ms and wall_ms
    return Certificate(m.name, (m.expires_wall_ms - wall_ms) // _DAY_MS if known else None, m.text)


def _tri(value: int) -> Tri:
    return _TRI.get(value, Tri.UNKNOWN)  # type: ignore[call-overload,no-any-return]
