"""Who is at the other end of a request: an operator's certificate, or a session of a user of the page.

Rules
-----
* safety: a certificate is looked at first, and only as TLS has verified it against ``client_ca``; what it may see
  stands in ``[[operators]]``, read at each request. A certificate that is no operator's is nobody.
* What a user may see stands beside his password (users.py), read at each request as well.
* Nobody here is more than a viewer: the page has nothing that would need it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from poolwarden_collector.shell.config.operators import Entry
from poolwarden_collector.shell.operators import access
from poolwarden_collector.shell.operators.access import Caller, Rights
from poolwarden_collector.shell.operators.tls import NoOperator, certified_operator
from poolwarden_collector.shell.page.asking import Viewer
from poolwarden_collector.shell.page.sessions import Session, Sessions

COOKIE = "__Host-poolwarden"
NO_RIGHTS = Rights(())


class Identity:
    """``entries`` are the configuration's as they are now."""

    def __init__(self, sessions: Sessions, entries: Callable[[], tuple[Entry, ...]]) -> None:
        self._sessions = sessions
        self._entries = entries

    def of(self, request: web.Request) -> Viewer | None:
        """Who asks this; None: nobody who may."""
        return self._certified(request) or self._signed_in(request)

    def session(self, request: web.Request) -> Session | None:
        """The session that its cookie is of, if it is good now."""
        found = self._sessions.of(request.cookies.get(COOKIE, ""))
        return found[0] if found is not None else None

    def _certified(self, request: web.Request) -> Viewer | None:
        told = request.transport.get_extra_info("peercert") if request.transport is not None else None
        try:
            name = certified_operator({"peer_uri": _uris(told)}) if told else ""
        except NoOperator:
            return None
        if not name:
            return None
        caller = Caller(name, f"certificate {name}", f"page, certificate {name}")
        return Viewer(caller, lambda: access.rights_of(caller, self._entries()), name)

    def _signed_in(self, request: web.Request) -> Viewer | None:
        cookie = request.cookies.get(COOKIE, "")
        found = self._sessions.of(cookie)
        if found is None:
            return None
        name = found[1].name

        def rights() -> Rights:
            now = self._sessions.of(cookie)
            return Rights(((now[1].role, now[1].pools),)) if now is not None else NO_RIGHTS

        return Viewer(Caller(name, f"page user {name}", f"page, user {name}"), rights, name, found[0].id)


def _uris(told: dict[str, Any]) -> list[bytes]:
    return [value.encode() for kind, value in told.get("subjectAltName", ()) if kind == "URI"]
