"""How long gRPC keeps calls before it hands them over, found out by a call of the collector's own.

gRPC hands calls over one by one, each within some turns of the loop, in the order in which they came (grpc.aio's server
asks for the next one when it has begun with the last). Who waits there is known to nobody: its certificate is shown
with the call. So this process calls its own server again and again, by a socket in its own folder: when such a call is
handed over, all that came before it was sent have been.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import grpc

from poolwarden_collector.core.model.values import Ms

METHOD = "/poolwarden.own.Calls/Waited"
EVERY_S = 0.5
_FAILED_S = 1.0

_log = logging.getLogger(__name__)


class CallWatch:
    """``now``: the collector's clock, ms."""

    def __init__(self, now: Callable[[], Ms]) -> None:
        self._now = now
        self._sent: Ms | None = None  # when the call was sent that is under way
        self._task: asyncio.Task[None] | None = None

    def lag(self) -> Ms:
        """How long ago all calls that had come had been handed over, as far as is known; 0: none is known to wait."""
        return self._now() - self._sent if self._sent is not None else 0

    def start(self, socket: Path) -> None:
        """Begin to call the server that listens at this socket, too."""
        self._task = asyncio.ensure_future(self._watch(socket))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self, socket: Path) -> None:
        async with grpc.aio.insecure_channel(f"unix:{socket}", [("grpc.enable_http_proxy", 0)]) as channel:
            call = channel.unary_unary(METHOD)
            while True:
                self._sent, pause_s = self._now(), EVERY_S
                try:
                    await call(b"")
                except grpc.aio.AioRpcError:
                    pause_s = _FAILED_S  # the server begins or ends: nothing is known
                finally:
                    self._sent = None
                await asyncio.sleep(pause_s)


def listen(server: grpc.aio.Server, socket: Path) -> None:
    """Have this server listen there as well."""
    with contextlib.suppress(OSError):
        socket.unlink()  # what a process that was killed has left
    try:
        server.add_insecure_port(f"unix:{socket}")
    except RuntimeError as error:  # its path may be too long
        _log.warning("%s cannot be listened on (%s): how long calls wait is not known", socket, error)
