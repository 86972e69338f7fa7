"""TLS to a xapi that is asked again and again: each question is a connection of its own, most of them resume a session.

Why
---
xapi's stunnel speaks TLS 1.2 with ECDHE over secp384r1 (xapi: ocaml/xapi/xapi_stunnel_server.ml, tls_policy.ml). A full
handshake costs each side some milliseconds of processor, in dom0 as well; a resumed one (RFC 5246, 7.3; RFC 8446, 2.2)
leaves all of that out.

Rules
-----
* A resumed connection is as new as any other: TCP connects, stunnel accepts, xapi is asked and has to answer.
* Only who holds the session's secret can resume it: the stunnel that made the full handshake. Whoever else is at that
  address, or the same after it was started anew, has to make a full one, and shows its certificate. What counts as
  shown in a resumed one is the certificate of its session.
* A full handshake is made every five minutes at the least, and after each question that was not answered.
"""

from __future__ import annotations

import ssl
from contextvars import ContextVar

FULL_EVERY_S = 300.0

_resumed: ContextVar[ssl.SSLSession | None] = ContextVar("resumed", default=None)


class TlsSession:
    """The session with one xapi. Times are of any one clock, s."""

    def __init__(self) -> None:
        self._kept: ssl.SSLSession | None = None
        self._since = 0.0  # when its full handshake was made

    def resume(self, now: float) -> None:
        """What this task connects with from now on resumes it, where it is young enough."""
        young = self._kept is not None and now - self._since < FULL_EVERY_S
        _resumed.set(self._kept if young else None)

    def keep(self, connection: ssl.SSLObject, now: float) -> None:
        """This connection was answered: the next one may resume what it has."""
        if not connection.session_reused:
            self._since = now
        self._kept = connection.session

    def forget(self) -> None:
        self._kept = None


class _Context(ssl.SSLContext):
    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        # asyncio has no argument for it; what it begins for a task runs in that task's context.
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session or _resumed.get())


def unverified() -> ssl.SSLContext:
    """Takes any certificate: each xapi has its own self-signed one. Sessions belong to the context that they are of."""
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
