"""HTTP for one page: just enough of RFC 9110 to be read by Prometheus, curl and a browser, and to wait for nobody.

Rules
-----
* It runs in an event loop of its own, in a thread of its own: nothing that a client does or leaves undone is waited for
  by the collector.
* At most ``MOST`` connections at a time, TLS handshakes included, and each for ``LIMIT_S`` at most. When they are used
  up, the one that has kept its question to itself the longest gives way to the new one: who connects and says nothing,
  or a byte a second, keeps nobody out.
* Name and password are compared in a time that does not depend on how much of them is right.
* One question a connection; a head of more than ``HEAD_MOST`` bytes is refused.
* Certificates are read anew once their files have changed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import gzip
import hashlib
import hmac
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from poolwarden_collector.shell.config.metrics import Metrics, MetricsTls

MOST = 32
LIMIT_S = 15.0
HANDSHAKE_S = 5.0
QUESTION_S = 5.0
FAREWELL_S = 1.0
HEAD_MOST = 8 * 1024
PATH = "/metrics"
_PLAIN = "text/plain; charset=utf-8"
_GZIP_LEVEL = 1

_log = logging.getLogger(__name__)

Page = Callable[[str], Awaitable[tuple[bytes | bytearray, str]]]  # from the header Accept to body and content type


class Unavailable(Exception):
    """The page cannot be had now; one sentence."""


@dataclass(frozen=True, slots=True)
class _Question:
    """The head of a request; names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes | bytearray
    content_type: str = _PLAIN
    headers: tuple[str, ...] = ()


class _Wrong(Exception):
    """The request is not answered with the page."""

    def __init__(self, status: HTTPStatus, text: str, *headers: str) -> None:
        super().__init__(text)
        self.answer = _Answer(status, f"{text}\n".encode(), headers=headers)


@dataclass(slots=True, eq=False)
class _Client:
    """A connection; ``asked``: its question has been read."""

    task: asyncio.Task[None] | None = None
    asked: bool = False


class HttpServer:
    """Serves one page; every method is to be called in the event loop that it serves in."""

    def __init__(self, settings: Metrics, page: Page) -> None:
        self._settings = settings
        self._page = page
        self._certificates = Certificates(settings.tls) if settings.tls is not None else None
        self._clients: dict[_Client, None] = {}  # the oldest first
        self._listener: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    def start(self) -> None:
        """Raises OSError where the address or the certificate cannot be used."""
        if self._certificates is not None:
            self._certificates.context()
        family = socket.AF_INET6 if ":" in self._settings.host else socket.AF_INET
        listener = socket.create_server((self._settings.host, self._settings.port), family=family, backlog=MOST)
        listener.setblocking(False)
        self._listener, self.port = listener, listener.getsockname()[1]
        self._task = asyncio.ensure_future(self._accept(listener))

    async def stop(self) -> None:
        """End every connection."""
        tasks = [client.task for client in self._clients if client.task is not None]
        tasks += [self._task] if self._task is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # no file descriptor left, or a client that is gone already
                _log.warning("metrics: a connection could not be taken: %s", error)
                await asyncio.sleep(0.1)
                continue
            if len(self._clients) >= MOST and not self._make_room():
                connection.close()
                continue
            client = _Client()
            self._clients[client] = None
            client.task = asyncio.ensure_future(self._serve(connection, client))
            client.task.add_done_callback(lambda _, client=client: self._clients.pop(client, None))  # type: ignore[misc]

    def _make_room(self) -> bool:
        """End the connection that has said nothing the longest; false: all of them have asked."""
        oldest = next((client for client in self._clients if not client.asked), None)
        if oldest is None or oldest.task is None:
            return False
        self._clients.pop(oldest)
        oldest.task.cancel()
        return True

    async def _serve(self, connection: socket.socket, client: _Client) -> None:
        try:
            async with asyncio.timeout(LIMIT_S):
                reader, writer = await self._open(connection)
                try:
                    answer, method, zipped = await self._answer(reader, client)
                    await _send(writer, _written(answer, method, zipped))
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError, EOFError):  # theirs to mend; what they asked is lost
            pass
        except Exception:
            _log.exception("metrics: a question was not answered")

    async def _open(self, connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=HEAD_MOST)
        protocol = asyncio.StreamReaderProtocol(reader)
        context = self._certificates.context() if self._certificates is not None else None
        within = HANDSHAKE_S if context is not None else None
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, connection, ssl=context, ssl_handshake_timeout=within
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _answer(self, reader: asyncio.StreamReader, client: _Client) -> tuple[_Answer, str, bool]:
        """The answer, the request's method, and whether the client takes gzip."""
        try:
            async with asyncio.timeout(QUESTION_S):
                question = await _question(reader)
            client.asked = True
            zipped = "gzip" in question.headers.get("accept-encoding", "")
            return await self._found(question), question.method, zipped
        except _Wrong as wrong:
            return wrong.answer, "GET", False

    async def _found(self, question: _Question) -> _Answer:
        self._admit(question)
        if question.path.partition("?")[0] != PATH:
            raise _Wrong(HTTPStatus.NOT_FOUND, f"the metrics are at {PATH}")
        if question.method not in ("GET", "HEAD"):
            raise _Wrong(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD", "Allow: GET, HEAD")
        try:
            body, content_type = await self._page(question.headers.get("accept", ""))
        except Unavailable as error:
            raise _Wrong(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
        except Exception as error:
            _log.exception("metrics: the page could not be made")
            raise _Wrong(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault; see the collector's log") from error
        return _Answer(HTTPStatus.OK, body, content_type)

    def _admit(self, question: _Question) -> None:
        """Raises _Wrong where user and password are asked for and are not these."""
        if not self._settings.user:
            return
        scheme, _, coded = question.headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(coded.strip(), validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            given = b""
        wanted = f"{self._settings.user}:{self._settings.password}".encode()
        # Of digests, so that not even the length can be timed.
        if not hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(wanted).digest()):
            ask = 'WWW-Authenticate: Basic realm="poolwarden", charset="UTF-8"'
            raise _Wrong(HTTPStatus.UNAUTHORIZED, "user and password, please", ask)


async def _question(reader: asyncio.StreamReader) -> _Question:
    """Raises _Wrong for what is no request, EOFError for none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _Wrong(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"at most {HEAD_MOST} bytes of headers") from None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Wrong(HTTPStatus.BAD_REQUEST, "a request of HTTP/1.1, please")
    pairs = (line.partition(":") for line in lines)
    return _Question(words[0], words[1], {name.strip().lower(): value.strip() for name, _, value in pairs})


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.transport.set_write_buffer_limits(0)
    writer.write(data)
    await writer.drain()
    writer.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FAREWELL_S):
            await writer.wait_closed()


def _written(answer: _Answer, method: str, zipped: bool) -> bytes:
    body, headers = answer.body, list(answer.headers)
    if zipped and answer.status is HTTPStatus.OK:
        body = gzip.compress(body, _GZIP_LEVEL)
        headers.append("Content-Encoding: gzip")
    head = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*head, "", ""]).encode() + (b"" if method == "HEAD" else body)


class Certificates:
    """The server's side of TLS, as the files are now."""

    def __init__(self, tls: MetricsTls) -> None:
        self._tls = tls
        self._made: tuple[tuple[object, ...], ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        """Raises OSError (ssl.SSLError is one) where they are no pair."""
        files = [path for path in (self._tls.cert, self._tls.key, self._tls.client_ca) if path is not None]
        try:
            stamp = tuple(_stamp(path) for path in files)
            if self._made is None or self._made[0] != stamp:
                self._made = (stamp, self._read())
        except OSError as error:
            if self._made is None:
                raise
            _log.warning("metrics: the former certificate is used on: %s", error)
        return self._made[1]

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._tls.cert, self._tls.key)
        if self._tls.client_ca is not None:
            context.load_verify_locations(self._tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
