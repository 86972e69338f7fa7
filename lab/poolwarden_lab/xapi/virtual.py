"""Driver 2: a whole pool of xapi models in virtual time.

One heap of due things, integer milliseconds, no threads, no files: ten minutes of a pool pass in no time, and two
runs of the same story are equal. What the power supply, the kernel and systemd do to xapi is done
here, what the network does is in `virtual_driver`:

* A process that ends resets its connections at once. A host that loses its power says nothing: its peers' connections
  stay open and silent until it has power again, and are reset then.
* systemd starts xapi again after every exit code but 0. Domains outlive xapi, and die with the power.
* A hold (`hold`) is durable: while it is there no start of xapi does anything, neither systemctl's, nor
  Restart=on-failure's, nor a boot's. Lifting it starts nothing.
* A boot's first start of xapi waits for `boot_gate`, which is asked again every second until it says True. Restarts
  within a boot are not gated.
* A frozen host (SIGSTOP) takes connections and does nothing; what came meanwhile happens when it thaws.
"""

from __future__ import annotations

from collections.abc import Sequence

from poolwarden_lab.statedb import BadDatabase, parse_state
from poolwarden_lab.xapi.actions import (
    Door,
    Event,
    Lost,
)
from poolwarden_lab.xapi.model import XapiModel
from poolwarden_lab.xapi.pool_conf import POOL_CONF
from poolwarden_lab.xapi.startup import STUNNEL_MARK
from poolwarden_lab.xapi.storage import LOST_STORAGE
from poolwarden_lab.xapi.trees import STATE_DB, boot_id
from poolwarden_lab.xapi.virtual_driver import TIMEOUT, PoolDriver
from poolwarden_lab.xapi.virtual_host import LogEntry, OnReply, VirtualHost

__all__ = ["GATE_MS", "TIMEOUT", "LogEntry", "OnReply", "VirtualHost", "VirtualPool"]

KERNEL_MS = 8_000
"""How long after its power a host's kernel answers on the network, at most (less where a boot takes less)."""
STOP_PATIENCE_MS = 90_000
"""xapi.service's TimeoutStopSec, ms: a process that does not obey SIGTERM is killed then.

With ``full_stops`` it counts twice, as it does (systemd.service(5)): first for ExecStop, which asks xapi itself to stop
(`xe host-shutdown-agent`, scripts/xapi-init), so that one that answers nothing gets SIGTERM after this time; then for
SIGTERM.
"""
GATE_MS = 1_000
"""How soon a boot gate that says no is asked again, ms."""


class VirtualPool(PoolDriver):
    """n hosts, their network and their clock. Everything starts powered off at time 0; see `power_on_all`."""

    # -------------------------------------------------------------------------------- power and processes

    def power_on(self, name: str) -> None:
        """A new boot: new boot id, empty /var/run, no domains but those of the first boot; xapi after `boot_ms`."""
        host = self.hosts[name]
        if host.power:
            return
        host.power = host.wanted = host.gated = True
        host.boot += 1
        host.up_at = self.now + min(self.boot_ms, KERNEL_MS)
        self._note(name, Event("power-on", {"boot": str(host.boot)}))
        host.disk.write("proc/sys/kernel/random/boot_id", (boot_id(self._pool_name, name, host.boot) + "\n").encode())
        for path in [path for path in host.disk.files if path.startswith("var/run/")]:
            host.disk.remove(path)
        silent, host.silent = host.silent, []
        for caller, sink in silent:
            self._send(name, caller, lambda sink=sink: sink(Lost("reset")))  # type: ignore[misc]
        self._boot_later(host, self.boot_ms)

    def _boot_later(self, host: VirtualHost, pause_ms: int) -> None:
        boot = host.boot

        def boot_on() -> None:
            if host.power and host.boot == boot:
                self._when_awake(host, ask)

        def ask() -> None:
            if host.boot == boot:
                self._ask_gate(host)

        self.at(self.now + pause_ms, boot_on)

    def _ask_gate(self, host: VirtualHost) -> None:
        """The boot has come to xapi: start it, or ask again later."""
        if self.boot_gate is not None and not self.boot_gate(host.name):
            self._boot_later(host, GATE_MS)
            return
        host.gated = False
        if host.wanted:
            self._start(host)

    def power_on_all(self) -> None:
        for name in self.hosts:
            self.power_on(name)

    def power_off(self, name: str) -> None:
        """The plug: nothing is flushed, nobody is told."""
        host = self.hosts[name]
        self._note(name, Event("power-off"))
        host.silent += [(caller, sink) for caller, sink in host.conns.values() if caller is not None]
        host.conns.clear()
        host.inbox.clear()
        host.domains.clear()
        host.power = host.frozen = host.stuck = False
        self._forget_process(host)

    def kill_xapi(self, name: str) -> None:
        """SIGKILL; systemd starts another."""
        host = self.hosts[name]
        if host.model is not None and not host.stuck:
            self._ended(host, host.model, -9)

    def restart_xapi(self, name: str) -> None:
        """systemctl restart xapi.service."""
        host = self.hosts[name]
        if host.model is None:
            self.start_xapi(name)
            return
        host.wanted = True
        if self._terminate(host, flush=True):
            self._start_later(host)

    def start_xapi(self, name: str) -> None:
        """systemctl start xapi.service: what runs already is left alone."""
        host = self.hosts[name]
        host.wanted = True
        if host.model is None:
            self._start(host)

    def restart_toolstack(self, name: str) -> None:
        """xe-toolstack-restart: stunnel is stopped too, so that 443 opens only when xapi has come far enough."""
        self.hosts[name].disk.remove(STUNNEL_MARK)
        self.restart_xapi(name)

    def stop_xapi(self, name: str, *, flush: bool = True) -> None:
        """systemctl stop xapi.service, until it is started again or the host boots; not flush: by SIGKILL.

        A clean stop flushes a master's database first. The domains run on.
        """
        host = self.hosts[name]
        host.wanted = False
        if host.model is not None:
            self._terminate(host, flush=flush)

    def stop_toolstack(self, name: str, *, flush: bool = True) -> None:
        """Stop xapi and stunnel: ports 80 and 443 refuse."""
        self.hosts[name].disk.remove(STUNNEL_MARK)
        self.stop_xapi(name, flush=flush)

    def _terminate(self, host: VirtualHost, *, flush: bool) -> bool:
        """End xapi's process; False: it does not end now. Where it is wanted, systemd starts another at its end."""
        assert host.model is not None
        if host.stuck:
            self._note(host.name, Event("stop-hangs"))
            return False
        model = host.model
        if not flush:
            self._ended(host, model, 0)
            return True
        if self._full_stops and not model.answers:
            self.at(self.now + STOP_PATIENCE_MS, lambda: self._terminated(host, model))
        else:
            self._terminated(host, model)
        if host.model is not model:
            return True
        host.late = model
        killed_at = self.now + (2 if self._full_stops else 1) * STOP_PATIENCE_MS
        self.at(killed_at, lambda: self._ended(host, model, -9))
        return False

    def _terminated(self, host: VirtualHost, model: XapiModel) -> None:
        """SIGTERM, if it is still there."""
        if host.model is model:
            self._act(host, model, model.sigterm(self.now))

    def hold(self, name: str) -> None:
        """Let nothing start xapi on this host until `release`, reboots included. What runs, runs on."""
        self._set_held(name, True)

    def release(self, name: str) -> None:
        """Lift the hold; nothing is started by that."""
        self._set_held(name, False)

    def _set_held(self, name: str, held: bool) -> None:
        host = self.hosts[name]
        if host.held != held:
            host.held = held
            self._note(name, Event("held" if held else "released"))

    def stick_xapi(self, name: str, stuck: bool = True) -> None:
        """Fault: the process of xapi serves on and ends by no signal, until stick_xapi(name, False) or power off."""
        self.hosts[name].stuck = stuck

    def freeze(self, name: str) -> None:
        self.hosts[name].frozen = True

    def thaw(self, name: str) -> None:
        host = self.hosts[name]
        host.frozen = False
        inbox, host.inbox = host.inbox, []
        for act in inbox:
            act()

    # -------------------------------------------------------------------------------- faults

    def set_port(self, name: str, door: Door, how: str, sources: Sequence[str] = ("*",)) -> None:
        """A host's firewall towards other hosts ("*": all): ``open``, ``closed`` (refused) or ``filtered`` (dropped).

        https_only filters "tcp" (xapi: ocaml/xapi/xapi_host.ml, set_https_only); what runs on the host itself is never
        filtered. It outlives boots.
        """
        host, ways = self.hosts[name], {(door, source) for source in sources}
        for table in (host.filtered, host.closed):
            table.difference_update({way for way in table if way[0] == door} if "*" in sources else ways)
        if how != "open":
            (host.closed if how == "closed" else host.filtered).update(ways)

    def hang_xapi(self, name: str, hung: bool = True) -> None:
        """xapi accepts and never answers, on every socket, until hang_xapi(name, False)."""
        host = self.hosts[name]
        if (model := host.model) is not None:
            self._act(host, model, model.set_hung(hung, self.now))
            if host.late is model and not hung:
                self._terminated(host, model)  # the question of ExecStop is answered now

    def wedge_xapi(self, name: str) -> None:
        """Fault: it stands still and obeys no SIGTERM either. systemd kills it when TimeoutStopSec is over: what it
        held in memory alone is lost.
        """
        host = self.hosts[name]
        if host.model is not None:
            self._act(host, host.model, host.model.set_wedged())

    def wet_fuse(self, name: str, wet: bool = True) -> None:
        """Transitions on this host answer OK and never restart its present process."""
        host = self.hosts[name]
        if host.model is not None:
            self._act(host, host.model, host.model.set_wet_fuse(wet, self.now))

    def fail_stop_hook(self, name: str, fails: bool = True) -> None:
        """Fault: the present process of xapi on this host flushes nothing when it is stopped cleanly."""
        host = self.hosts[name]
        if host.model is not None:
            self._act(host, host.model, host.model.set_stop_hook_fails(fails, self.now))

    def refuse_commit(self, name: str, refuses: bool = True) -> None:
        """Fault: xapi on this host agrees to a designated master and then fails: the pool is left broken."""
        host = self.hosts[name]
        if host.model is not None:
            self._act(host, host.model, host.model.set_refuses_commit(refuses, self.now))

    def drift(self, every_ms: int) -> None:
        """From now on every serving master's database is written to this often, as in a pool in use; 0: no longer."""
        self._drift_ms = every_ms
        self._drifts += 1
        self._drift_on(self._drifts)

    def _drift_on(self, number: int) -> None:
        def tick() -> None:
            if number != self._drifts:
                return
            for host in self.hosts.values():
                if host.model is not None and host.model.database is not None and not host.frozen:
                    self._act(host, host.model, host.model.touch(self.now))
            self._drift_on(number)

        if self._drift_ms > 0:
            self.at(self.now + self._drift_ms, tick)

    def lose_storage(self, name: str, sr: str = "Shared storage", lost: bool = True) -> None:
        """Fault: a host's PBD of an SR (its name label) is unplugged, and cannot be plugged again until lost=False.

        A master that answers now sees it at once; given back, it is plugged only by PBD.plug or that host's next start.
        """
        host = self.hosts[name]
        found = self._sr_uuid(sr)
        names = set(host.disk.read(LOST_STORAGE).decode().split()) if host.disk.exists(LOST_STORAGE) else set()
        names = names | {found} if lost else names - {found}
        host.disk.write(LOST_STORAGE, "\n".join(sorted(names)).encode())
        if lost:
            for master in self.acting_masters():
                try:
                    self.call_now(master, "unix", "lab.pbd_lost", (self.local_session(master), host.uuid, found))
                except TimeoutError:
                    continue

    def _sr_uuid(self, label: str) -> str:
        """Of the SR with this name, from the first database that can be read and has it. Raises LookupError."""
        for host in self.hosts.values():
            try:
                tables = parse_state(host.disk.read(STATE_DB)).tables
            except (OSError, BadDatabase):
                continue
            for row in tables.get("SR", {}).values():
                if row.get("name__label") == label:
                    return row["uuid"]
        raise LookupError(f"no database has an SR {label}")

    # -------------------------------------------------------------------------------- looking

    def events(self, name: str = "", host: str = "", since_ms: int = 0) -> list[LogEntry]:
        """Log entries with this event name, of this host, from this time on; an empty argument takes all."""
        return [
            entry
            for entry in self.log
            if entry.ms >= since_ms and name in ("", entry.event.name) and host in ("", entry.host)
        ]

    def pool_conf(self, name: str) -> str:
        """What it says; empty where it is missing."""
        disk = self.hosts[name].disk
        return disk.read(POOL_CONF).decode("utf-8", "replace") if disk.exists(POOL_CONF) else ""

    def acting_masters(self) -> list[str]:
        """Names of hosts whose xapi runs as master and serves."""
        return [
            host.name for host in self.hosts.values() if host.model is not None and host.model.database and host.doors
        ]
