"""Connections that say nothing, over real sockets: ended within seconds, few at a time, and nobody else is kept out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.shell.agents import doorkeeper
from poolwarden_collector.shell.agents import port as agents_port
from poolwarden_collector.shell.agents.doorkeeper import peer_of

from .rig import HOSTS, POOL, Rig, running, until


def test_an_end_is_named_as_the_socket_names_it() -> None:
    assert peer_of("ipv4:10.0.0.1:4711") == ("10.0.0.1", 4711)
    assert peer_of("ipv6:%5Bfe80::1%5D:4711") == peer_of("ipv6:[fe80::1]:4711") == ("fe80::1", 4711)
    assert peer_of("ipv6:[::ffff:10.0.0.1]:4711") == ("10.0.0.1", 4711) and peer_of("unix:") == ("", 0)


def test_the_newest_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorkeeper, "MOST_OF_ADDRESS", 2)
    monkeypatch.setattr(doorkeeper, "MOST", 4)
    ends = [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("c", 1)]
    assert doorkeeper._too_many(ends) == [("a", 3), ("c", 1)]


def connected(listener: socket.socket, count: int) -> list[tuple[socket.socket, socket.socket]]:
    """Connections to this listener, both ends of each."""
    made = []
    for _ in range(count):
        client = socket.create_connection(listener.getsockname())
        made.append((client, listener.accept()[0]))
    return made


def test_a_look_costs_little_where_nobody_is_mute_and_asks_each_socket_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    handle = doorkeeper._handle
    monkeypatch.setattr(doorkeeper, "_handle", lambda file: (asked.append(file), handle(file))[1])
    monkeypatch.setattr(doorkeeper, "MOST_OF_ADDRESS", 2 * (len(doorkeeper._open_files()) + 30))
    keeper = doorkeeper.Doorkeeper(set, lambda count: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pairs, port = connected(listener, 5), listener.getsockname()[1]
        try:
            speaking = {client.getsockname()[:2] for client, _ in pairs[:3]}
            assert keeper.look(port, speaking) == 0 and not asked, "so few open files cannot be too many"
            monkeypatch.setattr(doorkeeper, "MOST_OF_ADDRESS", 1)
            assert keeper.look(port, speaking) == 1, "of two mute ones the older is shut"
            before = {str(each.fileno()) for _, each in pairs}
            asked.clear()
            pairs += connected(listener, 1)
            speaking.add(pairs[-1][0].getsockname()[:2])
            keeper.look(port, speaking)
            assert str(pairs[-1][1].fileno()) in asked
            assert not before & {*asked} - {str(pairs[3][1].fileno()), str(pairs[4][1].fileno())}, "asked once"
        finally:
            for client, each in pairs:
                client.close()
                each.close()


def test_while_agents_come_in_those_that_wait_for_it_are_left_and_afterwards_they_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doorkeeper, "MOST_OF_ADDRESS", 1)
    calls = 0
    keeper = doorkeeper.Doorkeeper(set, lambda count: None, lambda: calls)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pairs, port = connected(listener, 4), listener.getsockname()[1]
        try:
            calls = 1
            assert [keeper.look(port, set()) for _ in range(doorkeeper.HERD_LOOKS)] == [0] * doorkeeper.HERD_LOOKS
            calls = 2
            monkeypatch.setattr(doorkeeper, "MOST_OF_HERD", 3)
            assert keeper.look(port, set()) == 1, "there is a bound to it"
            monkeypatch.setattr(doorkeeper, "MOST_OF_HERD", 10_000)
            pairs.pop(0)[0].close()
            assert [keeper.look(port, set()) for _ in range(doorkeeper.HERD_LOOKS)][:-1] == [0] * 4
            assert keeper.look(port, set()) >= 2, "nobody has come in for some looks"
        finally:
            for client, each in pairs:
                client.close()
                each.close()


def test_a_file_that_is_another_connection_by_now_is_not_shut() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        [(client, server)] = connected(listener, 1)
        try:
            file = str(server.fileno())
            assert not doorkeeper._shut(file, port, ("127.0.0.1", client.getsockname()[1] ^ 1))
            assert not doorkeeper._shut(file, port ^ 1, client.getsockname()[:2])
            client.sendall(b"x")
            assert server.recv(1) == b"x"
            assert doorkeeper._shut(file, port, client.getsockname()[:2]) and client.recv(1) == b""
        finally:
            client.close()
            server.close()


async def ended(reader: asyncio.StreamReader, within: float = 20.0) -> bool:
    """Does the other side end this connection? What it says before that is passed over."""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(within):
            while await reader.read(4096):
                pass
    return True


def tls_of(rig: Rig, host: str, *protocols: str) -> ssl.SSLContext:
    bundle = rig.bundle(host)
    made = ssl.create_default_context(cafile=str(bundle.ca))
    made.load_cert_chain(bundle.cert, bundle.key)
    made.set_alpn_protocols([*protocols])
    made.check_hostname = False
    return made


@pytest.mark.slow
@pytest.mark.asyncio
async def test_who_says_nothing_is_ended_and_who_speaks_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick: dict[str, Any] = {"grpc.server_handshake_timeout_ms": 1_000, "grpc.max_connection_idle_ms": 1_000}
    monkeypatch.setattr(
        agents_port, "OPTIONS", tuple((name, quick.get(name, value)) for name, value in agents_port.OPTIONS)
    )
    async with running(tmp_path) as rig:
        agent, port = await rig.agent(HOSTS[0]), rig.parts.gateway.port
        plain = await asyncio.open_connection("127.0.0.1", port)
        context = tls_of(rig, HOSTS[1], "h2")
        secured = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        polite = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        polite[1].write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")  # RFC 9113, 3.4
        for reader, _ in (plain, secured, polite):
            assert await ended(reader)
        await agent.send(report=pb.Report(full=True))
        await until(lambda: (pool := rig.parts.service.roster.pools.get(POOL)) and pool.live.agents[HOSTS[0]].reported)
        for _, writer in (plain, secured, polite):
            writer.close()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_of_too_many_the_oldest_are_shut_and_an_agent_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorkeeper, "MOST_OF_ADDRESS", 8)
    monkeypatch.setattr(doorkeeper, "EVERY_S", 0.1)
    async with running(tmp_path) as rig:
        agent, port = await rig.agent(HOSTS[0]), rig.parts.gateway.port
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
        try:
            tally = rig.parts.service.roster.tally
            await until(lambda: tally.mute >= 40)
            await rig.agent(HOSTS[1])
            assert any("said nothing" in text for text in rig.parts.service.roster.warnings())
            await agent.send(report=pb.Report(full=True))
            await until(lambda: (p := rig.parts.service.roster.pools.get(POOL)) and p.live.agents[HOSTS[0]].reported)
        finally:
            for each in held:
                each.close()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_operators_address_has_a_doorkeeper_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorkeeper, "MOST_OF_ADDRESS", 3)
    async with running(tmp_path, collector='operator_listen = "127.0.0.1:0"') as rig:
        stub = rig.parts.operators
        mute = [await asyncio.open_connection("127.0.0.1", stub.port) for _ in range(8)]
        shut = await asyncio.gather(*(ended(reader, 4.0) for reader, _ in mute), return_exceptions=True)
        assert shut.count(True) >= 5
        assert any("operators' address were shut" in text for text in rig.parts.service.roster.warnings())
        assert await ended(mute[-1][0]), "the handshake has its limit"
        for _, writer in mute:
            writer.close()
