"""A host's certificate in bad hands: a process that does one of these to a collector until it is killed.

python attacker.py KIND PORT SOCKET FOLDER HOST POOL
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden.v1 import operator_pb2 as op
from poolwarden.v1 import operator_pb2_grpc as rpc

ATTACH = "/poolwarden.v1.AgentLink/Attach"


class Attacker:
    """Whoever has the files in ``folder``."""

    def __init__(self, port: str, unix: str, folder: str, host: str, pool: str) -> None:
        self.port, self.unix, self.host, self.pool = int(port), unix, host, pool
        files = [(Path(folder) / name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem")]
        self.credentials = grpc.ssl_channel_credentials(*files)
        self.sequence = 0

    def channel(self) -> Any:
        options = [("grpc.ssl_target_name_override", "collector"), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", self.credentials, options)

    def message(self, **body: Any) -> bytes:
        self.sequence += 1
        stamp = time.monotonic_ns() // 1_000_000
        made: bytes = pb.AgentMessage(sequence=self.sequence, mono_ms=stamp, **body).SerializeToString()
        return made

    def hello(self, name: str = "evil") -> bytes:
        return self.message(
            hello=pb.Hello(host_uuid=self.host, pool_uuid=self.pool, boot_id="evil", host_name=name, protocol_version=1)
        )

    async def reports(self, make: Callable[[int], pb.Report]) -> None:
        """One stream after the other, each as fast as it goes."""
        number = 0
        while True:
            async with self.channel() as channel:
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    call = channel.stream_stream(ATTACH)()
                    await call.write(self.hello())
                    while True:
                        number += 1
                        await call.write(self.message(report=make(number)))

    # ------------------------------------------------------------------------------------------------ the attacks

    async def hellos(self) -> None:
        """Streams on one connection and on new ones, as many as it can."""

        async def one(channel: Any) -> None:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                call = channel.stream_stream(ATTACH)()
                await call.write(self.hello())
                await call.code()

        while True:
            async with self.channel() as channel:
                await asyncio.wait([asyncio.ensure_future(one(channel)) for _ in range(100)], timeout=0.05)

    async def messages(self) -> None:
        """Empty reports."""
        await self.reports(lambda number: pb.Report(full=True))

    async def hosts(self) -> None:
        """A pool of 10,000 hosts, others each time."""

        def report(number: int) -> pb.Report:
            listed = [pb.PoolHost(host_uuid=f"{number}-{n}") for n in range(10_000)]
            view = pb.PoolView(pool_uuid=self.pool, master_uuid=self.host, hosts=listed)
            role = pb.RoleFacts(pool_conf=pb.RoleFacts.MASTER, running=pb.RoleFacts.MASTER, serves_as_master=True)
            return pb.Report(full=True, pool_view=view, role=role)

        await self.reports(report)

    async def texts(self) -> None:
        """Names of nearly a megabyte, others each time."""

        def report(number: int) -> pb.Report:
            view = pb.PoolView(pool_uuid=self.pool, master_uuid=self.host, pool_name=f"{number}" + "x" * 900_000)
            role = pb.RoleFacts(pool_conf=pb.RoleFacts.MASTER, running=pb.RoleFacts.MASTER, serves_as_master=True)
            return pb.Report(full=True, pool_view=view, role=role, management_address=f"10.0.{number % 256}.1")

        await self.reports(report)

    async def mute(self) -> None:
        """Connections that say nothing."""
        held = []
        while True:
            with contextlib.suppress(OSError):
                held.append(socket.create_connection(("127.0.0.1", self.port), 1))
            if len(held) > 900:
                held.pop(0).close()
            await asyncio.sleep(0)

    async def questions(self) -> None:
        """The whole history, again and again, eight at a time."""
        async with grpc.aio.insecure_channel(f"unix:{self.unix}") as channel:
            stub: Any = rpc.OperatorStub(channel)

            async def ask() -> None:
                while True:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await stub.History(op.HistoryRequest(limit=1_000_000, failover="nowhere"))
                        await stub.History(op.HistoryRequest(limit=1_000_000))

            await asyncio.gather(*(ask() for _ in range(8)))


if __name__ == "__main__":
    kind, *given = sys.argv[1:]
    attack: Callable[[], Coroutine[Any, Any, None]] = getattr(Attacker(*given), kind)
    asyncio.run(attack())
