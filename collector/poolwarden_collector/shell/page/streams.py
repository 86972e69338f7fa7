"""Who is told of changes: server-sent events (WHATWG HTML, 9.2), one small line when a page says something else.

Rules
-----
* ``MOST`` streams in all and ``MOST_OF_ONE`` of one person; what is beyond is refused, and its page goes on by reloads.
* A stream ends when who it is for may not look any more, or sees other pools than at its beginning: each beat looks.
* A beat every ``BEAT_S`` seconds says that the collector is there: a page that hears none says that it is old.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from aiohttp import web

from poolwarden_collector.shell.page.asked import Asked
from poolwarden_collector.shell.page.asking import Viewer
from poolwarden_collector.shell.page.live import Live

MOST, MOST_OF_ONE = 2_000, 16
BEAT_S = 10.0
WRITTEN_WITHIN_S = 20.0


class Full(Exception):
    """There is no room for one more stream."""


class Streams:
    """Those of one server; ``live`` makes the pages."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._of: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        return self._of.total()

    async def serve(self, request: web.Request, viewer: Viewer, asked: Asked, number: str) -> web.StreamResponse:
        """Tell of every number other than ``number`` until one of the two ends is gone. Raises Full."""
        person = viewer.caller.person
        if len(self) >= MOST or self._of[person] >= MOST_OF_ONE:
            raise Full(person)
        self._of[person] += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await self._told(request, viewer, asked, number)
        finally:
            self._tasks.discard(task)
            self._of -= Counter((person,))

    def end(self) -> None:
        """All of them."""
        for task in list(self._tasks):
            task.cancel()

    async def _told(self, request: web.Request, viewer: Viewer, asked: Asked, number: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        scope = viewer.scope
        await _write(response, b"retry: 5000\n\nevent: beat\ndata: 1\n\n")
        async with self._live.watched(viewer, asked) as other_than:
            waiting: asyncio.Future[str] | None = None
            try:
                while True:
                    waiting = waiting or asyncio.ensure_future(other_than(number))
                    await asyncio.wait({waiting}, timeout=BEAT_S * random.uniform(0.9, 1.1))  # noqa: S311
                    # safety: rights end with the configuration, the user or the session that gave them.
                    if not viewer.rights().grants or viewer.scope != scope:
                        await _write(response, b"event: gone\ndata: 1\n\n")
                        return response
                    if waiting.done():
                        number, waiting = waiting.result(), None
                        await _write(response, f"event: state\ndata: {number}\n\n".encode())
                    else:
                        await _write(response, b"event: beat\ndata: 1\n\n")
            except (ConnectionError, TimeoutError):
                return response
            finally:
                if waiting is not None:
                    waiting.cancel()


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITTEN_WITHIN_S):
        await response.write(data)
