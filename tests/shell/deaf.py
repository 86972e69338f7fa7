"""An agent's end of a stream that lets the collector write nothing: HTTP/2 by hand, with a window of 0 bytes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.shell.agents.gateway import ATTACH
from poolwarden_collector.shell.config import certificates

from .rig import mono_ms

_DATA, _HEADERS, _SETTINGS, _PING = 0, 1, 4, 6
_END_HEADERS, _ACK = 4, 1
_INITIAL_WINDOW = 4
_CALL = {
    ":method": "POST",
    ":scheme": "https",
    ":path": ATTACH,
    ":authority": certificates.COLLECTOR_DNS,
    "te": "trailers",
    "content-type": "application/grpc",
}


def _frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


def _text(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


class Deaf:
    """It answers pings, so that its connection lives, and takes nothing else in."""

    def __init__(self, bundle: certificates.Bundle) -> None:
        self._bundle = bundle
        self._sequence = 0
        self._ears: asyncio.Task[None] | None = None

    async def connect(self, port: int) -> None:
        context = ssl.create_default_context(cafile=str(self._bundle.ca))
        context.load_cert_chain(self._bundle.cert, self._bundle.key)
        context.set_alpn_protocols(["h2"])
        name = certificates.COLLECTOR_DNS
        opened = asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        self._reader, self._writer = await opened
        settings = _INITIAL_WINDOW.to_bytes(2, "big") + bytes(4)
        self._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, settings))
        # Literal fields without indexing and without Huffman codes (RFC 7541, 6.2.2).
        fields = b"".join(b"\0" + _text(name) + _text(value) for name, value in _CALL.items())
        self._writer.write(_frame(_HEADERS, _END_HEADERS, 1, fields))
        self._ears = asyncio.ensure_future(self._answer_pings())

    async def _answer_pings(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await self._reader.readexactly(9)
                body = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] in (_SETTINGS, _PING) and not head[4] & _ACK:
                    self._writer.write(_frame(head[3], _ACK, 0, body if head[3] == _PING else b""))

    async def send(self, **body: Any) -> None:
        self._sequence += 1
        message = pb.AgentMessage(sequence=self._sequence, mono_ms=mono_ms(), **body).SerializeToString()
        self._writer.write(_frame(_DATA, 0, 1, b"\0" + len(message).to_bytes(4, "big") + message))
        with contextlib.suppress(OSError):
            await self._writer.drain()

    async def ended(self, within: float = 20.0) -> None:
        """Wait until the collector has ended the connection."""
        assert self._ears is not None
        await asyncio.wait_for(asyncio.shield(self._ears), within)

    async def close(self) -> None:
        self._writer.close()
        if self._ears is not None:
            self._ears.cancel()
            await asyncio.gather(self._ears, return_exceptions=True)
