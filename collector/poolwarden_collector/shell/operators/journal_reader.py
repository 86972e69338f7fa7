"""People's questions to the journal: in threads of their own, so that nobody's status waits for a long one."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.operators import access
from poolwarden_collector.shell.operators.wrong import Wrong
from poolwarden_collector.shell.store.journal import MOST_ROWS, Among, Journal, Row

MOST_FOLLOWED = 100_000  # stored entries, before the live ones
KINDS_MOST = 20  # that one may ask for at a time
SEARCHERS = 2  # questions to the journal at a time


class JournalReader:
    """Reads beside the connection that writes, which waits for nobody here. What it is asked raises JournalError."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._reader, self._searchers = ThreadPoolExecutor(1, "status"), ThreadPoolExecutor(SEARCHERS, "questions")

    async def read(self, call: Callable[..., Any], *args: Any) -> Any:
        """Ask the journal for something small: in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, functools.partial(call, *args))

    async def search(self, call: Callable[..., Any], *args: Any) -> Any:
        """Ask it for what may be much: a few at a time, the others wait."""
        return await asyncio.get_running_loop().run_in_executor(self._searchers, functools.partial(call, *args))

    async def history(self, request: pb.HistoryRequest, pool: PoolId, among: Among) -> list[Row]:
        """One call's worth, oldest first. Raises Wrong for an instant that is none, and for kinds of no one pool."""
        limit = min(request.limit or 1000, MOST_ROWS)
        if request.kinds:
            return await self._of_kinds(pool, tuple(request.kinds), limit)
        bounds = (instant("since", request.since), instant("until", request.until), request.before_seq)
        asked = (pool, request.after_seq, limit, request.failover, *bounds, among)
        rows: list[Row] = await self.search(self.journal.history, *asked)
        return rows

    async def _of_kinds(self, pool: PoolId, kinds: tuple[str, ...], limit: int) -> list[Row]:
        if not pool or len(kinds) > KINDS_MOST:
            why = f"entries of some kinds are told of one pool, and of {KINDS_MOST} kinds at most"
            raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, why)
        rows: list[Row] = await self.search(self.journal.newest, pool, kinds, limit)
        return rows

    async def stored(self, request: pb.HistoryRequest, pool: PoolId, among: Among) -> AsyncGenerator[list[Row], None]:
        """All that is asked for, the oldest first, a call's worth at a time: whoever does not read holds no more."""
        asked, left, ends = pb.HistoryRequest(), min(request.limit or 1000, MOST_FOLLOWED), list[tuple[int, int]]()
        asked.CopyFrom(request)
        rows: list[Row] = []
        while left > 0:
            asked.limit = min(left, MOST_ROWS)
            rows = await self.history(asked, pool, among)
            if len(rows) < asked.limit:
                break
            ends.append((rows[-1].seq + 1, asked.limit))
            left, asked.before_seq = left - len(rows), rows[0].seq
        yield rows
        if left <= 0:
            ends.pop()  # that was the oldest part
        for before, limit in reversed(ends):
            asked.before_seq, asked.limit = before, limit
            yield await self.history(asked, pool, among)

    async def followed(
        self, request: pb.HistoryRequest, pool: PoolId, queue: asyncio.Queue[list[Row]]
    ) -> AsyncGenerator[list[Row], None]:
        """What is stored, then what comes, for ever."""
        async with contextlib.aclosing(self.stored(request, pool, access.current().among)) as stored:
            async for rows in stored:
                yield rows
        while True:
            yield await queue.get()

    async def stop(self) -> None:
        """Take no more questions."""
        for each in (self._reader, self._searchers):
            await asyncio.to_thread(each.shutdown, cancel_futures=True)


def instant(what: str, text: str) -> str:
    """The instant as the journal writes it; empty where none is given."""
    try:
        return clock.same_instant(text) if text else ""
    except (ValueError, OverflowError):
        raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, f"{what}: {text!r} is no instant of RFC 3339") from None
