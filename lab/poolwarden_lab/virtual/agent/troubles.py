"""What a story has put into a host's log, and its mount that hangs, as the agent finds them there.

A story that says nothing of them has neither: no log to look into, and no storage in its reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden.xapi_causes import Trouble
from poolwarden_agent.core.storage import Stalled, Storage
from poolwarden_agent.core.xapi_trouble import Around, judge
from poolwarden_agent.host_port import HostPort

if TYPE_CHECKING:
    from poolwarden_lab.xapi.virtual import VirtualHost, VirtualPool

SERVED, REPOSITORY = "10.0.0.9:/vms", "57fbfa0c-a440-b4aa-7c0d-a657be77272b"
ERROR = "SM: [7] Raising exception [47, The SR is not available [opterr=nfs: timed out]]"


class Storied(HostPort):
    """The part of a host's port that only a story's own lines fill."""

    _pool: VirtualPool
    _host: VirtualHost
    _mount_since: int

    def xapi_trouble(self, ended_pid: int, running: bool) -> Trouble | None:
        """Why xapi is not up, by the lines that a story has written; None: it has written none."""
        lines = self._pool.xapi_logs.get(self._host.name)
        if lines is None:
            return None
        log = [f"Apr 30 20:26:40 {self._host.name} xapi: [error||0 |server_init D:0|xapi] {line}" for line in lines]
        return judge(log, (), Around(running, ended_pid, self._host.disk.full, self._host.disk.read_only))

    def storage(self) -> Storage | None:
        """What hangs now; None: nothing ever has."""
        hangs, now_ms = self._pool.mounts_hang.get(self._host.name), self.mono_ms()
        if hangs is None:
            return None
        self._mount_since = (self._mount_since or now_ms) if hangs else 0
        if not hangs:
            return Storage(now_ms)
        what = f"{SERVED}/{REPOSITORY} on /run/sr-mount/{REPOSITORY}"
        return Storage(now_ms, (Stalled(what, self._mount_since),), (ERROR,))
