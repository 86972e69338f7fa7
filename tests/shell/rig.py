"""A collector of real parts for these tests: real TLS, real gRPC, a real journal; only agents are played by hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden.v1 import agent_link_pb2_grpc as rpc
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.config import Config, load
from poolwarden_collector.shell.main import assemble, stop
from poolwarden_collector.shell.parts import Parts
from poolwarden_collector.shell.store.journal import Journal

POOL = "aaaaaaaa-0000-4000-8000-000000000001"
HOSTS = tuple(f"bbbbbbbb-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
ME = pwd.getpwuid(os.getuid()).pw_name  # who is at the other end of the operators' socket in these tests


def mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def write_config(folder: Path, extra: str = "", top: str = "", collector: str = "", name: str = "test") -> Path:
    """A configuration in ``folder`` with certificates.

    ``extra`` is appended, ``top`` stands before the tables, ``collector`` is more of [collector].
    """
    authority = folder / "ca"
    if not authority.exists():
        certificates.create_ca(authority)
        certificates.issue_collector(authority, "test", ("127.0.0.1",), folder / "tls")
    file = folder / "collector.toml"
    file.write_text(
        f"""{top}
[collector]
name = "{name}"
listen = "127.0.0.1:0"
operator_socket = "c.sock"
state_dir = "state"
{collector}
[tls]
ca = "tls/ca.pem"
cert = "tls/cert.pem"
key = "tls/key.pem"
{extra}
"""
    )
    return file


@dataclass
class Rig:
    """A running collector."""

    folder: Path
    config: Config
    parts: Parts
    loop: asyncio.Task[None]
    agents: list[PlayedAgent] = field(default_factory=list)

    def bundle(self, host: str) -> certificates.Bundle:
        return certificates.issue_host(self.folder / "ca", host, self.folder / host)

    async def agent(self, host: str, born: int = 0, **hello: Any) -> PlayedAgent:
        """An agent with the right certificate that has said Hello and been welcomed."""
        agent = PlayedAgent(self.parts.gateway.port, self.bundle(host), host)
        agent.born = born
        self.agents.append(agent)
        await agent.attach(**hello)
        await agent.expect("welcome")
        return agent


class PlayedAgent:
    """The agent's end of a stream, by hand."""

    def __init__(self, port: int, bundle: certificates.Bundle | None, host: str, authority: Path | None = None) -> None:
        root = (bundle.ca if bundle else authority or Path()).read_bytes()
        pair = (bundle.key.read_bytes(), bundle.cert.read_bytes()) if bundle else (None, None)
        credentials = grpc.ssl_channel_credentials(root, *pair)
        options = [("grpc.ssl_target_name_override", certificates.COLLECTOR_DNS), ("grpc.use_local_subchannel_pool", 1)]
        self.host = host
        self.channel = grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options)
        self.sequence = 0
        self.born = 0  # when this agent's clock was 0, on ours
        self.stream: Any = rpc.AgentLinkStub(self.channel).Attach()

    async def attach(self, **hello: Any) -> None:
        values = {
            "agent_version": "0.1.0",
            "protocol_version": 1,
            "host_uuid": self.host,
            "pool_uuid": POOL,
            "boot_id": f"boot-{self.host[-1:]}",
            "host_name": f"host-{self.host[-1:]}",
            "management_address": f"192.0.2.{self.host[-1:]}",
        }
        await self.send(hello=pb.Hello(**{**values, **hello}))

    async def send(self, sequence: int | None = None, **body: Any) -> int:
        """Send one message; the stamp that it carries."""
        self.sequence = self.sequence + 1 if sequence is None else sequence
        stamp = mono_ms() - self.born
        await self.stream.write(pb.AgentMessage(sequence=self.sequence, mono_ms=stamp, **body))
        return stamp

    async def expect(self, kind: str, within: float = 5.0) -> Any:
        """The next message of this kind; others are passed over."""
        async with asyncio.timeout(within):
            while True:
                message = await self.stream.read()
                assert message is not grpc.aio.EOF, f"the stream ended while {kind} was expected"
                if message.WhichOneof("body") == kind:
                    return getattr(message, kind)

    async def refused(self, **hello: Any) -> grpc.aio.AioRpcError:
        """Say Hello, which must not be accepted; how it was refused."""
        try:
            await self.attach(**hello)
        except grpc.aio.AioRpcError as error:
            return error
        except asyncio.InvalidStateError:  # the stream ended before it was written to
            pass
        return await self.ended()

    async def ended(self, within: float = 5.0) -> grpc.aio.AioRpcError:
        """How the collector ends this stream; it must."""
        async with asyncio.timeout(within):
            try:
                while await self.stream.read() is not grpc.aio.EOF:
                    pass
                return grpc.aio.AioRpcError(await self.stream.code(), (), (), await self.stream.details())
            except grpc.aio.AioRpcError as error:
                return error

    async def close(self) -> None:
        await self.channel.close()


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    extra: str = "",
    top: str = "",
    collector: str = "",
    one_of_several: bool = False,
    name: str = "test",
) -> AsyncIterator[Rig]:
    """A collector with everything but fence agents' metadata checks; stopped cleanly at the end."""
    config = load(write_config(folder, extra, top, collector, name))
    journal = Journal(config.state_dir, config.name, config.alerts.names, "", config.routes())
    journal.begin_epoch()
    parts = assemble(config, journal, one_of_several)
    await parts.service.begin()
    loop = asyncio.ensure_future(parts.service.run())
    await parts.enrolments.begin()
    await parts.gateway.start(config.listen, config.tls)
    parts.enrolments.serve()
    await parts.operators.start(config.operator_socket)
    if config.operator_listen:
        await parts.operators.start_network(config.operator_listen, config.tls)
    parts.outbox.start()
    if parts.metrics is not None:
        parts.metrics.start()
    parts.hooks.start()
    rig = Rig(folder, config, parts, loop)
    try:
        yield rig
    finally:
        for agent in rig.agents:
            await agent.close()
        await stop(parts)
        await loop
        journal.close()


def hosts_of(roster: Roster, pool: str) -> bool:
    """Has the first step of this pool been taken? It is on the roster some time before its hosts are on its record."""
    return pool in roster.pools and bool(roster.pools[pool].record.hosts)


async def until(condition: Any, within: float = 30.0) -> Any:
    """Wait until ``condition()`` is true; its value."""
    async with asyncio.timeout(within):
        while not (value := condition()):
            await asyncio.sleep(0.01)
    return value
