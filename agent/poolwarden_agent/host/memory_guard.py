"""The memory guard: keeps the standing of dom0's memory, and looks who uses it only while a level is crossed.

``look`` is called once for each look at the host, from the same thread. Who uses the memory is read from proc, without
a fork, when a level is crossed and each half minute while it lasts; on a healthy host nobody is looked at.
"""

from typing import Optional, Tuple

from poolwarden_agent.core import memory
from poolwarden_agent.core.disks import OK
from poolwarden_agent.host_port import HostPort

AGAIN_MS = 30 * 1000


class MemoryGuard(object):
    """One host's memory over time. ``standing`` and ``users`` are replaced as wholes: any thread may read them."""

    def __init__(self, port: HostPort) -> None:
        self._port = port
        self._looked_ms = 0
        self.standing: Optional[memory.Standing] = None
        self.users: Tuple[memory.User, ...] = ()

    def look(self, found: Tuple[int, int], swap: Tuple[int, int], now_ms: int) -> None:
        """Memory (total, available) and swap (total, free) as they are now."""
        before = self.standing.level if self.standing is not None else OK
        self.standing = memory.look(self.standing, memory.Use(found[0], found[1], swap[0], swap[1]), now_ms)
        if self.standing is None or self.standing.level == OK:
            self.users = ()
        elif self.standing.level != before or not self.users or now_ms - self._looked_ms >= AGAIN_MS:
            self._looked_ms = now_ms
            self.users = self._port.memory_users()
