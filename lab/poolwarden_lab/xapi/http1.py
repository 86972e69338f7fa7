"""The little HTTP/1.1 that xapi and its clients need: requests in, responses out, both on asyncio streams.

Keep-alive is honoured; a body needs a Content-Length. One request at a time per connection, as clients of XML-RPC do.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

_MAX_HEADERS = 100
_REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    500: "Internal Error",
    501: "Method Not Implemented",
}


class BadHttp(ValueError):
    """What came is no HTTP that we speak."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or response: its first line's three words, its body, and whether the connection stays open."""

    first: tuple[str, str, str]
    body: bytes
    keep_alive: bool


async def read_message(reader: asyncio.StreamReader, max_body: int) -> Message | None:
    """The next message; None when the connection ended cleanly. Raises BadHttp, ConnectionError."""
    try:
        line = (await reader.readline()).decode("latin-1").strip()
        if not line:
            return None
        words = line.split(" ", 2)
        headers = await _read_headers(reader)
        length = int(headers.get("content-length", "0"))
        if len(words) < 3 or not 0 <= length <= max_body:
            raise BadHttp(line)
        body = await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        return None
    except ValueError as error:
        raise BadHttp(str(error)) from error
    version = words[2] if words[2].startswith("HTTP/") else words[0]
    wish = headers.get("connection", "").lower()
    return Message(
        (words[0], words[1], words[2]), body, wish != "close" and (version == "HTTP/1.1" or wish == "keep-alive")
    )


async def _read_headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    while line := (await reader.readline()).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
        if len(headers) > _MAX_HEADERS:
            raise BadHttp("too many headers")
    return headers


def response(status: int, body: bytes, *, keep_alive: bool, content_type: str = "text/xml") -> bytes:
    connection = "keep-alive" if keep_alive else "close"
    head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\nContent-Type: {content_type}\r\n"
    return (head + f"Content-Length: {len(body)}\r\nConnection: {connection}\r\n\r\n").encode() + body


def request(host: str, path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/xml\r\n"
    return (head + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n").encode() + body
