"""The HTTPS server that hosts enrol at: /v1/ca, /v1/enrol, /v1/agents.

Rules
-----
* It runs in an event loop and a thread of its own: no handshake, no slow client and no download is waited for by the
  collector. What a host asks is decided in the collector's loop, one request after the other.
* Anybody may connect. So connections are bounded (connections.py), every request has a limit in bytes and in time, an
  address ``ATTEMPTS`` requests a minute and ``FAILURES`` that were refused, and all together ``AT_ONCE`` that are being
  decided. What is over answers 429 or 503 and costs no decision.
* A reply says what is wrong with the request and nothing of what the collector knows besides. Nothing that an unknown
  client sends gets into the log as it is.
* Certificate and key are read again when their files have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError as Cancelled
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.cluster.enrolment_rows import Collector
from poolwarden_collector.shell.config.certificates import COLLECTOR_DNS
from poolwarden_collector.shell.enrolment.agent_packages import AgentPackages
from poolwarden_collector.shell.enrolment.authority import Authority, CannotSign
from poolwarden_collector.shell.enrolment.connections import Bounds, Connections
from poolwarden_collector.shell.enrolment.enrolment import Application, Granted, NotEnrolled, Waits
from poolwarden_collector.shell.store.journal import JournalError

CONNECTIONS = Bounds(most=128)
BODY_LIMIT = 32 * 1024
BODY_WITHIN_S = 10.0
ANSWER_WITHIN_S = 20.0
DOWNLOAD_WITHIN_S = 300.0
ATTEMPTS, FAILURES, WINDOW_MS = 120, 10, 60_000
AT_ONCE, DOWNLOADS = 16, 4
DOWNLOADS_OF_ADDRESS = 2
MOST_TOLD = 16  # keys, and addresses: what an agent takes
_ADDRESSES = 4_096
_FIELD = 16 * 1024  # characters of one field
_AGAIN_S, _LOOK_S, _STOP_S = 10.0, 10.0, 5.0

_log = logging.getLogger(__name__)
_unheard = logging.getLogger(f"{__name__}.http")  # what is no HTTP would be written down by whoever sends it
_unheard.disabled = True


@dataclass(frozen=True, slots=True)
class Served:
    """What every host is told that has enrolled, and the files of the server's own certificate."""

    listen: str
    cert: Path
    key: Path
    agents_at: str  # HOST:PORT of the agents' gateway
    order_keys: tuple[str, ...]  # hex: the public key that orders are signed with, then others to be obeyed
    other_collectors: tuple[str, ...] = ()  # HOST:PORT each
    others: Callable[[], tuple[Collector, ...]] = tuple  # of several: what the others have said of themselves

    def obeyed(self) -> list[str]:
        """Whose orders a host shall obey: public keys in hex, each once, this collector's own first."""
        told = (key for each in self.others() for key in each.keys)
        return list(dict.fromkeys((*self.order_keys, *told)))[:MOST_TOLD]

    def reached_at(self) -> list[str]:
        """Where a host finds the collectors, each once, this one first."""
        told = (each.agents for each in self.others())
        return list(dict.fromkeys((self.agents_at, *self.other_collectors, *told)))[:MOST_TOLD]


class Attempts:
    """How often each address has asked within a minute; of the newest ``_ADDRESSES`` of them."""

    def __init__(self) -> None:
        self._asked: dict[str, deque[int]] = {}
        self._failed: dict[str, deque[int]] = {}

    def too_many(self, address: str) -> bool:
        """Is this one more than an address may make? Else it counts."""
        return _full(self._failed, address, FAILURES) or not _add(self._asked, address, ATTEMPTS)

    def failed(self, address: str) -> None:
        """What it asked was refused."""
        _add(self._failed, address, FAILURES)


def _full(times: dict[str, deque[int]], address: str, most: int) -> bool:
    found = times.get(address)
    return found is not None and len(found) >= most and clock.mono_ms() - found[0] < WINDOW_MS


def _add(times: dict[str, deque[int]], address: str, most: int) -> bool:
    if _full(times, address, most):
        return False
    found = times.pop(address, None) or deque(maxlen=most)
    found.append(clock.mono_ms())
    times[address] = found  # the newest last
    if len(times) > _ADDRESSES:
        del times[next(iter(times))]
    return True


class EnrolmentServer:
    """Serves enrolment; ``start`` and ``stop`` are called in the collector's event loop."""

    def __init__(
        self,
        served: Served,
        authority: Authority,
        packages: Path | None,
        enrol: Callable[[Application], Coroutine[Any, Any, Granted | Waits]],
        warn: Callable[[str, str], None],
    ) -> None:
        self._served = served
        self._authority = authority
        self._packages = AgentPackages(packages) if packages is not None else None
        self._enrol = enrol
        self._warn = warn
        self._attempts = Attempts()
        self._deciding = 0
        self._downloads = asyncio.Semaphore(DOWNLOADS)
        self._fetching: Counter[str] = Counter()  # packages, by address
        self._connections: Connections | None = None
        self._theirs: asyncio.AbstractEventLoop | None = None
        self._ours = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="enrolment", daemon=True)
        self.listening = threading.Event()
        self.port = 0

    def start(self) -> None:
        """Begin to serve; an address that cannot be used is told, and tried again."""
        self._theirs = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Serve nothing more."""
        if self._theirs is None:
            self._ours.close()
            return
        self._ours.call_soon_threadsafe(self._stopping.set)
        await asyncio.to_thread(self._thread.join, _STOP_S)

    # ------------------------------------------------------------------------------------------------ its own thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._ours)
        try:
            self._ours.run_until_complete(self._serve())
        finally:
            self._ours.close()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=BODY_LIMIT, middlewares=[self._guarded])
        app.add_routes(
            [
                web.get("/v1/ca", self._ca),
                web.post("/v1/enrol", self._enrolled),
                web.get("/v1/agents", self._agents),
                web.get("/v1/agents/{name}", self._agent),
            ]
        )
        runner = web.AppRunner(app, access_log=None, logger=_unheard, keepalive_timeout=5.0, lingering_time=1.0)
        await runner.setup()
        try:
            while not self._stopping.is_set():
                try:
                    await self._listen(runner)
                except (OSError, ValueError) as error:
                    where = f"{self._served.listen}: hosts cannot enrol there"
                    _log.error("%s: %s; again in %.0f s", where, error, _AGAIN_S)
                    self._tell(f"{where}: {error}", "enrolment: address")
                    await self._pause(_AGAIN_S)
        finally:
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> None:
        """Serve until it is to stop. Raises OSError (ssl.SSLError is one) where it cannot begin."""
        host, _, port = self._served.listen.rpartition(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        stamps = self._load(context)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=CONNECTIONS.most)
        listener.setblocking(False)
        assert runner.server is not None
        self._connections = Connections(runner.server, context, CONNECTIONS, "enrolment")
        accepting = asyncio.ensure_future(self._connections.accept(listener))
        self.port = listener.getsockname()[1]
        self.listening.set()
        _log.info("hosts enrol at %s", self._served.listen)
        try:
            while not self._stopping.is_set():
                await self._pause(_LOOK_S)
                try:
                    if stamps != self._stamps():
                        stamps = self._load(context)
                except OSError as error:
                    _log.warning("enrolment: the former certificate is used on: %s", error)
        finally:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            listener.close()

    def _load(self, context: ssl.SSLContext) -> tuple[int, ...]:
        """The certificate for handshakes from now on."""
        stamps = self._stamps()
        context.load_cert_chain(self._served.cert, self._served.key)
        return stamps

    def _stamps(self) -> tuple[int, ...]:
        return tuple(path.stat().st_mtime_ns for path in (self._served.cert, self._served.key))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _tell(self, text: str, about: str) -> None:
        assert self._theirs is not None
        with contextlib.suppress(RuntimeError):  # it has ended meanwhile
            self._theirs.call_soon_threadsafe(self._warn, text, about)

    # ------------------------------------------------------------------------------------------------ what is asked

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        address = request.remote or ""
        if self._attempts.too_many(address):
            return _refusal(429, "attempts", "too many requests from this address", "wait a minute, then try again")
        assert self._connections is not None
        with self._connections.answering(request.transport):
            return await self._answered(request, handler, address)

    async def _answered(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        address: str,
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except NotEnrolled as error:
            if error.status < 500:
                self._attempts.failed(address)
            _log.warning("enrolment: %s was refused: %s", address, error.text)
            return _refusal(error.status, error.error, error.text, error.next_step)
        except web.HTTPException as error:
            self._attempts.failed(address)
            return _refusal(error.status, "request", error.reason or "this cannot be served")
        except (JournalError, CannotSign) as error:
            _log.error("enrolment: %s", error)
            return _refusal(503, "collector", "the collector cannot do that now", "poolwarden doctor, at the collector")
        except TimeoutError:
            self._attempts.failed(address)
            return _refusal(408, "slow", "the request did not come, or was not answered, in time", "try again")
        except Exception:
            _log.exception("enrolment: a request was not answered")
            return _refusal(500, "collector", "a fault of the collector; its log says which")

    async def _ca(self, request: web.Request) -> web.Response:
        text = await asyncio.to_thread(self._authority.root)
        return web.Response(text=text, content_type="application/x-pem-file")

    async def _enrolled(self, request: web.Request) -> web.Response:
        async with asyncio.timeout(BODY_WITHIN_S):
            body = await request.read()
        asked = _application(body)
        if self._deciding >= AT_ONCE:
            return _refusal(503, "busy", "too many hosts enrol at once", "try again in some seconds")
        self._deciding += 1
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                found = await self._decided(asked)
        finally:
            self._deciding -= 1
        if isinstance(found, Waits):
            return web.json_response({"waiting": found.text, "key_sha256": found.key}, status=202)
        return web.json_response(
            {
                "certificate": found.certificate,
                "ca": found.roots,
                "order_key": self._served.order_keys[0],
                "order_keys": self._served.obeyed(),
                "collector_name": COLLECTOR_DNS,
                "collector": self._served.agents_at,
                "collectors": self._served.reached_at(),
                "renew_after_s": found.renew_after_s,
            }
        )

    async def _decided(self, asked: Application) -> Granted | Waits:
        """What the collector's loop says."""
        assert self._theirs is not None
        deciding = self._enrol(asked)
        try:
            future = asyncio.run_coroutine_threadsafe(deciding, self._theirs)
        except RuntimeError:
            deciding.close()
            raise NotEnrolled(503, "collector", "the collector is being stopped", "try again") from None
        try:
            return await asyncio.wrap_future(future)
        except Cancelled:
            raise NotEnrolled(503, "collector", "the collector is being stopped", "try again") from None

    async def _agents(self, request: web.Request) -> web.Response:
        found = await asyncio.to_thread(self._packages.all) if self._packages is not None else []
        return web.json_response([asdict(package) for package in found])

    async def _agent(self, request: web.Request) -> web.StreamResponse:
        found = await asyncio.to_thread(self._packages.all) if self._packages is not None else []
        package = next((each for each in found if each.name == request.match_info["name"]), None)
        if package is None or self._packages is None:
            raise NotEnrolled(404, "package", "there is no such package", "GET /v1/agents lists them")
        address = request.remote or ""
        if self._downloads.locked() or self._fetching[address] >= DOWNLOADS_OF_ADDRESS:
            return _refusal(503, "busy", "too many packages are being fetched", "try again in some seconds")
        self._fetching[address] += 1
        try:
            async with self._downloads, asyncio.timeout(DOWNLOAD_WITHIN_S):
                response = web.FileResponse(self._packages.directory / package.name)
                response.content_type = "application/x-rpm"
                await response.prepare(request)
        finally:
            self._fetching -= Counter((address,))
        return response


def _application(body: bytes) -> Application:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    machine = said.get("machine") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(machine if machine is not None else {}, dict):
        raise NotEnrolled(400, "request", "the body is no JSON object as docs/enrolment.md describes it")

    def text(values: dict[str, Any], name: str) -> str:
        value = values.get(name, "")
        if not isinstance(value, str) or len(value) > _FIELD:
            raise NotEnrolled(400, "request", f"{name} is no text, or too long")
        return value

    of_machine = {str(name): text(machine or {}, name) for name in list(machine or {})[:32]}
    token, csr, host, pool, name = (text(said, key) for key in ("token", "csr", "host_uuid", "pool_uuid", "host_name"))
    return Application(token, csr, host, pool, name, of_machine)


def _refusal(status: int, error: str, text: str, next_step: str = "") -> web.Response:
    return web.json_response({"error": error, "text": text, "next_step": next_step}, status=status)
