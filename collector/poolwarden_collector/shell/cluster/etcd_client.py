"""etcd over its own gRPC contract: mutual TLS, a user's token, several endpoints, a deadline for each request.

Rules
-----
* A request is sent once, to an endpoint whose connection stands. Before it is sent others are tried, so an endpoint
  that is gone costs time and nothing else; after it was sent a write is never sent again from here (``InDoubt``).
  A read is: it changes nothing.
* Which errors prove that nothing was done is a list of etcd's own words (api/v3rpc/rpctypes/error.go): they are said
  before anything is proposed to the members. Every other error of a write leaves it in doubt.
* A token that has ended is refused before anything is done: it is renewed and the request sent again.
* A connection reads the certificate's files when it is made: a renewed certificate is used from the next one on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from poolwarden_collector.shell.cluster import etcd
from poolwarden_collector.shell.cluster.etcd import Denied, EtcdError, InDoubt, LeaseGone, Request, Unavailable, Unfit
from poolwarden_collector.shell.cluster.etcd_access import Access
from poolwarden_collector.shell.cluster.etcd_api import etcd_pb2 as pb
from poolwarden_collector.shell.plain_text import printable

DEADLINE_S = 3.0  # of one request: longer than etcd needs for another leader (2.1 s measured)
CONNECT_S = 1.0  # for the connection to one endpoint
_RENEWALS = 2  # of a token, for one request
_OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 10_000),  # etcd ends a connection that pings more often than each 5 s
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)
_WHY_S = 0.1  # to be told why there is no connection
_OF_ANOTHER = "its certificate is not of the authority in [store] ca, or is not valid now"
# gRPC's words for that, by what they mean; what it does not say is that etcd wants another certificate of this client.
_NO_CONNECTION = {
    "certificate_verify_failed": _OF_ANOTHER,
    "bad_signature": _OF_ANOTHER,  # an authority that was made anew under its old name
    "hostname verification": "its certificate is for another name or address",
    "wrong_version_number": "it speaks no TLS: http, and not https, in [store] etcd",
    "connection refused": "it refuses the connection",
}
_Code = grpc.StatusCode
# etcd's words for what it has not begun, by which error each is.
_OLD_TOKEN = ("invalid auth token", "revision in header is old")
# "database space exceeded" is none of them: what fills the database is carried out and answered so all the same
# (server/etcdserver/apply: quotaApplierV3).
_NOT_BEGUN = ("too many requests",)
_DENIED = ("permission denied", "authentication failed", "user name is empty", "authentication is not enabled")
_UNFIT = ("request is too large", "too many operations", "duplicate key", "key is not provided")
_LEASE_GONE = "requested lease not found"
_DENYING = (_Code.PERMISSION_DENIED, _Code.UNAUTHENTICATED)


@dataclass(frozen=True, slots=True)
class _Call:
    """One request in etcd's shape. ``writes``: can it change anything?"""

    path: str
    message: Any
    answer: type
    read: Callable[[Any], Any]
    writes: bool
    streams: bool = False


def _as_it_is(answer: Any) -> Any:
    return answer


_STATUS = _Call("/etcdserverpb.Maintenance/Status", pb.StatusRequest(), pb.StatusResponse, _as_it_is, writes=False)


class EtcdClient:
    """One collector's way to etcd, for any number of requests at once. ``close`` it."""

    def __init__(self, access: Access, deadline_s: float = DEADLINE_S, connect_s: float = CONNECT_S) -> None:
        self._access = access
        self._deadline, self._connect = deadline_s, connect_s
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._at = 0
        self._token = ""
        self._signing_in = asyncio.Lock()
        self._closed = False
        self._on_answer: Callable[[float, bool], None] = lambda _seconds, _answered: None

    async def close(self) -> None:
        """Close every connection; what is under way is in doubt, and nothing is begun any more."""
        self._closed = True
        channels = [*self._channels.values()]
        self._channels.clear()
        await asyncio.gather(*(channel.close() for channel in channels), *self._closing)

    def on_answer(self, asked: Callable[[float, bool], None]) -> None:
        """Whom to tell how long each request took, s, and whether it was answered."""
        self._on_answer = asked

    async def ask(self, request: Request) -> Any:
        """The answer, within the deadline. Raises EtcdError."""
        began, answered = self._now(), False
        try:
            answer = await self._answer(request, began)
            answered = True
            return answer
        finally:
            self._on_answer(self._now() - began, answered)

    async def _answer(self, request: Request, began: float) -> Any:
        try:
            return await self._ask(_call_of(request), began + self._deadline)
        except LeaseGone:
            if isinstance(request, etcd.Revoke):
                return etcd.Gone()
            raise

    async def health(self) -> list[etcd.Health | EtcdError]:
        """Each endpoint by itself, in their order."""
        return list(await asyncio.gather(*(self._health(index) for index in range(len(self._access.endpoints)))))

    async def members(self) -> list[etcd.EtcdMember]:
        """All members that etcd has, in use here or not. Raises EtcdError."""
        path = "/etcdserverpb.Cluster/MemberList"
        call = _Call(path, pb.MemberListRequest(), pb.MemberListResponse, _as_it_is, writes=False)
        said = await self._ask(call, self._now() + self._deadline)
        return [etcd.EtcdMember(printable(each.name), tuple(map(printable, each.clientURLs))) for each in said.members]

    # -------------------------------------------------------------------------------------------- one request

    async def _ask(self, call: _Call, end: float) -> Any:
        renewals = 0
        while True:
            index = await self._standing(end)
            token = self._token or await self._sign_in(index, end, "")
            # A read that one member does not answer in time is asked of the next one.
            left = end - self._now()
            limit = left if call.writes or len(self._access.endpoints) == 1 else max(left / 2, 0.1)
            try:
                return call.read(await self._send(index, call, limit, token))
            except grpc.aio.AioRpcError as failed:
                error = _error_of(failed, call)
                cause: BaseException = failed
            except InDoubt as doubt:
                error, cause = doubt, doubt.__cause__ or doubt
            if error is None:
                renewals += 1
                if not self._access.user or renewals > _RENEWALS:
                    raise Denied(_words(cause)) from cause
                await self._sign_in(index, end, token)
                continue
            if not isinstance(error, InDoubt | Unavailable):
                raise error from cause
            self._leave(index)
            # safety: a write is sent once; whether it was done is asked by whoever knows what it was.
            if call.writes or self._now() + 0.05 >= end:
                raise error from (cause if cause is not error else None)

    async def _send(self, index: int, call: _Call, limit: float, token: str) -> Any:
        """The answer. Raises AioRpcError, Unavailable, InDoubt."""
        task = asyncio.current_task()
        cancelled = task.cancelling() if task is not None else 0
        try:
            return await self._exchange(index, call, max(limit, 0.001), (("token", token),) if token else ())
        except grpc.aio.BaseError as error:
            raise InDoubt(f"its connection was closed: {_words(error)}") from error
        except asyncio.CancelledError:
            if task is None or task.cancelling() > cancelled:
                raise  # whoever asked goes away himself
            raise InDoubt("its connection was closed before the answer came") from None

    async def _exchange(self, index: int, call: _Call, limit: float, metadata: tuple[tuple[str, str], ...]) -> Any:
        channel = self._channel(index)
        write, read = type(call.message).SerializeToString, call.answer.FromString  # type: ignore[attr-defined]
        if not call.streams:
            send = channel.unary_unary(call.path, write, read)
            return await send(call.message, timeout=limit, metadata=metadata)
        stream = channel.stream_stream(call.path, write, read)(iter((call.message,)), timeout=limit, metadata=metadata)
        answer = await stream.read()
        stream.cancel()
        if answer is grpc.aio.EOF:
            raise InDoubt("etcd has ended the stream without an answer")
        return answer

    async def _sign_in(self, index: int, end: float, old: str) -> str:
        """The user's token, another one than ``old``; empty where there is no user. Raises Denied or Unavailable."""
        if not self._access.user:
            return ""
        async with self._signing_in:
            if self._token and self._token != old:
                return self._token
            message = pb.AuthenticateRequest(name=self._access.user, password=self._access.password)
            call = _Call("/etcdserverpb.Auth/Authenticate", message, pb.AuthenticateResponse, _as_it_is, writes=False)
            try:
                self._token = (await self._send(index, call, end - self._now(), "")).token
            except (grpc.aio.AioRpcError, InDoubt) as failed:
                error = _error_of(failed, call) if isinstance(failed, grpc.aio.AioRpcError) else failed
                if isinstance(error, Denied):
                    raise error from failed
                self._leave(index)
                raise Unavailable(f"no token could be had of etcd: {_words(failed)}") from failed
            return self._token

    # -------------------------------------------------------------------------------------------- connections

    async def _standing(self, end: float) -> int:
        """The number of an endpoint whose connection stands. Raises Unavailable."""
        count, why = len(self._access.endpoints), ""
        while True:
            for _ in range(count):
                index, left = self._at % count, end - self._now()
                if left <= 0:
                    break
                try:
                    await asyncio.wait_for(self._channel(index).channel_ready(), min(self._connect, left))
                    return index
                except (TimeoutError, grpc.aio.BaseError):
                    why = await self._why_not(index)
                    self._leave(index)
            if self._now() >= end:
                last = f" (the last one: {why})" if why else ""
                raise Unavailable(f"none of {count} endpoints of etcd takes a connection{last}")

    async def _why_not(self, index: int) -> str:
        """Why the connection to an endpoint does not stand, as far as gRPC says it; empty: it does not."""
        try:
            await self._exchange(index, _STATUS, _WHY_S, ())
        except grpc.aio.AioRpcError as error:
            said = error.details() or ""
            found = next((why for words, why in _NO_CONNECTION.items() if words in said.lower()), "")
            return found or (printable(said)[:200] if error.code() is _Code.UNAVAILABLE else "")
        except (grpc.aio.BaseError, EtcdError):
            pass
        return ""

    def _channel(self, index: int) -> grpc.aio.Channel:
        if self._closed:
            raise Unavailable("this connection to etcd was closed")
        channel = self._channels.get(index)
        if channel is None:
            channel = self._channels[index] = self._open(self._access.endpoints[index])
        return channel

    def _open(self, endpoint: str) -> grpc.aio.Channel:
        scheme, _, address = endpoint.rstrip("/").partition("://")
        if scheme == "http":
            return grpc.aio.insecure_channel(address, options=_OPTIONS)
        access = self._access
        try:
            ca, key, cert = (path.read_bytes() for path in (access.ca, access.key, access.cert) if path is not None)
        except OSError as error:
            raise Unavailable(f"{error.filename}: {error.strerror}") from error
        return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert), options=_OPTIONS)

    def _leave(self, index: int) -> None:
        """The next request goes elsewhere, and this endpoint gets another connection."""
        if self._at % len(self._access.endpoints) == index:
            self._at += 1
        channel = self._channels.pop(index, None)
        if channel is not None:
            # What others have under way on it ends in its own time.
            task = asyncio.get_running_loop().create_task(channel.close(self._deadline + 1))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _health(self, index: int) -> etcd.Health | EtcdError:
        endpoint = self._access.endpoints[index]
        try:
            await asyncio.wait_for(self._channel(index).channel_ready(), self._connect)
        except EtcdError as error:
            return Unavailable(f"{endpoint}: {error}")
        except (TimeoutError, grpc.aio.BaseError):
            why = await self._why_not(index) or f"it takes no connection within {self._connect:g} s"
            return Unavailable(f"{endpoint}: {why}")
        try:
            said = await self._send(index, _STATUS, self._deadline, "")
        except grpc.aio.AioRpcError as error:
            silent = error.code() is _Code.DEADLINE_EXCEEDED
            words = f"no answer within {self._deadline:g} s" if silent else _words(error)
            return Unavailable(f"{endpoint}: {words}")
        except (grpc.aio.BaseError, TimeoutError, EtcdError) as error:
            return Unavailable(f"{endpoint}: {_words(error)}")
        return etcd.Health(
            endpoint,
            said.header.member_id,
            said.leader,
            said.version,
            said.dbSize,
            tuple(map(printable, said.errors)),
            said.dbSizeInUse,
        )

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


# ------------------------------------------------------------------------------------------------ errors


def _error_of(failed: grpc.aio.AioRpcError, call: _Call) -> EtcdError | None:
    """What the error proves; None: the token has ended, and nothing was done."""
    text, words = _words(failed), (failed.details() or "")[:500]
    if any(said in words for said in _OLD_TOKEN):
        return None
    if failed.code() in _DENYING or any(said in words for said in _DENIED):
        return Denied(text)
    if any(said in words for said in _UNFIT):
        return Unfit(text)
    if _LEASE_GONE in words:
        return LeaseGone(text)
    if any(said in words for said in _NOT_BEGUN):
        return Unavailable(text)
    if failed.code() is _Code.UNIMPLEMENTED:
        return Unfit(text)
    # safety: UNKNOWN, UNAVAILABLE, DEADLINE_EXCEEDED and whatever else: a write may have been done, or be done yet.
    return InDoubt(text)


def _words(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return printable(f"{error.code().name}: {error.details()}")[:300]
    return printable(str(error))[:300] or type(error).__name__


# ------------------------------------------------------------------------------------------------ shapes


def _call_of(request: Request) -> _Call:
    """The request in etcd's shape. Raises Unfit for one that no etcd would take."""
    match request:
        case etcd.Txn():
            return _Call("/etcdserverpb.KV/Txn", _txn(request), pb.TxnResponse, _txn_done, writes=True)
        case etcd.Get():
            return _Call("/etcdserverpb.KV/Range", _range(request), pb.RangeResponse, _found, writes=False)
        case etcd.Grant():
            asked: Any = pb.LeaseGrantRequest(TTL=request.ttl_s)
            return _Call("/etcdserverpb.Lease/LeaseGrant", asked, pb.LeaseGrantResponse, _granted, writes=True)
        case etcd.Revoke():
            asked = pb.LeaseRevokeRequest(ID=request.lease)
            return _Call("/etcdserverpb.Lease/LeaseRevoke", asked, pb.LeaseRevokeResponse, _gone, writes=True)
        case etcd.KeepAlive():
            asked = pb.LeaseKeepAliveRequest(ID=request.lease)
            path = "/etcdserverpb.Lease/LeaseKeepAlive"
            return _Call(path, asked, pb.LeaseKeepAliveResponse, _alive, writes=False, streams=True)


def _txn(request: etcd.Txn) -> pb.TxnRequest:
    why = etcd.unfit(request)
    if why:
        raise Unfit(why)
    return pb.TxnRequest(
        compare=[_compare(each) for each in request.compare],
        success=[_op(each) for each in request.success],
        failure=[_op(each) for each in request.failure],
    )


def _compare(compare: etcd.Compare) -> pb.Compare:
    key = compare.key.encode()
    match compare:
        case etcd.Created(revision=revision):
            return pb.Compare(target=pb.Compare.CREATE, key=key, create_revision=revision)
        case etcd.Unchanged(revision=revision):
            return pb.Compare(target=pb.Compare.MOD, key=key, mod_revision=revision)
        case etcd.Holds(value=value):
            return pb.Compare(target=pb.Compare.VALUE, key=key, value=value)
    return pb.Compare(result=pb.Compare.GREATER, target=pb.Compare.CREATE, key=key, create_revision=0)


def _op(op: etcd.Op) -> pb.RequestOp:
    match op:
        case etcd.Put():
            return pb.RequestOp(request_put=pb.PutRequest(key=op.key.encode(), value=op.value, lease=op.lease))
        case etcd.Delete():
            gone = pb.DeleteRangeRequest(key=op.key.encode(), range_end=op.end.encode(), prev_kv=True)
            return pb.RequestOp(request_delete_range=gone)
    return pb.RequestOp(request_range=_range(op))


def _range(get: etcd.Get) -> pb.RangeRequest:
    key, end = get.key.encode(), get.end.encode()
    return pb.RangeRequest(key=key, range_end=end, limit=get.limit, revision=get.revision)


def _kept(said: Any) -> tuple[etcd.Kept, ...]:
    return tuple(
        etcd.Kept(each.key.decode(), each.value, each.create_revision, each.mod_revision, each.lease) for each in said
    )


def _found(said: Any) -> etcd.Found:
    return etcd.Found(_kept(said.kvs), said.header.revision, said.more, said.header.raft_term)


def _txn_done(said: Any) -> etcd.TxnDone:
    return etcd.TxnDone(said.succeeded, said.header.revision, tuple(_of_op(each) for each in said.responses))


def _of_op(said: Any) -> etcd.Found:
    which = said.WhichOneof("response")
    if which == "response_range":
        kept, more, header = said.response_range.kvs, said.response_range.more, said.response_range.header
    elif which == "response_delete_range":
        kept, more, header = said.response_delete_range.prev_kvs, False, said.response_delete_range.header
    else:
        kept, more, header = (), False, said.response_put.header
    return etcd.Found(_kept(kept), header.revision, more)


def _granted(said: Any) -> etcd.Granted:
    return etcd.Granted(said.ID, said.TTL)


def _alive(said: Any) -> etcd.Alive:
    return etcd.Alive(said.TTL, said.header.raft_term)


def _gone(_: Any) -> etcd.Gone:
    return etcd.Gone()
