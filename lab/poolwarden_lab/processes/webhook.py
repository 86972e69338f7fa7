"""The receiver of the lab's alerts: a small HTTP server in the collector's namespace that keeps what came.

It answers 200, or 503 for the next ``refuse`` requests, which it keeps as well: an alert must survive that with one
key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

PORT = 8080
_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Delivery:
    """One POST. ``mono_ms`` is this machine's monotonic clock; ``key`` is the Idempotency-Key header."""

    mono_ms: int
    status: int
    key: str
    payload: dict[str, Any]


class Webhook:
    """Keeps every delivery in order; ``heard`` is told of each."""

    def __init__(self, heard: Callable[[Delivery], None] = lambda delivery: None) -> None:
        self.deliveries: list[Delivery] = []
        self.refuse = 0
        self._heard = heard
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=_LIMIT)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
                headers = await _headers(reader)
                body = await reader.readexactly(min(int(headers.get("content-length", "0")), _LIMIT))
                status = self._keep(headers, body)
                reason = "OK" if status == 200 else "Service Unavailable"
                writer.write(f"HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
        finally:
            writer.close()

    def _keep(self, headers: dict[str, str], body: bytes) -> int:
        status = 503 if self.refuse > 0 else 200
        self.refuse = max(0, self.refuse - 1)
        payload = json.loads(body)
        if not isinstance(payload, dict):
            raise ValueError("an alert is a JSON object")
        delivery = Delivery(time.monotonic_ns() // 1_000_000, status, headers.get("idempotency-key", ""), payload)
        self.deliveries.append(delivery)
        self._heard(delivery)
        return status


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    pairs = (line.partition(":") for line in text.split("\r\n")[1:] if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
