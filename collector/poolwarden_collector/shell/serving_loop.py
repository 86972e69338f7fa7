"""The event loop that the collector runs on: asyncio's own, which takes all that gRPC has in each turn.

Theory: grpc.aio's thread puts each event into a queue and writes a byte into a pair of sockets; its reader in the loop
takes one byte and all that is in the queue (grpc: aio/completion_queue.pyx.pxi). Where more than one event comes in a
turn bytes are left, and 278 of them fill the pair (212,992 bytes, of which the kernel counts 768 for each). From then
on that thread waits in its write for the one byte that is taken in each turn, and each turn gets one event, however
many there are: a loop that was late once stays late, each call is handed over behind thousands of reports, and each
operator's question is. So here all bytes are taken with the first.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

_MOST = 4_096  # bytes: many times what the pair holds


class ServingLoop(asyncio.SelectorEventLoop):
    """To be run by ``asyncio.Runner``."""

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        """As asyncio's; of gRPC's reader all bytes are taken."""
        if isinstance(fd, socket.socket) and _is_grpcs(callback):
            callback = partial(_with_all, fd, callback)
        super().add_reader(fd, callback, *args)


def _is_grpcs(callback: Callable[..., Any]) -> bool:
    owner = getattr(getattr(callback, "func", callback), "__self__", None)
    return type(owner).__module__.startswith("grpc.")


def _with_all(end: socket.socket, handle: Callable[..., Any], *args: Any) -> None:
    """``handle`` takes the last byte, and all events: those are put into the queue before their bytes are written."""
    waiting = len(end.recv(_MOST, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    if waiting > 1:
        end.recv(waiting - 1)
    handle(*args)
