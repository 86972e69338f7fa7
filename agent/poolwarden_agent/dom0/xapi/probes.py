"""Does a xapi answer over TCP? ``system.isAlive:poolwarden`` needs no session and no database (xapi: gen_server.ml).

TLS peers are not verified: every host has its own self-signed certificate, so an answer is evidence and its
certificate's fingerprint travels with it. An accepted connection is not an answer, and an answer that does not echo
what was asked is not xapi's. Addresses are IP literals: no name is ever looked up.
"""

import errno
import functools
import hashlib
import socket
import ssl
import time
from typing import Union

from poolwarden_agent.core.addresses import bare, is_address
from poolwarden_agent.core.probe_rules import ANSWERED, NO_ANSWER, NOT_XAPI, REFUSED, UNREACHABLE, ProbeResult
from poolwarden_agent.dom0.xapi.errors import XapiError, XapiFault, XapiTimeout, XapiUnreachable
from poolwarden_agent.dom0.xapi.exchange import SMALL_ANSWER, decode_answer, encode_call, exchange

METHOD = "system.isAlive:poolwarden"
WORD = "poolwarden"
_NOWHERE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL)


@functools.lru_cache(maxsize=128)
def question(address: str) -> bytes:
    """The request, which is the same each time."""
    return encode_call(METHOD, (WORD,), address)


def is_alive(address: str, port: int, limit_s: float, tls: bool) -> ProbeResult:
    """Ask one xapi, within ``limit_s`` seconds for connection, handshake and answer together."""
    deadline = time.monotonic() + limit_s
    found = connected(address, port, limit_s)
    return found if isinstance(found, ProbeResult) else _ask(found, address, deadline, tls)


def connected(address: str, port: int, limit_s: float) -> Union[socket.socket, ProbeResult]:
    """A connection to one xapi, or why there is none."""
    try:
        return _connect(address, port, limit_s)
    except ValueError:
        return ProbeResult(UNREACHABLE, "", "%.60r is no IP literal" % address)
    except socket.timeout:
        return ProbeResult(NO_ANSWER, "", "connect: no answer within %d ms" % (limit_s * 1000), accepted=False)
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            return ProbeResult(REFUSED, "", "connect: refused")
        kind = UNREACHABLE if error.errno in _NOWHERE else NO_ANSWER
        return ProbeResult(kind, "", "connect: %s" % (error.strerror or error), accepted=False)


def refused(address: str, port: int, limit_s: float) -> bool:
    """Is a connection refused? A timeout is not: a slow xapi may be listening."""
    try:
        _connect(address, port, limit_s).close()
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _connect(address: str, port: int, limit_s: float) -> socket.socket:
    """:raises ValueError: it is no IP literal.  :raises OSError: as socket.create_connection."""
    if not is_address(address):
        raise ValueError(address)
    family, where = socket.AF_INET, (address, port)  # type: Any, Any
    if ":" in address:  # it may have a scope
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        family, _, _, _, where = socket.getaddrinfo(address, port, 0, socket.SOCK_STREAM, 0, flags)[0]
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(limit_s)
        connection.connect(where)
    except OSError:
        connection.close()
        raise
    return connection


def _ask(connection: socket.socket, address: str, deadline: float, tls: bool) -> ProbeResult:
    certificate = ""
    try:
        if tls:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            connection = _CONTEXT.wrap_socket(connection)
            certificate = hashlib.sha256(connection.getpeercert(True) or b"").hexdigest()
        return judged(exchange(connection, question(address), deadline, SMALL_ANSWER), certificate)
    except (XapiError, OSError) as error:
        return judged(error, certificate)
    finally:
        connection.close()


def judged(found: Union[bytes, Exception], certificate: str = "") -> ProbeResult:
    """What came of a question: the bytes of an answer, or what kept them from coming."""
    if isinstance(found, bytes):
        return _judge(found, certificate)
    if isinstance(found, (XapiTimeout, socket.timeout)) or (
        isinstance(found, ssl.SSLError) and "timed out" in str(found)
    ):
        return ProbeResult(NO_ANSWER, certificate, "accepted the connection and did not answer")
    if isinstance(found, ssl.SSLError):
        return ProbeResult(NOT_XAPI, certificate, "TLS: %s" % (found.reason or found))
    if isinstance(found, (XapiUnreachable, OSError)):
        return ProbeResult(NO_ANSWER, certificate, "accepted the connection, then: %s" % found)
    return ProbeResult(NOT_XAPI, certificate, str(found)[:200])


def _judge(data: bytes, certificate: str) -> ProbeResult:
    try:
        echo = decode_answer(data)
    except XapiFault as fault:
        # A fault is an answer too: in emergency mode isAlive raises the emergency error.
        return ProbeResult(ANSWERED, certificate, ("answered: %s" % fault)[:200])
    except XapiError as error:
        return ProbeResult(NOT_XAPI, certificate, str(error)[:200])
    if echo != WORD:
        return ProbeResult(NOT_XAPI, certificate, "it answered, but not what a xapi answers")
    return ProbeResult(ANSWERED, certificate, "answered")


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_CONTEXT = _context()


def member_of(address: str, port: int, limit_s: float, tls: bool = False) -> str:
    """The master that a running member names, by a dummy login; empty if it does not say so.

    On a member ``session.login_with_password`` over TCP answers HOST_IS_SLAVE before any credential check and without
    the database (xapi: ocaml/xapi/xapi_session.ml). A master runs PAM for it: never ask one again and again.
    """
    deadline = time.monotonic() + limit_s
    try:
        connection = _connect(address, port, limit_s)
    except (OSError, ValueError):
        return ""
    try:
        if tls:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            connection = _CONTEXT.wrap_socket(connection)
        request = encode_call("session.login_with_password", ("x", "x", "1.0", "poolwarden"), address)
        decode_answer(exchange(connection, request, deadline, SMALL_ANSWER))
    except XapiFault as fault:
        if fault.code == "HOST_IS_SLAVE" and fault.params:
            return bare(str(fault.params[0]))
    except (XapiError, OSError):
        pass
    finally:
        connection.close()
    return ""
