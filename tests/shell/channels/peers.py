"""Peers for alert channels: receivers on loopback that keep what they get, ones that hang, certificates."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.store.journal import Parcel

POOL = "11111111-0000-4000-8000-000000000001"
HOST = "22222222-0000-4000-8000-000000000001"
KEY = f"{POOL}/host-down-{HOST}"
EVIL = 'lab: h1"]\r\nBcc: x@evil.example\r\n\r\n<13>1 - - - - - -\u2028\x00\x1b[31m \\ü is down'
BODY = "Died: lab-h1\nDid:  nothing\nYou:  look\nOpen: 3 VMs\n\ndetails"
WITHIN_S = 30.0


def parcel(state: str = "firing", sending: str = "", occurrence: int = 1, **changed: Any) -> Parcel:
    """A parcel as the journal makes it; ``sending``: another state of the parcel itself, as a reminder has."""
    payload: dict[str, Any] = {
        "key": KEY,
        "occurrence": occurrence,
        "state": state,
        "severity": "critical",
        "title": "lab: lab-h1 is down",
        "body": "it is back" if state == "resolved" else BODY,
        "pool": {"uuid": POOL, "name": "lab"},
        "collector": "watch-1",
        "raised_at": "2026-01-31T20:00:00.000Z",
        "resolved_at": "2026-01-31T20:10:00.000Z" if state == "resolved" else "",
        "data": {"pool": "lab", "message": "host-down"},
        "runbook": "https://wiki.example.com/poolwarden/runbook.md#host-down",
        **changed,
    }
    return Parcel(1, payload["key"], occurrence, sending or state, "x:y", POOL, payload, 0, 0)


def wait(condition: Callable[[], Any]) -> Any:
    """Wait until ``condition()`` is true; its value."""
    end = time.monotonic() + WITHIN_S
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return value


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# ------------------------------------------------------------------------------------------------ TLS


@dataclass(frozen=True)
class Authority:
    """A certificate of 127.0.0.1 and the authority that has signed it."""

    ca: Path
    cert: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Of a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


def authority(folder: Path, address: str = "127.0.0.1") -> Authority:
    certificates.create_ca(folder / "ca")
    certificates.issue_collector(folder / "ca", "peer", (address,), folder / "tls")
    return Authority(folder / "tls/ca.pem", folder / "tls/cert.pem", folder / "tls/key.pem")


# ------------------------------------------------------------------------------------------------ HTTP


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class HttpPeer:
    """Answers ``answers``, then ``usual``, each with the body ``says``; those of 3xx with a Location."""

    url: str = ""
    usual: int = 200
    says: bytes = b"{}"
    answers: list[int] = field(default_factory=list)
    got: list[Request] = field(default_factory=list)


@contextlib.contextmanager
def http_peer(tls: Authority | None = None) -> Iterator[HttpPeer]:
    peer = HttpPeer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            peer.got.append(Request(self.path, dict(self.headers.items()), body))
            status = peer.answers.pop(0) if peer.answers else peer.usual
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{peer.url}/elsewhere")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(peer.says)))
            self.end_headers()
            self.wfile.write(peer.says)

        do_POST = do_GET = answer  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.context().wrap_socket(server.socket, server_side=True)
    peer.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        server.shutdown()
        server.server_close()
        thread.join(WITHIN_S)


# ------------------------------------------------------------------------------------------------ TCP


@contextlib.contextmanager
def tcp_peer(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose connections are each given to ``talk`` in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = False

        def one(sock: socket.socket) -> None:
            with sock, contextlib.suppress(OSError):
                talk(sock)

        def serve() -> None:
            while not ended:
                with contextlib.suppress(OSError):
                    sock, _ = server.accept()
                    threading.Thread(target=one, args=(sock,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended = True
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join(WITHIN_S)


def silent(sock: socket.socket) -> None:
    """Accepts, and says nothing until the other side goes away."""
    while sock.recv(65536):
        continue


def drip(begin: bytes) -> Callable[[socket.socket], None]:
    """Says ``begin`` and then a letter now and then, for ever: no socket's timeout ever ends that."""

    def talk(sock: socket.socket) -> None:
        sock.sendall(begin)
        while True:
            sock.sendall(b"x")
            time.sleep(0.02)

    return talk
