"""A client of our own for xapi's Unix socket: XML-RPC with hard limits, one call in flight, one session reused.

Why not the stock client: it has no time limit at all, and on a member whose master is gone an ordinary login hangs for
ever and keeps a thread of the server (xapi: ocaml/xapi/xapi_session.ml). This client marshals with xmlrpc.client and
owns the transport: the limit holds for the whole call, connect to last byte, however slowly the bytes come.
"""

import http.client
import io
import socket
import threading
import time
import xmlrpc.client
from typing import Any, Optional

BIGGEST_ANSWER = 64 * 1024 * 1024
CONNECT_S = 2.0


class XapiError(Exception):
    """Something kept a call from being answered."""


class XapiTimeout(XapiError):
    """No whole answer came within the limit; whether the call took effect is not known."""


class XapiUnreachable(XapiError):
    """The socket does not exist, refuses, or broke before an answer came."""


class XapiFault(XapiError):
    """xapi answered with an error: ``code`` and ``params`` as in ErrorDescription."""

    def __init__(self, code: str, params: Any) -> None:
        super(XapiFault, self).__init__("%s(%s)" % (code, ", ".join(str(p) for p in params)))
        self.code = code
        self.params = list(params)


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise XapiTimeout("no answer within the limit")
    return left


def encode_call(method: str, params: Any, host: str = "localhost") -> bytes:
    """An XML-RPC request over HTTP/1.1, closed after its answer."""
    body = xmlrpc.client.dumps(tuple(params), method).encode("utf-8")
    head = "POST / HTTP/1.1\r\nHost: %s\r\nContent-Type: text/xml\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return (head % (host, len(body))).encode("ascii") + body


class _Bytes(object):
    """What http.client needs of a socket: a file over bytes that are all here."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_args: Any, **_kwargs: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


def decode_answer(data: bytes) -> Any:
    """The value in a whole HTTP answer.

    :raises XapiFault: xapi answered with an error.  :raises XapiError: it is not an answer of a xapi.
    """
    try:
        source: Any = _Bytes(data)
        response = http.client.HTTPResponse(source)
        response.begin()
        body = response.read()
        if response.status != 200:
            raise XapiError("HTTP %d" % response.status)
        (envelope,), _ = xmlrpc.client.loads(body.decode("utf-8", "replace"))
    except (http.client.HTTPException, ValueError, xmlrpc.client.Error) as error:
        raise XapiError("not an answer of a xapi: %s" % (error or type(error).__name__)) from error
    except Exception as error:  # expat raises its own type
        if isinstance(error, XapiError):
            raise
        raise XapiError("not an answer of a xapi: %s" % error) from error
    if not isinstance(envelope, dict):
        return envelope
    if envelope.get("Status") == "Success":
        return envelope.get("Value")
    description = envelope.get("ErrorDescription") or ["UNKNOWN"]
    raise XapiFault(str(description[0]), description[1:])


def exchange(connection: socket.socket, request: bytes, deadline: float) -> bytes:
    """Send a request and read until the other side closes or the body is whole, by ``deadline`` (time.monotonic)."""
    try:
        connection.settimeout(_remaining(deadline))
        connection.sendall(request)
        data = b""
        while not _whole(data):
            connection.settimeout(_remaining(deadline))
            chunk = connection.recv(65536)
            if not chunk:
                break
            data += chunk
            if len(data) > BIGGEST_ANSWER:
                raise XapiError("an answer of more than %d MiB" % (BIGGEST_ANSWER // (1024 * 1024)))
        if not data:
            raise XapiUnreachable("closed without an answer")
        return data
    except socket.timeout as error:
        raise XapiTimeout("no answer within the limit") from error
    except OSError as error:
        raise XapiUnreachable(str(error)) from error


def _whole(data: bytes) -> bool:
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return len(body) >= int(value)
    return False


class Xapi(object):
    """xapi on one Unix socket. Calls are serialised: a second caller waits, within its own limit, for the first."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._local = ""
        self._full = ""

    def call(self, method: str, params: Any, limit_s: float) -> Any:
        """One call without a session, within ``limit_s`` seconds in all.

        :raises XapiFault, XapiTimeout, XapiUnreachable, XapiError: see there.
        """
        deadline = time.monotonic() + limit_s
        if not self._lock.acquire(timeout=limit_s):
            raise XapiTimeout("another call is still in flight")
        try:
            return self._call(method, params, deadline)
        finally:
            self._lock.release()

    def _call(self, method: str, params: Any, deadline: float) -> Any:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(min(CONNECT_S, _remaining(deadline)))
            try:
                connection.connect(self._path)
            except socket.timeout as error:
                raise XapiTimeout("the socket does not accept") from error
            except BlockingIOError as error:
                raise XapiTimeout("the socket's queue is full") from error
            except OSError as error:
                raise XapiUnreachable(str(error)) from error
            return decode_answer(exchange(connection, encode_call(method, params), deadline))
        finally:
            connection.close()

    def local(self, method: str, params: Any, limit_s: float) -> Any:
        """A call with the one local session, which needs no database and works without a master.

        Local sessions never expire and die with xapi (xapi: ocaml/xapi/xapi_local_session.ml): one is kept and reused.
        """
        deadline = time.monotonic() + limit_s
        for _ in range(2):
            if not self._local:
                login = "session.slave_local_login_with_password"
                self._local = self.call(login, ("root", ""), _remaining(deadline))
            try:
                return self.call(method, (self._local,) + tuple(params), _remaining(deadline))
            except XapiFault as fault:
                if fault.code != "SESSION_INVALID":
                    raise
                self._local = ""
        raise XapiError("the local session is refused again and again")

    def full(self, method: str, params: Any, limit_s: float) -> Any:
        """A call with the one ordinary session. Only ever on a serving master: on an orphaned member it hangs."""
        deadline = time.monotonic() + limit_s
        for _ in range(2):
            if not self._full:
                login = ("root", "", "1.0", "poolwarden")
                self._full = self.call("session.login_with_password", login, _remaining(deadline))
            try:
                return self.call(method, (self._full,) + tuple(params), _remaining(deadline))
            except XapiFault as fault:
                if fault.code != "SESSION_INVALID":
                    raise
                self._full = ""
        raise XapiError("the session is refused again and again")

    def forget(self) -> None:
        """xapi is another process now: its sessions are gone."""
        self._local = ""
        self._full = ""

    def logout(self, limit_s: float = 2.0) -> None:
        """Give both sessions back, as far as xapi answers."""
        for session, method in ((self._local, "session.local_logout"), (self._full, "session.logout")):
            if session:
                try:
                    self.call(method, (session,), limit_s)
                except XapiError:
                    pass
        self.forget()


def fault_code(error: Exception) -> Optional[str]:
    """The xapi error code of an exception, if it is a fault."""
    return error.code if isinstance(error, XapiFault) else None
