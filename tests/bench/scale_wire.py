"""As much of gRPC as a played agent needs: TLS with its own certificate, one HTTP/2 connection, one stream for ever.

Thousands of these run in one process beside the collector that is measured, so each is a socket and some bytes and no
channel of gRPC's (which is 100 kB of memory and four tasks). On the wire it is what grpc's client sends: ALPN h2, the
call's headers (gRPC over HTTP/2, RFC 9113), length-prefixed messages within the receiver's windows, pings answered, and
a ping of its own after ``PING_S`` in which nothing was heard (the agent's keepalive). Of headers that come in only the
end of the stream, and gRPC's words on it, are looked at.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterator

PATH = b"/poolwarden.v1.AgentLink/Attach"
MOST_WAITING = 500  # messages that the other end has not taken; then the agent begins anew
PING_S = 2.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_LARGEST = (1 << 31) - 1
_INITIAL_WINDOW, _MAX_FRAME = 4, 5  # of SETTINGS
_WINDOW_AT_FIRST = 65_535
_WORDS = re.compile(rb"grpc-message..??([ -~]{4,300})", re.DOTALL)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header without indexing (RFC 7541, 6.2.2); both below 127 octets."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


_CALL = b"".join(
    _literal(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", PATH),
        (b":authority", b"collector"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"poolwarden-bench"),
    )
)
_OPENING = (
    _PREFACE
    + _frame(_SETTINGS, 0, 0, struct.pack(">HIHIHI", 1, 0, 2, 0, _INITIAL_WINDOW, _LARGEST))
    + _frame(_WINDOW, 0, 0, struct.pack(">I", _LARGEST - _WINDOW_AT_FIRST))
    + _frame(_HEADERS, _END_HEADERS, 1, _CALL)
)


class Wire:
    """One connection; it is driven by whoever polls its socket. ``ended``: why it is over, empty while it is not."""

    def __init__(self, context: ssl.SSLContext, source: str, port: int, heard: Callable[[bytes], None]) -> None:
        """Begins to connect. Raises OSError."""
        raw = socket.socket()
        try:
            raw.setblocking(False)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: ports are drawn for each pair
            raw.bind((source, 0))
            with contextlib.suppress(BlockingIOError):
                raw.connect(("127.0.0.1", port))
            self._socket = context.wrap_socket(raw, server_hostname="collector", do_handshake_on_connect=False)
        except OSError:
            raw.close()
            raise
        self.ended = ""
        self.up = False  # the handshake is over, and the other end's settings have come
        self.heard_at = 0.0
        self._heard = heard
        self._shaken = False
        self._incoming = bytearray()  # frames
        self._body = bytearray()  # of the stream
        self._outgoing = bytearray()  # not taken by the socket yet
        self._waiting: deque[bytes] = deque()  # messages, no window yet
        self._window, self._stream_window, self._initial = _WINDOW_AT_FIRST, _WINDOW_AT_FIRST, _WINDOW_AT_FIRST

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        return not self._shaken or bool(self._outgoing)

    @property
    def waiting(self) -> int:
        """Messages that the other end has no room for."""
        return len(self._waiting)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def send(self, message: bytes) -> None:
        self._waiting.append(b"\0" + struct.pack(">I", len(message)) + message)
        if len(self._waiting) > MOST_WAITING:
            self._end("the collector does not take what is sent")
        self._fill()
        self._flush()

    def ping(self) -> None:
        if self.up and not self.ended:
            self._outgoing += _frame(_PING, 0, 0, b"bench\0\0\0")
            self._flush()

    def ready(self, now: float) -> None:
        """The socket can be read or written."""
        try:
            if not self._shaken:
                self._socket.do_handshake()
                self._shaken = True
                self._outgoing += _OPENING
            self._flush()
            self._read(now)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self._end(f"{type(error).__name__}: {error.strerror or error}")

    def _read(self, now: float) -> None:
        while not self.ended:
            chunk = self._socket.recv(65_536)
            if not chunk:
                self._end("the connection was closed")
                return
            self.heard_at = now
            self._incoming += chunk
            for kind, flags, stream, payload in self._frames():
                self._take(kind, flags, stream, payload)

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        held, at = self._incoming, 0
        while len(held) - at >= 9:
            length = int.from_bytes(held[at : at + 3], "big")
            if len(held) - at < 9 + length:
                break
            stream = int.from_bytes(held[at + 5 : at + 9], "big")
            yield held[at + 3], held[at + 4], stream, bytes(held[at + 9 : at + 9 + length])
            at += 9 + length
        del held[:at]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._body += payload
            self._messages()
        elif kind == _WINDOW:
            self._widen(stream, int.from_bytes(payload, "big"))
        elif kind == _PING and not flags & _ACK:
            self._outgoing += _frame(_PING, _ACK, 0, payload)
        elif kind == _SETTINGS and not flags & _ACK:
            self._settle(payload)
        elif kind in (_RST, _GOAWAY):
            self._end(f"{'RST_STREAM' if kind == _RST else 'GOAWAY'} {payload[:120]!r}")
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            said = _WORDS.search(payload)
            self._end(said.group(1).decode() if said else "the stream was ended")
        self._fill()
        self._flush()

    def _widen(self, stream: int, grown: int) -> None:
        if stream:
            self._stream_window += grown
        else:
            self._window += grown

    def _settle(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            number, value = struct.unpack_from(">HI", payload, at)
            if number == _INITIAL_WINDOW:
                self._stream_window += value - self._initial
                self._initial = value
        self._outgoing += _frame(_SETTINGS, _ACK, 0)
        self.up = True

    def _messages(self) -> None:
        body = self._body
        while len(body) >= 5:
            length = int.from_bytes(body[1:5], "big")
            if len(body) < 5 + length:
                return
            message = bytes(body[5 : 5 + length])
            del body[: 5 + length]
            self._heard(message)

    def _fill(self) -> None:
        """Messages into frames, as far as the other end has room."""
        while self.up and self._waiting:
            room = min(self._window, self._stream_window, 16_384)
            if room <= 0:
                return
            part = self._waiting.popleft()
            if len(part) > room:
                self._waiting.appendleft(part[room:])
                part = part[:room]
            self._window -= len(part)
            self._stream_window -= len(part)
            self._outgoing += _frame(_DATA, 0, 1, part)

    def _flush(self) -> None:
        if self.ended or not self._shaken:
            return
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self._end(f"{type(error).__name__}: {error.strerror or error}")

    def _end(self, why: str) -> None:
        self.ended = self.ended or why
