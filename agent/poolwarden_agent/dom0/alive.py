"""Does a xapi answer over TCP? ``system.isAlive:poolwarden`` needs no session and no database (xapi: gen_server.ml).

TLS peers are not verified: every host has its own self-signed certificate, so an answer is evidence and its
certificate's fingerprint travels with it. An accepted connection is not an answer.
"""

import errno
import hashlib
import socket
import ssl
import time

from poolwarden_agent.core.judge import ANSWERED, NO_ANSWER, NOT_XAPI, REFUSED, UNREACHABLE, ProbeResult
from poolwarden_agent.dom0.xapi import XapiError, XapiTimeout, XapiUnreachable, decode_answer, encode_call, exchange

METHOD = "system.isAlive:poolwarden"
_NOWHERE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL)


def is_alive(address: str, port: int, limit_s: float, tls: bool) -> ProbeResult:
    """Ask one xapi, within ``limit_s`` seconds for connection, handshake and answer together."""
    deadline = time.monotonic() + limit_s
    try:
        connection = socket.create_connection((address, port), timeout=limit_s)
    except socket.timeout:
        return ProbeResult(NO_ANSWER, "", "connect: no answer within %d ms" % (limit_s * 1000))
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            return ProbeResult(REFUSED, "", "connect: refused")
        kind = UNREACHABLE if error.errno in _NOWHERE else NO_ANSWER
        return ProbeResult(kind, "", "connect: %s" % (error.strerror or error))
    try:
        return _ask(connection, address, deadline, tls)
    finally:
        connection.close()


def _ask(connection: socket.socket, address: str, deadline: float, tls: bool) -> ProbeResult:
    certificate = ""
    try:
        if tls:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            connection = _context().wrap_socket(connection)
            certificate = hashlib.sha256(connection.getpeercert(True) or b"").hexdigest()
        data = exchange(connection, encode_call(METHOD, ("poolwarden",), address), deadline)
        return _judge(data, certificate)
    except (XapiTimeout, socket.timeout):
        return ProbeResult(NO_ANSWER, certificate, "accepted the connection and did not answer")
    except ssl.SSLError as error:
        if "timed out" in str(error):
            return ProbeResult(NO_ANSWER, certificate, "accepted the connection and did not answer")
        return ProbeResult(NOT_XAPI, certificate, "TLS: %s" % (error.reason or error))
    except (XapiUnreachable, OSError) as error:
        return ProbeResult(NO_ANSWER, certificate, "accepted the connection, then: %s" % error)
    finally:
        connection.close()


def _judge(data: bytes, certificate: str) -> ProbeResult:
    try:
        decode_answer(data)
    except XapiError as error:
        # A fault is an answer too: in emergency mode isAlive raises the emergency error.
        if getattr(error, "code", None):
            return ProbeResult(ANSWERED, certificate, "answered: %s" % error)
        return ProbeResult(NOT_XAPI, certificate, str(error))
    return ProbeResult(ANSWERED, certificate, "answered")


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if hasattr(ssl, "PROTOCOL_TLS_CLIENT") else ssl.PROTOCOL_TLS)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def member_of(address: str, port: int, limit_s: float) -> str:
    """The master that a running member names, by a dummy login over local HTTP; empty if it does not say so.

    On a member ``session.login_with_password`` over TCP answers HOST_IS_SLAVE before any credential check and without
    the database (xapi: ocaml/xapi/xapi_session.ml). Never ask a master this way: it would run PAM.
    """
    deadline = time.monotonic() + limit_s
    try:
        connection = socket.create_connection((address, port), timeout=limit_s)
    except OSError:
        return ""
    try:
        request = encode_call("session.login_with_password", ("x", "x", "1.0", "poolwarden"), address)
        decode_answer(exchange(connection, request, deadline))
    except XapiError as error:
        if getattr(error, "code", "") == "HOST_IS_SLAVE" and getattr(error, "params", None):
            return str(error.params[0])  # type: ignore[attr-defined]
    finally:
        connection.close()
    return ""
