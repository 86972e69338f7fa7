"""The connections of a server to which anybody may connect: never more than some, and none that only stays.

Rules
-----
* At most so many at a time, TLS handshakes included. When they are used up, the one that nothing has been answered on
  for the longest gives way to the new one, unless it is being answered now: neither who connects and says nothing nor
  who asks now and then keeps anybody out, or uses file descriptors up.
* One that has asked nothing within a time is ended, and each after a longer one (``Bounds``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

HANDSHAKE_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """``most`` at a time; ended after ``question_s`` without a question, and after ``limit_s`` in any case; each is
    looked at every ``look_s``."""

    most: int
    question_s: float = 15.0
    limit_s: float = 600.0
    look_s: float = 0.5


@dataclass(slots=True, eq=False)
class _Held:
    connection: socket.socket
    task: asyncio.Task[None] | None = None
    asked: bool = False
    answering: bool = False


class Connections:
    """Takes connections for ``handler``, behind TLS; to be used in the event loop that serves."""

    def __init__(
        self,
        handler: Callable[[], asyncio.BaseProtocol],
        context: ssl.SSLContext,
        bounds: Bounds,
        name: str,
    ) -> None:
        self._bounds = bounds
        self._name = name
        self._handler = handler
        self._context = context
        self._held: dict[_Held, None] = {}  # what has been idle for the longest first
        self._of: dict[asyncio.BaseTransport, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    @contextlib.contextmanager
    def answering(self, transport: asyncio.BaseTransport | None) -> Iterator[None]:
        """A request has come on it and is being answered: it gives way to nobody meanwhile."""
        held = self._of.get(transport) if transport is not None else None
        if held is None:
            yield
            return
        held.asked = held.answering = True
        try:
            yield
        finally:
            held.answering = False
            if held in self._held:
                del self._held[held]
                self._held[held] = None

    async def accept(self, listener: socket.socket) -> None:
        """Take connections until it is cancelled; then every one is ended."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError as error:  # no file descriptor left, or a client that is gone already
                    _log.warning("%s: a connection could not be taken: %s", self._name, error)
                    await asyncio.sleep(0.1)
                    continue
                if len(self._held) >= self._bounds.most and not self._make_room():
                    connection.close()
                    continue
                held = _Held(connection)
                self._held[held] = None
                held.task = asyncio.ensure_future(self._hold(held))
                held.task.add_done_callback(partial(self._over, held))
        finally:
            tasks = [held.task for held in self._held if held.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, held: _Held, _: asyncio.Task[None]) -> None:
        self._held.pop(held, None)
        held.connection.close()  # also of one that was ended before it began

    def _make_room(self) -> bool:
        """End the one that has been idle for the longest; false: all are being answered."""
        oldest = next((held for held in self._held if not held.answering), None)
        if oldest is None or oldest.task is None:
            return False
        self._held.pop(oldest)
        oldest.task.cancel()
        return True

    async def _hold(self, held: _Held) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            transport, _ = await loop.connect_accepted_socket(
                self._handler, held.connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError:  # no TLS, or too slow (ConnectionAbortedError): theirs to mend
            return
        self._of[transport] = held
        try:
            while not transport.is_closing():
                if loop.time() - began > (self._bounds.limit_s if held.asked else self._bounds.question_s):
                    return
                await asyncio.sleep(self._bounds.look_s)
        finally:
            self._of.pop(transport, None)
            transport.abort()
