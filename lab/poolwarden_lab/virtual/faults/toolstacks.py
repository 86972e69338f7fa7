"""Faults of xapi and of dom0's disk."""

from __future__ import annotations

from poolwarden_lab.virtual.world.ground import Ground, HostName, NoSuchThing
from poolwarden_lab.xapi.pool_conf import POOL_CONF

LOOP_MS = 5_000


class ToolstackFaults(Ground):
    """What befalls xapi, below any administrator."""

    def crash_xapi(self, host: HostName) -> None:
        """xapi is killed; systemd starts another."""
        place = self.find(host)
        place.pool.pool.kill_xapi(place.name)

    def hang_xapi(self, host: HostName, hung: bool = True) -> None:
        """xapi accepts connections and answers nothing, on no socket."""
        place = self.find(host)
        place.pool.pool.hang_xapi(place.name, hung)

    def unhang_xapi(self, host: HostName) -> None:
        self.hang_xapi(host, False)

    def crash_loop(self, host: HostName, for_ms: int) -> None:
        """Each new xapi dies after five seconds, for so long."""
        place, ends = self.find(host), self.now + for_ms

        def die() -> None:
            place.pool.pool.kill_xapi(place.name)
            if self.now + LOOP_MS < ends:
                self.later(LOOP_MS, die)

        die()

    def slow_db(self, host: HostName, ms: int) -> None:
        """This host's xapi answers everybody so much later, its own agent included; 0: as usual."""
        place = self.find(host)
        if ms:
            place.pool.pool.slow_ms[place.name] = ms
        else:
            place.pool.pool.slow_ms.pop(place.name, None)

    def wedge_xapi(self, host: HostName) -> None:
        """It hangs, and its stop takes systemd's whole patience and ends by SIGKILL."""
        place = self.find(host)
        place.pool.pool.wedge_xapi(place.name)

    def stick_xapi(self, host: HostName, stuck: bool = True) -> None:
        """The process of xapi serves on and ends by no signal: a toolstack fence does not take effect."""
        place = self.find(host)
        place.pool.pool.stick_xapi(place.name, stuck)

    def wet_fuse(self, host: HostName, wet: bool = True) -> None:
        """Transitions are answered with OK and its present process never restarts."""
        place = self.find(host)
        place.pool.pool.wet_fuse(place.name, wet)

    def role_broken(self, host: HostName) -> None:
        """A designate failed half-way there: pool.conf says broken. What runs, runs on until it is restarted."""
        place = self.find(host)
        disk = place.pool.pool.hosts[place.name].disk
        if disk.full or disk.read_only:
            raise NoSuchThing(f"pool.conf of {place.name} cannot be written")
        disk.write(POOL_CONF, b"broken")

    def lose_storage(self, host: HostName, sr: str = "Shared storage", lost: bool = True) -> None:
        """A host's PBD of an SR is unplugged, and cannot be plugged while it is lost."""
        place = self.find(host)
        place.pool.pool.lose_storage(place.name, sr, lost)

    def hang_mount(self, host: HostName, hangs: bool = True) -> None:
        """The mount of the shared storage is not answered there, or is again."""
        place = self.find(host)
        if hangs or place.name in place.pool.pool.mounts_hang:
            place.pool.pool.mounts_hang[place.name] = hangs

    def log_xapi(self, host: HostName, text: str) -> None:
        """A line at the end of its xapi's log."""
        place = self.find(host)
        place.pool.pool.xapi_logs.setdefault(place.name, []).append(text)

    # ------------------------------------------------------------------------------------------ memory

    def memory(self, host: HostName, left_mib: int) -> None:
        """So much of its dom0's 4 GiB is available."""
        place = self.find(host)
        place.pool.pool.memory_left[place.name] = left_mib

    # ------------------------------------------------------------------------------------------ disk

    def root_full(self, host: HostName) -> None:
        """No room is left on / of dom0."""
        place = self.find(host)
        place.pool.pool.hosts[place.name].disk.full = True

    def root_read_only(self, host: HostName) -> None:
        """/ was remounted read-only: nothing of xapi's or the agent's can be written there."""
        place = self.find(host)
        place.pool.pool.hosts[place.name].disk.read_only = True

    def root_ok(self, host: HostName) -> None:
        """There is room again, and it can be written."""
        place = self.find(host)
        disk = place.pool.pool.hosts[place.name].disk
        disk.full = disk.read_only = False
