"""The lab's view through the collector's operator API: status, and the journal as it is written.

The collector may be killed and restarted under us: `follow` dials again and goes on after the last entry that it
gave, so that nobody sees an entry twice or misses one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_REDIAL_S = 0.2


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry. ``mono_ms`` is this machine's monotonic clock, as everything in the lab is one machine."""

    seq: int
    at: str
    mono_ms: int
    epoch: int
    term: int
    failover: str
    kind: str
    actor: str
    text: str
    data: dict[str, Any]
    pool: str = ""
    collector: str = ""  # of several: in whose journal it stands
    copied: bool = False  # it came there with the pool

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def entry_of(message: pb.HistoryEntry) -> Entry:
    return Entry(
        message.seq,
        message.at,
        message.mono_ms,
        message.epoch,
        message.term,
        message.failover,
        message.kind,
        message.actor,
        message.text,
        json.loads(message.data or "{}"),
        message.pool_name,
        message.collector,
        message.copied,
    )


class OperatorLink:
    """Calls with a limit of 5 s each; `grpc.aio.AioRpcError` where the collector does not answer."""

    def __init__(self, target: str) -> None:
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
        self._channel = grpc.aio.insecure_channel(target, options=options)
        self._stub = pb_grpc.OperatorStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    async def status(self) -> pb.StatusReply:
        reply: pb.StatusReply = await self._stub.Status(pb.StatusRequest(), timeout=5)
        return reply

    async def pool(self) -> pb.PoolStatus | None:
        """The lab's pool; None as long as the collector does not answer or knows none."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            pools = (await self.status()).pools
            return pools[0] if pools else None
        return None

    async def collectors(self) -> pb.CollectorsReply:
        """Who is there, and which pools each owns."""
        reply: pb.CollectorsReply = await self._stub.Collectors(pb.CollectorsRequest(), timeout=5)
        return reply

    async def explain(self, pool: str) -> pb.ExplainReply:
        reply: pb.ExplainReply = await self._stub.Explain(pb.ExplainRequest(pool=pool), timeout=5)
        return reply

    async def history(self) -> list[Entry]:
        reply = await self._stub.History(pb.HistoryRequest(limit=100_000), timeout=5)
        return [entry_of(message) for message in reply.entries]

    async def follow(self) -> AsyncIterator[Entry]:
        """Every entry from the first on, then live ones, for ever."""
        after, told = 0, set[tuple[str, int]]()
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for message in self._stub.Follow(pb.HistoryRequest(after_seq=after, limit=100_000)):
                    # Of several collectors each numbers its own entries: after a break all of them are read again.
                    after = 0 if message.collector else message.seq
                    if (message.collector, message.seq) not in told:
                        told.add((message.collector, message.seq))
                        yield entry_of(message)
            await asyncio.sleep(_REDIAL_S)


async def wait_healthy(
    link: OperatorLink, hosts: int, limit_s: float, hopeless: Callable[[], str] = str
) -> pb.PoolStatus:
    """The pool once its verdict is Healthy and every host is heard.

    Raises TimeoutError with what stands against it; ChildProcessError at once if ``hopeless`` says that waiting is.
    """
    pool: pb.PoolStatus | None = None
    try:
        async with asyncio.timeout(limit_s):
            while True:
                pool = await link.pool()
                if pool is not None and not unready(pool, hosts):
                    return pool
                if reason := hopeless():
                    raise ChildProcessError(reason)
                await asyncio.sleep(0.2)
    except TimeoutError:
        why = unready(pool, hosts) if pool is not None else "the collector does not answer, or no agent has reached it"
        raise TimeoutError(f"the pool is not healthy after {limit_s:.0f} s: {why}") from None


def unready(pool: pb.PoolStatus, hosts: int) -> str:
    heard = [host.name for host in pool.hosts if host.agent_connected]
    if len(heard) < hosts:
        return f"{len(heard)} of {hosts} agents are connected ({', '.join(heard) or 'none'})"
    if pool.verdict != "Healthy":
        return f"{pool.verdict}: {pool.sentence}"
    disabled = [host.name for host in pool.hosts if host.enabled == "no"]
    if disabled:
        return f"{', '.join(disabled)} is not enabled yet"
    blind = [
        host.name for host in pool.hosts if host.host_uuid != pool.master_uuid and not _sees(host, pool.master_uuid)
    ]
    if blind:
        return f"{', '.join(blind)} cannot witness the master's loss: not yet answered by its xapi"
    unbound = [host.name for host in pool.hosts if host.fence_device not in ("bound", "none")]
    return f"fence device of {', '.join(unbound)} is not bound yet" if unbound else ""


def _sees(host: pb.HostStatus, master: str) -> bool:
    return any(probe.target_uuid == master and probe.outcome == "answered" and probe.counts for probe in host.probes)
