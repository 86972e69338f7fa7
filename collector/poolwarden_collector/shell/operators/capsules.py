"""The evidence capsules of hosts, for operators: a list of them, and one of them in pieces.

They are read in threads, a piece at a time: whoever is slow to take them holds up nobody, and nothing is held for him
but one piece. A capsule is of the pool that its host was of when it was handed over, and is there for nobody else.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.operators import access
from poolwarden_collector.shell.operators.journal_reader import instant
from poolwarden_collector.shell.operators.turns import Turns
from poolwarden_collector.shell.operators.wrong import Wrong
from poolwarden_collector.shell.store.capsules import Capsules, Kept

if TYPE_CHECKING:
    from poolwarden_collector.shell.agents.roster import Roster

PIECE = 65_536
DEFAULT_LIMIT, MOST_LISTED = 1_000, 10_000


class CapsuleCalls:
    """Answers from the store; without one there are none."""

    def __init__(self, store: Capsules | None, roster: Roster) -> None:
        self._store = store
        self._roster = roster

    async def listed(self, request: pb.ListCapsulesRequest, pool: PoolId, turns: Turns) -> pb.ListCapsulesReply:
        """Those of this pool, or of every one that the caller may see. Raises Wrong."""
        if self._store is None:
            return pb.ListCapsulesReply()
        bounds = (_ms("since", request.since), _ms("until", request.until))
        limit = min(request.limit or DEFAULT_LIMIT, MOST_LISTED)
        found: list[Kept] = await _read(self._store.listed, access.current().among, pool, *bounds, limit)
        reply = pb.ListCapsulesReply()
        for kept in found:
            reply.capsules.append(self._shown(kept))
            await turns.rest()
        return reply

    async def pieces(self, request: pb.ReadCapsuleRequest) -> AsyncGenerator[pb.CapsuleBytes, None]:
        """The whole of one, in order. Raises Wrong, Denied."""
        found = await _read(self._store.find, request.host_uuid, request.id) if self._store is not None else None
        among = access.current().among
        if found is None or (among is not None and found[0].pool not in among):
            text = f"there is no capsule {request.id!r} of host {request.host_uuid!r}; poolwarden capsules lists them"
            raise Wrong(grpc.StatusCode.NOT_FOUND, text)
        kept, path = found
        file = await _read(path.open, "rb")
        try:
            while data := await _read(file.read, PIECE):
                among = access.current().still()  # rights end with the configuration that gave them
                if among is not None and kept.pool not in among:
                    raise Wrong(grpc.StatusCode.PERMISSION_DENIED, "this pool is not the caller's any more")
                yield pb.CapsuleBytes(data=data)
        finally:
            await asyncio.to_thread(file.close)

    def _shown(self, kept: Kept) -> pb.KeptCapsule:
        return pb.KeptCapsule(
            id=kept.id,
            host_uuid=kept.host,
            host_name=self._host_name(kept.pool, kept.host),
            pool_uuid=kept.pool,
            pool_name=self._pool_name(kept.pool),
            at=clock.text_of(kept.at_ms),
            taken_at=clock.text_of(kept.taken_ms),
            trigger=kept.trigger,
            text=kept.text,
            size_bytes=kept.size,
            sha256=kept.sha256,
        )

    def _pool_name(self, pool: PoolId) -> str:
        found = self._roster.pools.get(pool)
        return found.record.name if found is not None else ""

    def _host_name(self, pool: PoolId, host: HostId) -> str:
        found = self._roster.pools.get(pool)
        known = found.record.hosts.get(host) if found is not None else None
        return known.name if known is not None else ""


def _ms(what: str, text: str) -> int | None:
    return clock.ms_of(instant(what, text)) if text else None


async def _read(call: Any, *args: Any) -> Any:
    try:
        return await asyncio.to_thread(call, *args)
    except (OSError, sqlite3.Error) as error:
        raise Wrong(grpc.StatusCode.INTERNAL, f"capsules cannot be read: {error}") from error
