"""Answers on their way: what somebody has asked for counts as his until he has taken it.

Rules
-----
* safety: of one person so many are made or taken at a time, and all together are so many bytes. Who reads slowly, or
  not at all, holds no more of the collector's memory than that, and not for longer than ``TAKEN_WITHIN_S``.
* An answer goes out piece by piece: of one that is written at once asyncio's TLS takes everything, and says that it is
  gone. Between two pieces the engine has its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

from aiohttp import web

from poolwarden_collector.shell.page.asking import Refused, Viewer

OF_ONE = 8  # pages and exports of one person
MOST_BYTES = 256 << 20
TAKEN_WITHIN_S = 120.0
PIECE = 128 << 10


class Leaving:
    """Those of one server."""

    def __init__(self) -> None:
        self._of: Counter[str] = Counter()  # by person
        self._bytes = 0

    def __len__(self) -> int:
        return self._of.total()

    @contextlib.contextmanager
    def counted(self, viewer: Viewer) -> Iterator[None]:
        """One more of his is being made and taken. Raises Refused where these are too many."""
        person = viewer.caller.person
        if self._of[person] >= OF_ONE:
            raise Refused(503, f"{OF_ONE} pages of yours are being made already: try again in some seconds")
        self._of[person] += 1
        try:
            yield
        finally:
            self._of -= Counter((person,))

    async def taken(self, request: web.Request, answer: web.Response) -> web.StreamResponse:
        """The answer, once all but what a socket holds has been taken. Raises Refused where too much is on its way."""
        body = answer.body
        if not isinstance(body, bytes) or request.method == "HEAD":
            return answer
        if self._bytes + len(body) > MOST_BYTES:
            raise Refused(503, "too many people read slowly: try again in some seconds")
        self._bytes += len(body)
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_length = len(body)
        try:
            async with asyncio.timeout(TAKEN_WITHIN_S):
                await response.prepare(request)
                for begin in range(0, len(body), PIECE):
                    await response.write(body[begin : begin + PIECE])
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._bytes -= len(body)
        return response
