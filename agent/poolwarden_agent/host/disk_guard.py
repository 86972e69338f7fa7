"""The disk guard: keeps each file system's standing, and looks for what fills one only when a level has been crossed.

``look`` is called once for each look at the host, from the same thread; it never takes longer than one step of a look
at the fillers (dom0/system/disk_usage.py). What fills a disk is looked for when a level rises, and again each half hour
while one lasts; on a healthy host nothing is walked at all.
"""

from typing import Any, Dict, List, Optional

from poolwarden_agent.core import disks
from poolwarden_agent.core.disk_fillers import Result
from poolwarden_agent.host_port import Disk, HostPort

AGAIN_MS = 30 * 60 * 1000


class DiskGuard(object):
    """One host's disks over time. ``standings`` and ``result`` are replaced as wholes: any thread may read them."""

    def __init__(self, port: HostPort) -> None:
        self._port = port
        self._looking: Optional[Any] = None
        self.standings: Dict[str, disks.Standing] = {}
        self.result: Optional[Result] = None

    def look(self, found: List[Disk], now_ms: int) -> None:
        """The disks as they are now."""
        uses = [
            disks.Use(d.mount, d.total_bytes, d.free_bytes, d.total_inodes, d.free_inodes)
            for d in found
            if d.own_mount or d.mount == "/"
        ]
        before, self.standings = self.standings, disks.watched(self.standings, uses, now_ms)
        if disks.worst(self.standings) == disks.OK:
            self._looking = self.result = None
            return
        due = self.result is None or now_ms - self.result.at_ms >= AGAIN_MS
        if disks.crossed(before, self.standings) or (due and self._looking is None):
            self._looking = self._port.look_for_fillers()
        if self._looking is not None:
            result = self._looking.step(now_ms)
            if result is not None:
                self._looking, self.result = None, result
