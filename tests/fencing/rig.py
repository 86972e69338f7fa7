"""A machine with a board, a real BMC program in front of it, and our fencer with a real fence agent at it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from poolwarden_collector.core.model.effects import PowerOff, PowerOn, ReadPower
from poolwarden_collector.core.model.events import Event, FenceEnded, PowerRead
from poolwarden_collector.shell.config.fence_blocks import Fence
from poolwarden_collector.shell.fencing.fencer import Fencer
from poolwarden_collector.shell.fencing.leave import Leave
from poolwarden_lab.processes.bmc import chassis, fronts
from poolwarden_lab.processes.bmc.board import Bmc

POOL, HOST = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000001"
SYSTEM = "a1234567-89ab-cdef-a123-456789abcdef"


class Machine:
    """What a BMC switches; while ``held`` a power-off has been asked of it and is not done yet."""

    def __init__(self) -> None:
        self.powered = True
        self.asked, self._released = asyncio.Event(), asyncio.Event()
        self._released.set()

    def hold(self) -> None:
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    async def power_off(self) -> None:
        self.asked.set()
        await self._released.wait()
        self.powered = False

    async def power_on(self) -> None:
        self.powered = True


class Peer:
    """One running BMC program of a kind, its board, and the machine."""

    def __init__(self, kind: str, home: Path, system: str = SYSTEM) -> None:
        self.kind, self._home, self.system = kind, home, system
        self.machine = Machine()
        self.board = Bmc(self.machine, chassis.USER, chassis.PASSWORD)
        self._program: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        await self.board.start(listener)
        board = ("127.0.0.1", listener.getsockname()[1])
        self.front = fronts.Front("h1", "127.0.0.1", free_port(self.kind), board, self.system)
        command = await asyncio.to_thread(fronts.command, self.kind, self.front, self._home)
        log = (self._home / "log").open("wb")
        with log:
            self._program = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, stdin=-3)
        deadline = time.monotonic() + 20
        while (await self.device_run("status"))[0] is None:
            said = (self._home / "log").read_text(errors="replace")[-500:]
            assert self._program.returncode is None and time.monotonic() < deadline, said
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        if self._program is not None and self._program.returncode is None:
            self.thaw()
            self._program.kill()
            await self._program.wait()
        await self.board.stop()

    async def device_run(self, action: str) -> tuple[int | None, str]:
        """The real agent, by our wrapper: (0 | 2, text) once the program answers it at all."""
        from poolwarden_collector.shell.fencing.agent_run import run_agent

        device = self.device(power_timeout="1")
        run = await run_agent(device.agent, device.parameters, action, 10)
        return (run.code if run.code in (0, 2) else None), run.text

    def freeze(self) -> None:
        """The firmware hangs."""
        assert self._program is not None
        os.kill(self._program.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._program is not None
        os.kill(self._program.pid, signal.SIGCONT)

    def device(self, limit_ms: int = 20_000, **changes: str) -> Fence:
        """The device block for it, with these parameters changed."""
        given = {**fronts.parameters(self.kind, self.front), "password": chassis.PASSWORD, **changes}
        return Fence(HOST, fronts.agent(self.kind), "bmc", 1, limit_ms, given)


class Ears:
    """Our fencer with one device, and what it answered."""

    def __init__(self, device: Fence, leave: Leave = Leave()) -> None:  # noqa: B008
        self.events: list[Any] = []
        self.fencer = Fencer((device,), self._take, lambda: time.monotonic_ns() // 1_000_000, leave=leave)

    def _take(self, pool: str, event: Event) -> None:
        assert pool == POOL
        self.events.append(event)

    async def status(self, *, thorough: bool = False) -> PowerRead:
        """A reading; thorough: as by day, with the device's identity and its monitor."""
        self.fencer.read_power(POOL, ReadPower(HOST, "bmc", "run-1", identify=thorough, monitor=thorough))
        return await self._answer(PowerRead)

    async def off(self) -> FenceEnded:
        self.fencer.power_off(POOL, PowerOff(HOST, "bmc", "run-2"))
        return await self._answer(FenceEnded)

    async def on(self) -> FenceEnded:
        self.fencer.power_on(POOL, PowerOn(HOST, "bmc", "run-3"))
        return await self._answer(FenceEnded)

    async def _answer(self, kind: type[Any]) -> Any:
        await until(lambda: bool(self.events), 40)
        event = self.events.pop()
        assert isinstance(event, kind)
        return event


@contextlib.asynccontextmanager
async def running(kind: str, home: Path, system: str = SYSTEM) -> AsyncIterator[Peer]:
    peer = Peer(kind, home, system)
    try:
        await peer.start()
        yield peer
    finally:
        await peer.stop()


async def until(true: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def free_port(kind: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "ipmi" else socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
