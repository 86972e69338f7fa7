"""One simulated host: its dom0 tree, its supervisor, and the real processes that run on it.

Rules
-----
* Power loss is silence: the cable is pulled *first*, then everything of the host gets SIGKILL, so that no peer ever
  sees an RST. What survives is the tree; running domains, processes and the boot id do not.
* A boot begins with a new boot id, an empty process table and no cookies; then xapi and the agent start, as systemd
  starts them. The supervisor restarts xapi by systemd's rule (`program`).
* ``usr/bin/systemctl`` in the tree is a real executable that asks this supervisor; it knows xapi.service and
  poolwarden-agent.service; any unit can be masked.
* xapi.service has the drop-in of the agent's package, and the supervisor runs its ExecStartPre before each start: the
  boot gate and the hold are the shipped agent's. The lab's first boot is let start, like a pool that runs already.
* ``proc/<pid>`` in the tree is a link to the real one for as long as the process lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from poolwarden_lab.processes.supervisor import Program
from poolwarden_lab.xapi.hypervisor import Domains, HypervisorServer
from poolwarden_lab.xapi.trees import HostTree, write_tree

if TYPE_CHECKING:
    from poolwarden_lab.processes.network import Network

DROP_IN = "usr/lib/systemd/system/xapi.service.d/50-poolwarden.conf"
PROGRAM = "opt/poolwarden/bin/poolwarden-agent"
WRAPPER = "opt/poolwarden/bin/poolwarden-gate"
INTERFACE = "sys/class/net/xenbr0"
DISK_MB = 128  # twice what the policy wants free before a promotion
SUPERVISOR_SOCKET = "var/run/supervisor.sock"
FILLER = "var/log/filler"
STOP_LIMIT_S = 90.0  # systemd's TimeoutStopSec; divided by the time factor, like everything about xapi
_CONTROL = Path(__file__).with_name("systemctl.py")
_PACKAGE = Path(__file__).resolve().parents[3] / "packaging/agent"  # the shipped drop-in and wrapper


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What the world decides about a host. ``environment`` is that of every program; ports are xapi's."""

    root: Path
    logs: Path
    time_factor: float
    collector: str  # HOST:PORT
    bmc_address: str
    agent_python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)
    agent_environment: dict[str, str] = field(default_factory=dict)
    http_port: int = 80
    tls_port: int = 443
    https_only: bool = False  # its firewall drops TCP 80 from other hosts
    gated: bool = False  # xapi.service has the agent's drop-in
    link_user: str = ""  # whom the agent's link side becomes; empty: it stays who it is
    fence_agent: Path | None = None  # which this host's own configuration allows


class SimulatedHost:
    """A machine that can lose power, hang, fill up and come back. Its node in the network is ``h<number>``."""

    def __init__(self, number: int, tree: HostTree, network: Network, settings: HostSettings) -> None:
        self.number = number
        self.node = f"h{number}"
        self.name = tree.files["etc/hostname"].decode().strip()
        self.uuid = tree.uuid
        self.address = tree.address
        self.root = settings.root
        self.powered = False
        self.frozen = False
        self._tree, self._network, self._settings = tree, network, settings
        self._domains = Domains(tree.control_domain_uuid)
        self._hypervisor: HypervisorServer | None = None
        self._supervisor: asyncio.Server | None = None
        self._mounted = False
        self._swallowed: list[socket.socket] = []
        self._turn = asyncio.Lock()
        self.xapi = self._program("xapi", self._xapi_command(), STOP_LIMIT_S / settings.time_factor)
        self.agent = self._program("agent", self._agent_command(), 10.0)

    @property
    def running_vms(self) -> dict[str, str]:
        """uuid -> name of the domains that run now."""
        return self._domains.domains()

    @property
    def alive(self) -> bool:
        """Has it power, and a dom0 that has not died?"""
        return self.powered and self._supervisor is not None

    # -------------------------------------------------------------------------------- the tree

    plugged = True

    def build(self, certificates: dict[str, bytes]) -> None:
        """Make the tree, on a small file system of its own where mounts are possible."""
        self.root.mkdir(parents=True, mode=0o755, exist_ok=True)
        if self._network.isolated:
            size = f"size={DISK_MB}m,mode=755"
            command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(self.root)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode != 0:
                raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
            self._mounted = True
        write_tree(self._tree, self.root)
        for uuid_, name in self._tree.vms.items():
            self._domains.create(uuid_, name)
        for name in ("meminfo", "vmstat"):
            shutil.copyfile(f"/proc/{name}", self.root / "proc" / name)
        self._write("proc/1/stat", b"1 (systemd) S 0" + b" 1" * 48, 0o444)
        self._write("proc/1/cmdline", b"/usr/lib/systemd/systemd\0--system\0", 0o444)
        for name, content in certificates.items():
            self._write(f"etc/poolwarden/tls/{name}", content, 0o600)
        self._write("etc/poolwarden/policy.conf", self._policy().encode(), 0o600)
        self._write("etc/poolwarden/agent.conf", self._agent_config().encode(), 0o644)
        control = (
            f'#!/bin/sh\nexec {_quoted(sys.executable)} -I -S {_quoted(str(_CONTROL))} {_quoted(str(self.root))} "$@"\n'
        )
        self._write("usr/bin/systemctl", control.encode(), 0o755)
        self.plug(True)
        if self._settings.gated:
            self._put_gate()
        if self._settings.https_only:
            self._swallowed = self._network.swallow(self.node, self._settings.http_port)

    def _put_gate(self) -> None:
        self._write(DROP_IN, (_PACKAGE / "xapi.service.d/50-poolwarden.conf").read_bytes(), 0o644)
        self._write(WRAPPER, (_PACKAGE / "poolwarden-gate").read_bytes(), 0o755)
        words = " ".join(_quoted(word) for word in [self._settings.agent_python, "-m", "poolwarden_agent"])
        path = _quoted(self._settings.agent_environment.get("PYTHONPATH", ""))
        program = f'#!/bin/sh\nexport PYTHONPATH={path}\nexec {words} "$@" --root {_quoted(str(self.root))}\n'
        self._write(PROGRAM, program.encode(), 0o755)
        boot = self.root / "proc/sys/kernel/random/boot_id"
        self._write("var/run/poolwarden/xapi-started", boot.read_bytes(), 0o644)

    def plug(self, there: bool) -> None:
        """The management interface's cable, as dom0 sees it; a pulled one stays pulled over a boot."""
        self.plugged = there
        self._write(f"{INTERFACE}/carrier", b"1\n" if there else b"0\n", 0o644)

    def destroy(self) -> None:
        """Remove the tree. The host must be off."""
        for each in self._swallowed:
            each.close()
        if self._mounted:
            subprocess.run(["umount", "-l", str(self.root)], check=False, capture_output=True)
            self._mounted = False
        shutil.rmtree(self.root, ignore_errors=True)

    # -------------------------------------------------------------------------------- power

    async def power_on(self) -> None:
        """Boot; nothing happens if it is on and alive."""
        async with self._turn:
            if self.alive:
                return
            self.powered = True
            self._forget_last_boot()
            self._network.set_link(self.node, self.plugged)
            self._hypervisor = HypervisorServer(self.root, self._domains)
            await self._hypervisor.start()
            socket_path = self.root / SUPERVISOR_SOCKET
            self._supervisor = await asyncio.start_unix_server(self._obey, str(socket_path))
            await self._note_what_was_found()
            await self.xapi.start()
            await self.agent.start()

    async def power_off(self) -> None:
        """Cut the power: cable first, then every process, then what lived in memory."""
        async with self._turn:
            self.powered = False
            await self._die()

    async def lose_dom0(self) -> None:
        """dom0 is dead and silent, and the machine's power stays on (a crashed kernel, a hung controller)."""
        async with self._turn:
            await self._die()

    async def _die(self) -> None:
        self._network.set_link(self.node, False)
        await asyncio.gather(self.xapi.kill(), self.agent.kill())
        self.frozen = False
        if self._supervisor is not None:
            self._supervisor.close()
            self._supervisor = None
        if self._hypervisor is not None:
            await self._hypervisor.stop()
            self._hypervisor = None
        self._domains.clear()

    def _forget_last_boot(self) -> None:
        if self.xapi.starts:
            self._write("proc/sys/kernel/random/boot_id", f"{uuid.uuid4()}\n".encode(), 0o444)
            for path in (self.root / "var/run/poolwarden").glob("*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in ("xapi.pid", "xapi_startup.cookie", "xapi_init_complete.cookie", "supervisor.sock"):
            (self.root / "var/run" / name).unlink(missing_ok=True)
        for entry in (self.root / "proc").iterdir():
            if entry.is_symlink():
                entry.unlink()

    # -------------------------------------------------------------------------------- faults of a living host

    def freeze(self) -> None:
        """dom0 hangs: no process of it runs on, and its kernel still accepts connections."""
        self.frozen = True
        for program in (self.xapi, self.agent):
            program.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.frozen = False
        for program in (self.xapi, self.agent):
            program.send(signal.SIGCONT)

    def fill_disk(self) -> None:
        """Fill the root file system to the last byte. Raises OSError where the tree has no file system of its own."""
        if not self._mounted:
            raise OSError(f"{self.root} is no file system of its own here: filling it would fill the machine's disk")
        block = b"\0" * 65536
        with (self.root / FILLER).open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(block):
                pass

    def empty_disk(self) -> None:
        (self.root / FILLER).unlink(missing_ok=True)

    # -------------------------------------------------------------------------------- the supervisor

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of systemctl: ``VERB UNIT``; the answer is ``CODE TEXT``."""
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            words = (await reader.readline()).decode("ascii", "replace").split()
            code, text = await self._control(*words[:2]) if len(words) >= 2 else (1, "which unit?")
            writer.write(f"{code} {text}\n".encode())
            await writer.drain()

    async def _control(self, verb: str, unit: str) -> tuple[int, str]:
        if verb in ("mask", "unmask"):
            return 0, ""  # of any unit, as systemd does it; only names are masked, nothing here starts by itself
        programs = {"xapi": self.xapi, "poolwarden-agent": self.agent}
        program = programs.get(unit.removesuffix(".service"))
        if program is None:
            return 5, f"Unit {unit} not found."
        if verb == "is-active":
            return (0 if program.state == "active" else 3), program.state
        if verb == "show":
            return 0, "\t".join(f"{name}={value}" for name, value in self._properties().items())
        acts = {"start": program.start, "stop": program.stop, "restart": program.restart}
        if verb not in acts:
            return 1, f"Unknown command verb {verb}."
        await acts[verb]()
        return 0, ""

    def _properties(self) -> dict[str, str]:
        """xapi.service as `systemctl show` prints it in a dom0 (xapi: scripts/xapi.service; systemd 219)."""
        gated = self._settings.gated
        return {
            "LoadState": "loaded",
            "Type": "simple",
            "Restart": "on-failure",
            "TimeoutStartUSec": "0" if gated else "1min 30s",
            "TimeoutStopUSec": "1min 30s",
            "KillMode": "control-group",
            "DropInPaths": f"/{DROP_IN}" if gated else "",
        }

    # -------------------------------------------------------------------------------- commands and files

    def environment(self) -> dict[str, str]:
        """For commands that an operator runs on this host."""
        return {**self._settings.environment, "ROOT": str(self.root), "HOST_ADDRESS": self.address}

    def _program(self, name: str, command: list[str], stop_limit_s: float) -> Program:
        settings = self._settings
        environment = settings.agent_environment if name == "agent" else settings.environment
        return Program(
            [*self._network.launcher(self.node), *command],
            settings.logs / f"{self.node}-{name}.log",
            environment=environment,
            stop_limit_s=stop_limit_s,
            first=self._first(name),
            started=self._appeared,
            ended=self._disappeared,
        )

    def _first(self, name: str) -> list[str]:
        """What the drop-in has systemd run before each start of xapi."""
        if name != "xapi" or not self._settings.gated:
            return []
        # The packaged wrapper itself; what it calls by absolute paths lies below this host's root.
        where = [f"POOLWARDEN_ROOT={self.root}", f"POOLWARDEN_AGENT={self.root / PROGRAM}"]
        return [*self._network.launcher(self.node), "env", *where, str(self.root / WRAPPER)]

    async def _note_what_was_found(self) -> None:
        """poolwarden-boot.service, which the drop-in pulls in before xapi."""
        if self._settings.gated:
            command = [*self._network.launcher(self.node), str(self.root / PROGRAM), "gate", "found"]
            with (self._settings.logs / f"{self.node}-boot.log").open("ab") as log:
                environment = self._settings.environment
                early = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=environment)
                await early.wait()

    def _xapi_command(self) -> list[str]:
        settings = self._settings
        command = [sys.executable, "-m", "poolwarden_lab.xapi", "--root", str(self.root), "--address", self.address]
        command += ["--time-factor", str(settings.time_factor)]
        if settings.https_only or not self._network.isolated:
            command += ["--http", f"{self._own_address()}:{settings.http_port}", "--tls-port", str(settings.tls_port)]
        if self._network.isolated:
            command += ["--tls-address", "::" if ":" in self.address else "0.0.0.0"]
        return command

    def _own_address(self) -> str:
        """Where this host's own programs reach its xapi in the clear."""
        return self._network.inner(self.node) if self._settings.https_only else self.address

    def _agent_command(self) -> list[str]:
        return [self._settings.agent_python, "-m", "poolwarden_agent", "--root", str(self.root)]

    def _agent_config(self) -> str:
        settings = self._settings
        lines = ["[agent]", f"collector = {settings.collector}", f"bmc_address = {settings.bmc_address}"]
        if not self._network.isolated:
            lines += [f"xapi_http = {self._own_address()}:{settings.http_port}"]
            lines += [f"xapi_tls_port = {settings.tls_port}"]
            lines += [f"management_address = {self.address}"]
        if settings.fence_agent is not None:
            lines += [f"fence_agents = {settings.fence_agent}"]
        if settings.link_user:
            lines += [f"user = {settings.link_user}"]
        return "\n".join(lines) + "\n"

    def _policy(self) -> str:
        """The shipped one; fence agents are run for others where this host has one."""
        shipped = (_PACKAGE / "policy.conf").read_text()
        return (
            shipped if self._settings.fence_agent is None else shipped.replace("fence_proxy = no", "fence_proxy = yes")
        )

    def _appeared(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            (self.root / f"proc/{pid}").symlink_to(f"/proc/{pid}")

    def _disappeared(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            (self.root / f"proc/{pid}").unlink()

    def _write(self, relative: str, content: bytes, mode: int) -> None:
        target = self.root / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            target.chmod(0o600)
        target.write_bytes(content)
        target.chmod(mode)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
