"""The demo's page where a browser of this machine reaches it: a door from outside into the lab's network.

Theory: a socket stays in the network namespace in which it was made, and is inherited over exec. So the door is a
listening socket on 127.0.0.1 that is made before the lab enters namespaces of its own; behind it each connection is
passed on, byte by byte, to the collector in the lab. TLS goes through untouched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from typing import TYPE_CHECKING

from poolwarden_collector.shell.config.operators import Role
from poolwarden_collector.shell.page import users
from poolwarden_lab.processes.lab import PAGE_PORT
from poolwarden_lab.processes.network import COLLECTOR

if TYPE_CHECKING:
    from poolwarden_lab.processes.lab import World

_DOOR = "POOLWARDEN_LAB_PAGE_DOOR"
USER = "demo"
_AT_ONCE = 1 << 16  # bytes


def make_door() -> None:
    """To be called before the lab enters its namespaces; once there it is found again by ``PageDoor``."""
    if _DOOR not in os.environ:
        door = socket.create_server(("127.0.0.1", 0), backlog=64)
        door.set_inheritable(True)
        os.environ[_DOOR] = str(door.detach())


class PageDoor:
    """The door of this process; a user ``demo`` is made with a password of this run alone."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self.password = secrets.token_urlsafe(12)
        self.address = ""

    async def open(self) -> None:
        """Begin to pass connections on; the world has started."""
        file = users.UserFile(self._world.places.home / "state")
        file.write({USER: await asyncio.to_thread(users.made, USER, self.password, Role.VIEWER, None)})
        door = socket.socket(fileno=int(os.environ[_DOOR]))
        door.setblocking(False)
        self.address = f"https://127.0.0.1:{door.getsockname()[1]}/"
        self._server = await asyncio.start_server(self._pass, sock=door)

    async def close(self) -> None:
        """End every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._passing):
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)
        inside = self._world.network.socket_on(COLLECTOR)
        try:
            await asyncio.get_running_loop().sock_connect(inside, (self._world.network.address(COLLECTOR), PAGE_PORT))
            there, back = await asyncio.open_connection(sock=inside)
        except OSError:
            inside.close()
            writer.close()
            return
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            writer.close()
            back.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_AT_ONCE):
            writer.write(data)
            await writer.drain()
        writer.close()
