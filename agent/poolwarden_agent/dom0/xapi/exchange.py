"""One XML-RPC exchange with a xapi over a connected socket, within a hard limit: connect to last byte, however slowly
the bytes come, and never more bytes than are allowed.

http.client reads only answers of unusual form here: it takes a limit for each read and not for the whole answer,
and what it reads from cannot be read on after a timeout ("cannot read from timed out object"), as a look must be.
"""

import functools
import hashlib
import http.client
import io
import re
import socket
import time
import xmlrpc.client
from collections import OrderedDict
from typing import Any, Optional, Tuple

from poolwarden_agent.dom0.xapi.errors import XapiError, XapiFault, XapiTimeout, XapiUnreachable

BIGGEST_ANSWER = 16 * 1024 * 1024
SMALL_ANSWER = 64 * 1024
REMEMBERED_BYTES = 2048
LONGEST_REMEMBERED = 64 * 1024
MOST_REMEMBERED = 8
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")


def remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise XapiTimeout("no answer within the limit")
    return left


def framed(body: bytes, host: str = "localhost") -> bytes:
    """The HTTP/1.1 request for an XML-RPC body, closed after its answer."""
    head = "POST / HTTP/1.1\r\nHost: %s\r\nContent-Type: text/xml\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return (head % (host, len(body))).encode("ascii") + body


def encode_call(method: str, params: Any, host: str = "localhost") -> bytes:
    """The request for one call without a session."""
    return framed(xmlrpc.client.dumps(tuple(params), method).encode("utf-8"), host)


class _Bytes(object):
    """What http.client needs of a socket: a file over bytes that are all here."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_args: Any, **_kwargs: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


def _body(data: bytes) -> bytes:
    """The body of a whole HTTP answer of status 200. :raises XapiError, HTTPException, ValueError: it is none."""
    head, blank, body = data.partition(b"\r\n\r\n")
    status = _STATUS.match(head)
    if not status or not blank or b"transfer-encoding" in head.lower():
        # The long way, for what is not as xapi writes it: http.client parses a header as if it were a mail's.
        source: Any = _Bytes(data)
        response = http.client.HTTPResponse(source)
        response.begin()
        code, body = response.status, response.read()
    else:
        code, length = int(status.group(1)), _content_length(head)
        if length != BIGGEST_ANSWER and len(body) < length:
            raise XapiError("not an answer of a xapi: it ends early")
        body = body[:length]
    if code != 200:
        raise XapiError("HTTP %d" % code)
    return body


def decode_answer(data: bytes) -> Any:
    """The value in a whole HTTP answer to a call without a session.

    :raises XapiFault: xapi answered with an error.  :raises XapiError: it is not an answer of a xapi.
    """
    envelope = values(data)[0]
    if not isinstance(envelope, dict):
        return envelope
    if envelope.get("Status") == "Success":
        return envelope.get("Value")
    description = envelope.get("ErrorDescription") or ["UNKNOWN"]
    raise XapiFault(str(description[0]), description[1:])


def values(data: bytes) -> Tuple[Any, ...]:
    """The one value of a whole HTTP answer, as xmlrpc.client gives it. :raises XapiError: it is no answer of a xapi."""
    if len(data) <= REMEMBERED_BYTES:
        found = _remembered(data)
        value = found[0].get("Value") if isinstance(found[0], dict) else found[0]
        if isinstance(value, (str, bool, int)):  # what nobody can change
            return found
    return _values(data)


@functools.lru_cache(maxsize=64)
def _remembered(data: bytes) -> Tuple[Any, ...]:
    """The same answers come each two seconds, of each peer: equal bytes mean the same."""
    return _values(data)


class Remembered(object):
    """The values of the last few long answers to looks, by what the answers were: who asks for them changes none.

    A serving master's tables of hosts and storage are asked for each few seconds, and taking XML apart is most of what
    that costs; the same bytes are not taken apart again. What they were is kept as a hash, very long ones not at all.
    """

    def __init__(self) -> None:
        self._known: "OrderedDict[bytes, Tuple[Any, ...]]" = OrderedDict()

    def values(self, data: bytes) -> Tuple[Any, ...]:
        """As ``values``."""
        if not REMEMBERED_BYTES < len(data) <= LONGEST_REMEMBERED:
            return values(data)
        try:
            digest = hashlib.sha256(_body(data)).digest()  # a head may tell the time
        except Exception:
            return values(data)  # which says what is wrong with it
        found = self._known.pop(digest, None)
        if found is None:
            found = values(data)
        self._known[digest] = found
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        return found


def _values(data: bytes) -> Tuple[Any, ...]:
    try:
        text = _body(data).decode("utf-8", "replace")
        if "<!DOCTYPE" in text:  # entities of an answer from elsewhere are never expanded
            raise XapiError("not an answer of a xapi: it declares a document type")
        (value,), _ = xmlrpc.client.loads(text)
    except (http.client.HTTPException, ValueError, xmlrpc.client.Error) as error:
        raise XapiError("not an answer of a xapi: %s" % (error or type(error).__name__)) from error
    except Exception as error:  # expat raises its own type
        if isinstance(error, XapiError):
            raise
        raise XapiError("not an answer of a xapi: %s" % error) from error
    return (value,)


class Pending(object):
    """One request that was sent, and as much of its answer as has come."""

    def __init__(self, connection: socket.socket, biggest: int = BIGGEST_ANSWER) -> None:
        self._connection = connection
        self._biggest = biggest
        self._data = bytearray()
        self._whole_at: Optional[int] = None  # how many bytes make it whole, once the header says so

    def send(self, request: bytes, deadline: float) -> None:
        """:raises XapiTimeout, XapiUnreachable: it could not be sent by then (time.monotonic)."""
        try:
            self._connection.settimeout(remaining(deadline))
            self._connection.sendall(request)
        except socket.timeout as error:
            raise XapiTimeout("the request was not taken within the limit") from error
        except OSError as error:
            raise XapiUnreachable(str(error)) from error

    def wait(self, deadline: float) -> bytes:
        """The answer, when the other side has closed or the body is whole; may be called again after XapiTimeout."""
        try:
            while not self._whole():
                self._connection.settimeout(remaining(deadline))
                chunk = self._connection.recv(65536)
                if not chunk:
                    break
                self._data += chunk
                if len(self._data) > self._biggest:
                    raise XapiError("an answer of more than %d bytes" % self._biggest)
        except socket.timeout as error:
            raise XapiTimeout("no answer within the limit") from error
        except OSError as error:
            raise XapiUnreachable(str(error)) from error
        if not self._data:
            raise XapiUnreachable("closed without an answer")
        return bytes(self._data)

    def _whole(self) -> bool:
        if self._whole_at is None:
            end = self._data.find(b"\r\n\r\n", 0, SMALL_ANSWER)
            if end < 0:
                return False
            self._whole_at = end + 4 + _content_length(bytes(self._data[:end]))
        return len(self._data) >= self._whole_at

    def close(self) -> None:
        self._connection.close()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return BIGGEST_ANSWER  # until it closes


def exchange(connection: socket.socket, request: bytes, deadline: float, biggest: int = BIGGEST_ANSWER) -> bytes:
    """Send a request and read until the other side closes or the body is whole, by ``deadline`` (time.monotonic)."""
    pending = Pending(connection, biggest)
    pending.send(request, deadline)
    return pending.wait(deadline)
