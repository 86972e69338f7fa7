"""The HTTPS server of the page: sign-in, pages, events, exports. Nothing that is asked here changes a pool.

Rules
-----
* It runs in the collector's loop: what it shows is read without a copy, in slices with the engine's turns in between.
* Anybody may connect. So connections are bounded and end where nothing is asked on them (enrolment/connections.py), a
  body has a limit in bytes and in time, sign-ins are rationed (attempts.py), streams are counted (streams.py), and
  so is what is made and has not been taken yet (leaving.py).
* Who asks is found before what (identity.py); what he may see is the operators' interface's to say (asking.py). Without
  a sign-in there are the style sheet, the script and the form, and nothing that tells of a pool.
* Only the forms to sign in and out are sent by POST: with a token of this browser's, and from this page.
* Certificate and key are read again when their files have changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from poolwarden_collector.shell.config.operators import Entry
from poolwarden_collector.shell.config.page import PageSettings
from poolwarden_collector.shell.enrolment.connections import Bounds, Connections
from poolwarden_collector.shell.operators.api import OperatorApi
from poolwarden_collector.shell.operators.calls import Allowance
from poolwarden_collector.shell.page import export, headers
from poolwarden_collector.shell.page.asked import Asked, NoPage, asked
from poolwarden_collector.shell.page.asking import Asking, Refused, Viewer
from poolwarden_collector.shell.page.attempts import SignIns, TooMany
from poolwarden_collector.shell.page.identity import COOKIE, Identity
from poolwarden_collector.shell.page.leaving import Leaving
from poolwarden_collector.shell.page.live import Live
from poolwarden_collector.shell.page.rendering import HERE, Rendering
from poolwarden_collector.shell.page.sessions import Sessions
from poolwarden_collector.shell.page.streams import Full, Streams
from poolwarden_collector.shell.page.users import UserFile
from poolwarden_collector.shell.page.views import Views
from poolwarden_collector.shell.store.telemetry import Telemetry

CONNECTIONS = Bounds(most=2_400, limit_s=12 * 3_600.0, look_s=5.0)
BODY_LIMIT, BODY_WITHIN_S = 8 * 1024, 10.0
BODIES = 64  # read at a time: a connection on which one comes slowly gives way to nobody
ANSWER_WITHIN_S = 30.0
EXPORTS = 2  # at a time, of all
_FIELDS = 16  # of a form; ours have four
_SAID, _SAID_EVERY_MS = 20, 10_000  # lines about sign-ins that came to nothing
_FORM = "__Host-poolwarden-form"
_AGAIN_S, _LOOK_S = 10.0, 10.0
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

_log = logging.getLogger(__name__)
_unheard = logging.getLogger(f"{__name__}.http")  # what is no HTTP would be written down by whoever sends it
_unheard.disabled = True
_HEARING: dict[str, Any] = {"access_log": None, "logger": _unheard, "keepalive_timeout": 30.0, "lingering_time": 1.0}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _File:
    """A file that everybody may read; ``name`` holds a hash of what is in it."""

    name: str
    body: bytes
    content_type: str


def static_files() -> dict[str, _File]:
    """By their plain names."""
    found = {}
    for path in sorted((HERE / "static").iterdir()):
        body = path.read_bytes()
        name = f"{path.stem}-{hashlib.sha256(body).hexdigest()[:16]}{path.suffix}"
        found[path.name] = _File(name, body, _TYPES[path.suffix])
    return found


class PageServer:
    """Serves one collector; ``entries`` are the operators' of its configuration as they are now."""

    def __init__(
        self,
        settings: PageSettings,
        state_dir: Path,
        api: OperatorApi,
        telemetry: Telemetry,
        entries: Callable[[], tuple[Entry, ...]],
        collector: str,
        warn: Callable[[str, str], None],
    ) -> None:
        self._settings = settings
        self._collector = collector
        self._api = api
        self._warn = warn
        users = UserFile(state_dir)
        self._sessions = Sessions(state_dir, users, settings.session_ms)
        self._identity = Identity(self._sessions, entries)
        self._sign_ins = SignIns(users)
        self._lines, self._unsaid = Allowance(_SAID, _SAID_EVERY_MS), 0
        self._asking = Asking(api)
        self._views = Views(self._asking, telemetry)
        self._rendering = Rendering()
        self._live = Live(self._views, self._rendering, api.turns)
        self.streams = Streams(self._live)
        self._leaving = Leaving()
        self._bodies = 0
        self._exports = asyncio.Semaphore(EXPORTS)
        self._static = static_files()
        self._by_name = {file.name: file for file in self._static.values()}
        # A page that is open since before an upgrade has its script of then for the parts of now: it loads itself anew.
        self._page_hash = hashlib.sha256(" ".join(sorted(self._by_name)).encode()).hexdigest()[:16]
        self._connections: Connections | None = None
        self._task: asyncio.Task[None] | None = None
        self.listening = asyncio.Event()
        self.port = 0

    def start(self) -> None:
        """Begin to serve; an address that cannot be used is told, and tried again."""
        self._task = asyncio.ensure_future(self._serve())

    async def stop(self) -> None:
        """End every connection."""
        self.streams.end()
        await self._live.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # ------------------------------------------------------------------------------------------------ serving

    async def _serve(self) -> None:
        # safety: nothing is made on, or told, for who is gone.
        runner = web.AppRunner(self._app(), handler_cancellation=True, **_HEARING)
        await runner.setup()
        try:
            while True:
                try:
                    await self._listen(runner)
                except (OSError, ValueError) as error:
                    where = f"{self._settings.address}: the page is not served there"
                    _log.error("%s: %s; again in %.0f s", where, error, _AGAIN_S)
                    self._warn(f"{where}: {error}", "the page's address")
                await asyncio.sleep(_AGAIN_S)
        finally:
            await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=BODY_LIMIT, middlewares=[self._guarded])
        app.on_response_prepare.append(headers.put)
        app.add_routes(
            [
                web.get("/", self._page_of("pools")),
                web.get("/pools/{pool}", self._page_of("pool")),
                web.get("/pools/{pool}/failovers/{failover}", self._page_of("failover")),
                web.get("/pools/{pool}/failovers/{failover}/export.{form}", self._export_of("failover")),
                web.get("/history", self._page_of("history")),
                web.get("/history/export.{form}", self._export_of("history")),
                web.get("/alerts", self._page_of("alerts")),
                web.get("/collectors", self._page_of("collectors")),
                web.get("/events", self._events),
                web.get("/sign-in", self._form),
                web.post("/sign-in", self._sign_in),
                web.post("/sign-out", self._sign_out),
                web.get("/static/{name}", self._file),
            ]
        )
        return app

    async def _listen(self, runner: web.AppRunner) -> None:
        """Serve until it is cancelled. Raises OSError (ssl.SSLError is one) where it cannot begin."""
        settings = self._settings
        context, stamps = await asyncio.to_thread(_context, settings), _stamps(settings)
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=128)
        listener.setblocking(False)
        loop, server = asyncio.get_running_loop(), runner.server
        assert server is not None
        hears = partial(headers.Protocol, server, loop=loop, **_HEARING)
        self._connections = Connections(hears, context, CONNECTIONS, "page")
        accepting = asyncio.ensure_future(self._connections.accept(listener))
        self.port = listener.getsockname()[1]
        self.listening.set()
        _log.info("the page is at https://%s", settings.address)
        try:
            while True:
                await asyncio.sleep(_LOOK_S)
                try:
                    if stamps != (stamps := _stamps(settings)):
                        context.load_cert_chain(settings.cert, settings.key)
                except OSError as error:
                    _log.warning("page: the former certificate is used on: %s", error)
        finally:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            listener.close()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        assert self._connections is not None
        with self._connections.answering(request.transport):
            try:
                return await handler(request)
            except web.HTTPException as error:
                if error.status < 400:
                    raise
                return self._trouble(request, error.status, error.reason or "this cannot be served")
            except NoPage as error:
                return self._trouble(request, 404, str(error))
            except Refused as error:
                return self._trouble(request, error.status, str(error))
            except (ConnectionError, asyncio.CancelledError):
                raise
            except TimeoutError:
                return self._trouble(request, 503, "the collector has too much to do to show this now: try again")
            except Exception:
                _log.exception("page: a request was not answered")
                return self._trouble(request, 500, "a fault of the collector; its log says which")

    # ------------------------------------------------------------------------------------------------ pages

    def _page_of(self, page: str) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            viewer = self._identity.of(request)
            if viewer is None:
                return self._to_sign_in(request)
            self._asking.admit(viewer)
            wanted = asked(page, request.match_info, request.query)
            with self._leaving.counted(viewer):
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    sheet = await self._live.sheet(viewer, wanted)
                if request.query.get("part") == "main":
                    told = {"X-Sheet": sheet.number, "X-Page": self._page_hash}
                    return await self._leaving.taken(request, _html(sheet.html, sheet.status, told))
                text = self._rendering.short(
                    "frame.html",
                    **self._around(request, viewer),
                    main=sheet,
                    page_of=self._page_hash,
                    events=_events_of(wanted, sheet.number),
                )
                return await self._leaving.taken(request, _html(text, sheet.status))

        return answer

    def _around(self, request: web.Request, viewer: Viewer | None) -> dict[str, Any]:
        """What stands around every page."""
        return {
            "collector": self._collector,
            "static": {name: file.name for name, file in self._static.items()},
            "viewer": viewer,
            "path": request.path,
            "several": self._api.several,
            "sign_out": self._sessions.token(viewer.session) if viewer is not None and viewer.session else "",
        }

    def _trouble(self, request: web.Request, status: int, text: str) -> web.Response:
        viewer = self._identity.of(request)
        if request.query.get("part") == "main":
            return _html(self._rendering.short("trouble.html", text=text, made_at=""), status)
        around = self._around(request, viewer)
        return _html(self._rendering.short("refused.html", **around, text=text, status=status), status)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        viewer = self._identity.of(request)
        if viewer is None:
            raise Refused(403, "sign in first")
        self._asking.admit(viewer)
        page = request.query.get("page", "")
        if page not in ("pools", "pool", "failover", "history", "alerts", "collectors"):
            raise NoPage("there are no events of such a page")
        named = {name: request.query[name] for name in ("pool", "failover") if request.query.get(name)}
        try:
            return await self.streams.serve(
                request, viewer, asked(page, named, request.query), request.query.get("number", "")
            )
        except Full:
            raise Refused(503, "too many pages are open: this one is as it was when it was loaded") from None

    def _export_of(self, page: str) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            viewer = self._identity.of(request)
            if viewer is None:
                return self._to_sign_in(request)
            self._asking.admit(viewer)
            named = {name: value for name, value in request.match_info.items() if name != "form"}
            wanted = asked(page, named, request.query)
            form = request.match_info["form"]
            if form not in export.FORMS:
                raise NoPage(f"there is no export as {form!r}; there is: {', '.join(export.FORMS)}")
            with self._leaving.counted(viewer):
                async with asyncio.timeout(ANSWER_WITHIN_S), self._exports:
                    entries = await self._views.entries(viewer, wanted)
                    content_type, body = await asyncio.to_thread(export.FORMS[form], entries)
                name = f"poolwarden-{wanted.failover or 'history'}.{form}".replace(":", "-")
                kept = {"Content-Disposition": f'attachment; filename="{name}"'}
                file = web.Response(body=body, content_type=content_type, charset="utf-8", headers=kept)
                return await self._leaving.taken(request, file)

        return answer

    async def _file(self, request: web.Request) -> web.Response:
        file = self._by_name.get(request.match_info["name"])
        if file is None:
            raise NoPage("there is no such file")
        kept = {"Cache-Control": headers.STATIC}
        return web.Response(body=file.body, content_type=file.content_type, charset="utf-8", headers=kept)

    # ------------------------------------------------------------------------------------------------ signing in

    def _to_sign_in(self, request: web.Request) -> web.Response:
        if request.query.get("part") == "main":
            return _html(self._rendering.short("trouble.html", text="sign in again: reload this page", made_at=""), 403)
        # A link in a mail comes from elsewhere, so the browser keeps a strict cookie back, once.
        if request.headers.get("Sec-Fetch-Site") == "cross-site" and request.query.get("again") is None:
            address = request.rel_url.update_query(again="1")
            return _html(self._rendering.short("again.html", **self._around(request, None), address=str(address)))
        where = request.rel_url.with_query({k: v for k, v in request.query.items() if k != "again"})
        raise web.HTTPSeeOther(_sign_in_at(str(where)))

    async def _form(self, request: web.Request) -> web.Response:
        if self._identity.of(request) is not None:
            raise web.HTTPSeeOther(_safe(request.query.get("to", "/")))
        return self._asked_to_sign_in(request, "", 200)

    def _asked_to_sign_in(self, request: web.Request, trouble: str, status: int) -> web.Response:
        browser = request.cookies.get(_FORM, "")
        if not (browser.isascii() and browser.isalnum() and len(browser) == 32):
            browser = secrets.token_hex(16)
        text = self._rendering.short(
            "sign-in.html",
            **self._around(request, None),
            token=self._sessions.token(browser),
            to=_safe(request.query.get("to", "/")),
            trouble=trouble,
            certificates=self._settings.client_ca is not None,
        )
        response = _html(text, status)
        response.set_cookie(_FORM, browser, secure=True, httponly=True, samesite="Strict", path="/")
        return response

    async def _sign_in(self, request: web.Request) -> web.Response:
        form = await self._sent(request)
        if not self._sessions.is_token(request.cookies.get(_FORM, ""), form.get("token", "")):
            return self._asked_to_sign_in(request, "this form was not made for this browser: try once more", 403)
        name, address = form.get("name", "").strip()[:128], request.remote or ""
        try:
            user = await self._sign_ins.user(name, form.get("password", ""), address)
        except TooMany as error:
            self._say("page: a sign-in as %s from %s was put off: %s", name[:64], address, error)
            self._warn(f"sign-ins at the page are put off, the last one from {address}", "sign-ins at the page")
            response = self._asked_to_sign_in(request, f"{error}: wait {error.after_s} s", 429)
            response.headers["Retry-After"] = str(error.after_s)
            return response
        if user is None:
            self._say("page: a sign-in as %s from %s failed", name[:64], address)
            return self._asked_to_sign_in(request, "name or password is not right", 403)
        _log.info("page: %s signed in from %s", user.name, address)
        response = web.Response(status=303, headers={"Location": _safe(form.get("to", "/"))})
        # safety: sent to this page alone, over TLS alone, and read by no script.
        response.set_cookie(
            COOKIE, self._sessions.begin(user), max_age=self._settings.session_ms // 1000,
            secure=True, httponly=True, samesite="Strict", path="/",
        )  # fmt: skip
        response.del_cookie(_FORM, path="/", secure=True, httponly=True, samesite="Strict")
        return response

    def _say(self, text: str, *about: object) -> None:
        """A line in the log, of what anybody may do: so many in a row, then one now and then that counts the others."""
        if not self._lines.may(""):
            self._unsaid += 1
            return
        left_out, self._unsaid = self._unsaid, 0
        _log.warning(text + (f" ({left_out} more before it)" if left_out else ""), *about)

    async def _sign_out(self, request: web.Request) -> web.Response:
        form, session = await self._sent(request), self._identity.session(request)
        if session is None:
            raise web.HTTPSeeOther("/sign-in")
        if not self._sessions.is_token(session.id, form.get("token", "")):
            raise Refused(403, "this form was not made for this session: reload the page")
        await asyncio.to_thread(self._sessions.end, session)
        _log.info("page: %s signed out", session.name)
        response = web.Response(status=303, headers={"Location": "/sign-in"})
        response.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
        return response

    async def _sent(self, request: web.Request) -> dict[str, str]:
        """The fields of a form of this page. Raises Refused for what another site's page has sent."""
        if not _from_here(request):
            raise Refused(403, "this form was sent from elsewhere")
        if request.content_type != "application/x-www-form-urlencoded":
            raise Refused(400, "this is no form of the page's")
        if self._bodies >= BODIES:
            raise Refused(503, "too many forms are being sent: try again in some seconds")
        self._bodies += 1
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                sent = await request.read()
            # Always UTF-8, as our forms are: which encoding it is would else be the sender's to say.
            return dict(parse_qsl(sent.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_FIELDS))
        except TimeoutError:
            raise Refused(408, "the form did not come in time") from None
        except (ValueError, web.RequestPayloadError):
            raise Refused(400, "this is no form of the page's") from None
        finally:
            self._bodies -= 1


def _from_here(request: web.Request) -> bool:
    """Was a form sent from a page of this server's, by the browser's own word?"""
    # safety: no page can set these two; a browser that sends neither is held by the form's token alone. With
    # "no-referrer" browsers say Origin: null for our own forms, and where these came from in Sec-Fetch-Site.
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    return origin is None or origin == f"https://{request.host}"


def _events_of(wanted: Asked, number: str) -> str:
    """Where the script hears of changes."""
    values = {"page": wanted.page, **wanted.options(), "number": number}
    values |= {name: value for name in ("pool", "failover") if (value := getattr(wanted, name))}
    return f"/events?{urlencode(values)}"


def _sign_in_at(to: str) -> str:
    """Where one signs in, and goes on from there."""
    return f"/sign-in?{urlencode({'to': to})}"


def _safe(to: str) -> str:
    """A place of this page's, whatever was asked for: nobody is sent elsewhere after he has signed in."""
    good = to.startswith("/") and not to.startswith("//") and "\\" not in to and to.isprintable() and len(to) <= 1_000
    return to if good and not to.startswith(("/sign-in", "/sign-out", "/events")) else "/"


def _html(text: str, status: int = 200, more: dict[str, str] | None = None) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=more)


def _context(settings: PageSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.cert, settings.key)
    if settings.client_ca is not None:
        context.load_verify_locations(settings.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _stamps(settings: PageSettings) -> tuple[tuple[int, int, int], ...]:
    found = [path.stat() for path in (settings.cert, settings.key)]
    return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)
