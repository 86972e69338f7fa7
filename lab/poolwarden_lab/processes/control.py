"""The lab process's own socket: how ``fault``, ``heal``, ``exec``, ``status`` and ``down`` reach a running lab.

One request per connection: a JSON object in one line, sent at once, for ``exec`` together with the caller's stdin,
stdout and stderr (SCM_RIGHTS), so that the command reads and writes them itself. The answer is one JSON line:
``{"ok": true, ...}`` or ``{"ok": false, "error": SENTENCE}``. A caller that goes away takes its command with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from poolwarden_lab.processes.lab import World

_REQUEST_LIMIT = 65536


class LabError(Exception):
    """The lab refused or cannot be reached; the text says why and what to do."""


class ControlServer:
    """Serves one world; ``down`` is set when somebody asks for its end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._listener: socket.socket | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self.down = asyncio.Event()

    async def start(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._world.places.lab_socket))
        self._world.places.lab_socket.chmod(0o600)
        listener.listen(16)
        listener.setblocking(False)
        self._listener = listener
        self._acceptor = asyncio.create_task(self._accept(listener))

    async def stop(self) -> None:
        for task in [self._acceptor, *self._clients]:
            if task is not None:
                task.cancel()
        if self._listener is not None:
            self._listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(self._serve(connection))
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        handles: list[int] = []
        try:
            await _readable(connection)
            data, handles, _, _ = socket.recv_fds(connection, _REQUEST_LIMIT, 3)
            if not data:
                return
            answer = await self._answer(json.loads(data), handles, connection)
            await loop.sock_sendall(connection, json.dumps(answer).encode() + b"\n")
        except (OSError, ValueError):
            return
        finally:
            for handle in handles:
                os.close(handle)
            connection.close()

    async def _answer(self, request: dict[str, Any], handles: list[int], link: socket.socket) -> dict[str, Any]:
        if request.get("op") == "exec":
            return await self._exec(request, handles, link)
        act = self._acts().get(str(request.get("op")))
        if act is None:
            return {"ok": False, "error": f"unknown request {request.get('op')!r}"}
        try:
            return {"ok": True, **(await act(request) or {})}
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the caller hears it and the lab lives on
            return {"ok": False, "error": str(error.args[0] if isinstance(error, LookupError) else error)}

    def _acts(self) -> dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any] | None]]]:
        return {
            "status": self._status,
            "fault": self._fault,
            "heal": self._heal,
            "webhook": self._webhook,
            "down": self._down,
        }

    async def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"status": self._world.status()}

    async def _fault(self, request: dict[str, Any]) -> dict[str, Any]:
        at = await self._world.fault(request["host"], request["kind"])
        return {"at_mono_ms": int(at * 1000)}

    async def _heal(self, request: dict[str, Any]) -> None:
        await self._world.heal(request.get("host") or "")

    async def _webhook(self, request: dict[str, Any]) -> dict[str, Any]:
        webhook = self._world.webhook
        if request.get("refuse") is not None:
            webhook.refuse = int(request["refuse"])
        fields = ("mono_ms", "status", "key", "payload")
        return {"deliveries": [{name: getattr(item, name) for name in fields} for item in webhook.deliveries]}

    async def _down(self, request: dict[str, Any]) -> None:
        self.down.set()

    async def _exec(self, request: dict[str, Any], handles: list[int], link: socket.socket) -> dict[str, Any]:
        if len(handles) != 3:
            return {"ok": False, "error": "exec needs the caller's three standard streams"}
        try:
            command, environment, directory = self._world.command_on(request["host"], request["command"])
            for name in ("TERM", "COLUMNS", "LINES"):
                if name in request.get("environment", {}):
                    environment[name] = request["environment"][name]
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=handles[0],
                stdout=handles[1],
                stderr=handles[2],
                env=environment,
                cwd=directory,
                start_new_session=True,
            )
        except (LookupError, OSError) as error:
            return {"ok": False, "error": str(error.args[0] if isinstance(error, LookupError) else error)}
        ended, left = asyncio.create_task(process.wait()), asyncio.create_task(_readable(link))
        await asyncio.wait({ended, left}, return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        if not ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the group: a child that is just being forked dies as well
        return {"ok": True, "code": await ended}


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)


def ask(home: Path, request: dict[str, Any], *, streams: bool = False, timeout_s: float | None = 30) -> dict[str, Any]:
    """One request to the lab in this directory. Raises LabError with what to do."""
    handles = [0, 1, 2] if streams else []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(timeout_s)
        try:
            link.connect(str(home / "lab.sock"))
            socket.send_fds(link, [json.dumps(request).encode() + b"\n"], handles)
            line = link.makefile("rb").readline()
        except OSError as error:
            raise LabError(
                f"no lab answers in {home} ({error.strerror or error}): poolwarden lab up --dir {home}"
            ) from None
    answer = json.loads(line) if line else {"ok": False, "error": "the lab ended"}
    if not answer.pop("ok", False):
        raise LabError(str(answer.get("error")))
    return dict(answer)
