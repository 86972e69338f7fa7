"""The operator's side of enrolment: tokens, keys that wait for a person, certificates that nobody may use any more.

Rules
-----
* Who asks is what the request says on the socket, and the certificate's name on an address (tls.py), as for commands.
* What cannot be is an answer with a sentence; a name that names nothing is a mistake, as everywhere.
* Any of several collectors is asked: a name is looked up at all of them, as for commands (several.py).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from poolwarden.v1 import enrolment_pb2 as pb
from poolwarden.v1 import enrolment_pb2_grpc as rpc
from poolwarden.v1 import operator_pb2
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell.enrolment.authority import CannotSign, fingerprint
from poolwarden_collector.shell.enrolment.decisions import By, Mistake, serial_from
from poolwarden_collector.shell.enrolment.enrolment import machine_of
from poolwarden_collector.shell.enrolment.identity import is_uuid
from poolwarden_collector.shell.operators.access import Denied
from poolwarden_collector.shell.operators.names import Ambiguous, Names, Unknown
from poolwarden_collector.shell.operators.wrong import Wrong
from poolwarden_collector.shell.store.enrolment_tables import HostKey, Token
from poolwarden_collector.shell.store.journal import JournalError

if TYPE_CHECKING:
    from poolwarden_collector.shell.agents.roster import Roster
    from poolwarden_collector.shell.config.enrolment import EnrolmentSettings
    from poolwarden_collector.shell.enrolment.assembly import Enrolments
    from poolwarden_collector.shell.enrolment.authority import Authority as SigningAuthority
    from poolwarden_collector.shell.operators.several import Several

_REASON = 2_000
_SERIAL = 16  # hex digits: so many are no host's name
_Q = TypeVar("_Q")
_A = TypeVar("_A")
_CODES: dict[type[Exception], grpc.StatusCode] = {
    Unknown: grpc.StatusCode.NOT_FOUND,
    Ambiguous: grpc.StatusCode.FAILED_PRECONDITION,
    CannotSign: grpc.StatusCode.FAILED_PRECONDITION,
    Mistake: grpc.StatusCode.INVALID_ARGUMENT,
    Denied: grpc.StatusCode.PERMISSION_DENIED,
    JournalError: grpc.StatusCode.INTERNAL,
}


def _answered(method: Callable[[Any, _Q], Awaitable[_A]]) -> Callable[[Any, _Q, Any], Awaitable[_A]]:
    """A method of the contract from one that answers or raises a mistake."""

    @functools.wraps(method)
    async def call(self: Any, request: _Q, context: Any) -> _A:
        try:
            return await method(self, request)
        except Wrong as error:
            await context.abort(error.code, str(error))
        except tuple(_CODES) as error:
            code = next(code for kind, code in _CODES.items() if isinstance(error, kind))
            step = f"\n\n{error.next_step}" if isinstance(error, Mistake) and error.next_step else ""
            await context.abort(code, f"{error}{step}")
        raise AssertionError("grpc's abort does not return")

    return call


class EnrolmentsApi(rpc.EnrolmentsServicer):
    """Serves ``Enrolments``."""

    def __init__(self, enrolments: Enrolments, roster: Roster) -> None:
        self.of = enrolments
        self._decisions = enrolments.decisions
        self._roster = roster
        self._several: Several | None = None  # None: this collector is alone

    def join(self, several: Several) -> None:
        """Be one of several collectors, which have pools and hosts of names that this one does not know."""
        self._several = several

    def _set_up(self) -> tuple[EnrolmentSettings, SigningAuthority]:
        settings, authority = self._roster.config.enrolment, self.of.authority
        if settings is None or authority is None:
            step = "on its machine: poolwarden-collector enrolment init DIR ADDRESS; docs/enrolment.md has the rest"
            raise Mistake("no host can enrol at this collector: its configuration has no [enrolment]", step)
        return settings, authority

    @_answered
    async def Authority(self, request: pb.AuthorityRequest) -> pb.AuthorityReply:  # noqa: N802
        settings, authority = self._set_up()
        root = await asyncio.to_thread(authority.root)
        mode = self._roster.config.policy_of(PoolId(await self._pool(request.pool))).mode
        return pb.AuthorityReply(ca_fingerprint=fingerprint(root), address=settings.enrol_at, mode=mode)

    @_answered
    async def CreateToken(self, request: pb.CreateTokenRequest) -> pb.CreateTokenReply:  # noqa: N802
        settings, authority = self._set_up()
        by, host = _by(request), request.host_uuid.strip()
        host = (await self._host(host))[0] if host else ""
        root = await asyncio.to_thread(authority.root)
        pool, asked = await self._pool(request.pool), (request.ttl_s, request.uses)
        token, text = await self._decisions.create_token(by, pool, *asked, host)
        return pb.CreateTokenReply(
            token=text,
            id=token.id,
            ca_fingerprint=fingerprint(root),
            address=settings.enrol_at,
            expires_wall_ms=token.expires_ms,
        )

    @_answered
    async def ListTokens(self, request: pb.ListTokensRequest) -> pb.ListTokensReply:  # noqa: N802
        pool = await self._pool(request.pool) if request.pool else ""
        return pb.ListTokensReply(tokens=[_token(*each) for each in self._decisions.tokens(pool)])

    @_answered
    async def RevokeToken(self, request: pb.RevokeTokenRequest) -> pb.EnrolmentReply:  # noqa: N802
        return await _said(self._decisions.revoke_token(_by(request), request.id.strip()))

    @_answered
    async def ListKeys(self, request: pb.ListKeysRequest) -> pb.ListKeysReply:  # noqa: N802
        pool = await self._pool(request.pool) if request.pool else ""
        return pb.ListKeysReply(keys=[self._key(key) for key in self._decisions.all_keys() if pool in ("", key.pool)])

    @_answered
    async def DecideKey(self, request: pb.DecideKeyRequest) -> pb.EnrolmentReply:  # noqa: N802
        return await _said(self._decisions.decide(_by(request), request.key_sha256, request.accept))

    @_answered
    async def DenyCertificate(self, request: pb.DenyCertificateRequest) -> pb.EnrolmentReply:  # noqa: N802
        by, given = _by(request), request.serial.strip()
        serial, host, owner = await self._denied(given)
        reply = await _said(self._decisions.deny(by, serial, host))
        if owner and owner != self._roster.config.name:
            # Of a certificate that was made by hand only its open stream tells, which is not here.
            reply.text += (
                f"; the host's stream is at collector {owner}: a certificate that no collector has made is denied by "
                "its serial number, or there"
            )
        return reply

    async def _denied(self, given: str) -> tuple[str, HostId, str]:
        """What is meant: a certificate's serial number, or a host, and whose it is (empty: not known)."""
        try:
            return ("", *await self._host(given))
        except Unknown:
            return given, "", ""
        except Wrong:
            # safety: a collector that is away keeps nobody from denying what cannot be a host's name.
            if len(serial_from(given)) < _SERIAL:
                raise
            return given, "", ""

    def _names(self) -> Names:
        return Names(self._roster.pools, {pool: special.name for pool, special in self._roster.config.pools.items()})

    async def _pool(self, text: str) -> str:
        """A pool of which no agent has come yet is named by its UUID. Raises Unknown, Ambiguous, Wrong."""
        if is_uuid(text):
            return text
        if self._several is None:
            return self._names().pool(text)
        _, place = await self._several.place(operator_pb2.CommandRequest(dry_run=operator_pb2.DryRun(pool=text)))
        return place.pool_uuid

    async def _host(self, text: str) -> tuple[HostId, str]:
        """A host's UUID, and which collector has its pool. Raises Unknown, Ambiguous, Wrong."""
        if self._several is None:
            return (text if is_uuid(text) else self._names().host(text)[1]), ""
        asked = operator_pb2.CommandRequest(host_why=operator_pb2.HostWhy(host=text))
        try:
            owner, place = await self._several.place(asked)
        except (Unknown, Wrong):
            if not is_uuid(text):
                raise
            return text, ""
        return place.host_uuid, owner

    def _key(self, key: HostKey) -> pb.HostKey:
        made = self.of.registry.ledger.newest(key.key)
        return pb.HostKey(
            pool=key.pool,
            host_uuid=key.host,
            host_name=key.host_name,
            key_sha256=key.key,
            serial=made.serial if made is not None else "",
            state=key.state,
            machine=machine_of(key),
            since_wall_ms=key.since_ms,
            expires_wall_ms=made.expires_ms if made is not None else 0,
            text=key.text,
        )


def _token(token: Token, state: str) -> pb.Token:
    return pb.Token(
        id=token.id,
        pool=token.pool,
        host_uuid=token.host,
        uses=token.uses,
        used=token.used,
        created_wall_ms=token.created_ms,
        expires_wall_ms=token.expires_ms,
        actor=token.actor,
        state=state,
    )


async def _said(asked: Awaitable[str]) -> pb.EnrolmentReply:
    """What was done, or why not."""
    try:
        return pb.EnrolmentReply(accepted=True, text=await asked)
    except Mistake as error:
        return pb.EnrolmentReply(accepted=False, text=str(error), next_step=error.next_step)


def _by(request: Any) -> By:
    actor, reason = request.actor.strip(), request.reason.strip()
    if not actor:
        raise Mistake("the actor is missing: who asks for this?", "the command line gives the login name")
    if len(reason) > _REASON:
        raise Mistake(f"the reason has {len(reason)} characters, at most {_REASON} are kept", "a shorter --reason")
    return By(actor, reason)
