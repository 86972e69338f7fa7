"""How long gRPC keeps calls is known, whoever makes them, and nobody is silent whose call is kept."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden_collector.shell.agents import call_watch, doorkeeper, gateway
from poolwarden_collector.shell.agents.call_watch import CallWatch

from .rig import HOSTS, POOL, Rig, hosts_of, running, until

pytestmark = pytest.mark.asyncio


class Held(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """A server's end that answers when it is let."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.answered = 0

    def service(self, _: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self.answer)

    async def answer(self, _: object, __: Any) -> bytes:
        await self.go_on.wait()
        self.answered += 1
        return b""


async def test_a_call_that_is_kept_tells_for_how_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_watch, "EVERY_S", 0.01)
    now, held = 1_000, Held()
    watch = CallWatch(lambda: now)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((held,))
    server.add_insecure_port(f"unix:{tmp_path / 'calls'}")
    await server.start()
    assert watch.lag() == 0
    watch.start(tmp_path / "calls")
    try:
        await until(lambda: watch._sent == 1_000)
        now = 8_000
        assert watch.lag() == 7_000
        held.go_on.set()
        await until(lambda: held.answered > 2)
        await until(lambda: watch.lag() == 0)
    finally:
        await watch.stop()
        await server.stop(0)


async def test_without_a_server_nothing_is_said_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_watch, "_FAILED_S", 0.01)
    tried: list[int] = []
    watch = CallWatch(lambda: tried.append(1) or len(tried))  # type: ignore[func-returns-value]
    watch.start(tmp_path / "nobody")
    await until(lambda: len(tried) > 2)
    await until(lambda: watch._sent is None)
    assert watch.lag() == 0
    await watch.stop()


def kept_for(rig: Rig, monkeypatch: pytest.MonkeyPatch, lag: int) -> None:
    monkeypatch.setattr(rig.parts.gateway._watch, "lag", lambda: lag)


@pytest.mark.slow
async def test_while_calls_wait_the_pools_that_lack_a_host_are_judged_as_of_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        await until(lambda: hosts_of(rig.parts.service.roster, POOL))
        kept_for(rig, monkeypatch, 60_000)
        assert rig.parts.gateway.unread() == (0, {}), "all of its hosts have their streams"
        await agent.close()
        await until(lambda: not len(rig.parts.gateway._sessions))
        assert rig.parts.gateway.unread() == (0, {POOL: 60_000}), "the call that waits may be its"
        kept_for(rig, monkeypatch, gateway.LATE_MS)
        assert rig.parts.gateway.unread() == (0, {})


@pytest.mark.slow
async def test_the_collector_asks_itself_and_nobody_else_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert (rig.config.state_dir / gateway.OWN_SOCKET).is_socket()
        channel = grpc.aio.insecure_channel(f"unix:{rig.config.state_dir / gateway.OWN_SOCKET}")
        assert await channel.unary_unary(call_watch.METHOD)(b"", timeout=20) == b""
        stream = channel.stream_stream(gateway.ATTACH)()
        await stream.write(b"nonsense")
        assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT, "an agent is heard as at the port"
        await channel.close()
        agent = await rig.agent(HOSTS[0])
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await agent.channel.unary_unary(call_watch.METHOD)(b"", timeout=20)
        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_while_calls_wait_no_connection_is_taken_for_one_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doorkeeper, "MOST_OF_ADDRESS", 1)
    calls_wait = True
    keeper = doorkeeper.Doorkeeper(set, lambda count: None, lambda: 0, lambda: calls_wait)
    looks = 3 * doorkeeper.HERD_LOOKS
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pairs = [(socket.create_connection(listener.getsockname()), listener.accept()[0]) for _ in range(3)]
        try:
            port = listener.getsockname()[1]
            assert [keeper.look(port, set()) for _ in range(looks)] == [0] * looks
            calls_wait = False
            assert any(keeper.look(port, set()) for _ in range(doorkeeper.HERD_LOOKS + doorkeeper.LOOK_AT_ALL))
        finally:
            for client, each in pairs:
                client.close()
                each.close()
