"""Simulated BMCs: one per host, each on an address of its own, with a tiny line protocol.

A connection says ``login NAME PASSWORD``, then one of ``power status``, ``power on``, ``power off``, ``identity``; each
line gets one line: ``ok``, ``denied``, ``on``, ``off``, a UUID or ``error TEXT``. Switching really switches: off pulls
the host's cable and kills everything that runs on it, on boots it.

A BMC has standby power of its own, so it outlives its host; when the *site's* power fails both are gone, and that is
what the fault ``unreachable`` with ``power`` shows (an on-board BMC that does not answer proves nothing).
"""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket

PORT = 9623  # not IPMI's 623: an unprivileged lab without namespaces must be able to listen there
SLOW_S = 3.0


class BmcFault(Enum):
    """Ways in which a BMC goes wrong; several may hold at once."""

    SLOW = "slow"  # every answer takes 3 s
    STUCK = "stuck"  # off and on are acknowledged and not done
    LIES_OFF = "lies-off"  # reads off whatever the power is
    LIES_ON = "lies-on"  # reads on whatever the power is
    MUTE = "mute"  # accepts connections and never answers


class Powered(Protocol):
    """The machine behind a BMC."""

    @property
    def powered(self) -> bool: ...
    async def power_off(self) -> None: ...
    async def power_on(self) -> None: ...


class Bmc:
    """One BMC. ``log`` keeps every request with its answer, for tests."""

    def __init__(self, machine: Powered, username: str, password: str) -> None:
        self._machine = machine
        self._credentials = (username, password)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.identity = ""  # the system UUID of its machine, as it tells it
        self.faults: set[BmcFault] = set()
        self.log: list[tuple[str, str]] = []

    async def start(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_server(self._serve, sock=listener)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with contextlib.suppress(OSError, ValueError):
                await self._talk(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        authorized = False
        while line := (await reader.readline()).decode("ascii", "replace").split():
            if BmcFault.MUTE in self.faults:
                continue
            if line[0] == "login":
                authorized = tuple(line[1:]) == self._credentials
                answer = "ok" if authorized else "denied"
            else:
                answer = await self._answer(line) if authorized else "denied"
            writer.write(f"{answer}\n".encode("ascii"))
            await writer.drain()

    async def _answer(self, line: list[str]) -> str:
        if BmcFault.SLOW in self.faults:
            await asyncio.sleep(SLOW_S)
        answer = "error unknown request"
        if line == ["identity"]:
            answer = self.identity or "error it has none"
        elif line[0] == "power" and len(line) == 2:
            answer = await self._power(line[1])
        self.log.append((" ".join(line), answer))
        return answer

    async def _power(self, verb: str) -> str:
        if verb == "status":
            return self._reading()
        if verb not in ("on", "off"):
            return "error unknown request"
        if BmcFault.STUCK not in self.faults:
            await (self._machine.power_on() if verb == "on" else self._machine.power_off())
        return "ok"

    def _reading(self) -> str:
        if BmcFault.LIES_OFF in self.faults:
            return "off"
        return "on" if self._machine.powered or BmcFault.LIES_ON in self.faults else "off"
