"""What every answer says to the browser: load nothing from elsewhere, run nothing that stands in a page, keep none."""

from __future__ import annotations

from typing import Any

from aiohttp import web

CONTENT = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "manifest-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    )
)
ALWAYS = {
    "Content-Security-Policy": CONTENT,
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
PRIVATE = "no-store"
STATIC = "public, max-age=31536000, immutable"  # its address changes with what is in it


async def put(request: web.Request, response: web.StreamResponse) -> None:
    """Put them on an answer that is about to be sent, whatever made it."""
    response.headers.update(ALWAYS)
    response.headers.setdefault("Cache-Control", PRIVATE)
    response.headers["Server"] = "poolwarden"


class Protocol(web.RequestHandler):
    """What is no HTTP is answered by aiohttp itself, before anything of ours: it says so in our words, with these
    headers, and repeats nothing of what was sent."""

    __slots__ = ()

    def handle_error(self, *args: Any, **kwargs: Any) -> web.StreamResponse:
        """The answer; the connection ends after it."""
        status = super().handle_error(*args, **kwargs).status
        told = {**ALWAYS, "Cache-Control": PRIVATE, "Server": "poolwarden"}
        response = web.Response(status=status, text="this cannot be served\n", headers=told)
        response.force_close()
        return response
