"""Driver 1: one xapi process on real sockets.

It serves what dom0's xapi and stunnel serve: XML-RPC and JSON-RPC by POST (see `paths`) on the Unix socket, on TCP 80
and, with a certificate of its own, on TLS 443; and it calls its peers there. Peers' certificates are not verified, as
in a pool without TLS verification. Each ``EVENT name key=value`` line on standard output is one of the model's events.

Rules: the model decides everything and the driver nothing, except what TCP itself gives up on (a connect that nothing
answers, 127 s divided by the time factor). A caller that goes away does not free the thread that serves it. The exit
code is the model's. Signals: TERM stops cleanly, USR1 hangs both sockets, USR2 ends that, HUP reads the other faults
from ``var/run/lab-xapi-faults``: ``slow=MS`` delays every call, ``wet-fuse`` keeps a transition from ever restarting
this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from poolwarden_lab.xapi import http1, jsonrpc, messages, paths, wire
from poolwarden_lab.xapi.actions import (
    Action,
    Answer,
    CancelPeer,
    Door,
    Event,
    Exit,
    Fault,
    HangForever,
    HttpError,
    Listen,
    Lost,
    PeerCall,
    PeerResult,
    Reply,
    WakeAt,
)
from poolwarden_lab.xapi.model import HostConfig, Variant, XapiModel
from poolwarden_lab.xapi.times import scaled

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from poolwarden_lab.xapi.actions import Disk, Hypervisor

UNIX_SOCKET = "var/lib/xcp/xapi"
CERTIFICATE = "etc/xensource/xapi-ssl.pem"
FAULTS_FILE = "var/run/lab-xapi-faults"
_FOREVER_S = 86_400.0
_MAX_ANSWER = 64 << 20


@dataclass(frozen=True, slots=True)
class Settings:
    """Where one process lives and listens."""

    root: Path
    address: str  # management address; peers call it
    time_factor: float = 1.0
    http: tuple[str, int] = ("0.0.0.0", 80)
    tls: tuple[str, int] = ("0.0.0.0", 443)
    peer_port: int = 443
    variant: Variant = "A"


@dataclass
class _Runtime:
    """What is open at the moment."""

    servers: list[asyncio.AbstractServer] = field(default_factory=list)
    waiting: dict[int, asyncio.Future[Answer | Fault | int]] = field(default_factory=dict)  # conn -> result, or status
    peers: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    background: set[asyncio.Task[None]] = field(default_factory=set)
    conns: int = 0


class SocketXapi:
    """Runs one `XapiModel` on an asyncio loop until it exits."""

    def __init__(self, settings: Settings, disk: Disk, hypervisor: Hypervisor) -> None:
        times = scaled(settings.time_factor)
        config = HostConfig(
            address=settings.address,
            pid=os.getpid(),
            times=times,
            variant=settings.variant,
            wall_zero_ms=time.time_ns() // 1_000_000 - _now(),
        )
        self._settings = settings
        self._disk = disk
        self._connect_s = times.connect_ms / 1000
        self._model = XapiModel(config, disk, hypervisor)
        self._open = _Runtime()
        self._peer_tls = _unverified()
        self._exit: asyncio.Future[int]
        self._wake: tuple[int, asyncio.TimerHandle] | None = None

    async def run(self) -> int:
        """Serve until the model exits; its exit code."""
        loop = asyncio.get_running_loop()
        self._exit = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, lambda: self._carry_out(self._model.sigterm(_now())))
        loop.add_signal_handler(signal.SIGUSR1, lambda: self._carry_out(self._model.set_hung(True, _now())))
        loop.add_signal_handler(signal.SIGUSR2, lambda: self._carry_out(self._model.set_hung(False, _now())))
        loop.add_signal_handler(signal.SIGHUP, self._read_faults)
        self._carry_out(self._model.start(_now()))
        return await self._exit

    def _read_faults(self) -> None:
        words = (
            self._disk.read(FAULTS_FILE).decode("ascii", "replace").split() if self._disk.exists(FAULTS_FILE) else []
        )
        delays = [word[5:] for word in words if word.startswith("slow=") and word[5:].isdigit()]
        self._carry_out(self._model.set_slow(int(delays[-1]) if delays else 0, _now()))
        self._carry_out(self._model.set_wet_fuse("wet-fuse" in words, _now()))

    # -------------------------------------------------------------------------------- actions

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Event():
                    print(f"EVENT {action}", flush=True)
                case Reply(conn, result):
                    self._answer(conn, result)
                case HttpError(conn, status):
                    self._answer(conn, status)
                case HangForever():
                    pass
                case Listen(door):
                    self._keep(self._listen(door))
                case PeerCall():
                    task = asyncio.create_task(self._call_peer(action))
                    self._open.peers[action.id] = task
                case CancelPeer(number):
                    if (running := self._open.peers.pop(number, None)) is not None:
                        running.cancel()
                case WakeAt(at_ms):
                    self._wake_at(at_ms)
                case Exit(code):
                    if not self._exit.done():
                        self._exit.set_result(code)

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._open.background.add(task)
        task.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._open.background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._exit.done():
            self._exit.set_exception(error)

    def _wake_at(self, at_ms: int) -> None:
        if self._wake is not None:
            if self._wake[0] <= at_ms:
                return
            self._wake[1].cancel()
        delay = max(0, at_ms - _now()) / 1000
        self._wake = (at_ms, asyncio.get_running_loop().call_later(delay, self._timer))

    def _timer(self) -> None:
        self._wake = None
        self._carry_out(self._model.on_timer(_now()))
        due = self._model.engine.next_due
        if self._wake is None and due is not None:  # the loop's clock was a hair early
            self._wake_at(due)

    def _answer(self, conn: int, result: Answer | Fault | int) -> None:
        future = self._open.waiting.pop(conn, None)
        if future is not None and not future.done():
            future.set_result(result)

    # -------------------------------------------------------------------------------- serving

    async def _listen(self, door: Door) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(door, reader, writer)

        if door == "unix":
            path = self._settings.root / UNIX_SOCKET
            path.unlink(missing_ok=True)
            server = await asyncio.start_unix_server(serve, str(path), backlog=1024)
        elif door == "tcp":
            server = await asyncio.start_server(serve, sock=_bound(*self._settings.http))
        else:
            server = await asyncio.start_server(
                serve,
                sock=_bound(*self._settings.tls),
                ssl=_server_tls(self._settings.root / CERTIFICATE, self._settings.address),
                ssl_handshake_timeout=_FOREVER_S,
            )
        self._open.servers.append(server)

    async def _serve(self, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError), contextlib.closing(writer):
            while True:
                try:
                    message = await http1.read_message(reader, wire.MAX_BODY)
                except http1.BadHttp:
                    writer.write(http1.response(400, b"", keep_alive=False))
                    return
                if message is None:
                    return
                response = await self._handle(door, message)
                writer.write(response)
                await writer.drain()
                if not message.keep_alive or b"Connection: close" in response[:200]:
                    return

    async def _handle(self, door: Door, message: http1.Message) -> bytes:
        method, path, _ = message.first
        handler = paths.handler(method, path)
        if isinstance(handler, int):
            return _refusal(handler)
        try:
            if handler == "json":
                request = jsonrpc.read_request(message.body)
                name, params = request.method, request.params
            else:
                name, params = wire.read_call(message.body)
        except wire.BadCall:
            return _refusal(500)
        result = await self._call(door, name, params)
        if isinstance(result, int):
            return _refusal(result)
        if handler == "json":
            body, kind = jsonrpc.write_response(request, result), "application/json"
        else:
            body, kind = wire.write_result(result, bare=name == "system.listMethods"), "text/xml"
        return http1.response(200, body, keep_alive=True, content_type=kind)

    async def _call(self, door: Door, name: str, params: tuple[object, ...]) -> Answer | Fault | int:
        """The result of a call, or an HTTP status."""
        self._open.conns += 1
        conn = self._open.conns
        future: asyncio.Future[Answer | Fault | int] = asyncio.get_running_loop().create_future()
        self._open.waiting[conn] = future
        self._carry_out(self._model.on_call(conn, door, name, params, _now()))
        return await future

    # -------------------------------------------------------------------------------- calling

    async def _call_peer(self, call: PeerCall) -> None:
        result = await self._exchange(call)
        if self._open.peers.pop(call.id, None) is not None:
            self._carry_out(self._model.on_peer_reply(call.id, result, _now()))

    async def _exchange(self, call: PeerCall) -> PeerResult:
        try:
            async with asyncio.timeout(self._connect_s):
                link = await self._connect(call.address)
            reader, writer = await asyncio.open_connection(
                sock=link, ssl=self._peer_tls, server_hostname="", ssl_handshake_timeout=_FOREVER_S
            )
        except ConnectionRefusedError:
            return Lost("refused")
        except (TimeoutError, OSError) as error:
            return Lost("reset" if isinstance(error, ConnectionError | ssl.SSLError) else "unreachable")
        with contextlib.closing(writer):
            try:
                writer.write(http1.request(call.address, "/", wire.write_call(call.method, call.params)))
                message = await http1.read_message(reader, _MAX_ANSWER)
                if message is None:
                    return Lost("reset")
                if message.first[1] != "200":
                    return Lost(f"http-{message.first[1]}")
                return wire.read_result(message.body)
            except (OSError, ValueError):
                return Lost("reset")

    async def _connect(self, address: str) -> socket.socket:
        link = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        link.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(link, (address, self._settings.peer_port))
        except BaseException:
            link.close()
            raise
        return link


def run(settings: Settings) -> int:
    """Run one process to its end; its exit code. Raises OSError if the tree or a port is not to be had.

    Connections are left as they are: the caller ends the process with the code, and the kernel resets them.
    """
    from poolwarden_lab.xapi.hypervisor import HypervisorClient
    from poolwarden_lab.xapi.trees import DirectoryDisk

    for directory in ("var/lib/xcp", messages.FOLDER, "var/run", "etc/xensource"):
        (settings.root / directory).mkdir(parents=True, exist_ok=True)
    (settings.root / "var/lib/xcp").chmod(0o700)
    xapi = SocketXapi(settings, DirectoryDisk(settings.root), HypervisorClient(settings.root))
    return asyncio.new_event_loop().run_until_complete(xapi.run())


def _bound(address: str, port: int) -> socket.socket:
    """A bound socket; "::" takes IPv4 as well, as xapi's does (xapi: ocaml/xapi/xapi_mgmt_iface.ml, inet6_addr_any)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, dualstack_ipv6=address == "::")


def _refusal(status: int) -> bytes:
    body = f"<html><body><h1>HTTP {status}</h1></body></html>".encode()
    return http1.response(status, body, keep_alive=False, content_type="text/html")


def _now() -> int:
    return time.monotonic_ns() // 1_000_000


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _server_tls(path: Path, address: str) -> ssl.SSLContext:
    if not path.exists():
        from poolwarden_lab.xapi.certificate import self_signed

        whole = path.with_suffix(".new")  # xapi renames it, too: nobody reads half of it
        whole.write_bytes(self_signed(address))
        whole.chmod(0o600)
        whole.rename(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
