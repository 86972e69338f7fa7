"""How etcd is reached: mutual TLS, a user's token and its renewal, endpoints that are gone."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor

from poolwarden_collector.shell.cluster.etcd import (
    Denied,
    Get,
    Grant,
    InDoubt,
    KeepAlive,
    LeaseGone,
    Put,
    Txn,
    Unavailable,
    Unfit,
)
from poolwarden_collector.shell.cluster.etcd_access import Access, BadEndpoint
from poolwarden_collector.shell.cluster.etcd_api import etcd_pb2
from poolwarden_collector.shell.cluster.etcd_client import EtcdClient

from . import authority
from .clusters import RealCluster

HERE = Path("here.pem")


@pytest.mark.parametrize(
    ("endpoints", "said"),
    [
        ((), "no endpoint"),
        (("etcd1:2379",), "expected https"),
        (("https://etcd1",), "expected https"),
        (("ftp://etcd1:2379",), "expected https"),
        (("https://etcd1:2379/v3",), "expected https"),
        (("http://192.0.2.1:2379",), "by https alone"),
        (("http://etcd.example:2379",), "by https alone"),
        (("https://etcd1:2379",), "needs the authority"),
    ],
)
def test_an_endpoint_that_will_not_do(endpoints: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadEndpoint, match=said):
        Access(endpoints)


def test_endpoints_that_will() -> None:
    Access(("http://127.0.0.1:2379", "http://[::1]:2379", "http://localhost:2379/"))
    Access(("https://etcd1.example:2379", "https://[2001:db8::1]:2379"), HERE, HERE, HERE)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_nobody_listens() -> None:
    client = EtcdClient(Access(("http://127.0.0.1:9", "http://127.0.0.1:1")), deadline_s=0.3, connect_s=0.1)
    try:
        for request in (Get("k"), Txn((), (Put("k", b""),)), Grant(5), KeepAlive(1)):
            with pytest.raises(Unavailable):
                await client.ask(request)
        said = [str(each) for each in await client.health()]
        assert said == [f"http://127.0.0.1:{port}: it refuses the connection" for port in (9, 1)]
    finally:
        await client.close()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_is_wrong_with_a_certificate_is_said(tmp_path: Path) -> None:
    """Whoever sets it up is not to look for an etcd that does not run."""
    theirs, ours = authority.make(tmp_path / "theirs"), authority.make(tmp_path / "ours")
    server = grpc.aio.server()
    shows = [(theirs[2].read_bytes(), theirs[1].read_bytes())]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(shows))
    other = server.add_secure_port("127.0.0.2:0", grpc.ssl_server_credentials(shows))
    plain = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    cases = {
        f"https://127.0.0.1:{port}": (ours, "its certificate is not of the authority in [store] ca"),
        f"https://127.0.0.2:{other}": (theirs, "its certificate is for another name or address"),
        f"https://127.0.0.1:{plain}": (ours, "it speaks no TLS"),
    }
    try:
        for endpoint, (files, why) in cases.items():
            client = EtcdClient(Access((endpoint,), *files), deadline_s=0.6, connect_s=0.3)
            with pytest.raises(Unavailable) as refused:
                await client.ask(Get("k"))
            assert why in str(refused.value), str(refused.value)
            assert why in str((await client.health())[0])
            await client.close()
    finally:
        await server.stop(None)


@pytest.mark.asyncio
async def test_files_that_are_not_there(tmp_path: Path) -> None:
    gone = tmp_path / "gone.pem"
    client = EtcdClient(Access(("https://127.0.0.1:9",), gone, gone, gone), deadline_s=0.2)
    with pytest.raises(Unavailable, match="gone.pem"):
        await client.ask(Get("k"))
    assert isinstance((await client.health())[0], Unavailable)
    await client.close()


# ------------------------------------------------------------------------------------------------ a server that errs


class Server:
    """An etcd that answers every call as it is told: by an error, or never. It counts what it was asked."""

    def __init__(self, code: grpc.StatusCode | None = None, words: str = "") -> None:
        self.code, self.words, self.asked = code, words, 0
        self._server = grpc.aio.server()
        methods = {"Txn": self._answer, "Range": self._answer}
        handlers = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in methods.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("etcdserverpb.KV", handlers),))
        token = etcd_pb2.AuthenticateResponse(token="t").SerializeToString()
        auth = {"Authenticate": grpc.unary_unary_rpc_method_handler(lambda *_: token)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("etcdserverpb.Auth", auth),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    async def _answer(self, _: bytes, context: Any) -> bytes:
        self.asked += 1
        if self.code is None:
            await asyncio.sleep(3_600)
        await context.abort(self.code, self.words)
        return b""

    async def __aenter__(self) -> Server:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    def client(self, deadline_s: float = 20.0, count: int = 1) -> EtcdClient:
        return EtcdClient(Access((f"http://127.0.0.1:{self.port}",) * count), deadline_s)


WRITE, READ = Txn((), (Put("k", b""),)), Get("k")
PROVEN = {
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.UNAUTHENTICATED: Denied,
    grpc.StatusCode.UNIMPLEMENTED: Unfit,
}
WORDS = {
    "etcdserver: too many requests": Unavailable,
    "etcdserver: mvcc: database space exceeded": InDoubt,
    "etcdserver: permission denied": Denied,
    "etcdserver: authentication failed, invalid user ID or password": Denied,
    "etcdserver: user name is empty": Denied,
    "etcdserver: request is too large": Unfit,
    "etcdserver: too many operations in txn request": Unfit,
    "etcdserver: duplicate key given in txn request": Unfit,
    "etcdserver: requested lease not found": LeaseGone,
    "etcdserver: request timed out": InDoubt,
    "etcdserver: leader changed": InDoubt,
    "etcdserver: no leader": InDoubt,
    "context deadline exceeded": InDoubt,
    "": InDoubt,
}


@pytest.mark.asyncio
async def test_only_what_is_known_to_prove_it_proves_that_nothing_was_done() -> None:
    async with Server() as server:
        client = server.client()
        for code in set(grpc.StatusCode) - {grpc.StatusCode.OK}:
            server.code, server.words, before = code, "whatever", server.asked
            with pytest.raises(PROVEN.get(code, InDoubt)) as error:
                await client.ask(WRITE)
            assert type(error.value) is PROVEN.get(code, InDoubt), code
            assert server.asked == before + 1, "a write is sent once"
        for words, kind in WORDS.items():
            server.code, server.words, before = grpc.StatusCode.UNKNOWN, words, server.asked
            with pytest.raises(kind) as error:
                await client.ask(WRITE)
            assert type(error.value) is kind and server.asked == before + 1, words
        await client.close()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_read_is_asked_again_within_its_time() -> None:
    async with Server(grpc.StatusCode.UNAVAILABLE, "etcdserver: leader changed") as server:
        client = server.client(deadline_s=0.5, count=3)
        with pytest.raises((InDoubt, Unavailable)):
            await client.ask(READ)
        assert server.asked > 1
        await client.close()


@pytest.mark.asyncio
async def test_a_token_that_ends_again_and_again_is_a_refusal() -> None:
    async with Server(grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token") as server:
        without, with_one = server.client(), EtcdClient(Access((f"http://127.0.0.1:{server.port}",), user="u"), 20.0)
        for client, asked in ((without, 1), (with_one, 3)):
            before = server.asked
            with pytest.raises(Denied):
                await client.ask(WRITE)
            assert server.asked == before + asked
            await client.close()


@pytest.mark.asyncio
async def test_a_connection_that_is_closed_leaves_a_write_in_doubt_and_nobody_cancelled() -> None:
    async with Server() as server:
        client = server.client()
        asked = [asyncio.ensure_future(client.ask(WRITE)) for _ in range(3)]
        while server.asked < 3:
            await asyncio.sleep(0.01)
        asked[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked[0]
        await client.close()
        for each in asked[1:]:
            with pytest.raises(InDoubt):
                await each
        with pytest.raises(Unavailable):
            await client.ask(WRITE)


def test_the_messages_are_those_of_the_proto() -> None:
    """The committed Python was generated from the committed .proto: every message, field and number."""
    source = re.sub(r"//[^\n]*", "", (Path(etcd_pb2.__file__).parent / "etcd.proto").read_text())
    said = set(re.findall(r"(\w+) = (\d+);", source))
    described: set[tuple[str, str]] = set()
    assert sorted(re.findall(r"\bmessage (\w+)", source)) == sorted(etcd_pb2.DESCRIPTOR.message_types_by_name)
    for message in etcd_pb2.DESCRIPTOR.message_types_by_name.values():
        fields: list[FieldDescriptor] = list(message.fields)
        described |= {(field.name, str(field.number)) for field in fields}
        described |= {(value.name, str(value.number)) for enum in message.enum_types for value in enum.values}
    assert said == described


# ------------------------------------------------------------------------------------------------ real members


def _text(number: int, value: str | bytes) -> bytes:
    """One field of protobuf."""
    raw = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(raw)]) + raw


class Administrator:
    """Sets up etcd's users, as a person does with etcdctl."""

    def __init__(self, cluster: RealCluster) -> None:
        assert cluster.tls is not None
        ca, cert, key = (path.read_bytes() for path in cluster.tls)
        credentials = grpc.ssl_channel_credentials(ca, key, cert)
        self._channel = grpc.aio.secure_channel(cluster.endpoints[0].removeprefix("https://"), credentials)
        self._token = ""

    async def call(self, method: str, message: bytes = b"") -> bytes:
        metadata = (("token", self._token),) if self._token else ()
        answer: bytes = await self._channel.unary_unary(f"/etcdserverpb.Auth/{method}")(message, metadata=metadata)
        return answer

    async def sign_in(self) -> None:
        answer = await self.call("Authenticate", _text(1, "root") + _text(2, "r00t"))
        self._token = etcd_pb2.AuthenticateResponse.FromString(answer).token

    async def may(self, key: str, end: str) -> None:
        both = b"\x08\x02"  # READWRITE
        await self.call("RoleGrantPermission", _text(1, "collectors") + _text(2, both + _text(2, key) + _text(3, end)))

    async def users(self) -> None:
        await self.call("UserAdd", _text(1, "root") + _text(2, "r00t"))
        await self.call("RoleAdd", _text(1, "root"))
        await self.call("UserGrantRole", _text(1, "root") + _text(2, "root"))
        await self.call("RoleAdd", _text(1, "collectors"))
        await self.may("ours/", "ours0")
        await self.call("UserAdd", _text(1, "collector") + _text(2, "secret"))
        await self.call("UserGrantRole", _text(1, "collector") + _text(2, "collectors"))
        await self.call("AuthEnable")
        await self.sign_in()

    async def close(self) -> None:
        await self._channel.close()


@pytest.mark.slow
@pytest.mark.needs("etcd")
def test_mutual_tls_users_and_endpoints_that_are_gone(tmp_path: Path) -> None:
    asyncio.run(_tls(tmp_path))


async def _tls(folder: Path) -> None:
    cluster = RealCluster(folder, lambda: authority.make(folder / "tls"))
    administrator: Any = None
    try:
        await cluster.start()
        await _strangers(cluster, folder)
        administrator = Administrator(cluster)
        await administrator.users()
        await _users(cluster, administrator)
        await _endpoints(cluster)
    finally:
        if administrator is not None:
            await administrator.close()
        await cluster.close()


async def _strangers(cluster: RealCluster, folder: Path) -> None:
    """Neither a client of another authority gets in, nor does a server of another one get anything."""
    assert cluster.tls is not None
    ca, cert, key = cluster.tls
    other_ca, other_cert, other_key = authority.make(folder / "other")
    for files in ((ca, other_cert, other_key), (other_ca, cert, key)):
        stranger = EtcdClient(Access(cluster.endpoints, *files), deadline_s=1, connect_s=0.3)
        with pytest.raises(Unavailable):
            await stranger.ask(Txn((), (Put("ours/stranger", b""),)))
        await stranger.close()
    assert (await cluster.client("a").ask(Get("ours/stranger"))).one is None


async def _users(cluster: RealCluster, administrator: Administrator) -> None:
    for user, password in (("", ""), ("collector", "wrong"), ("nobody", "secret")):
        with pytest.raises(Denied):
            await cluster.client_of(cluster.access(user, password)).ask(Get("ours/k"))
    client = cluster.client_of(cluster.access("collector", "secret"))
    asked = [client.ask(Txn((), (Put(f"ours/{n}", b""),))) for n in range(8)]
    assert all(done.succeeded for done in await asyncio.gather(*asked))
    with pytest.raises(Denied):
        await client.ask(Txn((), (Put("ours/k", b""), Put("theirs/k", b""))))
    assert (await client.ask(Get("ours/k"))).one is None
    # A token from before a change of roles is refused, and so is one that etcd knows no more: either is renewed.
    await administrator.may("more/", "more0")
    granted = await client.ask(Grant(5))
    assert (await client.ask(Txn((), (Put("more/k", b"", granted.lease),)))).succeeded
    for request in (Txn((), (Put("ours/k", b""),)), Get("ours/k"), KeepAlive(granted.lease), Grant(5)):
        client._token = "of-another-life.1"
        await client.ask(request)
    assert all(not isinstance(each, Unavailable) for each in await client.health())


async def _endpoints(cluster: RealCluster) -> None:
    """The first endpoint dies: what is asked next is asked of another one."""
    client = cluster.client_of(cluster.access("collector", "secret"))
    await client.ask(Get("ours/k"))
    cluster.kill(0)
    found = None
    for _ in range(50):
        try:
            found = await client.ask(Get("ours/k"))
            break
        except Unavailable:
            pass
        except Exception as error:  # while the others elect a leader
            assert type(error).__name__ == "InDoubt", error
    assert found is not None and found.one is not None
    new = cluster.client_of(cluster.access("collector", "secret"))
    assert (await new.ask(Get("ours/k"))).one is not None
