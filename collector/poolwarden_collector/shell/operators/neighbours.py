"""What the operators' interface of one of several collectors needs of the others: who they are, and how they are asked.

``Neighbours`` is what whoever puts a collector together gives; ``Links`` asks another collector over its operators'
address with this collector's own certificate, which is therefore a client's as well (config/certificates.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import grpc
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.shell.cluster.assignment import Overview
from poolwarden_collector.shell.cluster.etcd import EtcdError, Health
from poolwarden_collector.shell.cluster.membership import Member, Right
from poolwarden_collector.shell.config import certificates

if TYPE_CHECKING:
    from poolwarden_collector.shell.config.config import Tls

SERVERS_ALONE = "is a certificate for servers alone: issue it anew by poolwarden-collector issue-collector"
ANSWER_BYTES = 64 * 1024 * 1024
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", ANSWER_BYTES),
    ("grpc.ssl_target_name_override", certificates.COLLECTOR_DNS),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class Neighbours(Protocol):
    """The collectors on one etcd, as this one knows them."""

    me: str

    def overview(self) -> Overview | None:
        """The newest look at members, owners and advice; None: there was none yet."""

    def looked_age_ms(self) -> Ms:
        """How old that look is."""

    def told_age_ms(self, collector: str) -> Ms:
        """How old what stands in etcd of another one is, as far as can be said: since its last sign there."""

    async def look(self) -> Overview:
        """A new look. Raises EtcdError."""

    def assigner(self) -> str:
        """Who writes the advice, as far as this one knows; empty: nobody, or it is not known."""

    def right(self) -> Right:
        """May this collector act now?"""

    def right_left_ms(self) -> Ms:
        """Until that right ends, unless its lease is renewed."""

    def agents(self) -> int:
        """Whose streams end here."""

    def why_stays(self, pool: PoolId) -> str:
        """Why this pool, which is its own, is not given up by choice; empty: nothing stands against it."""

    async def give(self, pool: PoolId, to: str) -> str:
        """Give a pool of its own up to this member; why that was not done, empty: it is done."""

    def drain(self, leaving: bool) -> None:
        """Give every pool up and take none; False: take pools again."""

    async def health(self) -> list[Health | EtcdError]:
        """Each endpoint of etcd by itself."""


class NotAnswered(Exception):
    """Another collector has not given its part; ``code`` is gRPC's, the text one sentence."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Part:
    """What one collector has answered; ``reply`` is None where it has not, for the reason ``why_not``."""

    collector: str
    reply: Any = None
    code: grpc.StatusCode = grpc.StatusCode.OK
    why_not: str = ""


class Ask(Protocol):
    """Somebody who asks another collector: ``Links`` does, and tests."""

    def ask(
        self, member: Member, method: str, request: Any, metadata: tuple[tuple[str, bytes], ...], limit_s: float
    ) -> Awaitable[Any]:
        """The reply to a method of the contract. Raises NotAnswered."""

    def stream(
        self, member: Member, method: str, request: Any, metadata: tuple[tuple[str, bytes], ...]
    ) -> AsyncGenerator[Any, None]:
        """The replies to a method that gives several. Raises NotAnswered."""

    async def close(self) -> None:
        """Ask nobody any more."""


class Links:
    """One connection to each of the others, with this collector's certificate as it is when it is opened."""

    def __init__(self, tls: Callable[[], Tls]) -> None:
        self._tls = tls  # as the configuration names them now
        self._stubs: dict[tuple[str, int], tuple[grpc.aio.Channel, Any]] = {}

    async def ask(
        self, member: Member, method: str, request: Any, metadata: tuple[tuple[str, bytes], ...], limit_s: float
    ) -> Any:
        """Raises NotAnswered."""
        stub = self._stub(member)
        try:
            return await getattr(stub, method)(request, timeout=limit_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise _not_answered(member, error, limit_s) from None

    async def stream(
        self, member: Member, method: str, request: Any, metadata: tuple[tuple[str, bytes], ...]
    ) -> AsyncGenerator[Any, None]:
        """Raises NotAnswered."""
        call = getattr(self._stub(member), method)(request, metadata=metadata)
        try:
            async for reply in call:
                yield reply
        except grpc.aio.AioRpcError as error:
            raise _not_answered(member, error, 0) from None
        finally:
            call.cancel()

    async def close(self) -> None:
        """End every connection."""
        stubs, self._stubs = self._stubs, {}
        await asyncio.gather(*(channel.close() for channel, _ in stubs.values()))

    def _stub(self, member: Member) -> Any:
        if not member.operators:
            why = f"collector {member.collector} is asked by no other: it has no operator_listen ([collector])"
            raise NotAnswered(grpc.StatusCode.UNAVAILABLE, why)
        at = member.operators, self._stamp()
        if at not in self._stubs:
            channel = grpc.aio.secure_channel(member.operators, self._credentials(), _OPTIONS)
            self._stubs[at] = channel, rpc.OperatorStub(channel)
        return self._stubs[at][1]

    def _stamp(self) -> int:
        """Of the certificate as it is now: one that was renewed is used from then on."""
        try:
            return self._tls().cert.stat().st_mtime_ns
        except OSError:
            return 0

    def _credentials(self) -> grpc.ChannelCredentials:
        """Raises NotAnswered."""
        tls = self._tls()
        files = (tls.ca, tls.key, tls.cert)
        try:
            ca, key, cert = (file.read_bytes() for file in files)
        except OSError as error:
            why = f"the asking collector's certificate cannot be read: {error.filename}: {error.strerror}"
            raise NotAnswered(grpc.StatusCode.FAILED_PRECONDITION, why) from error
        if _for_servers_alone(cert):
            # The other end would end the handshake without a word.
            raise NotAnswered(grpc.StatusCode.FAILED_PRECONDITION, f"{tls.cert} {SERVERS_ALONE}")
        return grpc.ssl_channel_credentials(ca, key, cert)


def _for_servers_alone(certificate: bytes) -> bool:
    """Was it issued before a collector asked others?"""
    try:
        usage = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (ValueError, x509.ExtensionNotFound):
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH not in usage.value


def _not_answered(member: Member, error: grpc.aio.AioRpcError, limit_s: float) -> NotAnswered:
    code, details = error.code(), " ".join(str(error.details() or "").split())
    if code is grpc.StatusCode.UNAVAILABLE:
        return NotAnswered(code, f"nobody answers at {member.operators}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return NotAnswered(code, f"no answer from {member.operators} within {limit_s:g} s")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return NotAnswered(code, "it does not know this question: it is of an older release")
    return NotAnswered(code, str(error.details() or code.name) if details else code.name)
