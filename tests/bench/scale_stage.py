"""The shipped collector and the played agents, processes of their own on a core each, in a folder that goes with them.

Nothing is shortened but what is said at the call. Where the machine has one core only, both are on it, and the headline
of the benchmark says how many there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from poolwarden_collector.shell.config import certificates
from poolwarden_lab.processes import launch
from poolwarden_lab.processes.places import base_environment, code_path

AGENTS = Path(__file__).with_name("scale_agents.py")
ECHO = Path(__file__).with_name("scale_echo.py")
_TIED = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), "-")
_CORES = sorted(os.sched_getaffinity(0))
COLLECTOR_CORE, AGENTS_CORE = {_CORES[0]}, {_CORES[-1]}
LISTENING_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Fence:
    """A device: whose, and where its agent looks."""

    host: str
    name: str
    state: Path


@dataclass
class Site:
    """A folder with authority, configuration and journal; used for several runs of a collector one after the other."""

    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="pwscale", dir="/tmp")))
    port: int = 0

    def __post_init__(self) -> None:
        certificates.create_ca(self.tls)
        certificates.issue_collector(self.tls, "scale", ("127.0.0.1",), self.tls / "collector")
        self.port = self.port or free_port()

    @property
    def tls(self) -> Path:
        return self.home / "tls"

    @property
    def socket(self) -> Path:
        return self.home / "operator.sock"

    @property
    def target(self) -> str:
        return f"unix:{self.socket}"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def log(self) -> Path:
        return self.home / "collector.log"

    def configure(self, policy: dict[str, object], fences: Iterable[Fence] = (), agent: Path | None = None) -> None:
        """Write collector.toml. ``policy``: as it is typed there."""
        self.state.mkdir(exist_ok=True, mode=0o700)
        tls = self.tls / "collector"
        lines = ["anchors = []", "[collector]", 'name = "scale"', f'listen = "127.0.0.1:{self.port}"']
        lines += [f'operator_socket = "{self.socket}"', f'state_dir = "{self.state}"', "[tls]"]
        lines += [f'ca = "{tls}/ca.pem"', f'cert = "{tls}/cert.pem"', f'key = "{tls}/key.pem"', "[policy]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in policy.items()]
        for fence in fences:
            lines += ["[[fence]]", f'host = "{fence.host}"', f'name = "{fence.name}"', f'agent = "{agent}"']
            lines += ['limit = "30s"', f'identity = "{agent}_identity"', "[fence.parameters]", f'ip = "{fence.state}"']
        lines += ["[alerts]", f'log = "{self.home / "alerts.log"}"']
        (self.home / "collector.toml").write_text("\n".join(lines) + "\n")

    def remove(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Running:
    """A program that this benchmark started; it dies with the benchmark, however that dies (launch.py)."""

    def __init__(self, command: list[str], log: Path, core: set[int], *, piped: bool = False) -> None:
        environment = base_environment(code_path("poolwarden_collector", "poolwarden", "poolwarden_lab"))
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment |= {"PYTHONPYCACHEPREFIX": str(log.parent / "pycache"), "TMPDIR": str(log.parent)}
        pipe = subprocess.PIPE if piped else subprocess.DEVNULL
        with log.open("ab") as said:
            self.process = subprocess.Popen(
                [*_TIED, *command], stdin=pipe, stdout=pipe, stderr=said, env=environment, start_new_session=True
            )
        os.sched_setaffinity(self.process.pid, core)
        self.seen = psutil.Process(self.process.pid)
        self.log = log

    def cpu_s(self) -> float:
        """Processor time of the process itself; its children's fence agents are beside it."""
        used = self.seen.cpu_times()
        return float(used.user + used.system)

    def rss_mb(self) -> float:
        return float(self.seen.memory_info().rss) / 1e6

    def alive(self) -> None:
        """Raises RuntimeError with its last words if it has ended."""
        if self.process.poll() is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            raise RuntimeError(f"ended with {self.process.returncode}: {lines[-1] if lines else '-'}")

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Collector(Running):
    """The shipped program."""

    def __init__(self, site: Site) -> None:
        self.began = time.monotonic()
        self._site = site
        config = str(site.home / "collector.toml")
        command = [sys.executable, "-m", "poolwarden_collector.shell.main", "--config", config]
        super().__init__(command, site.log, COLLECTOR_CORE)

    async def listening(self) -> float:
        """Seconds from its start until agents can connect. Raises RuntimeError or TimeoutError."""
        return await _listening(self, self._site.port)


class Echo(Running):
    """A bare gRPC server that gives back what it gets, with the collector's options and certificate."""

    def __init__(self, site: Site) -> None:
        self.began = time.monotonic()
        self._site = site
        tls = str(site.tls / "collector")
        super().__init__([sys.executable, str(ECHO), str(site.port), tls], site.home / "echo.log", COLLECTOR_CORE)

    async def listening(self) -> float:
        return await _listening(self, self._site.port)


async def _listening(program: Collector | Echo, port: int) -> float:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            program.alive()
            if time.monotonic() - program.began > LISTENING_LIMIT_S:
                raise TimeoutError("it does not listen") from None
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return time.monotonic() - program.began


class Agents(Running):
    """The agents' side; what it says is kept."""

    def __init__(self, site: Site, agents: int, *more: str) -> None:
        command = [sys.executable, str(AGENTS), "--port", str(site.port), "--tls", str(site.tls)]
        super().__init__([*command, "--agents", str(agents), *more], site.home / "agents.log", AGENTS_CORE, piped=True)
        self.state: dict[str, Any] = {"up": 0, "heard": 0, "sent": 0, "waiting": 0, "lost": 0, "cpu_s": 0.0, "why": {}}
        self.gone: dict[str, dict[str, Any]] = {}  # of each pool whose master was lost: host and instant
        self.answers: dict[str, list[float]] = {}  # of each pool that lost its master: when its hosts answered orders
        self.on_gone: Callable[[dict[str, Any]], object] = lambda _: None
        self.on_sample: Callable[[dict[str, Any]], None] = lambda _: None
        self._reader = asyncio.ensure_future(self._read())

    def say(self, words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{words}\n".encode())
        self.process.stdin.flush()

    async def until(self, reached: Callable[[dict[str, Any]], bool], limit_s: float, what: str) -> None:
        """Raises TimeoutError with what its streams ended with."""
        deadline = time.monotonic() + limit_s
        while not reached(self.state):
            self.alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {limit_s:.0f} s: {self.state}")
            await asyncio.sleep(0.05)

    async def end(self) -> None:
        self._reader.cancel()
        await asyncio.to_thread(self.kill)

    async def _read(self) -> None:
        reader = asyncio.StreamReader()
        assert self.process.stdout is not None
        said_by_it = os.fdopen(os.dup(self.process.stdout.fileno()), "rb")
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), said_by_it)
        with contextlib.suppress(asyncio.CancelledError):
            while line := await reader.readline():
                said = json.loads(line)
                if "up" in said:
                    self.state = said
                elif "gone" in said:
                    self.gone[said["gone"]] = said
                    self.on_gone(said)
                elif "answered" in said:
                    self.answers.setdefault(said["answered"], []).append(said["at_ms"])
                else:
                    self.on_sample(said)
