"""A client of our own for xapi's Unix socket: XML-RPC with hard limits, one look in flight, one session reused.

Why not the stock client: it has no time limit at all, and on a member whose master is gone an ordinary login hangs for
ever and keeps a thread of the server (xapi: ocaml/xapi/xapi_session.ml). This client marshals with xmlrpc.client and
owns the transport: the limit holds for the whole call, connect to last byte, however slowly the bytes come.

A server thread that hangs does not end when its client goes away, and the Unix socket has 1024 of them (xapi:
ocaml/xapi/xapi_globs.ml). So a *look* that is not answered in time is not asked again on a new connection: the next
look waits on for the same answer (look_pacing.py). Orders never share or repeat a connection.
"""

import functools
import http.client
import io
import re
import socket
import threading
import time
import xmlrpc.client
from typing import Any, Callable, Dict, NamedTuple, Optional

from poolwarden_agent.dom0.xapi.look_pacing import Patience

BIGGEST_ANSWER = 16 * 1024 * 1024
SMALL_ANSWER = 64 * 1024
CONNECT_S = 2.0
REMEMBERED_BYTES = 2048
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")


class XapiError(Exception):
    """Something kept a call from being answered. ``asked`` False: its request never reached a xapi, nothing began."""

    asked = True


class XapiTimeout(XapiError):
    """No whole answer came within the limit; whether the call took effect is not known."""


class XapiFull(XapiTimeout):
    """The socket does not accept: its queue is full. Nothing was asked."""

    asked = False


class XapiUnreachable(XapiError):
    """The socket does not exist, refuses, or broke before an answer came."""


class XapiRefused(XapiUnreachable):
    """The socket does not exist or refuses the connection: nobody is there who could have begun anything."""

    asked = False


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
    """The value in a whole HTTP answer.

    :raises XapiFault: xapi answered with an error.  :raises XapiError: it is not an answer of a xapi.
    """
    if len(data) <= REMEMBERED_BYTES:
        value = _remembered(data)
        if isinstance(value, (str, bool, int)):  # what nobody can change
            return value
    return _decoded(data)


@functools.lru_cache(maxsize=64)
def _remembered(data: bytes) -> Any:
    """The same answers come each two seconds, of each peer: equal bytes mean the same. Errors are not remembered."""
    return _decoded(data)


def _decoded(data: bytes) -> Any:
    try:
        text = _body(data).decode("utf-8", "replace")
        if "<!DOCTYPE" in text:  # entities of a stranger's answer are never expanded
            raise XapiError("not an answer of a xapi: it declares a document type")
        (envelope,), _ = xmlrpc.client.loads(text)
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
            self._connection.settimeout(_remaining(deadline))
            self._connection.sendall(request)
        except socket.timeout as error:
            raise XapiTimeout("the request was not taken within the limit") from error
        except OSError as error:
            raise XapiUnreachable(str(error)) from error

    def wait(self, deadline: float) -> bytes:
        """The answer, when the other side has closed or the body is whole; may be called again after XapiTimeout."""
        try:
            while not self._whole():
                self._connection.settimeout(_remaining(deadline))
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


# A look that has not been answered yet.
Asked = NamedTuple("Asked", [("method", str), ("params", Any), ("pending", Any)])


class Xapi(object):
    """xapi on one Unix socket. Calls are serialised: a second caller waits, within its own limit, for the first."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._patience = {slot: Patience(clock) for slot in ("local", "full")}
        self._lock = threading.Lock()
        self._local = ""
        self._full = ""
        self._asked: Dict[str, Asked] = {}  # "local" and "full": at most one look each
        self.late_ms = 0  # how long an answer took that the last local look had from an earlier one's question; 0: none

    def call(self, method: str, params: Any, limit_s: float) -> Any:
        """One call without a session, within ``limit_s`` seconds in all.

        :raises XapiFault, XapiTimeout, XapiUnreachable, XapiError: see there.
        """
        deadline = self._take(limit_s)
        try:
            return self._call(method, tuple(params), deadline, "")
        finally:
            self._lock.release()

    def _take(self, limit_s: float) -> float:
        deadline = time.monotonic() + limit_s
        if not self._lock.acquire(timeout=limit_s):
            error = XapiTimeout("another call is still in flight")
            error.asked = False
            raise error
        return deadline

    def _call(self, method: str, params: Any, deadline: float, slot: str) -> Any:
        """One call; with a slot it is a look, which goes on waiting for an answer that is already under way."""
        asked = self._asked.pop(slot, None)
        if asked is not None:
            same = (asked.method, asked.params) == (method, params)
            if self._patience[slot].over():
                asked.pending.close()
            elif same:
                return self._answer(asked, deadline, slot, late=True)
            else:
                self._drain(asked, deadline, slot)
        pending = Pending(self._connect(deadline))
        try:
            pending.send(encode_call(method, params), deadline)
        except XapiError:
            pending.close()
            raise
        if slot:
            self._patience[slot].begin(method)
        return self._answer(Asked(method, params, pending), deadline, slot)

    def _drain(self, asked: Asked, deadline: float, slot: str) -> None:
        """Another look is under way: this one comes after its answer, if one comes. :raises XapiTimeout: none did."""
        try:
            self._answer(asked, deadline, slot, late=True)
        except XapiTimeout:
            raise
        except XapiError:
            pass

    def _answer(self, asked: Asked, deadline: float, slot: str, late: bool = False) -> Any:
        keep = False
        try:
            data = asked.pending.wait(deadline)
            if late and slot == "local":
                self.late_ms = max(1, int(self._patience[slot].waited_s * 1000))
            if slot:
                self._patience[slot].answered()
            return decode_answer(data)
        except XapiTimeout:
            keep = bool(slot)
            raise
        finally:
            if keep:
                self._asked[slot] = asked
            else:
                asked.pending.close()

    def _connect(self, deadline: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(min(CONNECT_S, _remaining(deadline)))
            connection.connect(self._path)
        except (socket.timeout, BlockingIOError) as error:
            connection.close()
            raise XapiFull("the socket does not accept") from error
        except OSError as error:
            connection.close()
            raise XapiRefused(str(error)) from error
        except XapiError as error:
            connection.close()
            error.asked = False
            raise
        return connection

    def local(self, method: str, params: Any, limit_s: float, look: bool = False) -> Any:
        """A call with the one local session, which needs no database and works without a master.

        Local sessions never expire and die with xapi (xapi: ocaml/xapi/xapi_local_session.ml): one is kept and reused.
        ``look``: it changes nothing, so an unanswered one is waited for and not repeated.
        """
        deadline, slot = self._take(limit_s), "local" if look else ""
        self.late_ms = 0 if look else self.late_ms
        try:
            for _ in range(2):
                if not self._local:
                    login = "session.slave_local_login_with_password"
                    self._local = self._login(login, ("root", ""), deadline, slot)
                try:
                    return self._call(method, (self._local,) + tuple(params), deadline, slot)
                except XapiFault as fault:
                    if fault.code != "SESSION_INVALID":
                        raise
                    self._local = ""
        finally:
            self._lock.release()
        raise XapiError("the local session is refused again and again")

    def _login(self, method: str, params: Any, deadline: float, slot: str) -> str:
        """A session; without one the call that it is for was never asked."""
        try:
            return str(self._call(method, params, deadline, slot))
        except XapiError as error:
            error.asked = False
            raise

    def full(self, method: str, params: Any, limit_s: float) -> Any:
        """A look with the one ordinary session. Only ever on a serving master: on an orphaned member it hangs."""
        deadline = self._take(limit_s)
        try:
            for _ in range(2):
                if not self._full:
                    login = ("root", "", "1.0", "poolwarden")
                    self._full = self._call("session.login_with_password", login, deadline, "full")
                try:
                    return self._call(method, (self._full,) + tuple(params), deadline, "full")
                except XapiFault as fault:
                    if fault.code != "SESSION_INVALID":
                        raise
                    self._full = ""
        finally:
            self._lock.release()
        raise XapiError("the session is refused again and again")

    def order(self, method: str, params: Any, limit_s: float) -> Any:
        """An order to the serving master, with the ordinary session but on a connection of its own.

        It may take minutes, and looks must go on meanwhile. Only ever on a serving master, as ``full``.
        """
        deadline = time.monotonic() + limit_s
        for _ in range(2):
            session = self._session(deadline)
            pending = Pending(self._connect(deadline))
            try:
                pending.send(encode_call(method, (session,) + tuple(params)), deadline)
                return decode_answer(pending.wait(deadline))
            except XapiFault as fault:
                if fault.code != "SESSION_INVALID":
                    raise
                self._lose(session)
            finally:
                pending.close()
        raise XapiError("the session is refused again and again")

    def _session(self, deadline: float) -> str:
        self._take(_remaining(deadline))
        try:
            if not self._full:
                login = ("root", "", "1.0", "poolwarden")
                self._full = self._login("session.login_with_password", login, deadline, "")
            return self._full
        finally:
            self._lock.release()

    def _lose(self, session: str) -> None:
        with self._lock:
            if self._full == session:
                self._full = ""

    @property
    def waited_ms(self) -> int:
        """For how long the last local look was, or has been, under way."""
        return int(self._patience["local"].waited_s * 1000)

    def forget(self) -> None:
        """xapi is another process now: its sessions and its answers are gone."""
        with self._lock:
            self._local = ""
            self._full = ""
            for asked in self._asked.values():
                asked.pending.close()
            for patience in self._patience.values():
                patience.fresh()
            self._asked = {}

    def logout(self, limit_s: float = 1.0) -> None:
        """Give both sessions back, as far as xapi answers within ``limit_s`` seconds each."""
        for session, method in ((self._local, "session.local_logout"), (self._full, "session.logout")):
            if session:
                try:
                    self.call(method, (session,), limit_s)
                except XapiError:
                    pass
        self._local = self._full = ""
