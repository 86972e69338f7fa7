"""The agents' gateway: one mutual-TLS gRPC stream per agent, turned into events; orders go back on it.

Rules
-----
* A certificate's URI SAN ``poolwarden://host/<uuid>`` is the only identity. A Hello that says otherwise is refused with
  PERMISSION_DENIED and an operator's warning: an agent speaks for its own host alone.
* The first message is Hello, within 5 s, and there is no second one. A host that is on record in another pool is
  refused.
* A message whose numbers cannot be (bounds.py) is refused with INVALID_ARGUMENT and that reason, and so ends its
  stream. The pool in which the host is on record hears of it; a host on record nowhere is a warning, no more.
* A stream that ends is reported as gone *without* a goodbye, however it ended (grpc.aio's loop just ends on a lost
  connection); only a Goodbye message is one.
* Keepalive 2 s / 1 s finds a cut link in about 1.6 s. Agents ping as often, and are not punished for it.
* Certificates are read at every handshake: a renewed file is used from the next stream on, without a restart.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden.v1 import agent_link_pb2_grpc as rpc
from poolwarden_collector.core.model.events import HostElsewhere, HostRefused
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.agents.messages import orders
from poolwarden_collector.shell.agents.messages.bounds import Implausible, admit
from poolwarden_collector.shell.agents.sessions import Session, Sessions
from poolwarden_collector.shell.agents.stream import StreamState

if TYPE_CHECKING:
    from pathlib import Path

    from poolwarden_collector.shell.agents.roster import Roster
    from poolwarden_collector.shell.config.config import Tls
    from poolwarden_collector.shell.queue.inbox import Inbox
    from poolwarden_collector.shell.store.telemetry import Telemetry

HELLO_WITHIN_S = 5.0
STOPPING = "the collector stops"
MESSAGE_LIMIT = 8 * 1024 * 1024
_HOST_URI = "poolwarden://host/"
_STOP_GRACE_S = 1.0

OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)

_log = logging.getLogger(__name__)


class Refused(Exception):
    """This stream may not go on: a gRPC status and one sentence."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Gateway(rpc.AgentLinkServicer):
    """Serves ``AgentLink`` on ``listen``; events go to ``inbox``."""

    def __init__(self, roster: Roster, inbox: Inbox, sessions: Sessions, telemetry: Telemetry | None = None) -> None:
        self._telemetry = telemetry
        self._roster = roster
        self._inbox = inbox
        self._sessions = sessions
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self, listen: str, tls: Tls) -> None:
        """Begin to accept agents. Raises OSError where the address cannot be used or the certificate does not fit."""
        server = grpc.aio.server(options=OPTIONS)
        rpc.add_AgentLinkServicer_to_server(self, server)
        try:
            self.port = server.add_secure_port(listen, credentials(tls))
        except RuntimeError as error:
            raise OSError(f"{listen}: cannot be listened on ({error})") from error
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Stop accepting, end every stream."""
        self._sessions.close_all(STOPPING)
        if self._server is not None:
            await self._server.stop(_STOP_GRACE_S)

    async def Attach(self, request_iterator: object, context: Any) -> None:  # noqa: N802  (the contract's name)
        """One agent's stream from Hello to its end."""
        try:
            session = await self._admit(context)
        except Refused as refusal:
            await context.abort(refusal.code, refusal.text)
            return
        reader = asyncio.ensure_future(self._read(session, context))
        try:
            while (message := await session.next()) is not None:
                await context.write(message)
        finally:
            reader.cancel()
            self._sessions.remove(session)
            self._inbox.post(session.pool, session.state.ended())
        if session.closing:
            if session.closing != STOPPING:
                _log.info("stream %d of host %s ends: %s", session.state.stream, session.host, session.closing)
            code = grpc.StatusCode.INVALID_ARGUMENT if session.implausible else grpc.StatusCode.ABORTED
            await context.abort(code, session.closing)

    async def _admit(self, context: Any) -> Session:
        """Hear the Hello, hold it against the certificate and the record, answer Welcome."""
        proven = certified_host(context.auth_context())
        message = await self._first(context)
        claimed = message.hello.host_uuid
        if not proven or proven != claimed:
            text = (
                f"{context.peer()} has the certificate of host {proven or 'nobody'} and says that it is host {claimed}"
            )
            self._alarm(text)
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, f"{text}: an agent speaks for its own host alone")
        pool = self._pool(message.hello)
        self._hold_to_bounds(message, pool)
        policy = self._roster.config.policy_of(pool)
        limits = partial(self._roster.limits, pool)
        state = StreamState(self._sessions.next_number(), pool, policy.probe_timeout, limits)
        session = Session(proven, pool, state)
        session.send(orders.welcome(self._roster.epoch, policy, self._roster.config.name))
        # The events of this stream come after its predecessor's, and its orders only after its Welcome.
        self._sessions.add(session)
        self._take(session, message)
        hello = message.hello
        _log.info("stream %d: host %s (%s), agent %s", state.stream, proven, hello.host_name, hello.agent_version)
        return session

    def _hold_to_bounds(self, message: pb.AgentMessage, pool: PoolId) -> None:
        try:
            admit(message, partial(self._roster.limits, pool))
        except Implausible as refusal:
            host = message.hello.host_uuid
            self._alarm(f"host {host} ({message.hello.host_name}): {refusal}")
            if on_record := self._roster.pool_of(host):
                self._inbox.post(on_record, HostRefused(host, str(refusal)))
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"refused: {refusal}") from refusal

    async def _first(self, context: Any) -> pb.AgentMessage:
        try:
            message = await asyncio.wait_for(context.read(), HELLO_WITHIN_S)
        except TimeoutError:
            raise Refused(grpc.StatusCode.DEADLINE_EXCEEDED, f"no Hello within {HELLO_WITHIN_S:.0f} s") from None
        if message is grpc.aio.EOF or message.WhichOneof("body") != "hello":
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be Hello")
        return message  # type: ignore[no-any-return]

    def _pool(self, hello: pb.Hello) -> PoolId:
        """The pool that this host belongs to: as it says itself, else as it is on record."""
        on_record = self._roster.pool_of(hello.host_uuid)
        pool = hello.pool_uuid or on_record
        if not pool:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "the pool's UUID is not known: has xapi ever run there?")
        if not _is_uuid(pool):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"{pool[:64]!r} is no UUID of a pool")
        if on_record and on_record != pool:
            text = (
                f"host {hello.host_uuid} ({hello.host_name}) is of pool {on_record} and now says that it is of {pool}"
            )
            self._alarm(text)
            self._inbox.post(on_record, HostElsewhere(hello.host_uuid, hello.host_name, pool))
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"{text}: one of them is wrong")
        return pool

    async def _read(self, session: Session, context: Any) -> None:
        try:
            while True:
                message = await context.read()
                if message is grpc.aio.EOF:
                    break
                if message.WhichOneof("body") == "hello":
                    session.close("a second Hello on the same stream")
                    return
                self._take(session, message)
        except asyncio.CancelledError:
            raise
        except Implausible as refusal:
            self._alarm(f"host {session.host}: {refusal}", f"host {session.host} tells what cannot be")
            self._inbox.post(session.pool, HostRefused(session.host, str(refusal)))
            session.implausible = True
            session.close(f"refused: {refusal}")
        except Exception as error:
            _log.info("stream %d of host %s broke: %s", session.state.stream, session.host, error)
        session.close("")

    def _take(self, session: Session, message: pb.AgentMessage) -> None:
        for event in session.state.on_message(message, self._roster.now(), clock.wall_ms()):
            if not self._inbox.post(session.pool, event):
                session.close("it sends more than is taken: too much of it waits already")
        if self._telemetry is not None and message.WhichOneof("body") == "late":
            # safety: history goes to the telemetry store alone; nothing of it ever becomes an event of the core.
            self._telemetry.late(session.pool, session.host, message.late)
        for reply in session.state.take_replies():
            session.send(reply)

    def _alarm(self, text: str, about: str = "") -> None:
        _log.warning("refused: %s", text)
        self._roster.warn(f"refused: {text}", about)


def certified_host(auth_context: dict[str, Any]) -> HostId:
    """The host named by the peer's certificate; empty if it names none, or more than one."""
    names = {
        name.decode("utf-8", "replace").removeprefix("URI:")
        for key in ("peer_uri", "x509_uri_subject_alternative_name", "x509_subject_alternative_name")
        for name in auth_context.get(key, ())
    }
    hosts = [name.removeprefix(_HOST_URI) for name in names if name.startswith(_HOST_URI)]
    return hosts[0] if len(hosts) == 1 and _is_uuid(hosts[0]) else ""


def credentials(tls: Tls) -> grpc.ServerCredentials:
    """Mutual TLS from files that may be renewed while the collector runs."""
    first = _configuration(tls)
    return grpc.dynamic_ssl_server_credentials(first, _renewal(tls), require_client_authentication=True)


def _renewal(tls: Tls) -> Callable[[], Any]:
    seen = _stamps(tls)

    def fetch() -> Any:
        nonlocal seen
        try:
            stamps = _stamps(tls)
            if stamps == seen:
                return None
            fresh = _configuration(tls)
        except OSError as error:
            _log.warning("certificates cannot be read again (%s): the ones in use stay", error)
            return None
        seen = stamps
        _log.info("certificates were renewed")
        return fresh

    return fetch


def _stamps(tls: Tls) -> tuple[int, ...]:
    return tuple(path.stat().st_mtime_ns for path in (tls.ca, tls.cert, tls.key))


def _configuration(tls: Tls) -> Any:
    pair = (_read(tls.key), _read(tls.cert))
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=_read(tls.ca))


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
