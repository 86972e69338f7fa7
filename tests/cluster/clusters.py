"""Two etcds for one set of tests: the simulated world's model in virtual time, and three real members on loopback."""

from __future__ import annotations

import asyncio
import os
import selectors
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.cluster.etcd import Etcd, EtcdError, Get, Put, Txn
from poolwarden_collector.shell.cluster.etcd_access import Access
from poolwarden_collector.shell.cluster.etcd_client import EtcdClient
from poolwarden_lab.virtual.world.etcd_model import EtcdModel

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class Cluster(Protocol):
    """What the tests ask of either."""

    lease_s: int  # the shortest lease that it grants

    def client(self, name: str) -> Etcd:
        """One collector's way to it."""

    def now(self) -> int:
        """The clock on which rights are counted (ms)."""

    async def sleep(self, seconds: float) -> None:
        """Let time go on."""

    def kill_one(self) -> None:
        """One member dies, the leader where that is known."""

    def halt(self) -> None:
        """Two of three members stand still."""

    def go_on(self) -> None:
        """They go on."""

    async def settled(self) -> None:
        """Each member that runs has had a write done: what one that went on takes for its leader is so again."""


# ------------------------------------------------------------------------------------------------ the model


class _Jump(selectors.DefaultSelector):
    """Waits by putting the clock forward."""

    now = 1_000.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes as soon as everybody waits."""

    def __init__(self) -> None:
        self.jump = _Jump()
        super().__init__(self.jump)

    def time(self) -> float:
        return self.jump.now


class ModelCluster:
    """The model; its time is the running loop's."""

    lease_s = 5

    def __init__(self) -> None:
        self.model = EtcdModel(self.now, self._after)

    def client(self, name: str) -> Etcd:
        return self.model.client(name)

    def now(self) -> int:
        return round(asyncio.get_running_loop().time() * 1000)

    def _after(self, ms: int, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(ms / 1000, call)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def kill_one(self) -> None:
        self.model.stop(0)

    def halt(self) -> None:
        self.model.stop(0)
        self.model.stop(1)

    def go_on(self) -> None:
        self.model.start(0)
        self.model.start(1)

    async def settled(self) -> None:
        pass

    async def close(self) -> None:
        pass


# ------------------------------------------------------------------------------------------------ three real members


def _free_ports(count: int) -> list[int]:
    """Ports that nobody had at once; whoever takes one meanwhile makes the start fail, which is then seen."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class RealCluster:
    """Three members of Debian's etcd-server below ``folder``; without fsync, so that tests wait for nothing."""

    lease_s = 2  # etcd's own least, with this election timeout

    def __init__(self, folder: Path, tls: Callable[[], tuple[Path, Path, Path]] | None = None) -> None:
        self._folder = folder
        ports = _free_ports(6)
        self._clients, self._peers = ports[:3], ports[3:]
        self.tls = tls() if tls is not None else None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._made: list[EtcdClient] = []

    @property
    def endpoints(self) -> tuple[str, ...]:
        scheme = "https" if self.tls is not None else "http"
        return tuple(f"{scheme}://127.0.0.1:{port}" for port in self._clients)

    def access(self, user: str = "", password: str = "") -> Access:
        ca, cert, key = self.tls if self.tls is not None else (None, None, None)
        return Access(self.endpoints, ca, cert, key, user, password)

    async def start(self) -> None:
        """Start them and wait until they answer."""
        for number in range(3):
            self._processes.append(self._start(number))
        client = EtcdClient(self.access())
        try:
            for _ in range(100):
                try:
                    await client.ask(Get("is-there"))
                    return
                except EtcdError:
                    await asyncio.sleep(0.1)
            raise AssertionError((self._folder / "m0.log").read_text()[-2000:])
        finally:
            await client.close()

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        members = ",".join(f"m{n}=http://127.0.0.1:{port}" for n, port in enumerate(self._peers))
        here, peer = self.endpoints[number], f"http://127.0.0.1:{self._peers[number]}"
        etcd = shutil.which("etcd", path=PATH)
        assert etcd is not None
        command = [etcd, f"--name=m{number}", f"--data-dir={self._folder / f'm{number}'}"]
        command += [f"--listen-client-urls={here}", f"--advertise-client-urls={here}"]
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        command += [f"--initial-cluster={members}", f"--initial-cluster-token={self._peers[0]}"]
        command += ["--heartbeat-interval=100", "--election-timeout=1000", "--logger=zap", "--log-level=error"]
        command += ["--unsafe-no-fsync"]
        if self.tls is not None:
            ca, cert, key = self.tls
            command += [f"--cert-file={cert}", f"--key-file={key}", "--client-cert-auth", f"--trusted-ca-file={ca}"]
        with (self._folder / f"m{number}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)

    def client(self, name: str) -> Etcd:
        return self.client_of(self.access())

    def client_of(self, access: Access) -> EtcdClient:
        made = EtcdClient(access)
        self._made.append(made)
        return made

    def now(self) -> int:
        return clock.awake_or_not_ms()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def kill_one(self) -> None:
        self._processes[0].kill()

    def kill(self, number: int) -> None:
        self._processes[number].kill()

    def halt(self) -> None:
        for process in self._processes[:2]:
            process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        for process in self._processes[:2]:
            process.send_signal(signal.SIGCONT)

    async def settled(self) -> None:
        everywhere = self.access()
        for endpoint in everywhere.endpoints:
            client = self.client_of(replace(everywhere, endpoints=(endpoint,)))
            for _ in range(20):
                try:
                    await client.ask(Txn((), (Put("is-settled", b""),)))
                    break
                except EtcdError:
                    await asyncio.sleep(0.1)
            else:
                raise AssertionError(f"{endpoint} has no write done")

    async def close(self) -> None:
        for client in self._made:
            await client.close()
        for process in self._processes:
            process.kill()
            process.wait()


def in_virtual_time(test: Callable[[ModelCluster], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """The test on a model of its own, in time that passes as soon as everybody waits."""

    async def on_model() -> None:
        await test(ModelCluster())

    def run() -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(on_model())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def on_real_members(folder: Path, *tests: Callable[[RealCluster], Coroutine[Any, Any, None]]) -> None:
    """Run tests, one after the other, on one cluster."""
    asyncio.run(_on_real(folder, tests))


async def _on_real(folder: Path, tests: tuple[Callable[[RealCluster], Coroutine[Any, Any, None]], ...]) -> None:
    cluster = RealCluster(folder)
    try:
        await cluster.start()
        for test in tests:
            await test(cluster)
    finally:
        await cluster.close()
