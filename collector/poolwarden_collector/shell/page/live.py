"""Pages that are looked at, made once for everybody who sees the same, and who is told that one has changed.

Rules
-----
* A page is made at most once in ``FRESH_S`` seconds for all who have the same pools (a *sheet*: page and scope),
  however many look at it.
* A sheet that somebody watches is looked at anew every second, but never for more than a twentieth of the time: what
  takes 100 ms to make is made every two seconds. All that are watched take half of the time at most: neither many
  people, each with a pool of his own, nor one with many filters, keep the loop from everything else.
* Watchers are told a sheet's number when what it says has changed; ages that merely go on are no change. What they then
  fetch is there already.
* What fails is shown as failed: a page is never silently the old one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import random
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.operators.turns import Turns
from poolwarden_collector.shell.page.asked import Asked, NoPage
from poolwarden_collector.shell.page.asking import Refused, Viewer
from poolwarden_collector.shell.page.rendering import Rendering
from poolwarden_collector.shell.page.views import Views

FRESH_S, OLDEST_S = 1.0, 5.0
SHARE = 20  # of the time at most one part of so many goes into one sheet
TOGETHER = SHARE // 2  # sheets that may have such a part each; of more each one has less
MOST = 512  # sheets that are kept
MOST_TEXT = 64 << 20  # characters of all of them: a sheet has some MB where a pool or a failover is big
SPREAD_S = 2.0  # over which many watchers are told
AT_ONCE = 4  # made at a time
_AGES = re.compile(
    r'<span class="(?:since|ago)"[^>]*>[^<]*</span>|<time[^>]*>[^<]*</time>'
    r"|(?<![\w.-])\d+(?:\.\d+)? (?:ms|s|min|h|d)\b"  # in a sentence: "read on 16 s ago"
)
_PIECE = 32 << 10  # characters that are looked through in a row

_log = logging.getLogger(__name__)
Key = tuple[frozenset[PoolId] | None, Asked]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page's main part as it was made; ``number`` is the same as long as it says the same; ``status``: of HTTP."""

    html: str
    title: str
    level: str
    number: str
    at: float
    cost_s: float
    status: int = 200


class _Kept:
    """One page for one scope; ``changed`` is renewed whenever it says something else."""

    def __init__(self) -> None:
        self.sheet: Sheet | None = None
        self.making = asyncio.Lock()
        self.changed = asyncio.Event()
        self.watchers: dict[object, Viewer] = {}
        self.task: asyncio.Task[None] | None = None

    @property
    def length(self) -> int:
        """Characters that it holds."""
        return len(self.sheet.html) if self.sheet is not None else 0


class Live:
    """Keeps the sheets; ``turns`` gives the engine its turns while one is made."""

    def __init__(
        self, views: Views, rendering: Rendering, turns: Callable[[], Turns], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._views = views
        self._rendering = rendering
        self._turns = turns
        self._now = now
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def sheet(self, viewer: Viewer, asked: Asked) -> Sheet:
        """The page as of a second ago at most; of one that is dear to make, as of five."""
        return await self._fresh((viewer.scope, asked), viewer, FRESH_S)

    @contextlib.asynccontextmanager
    async def watched(self, viewer: Viewer, asked: Asked) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
        """While it is entered the sheet is kept anew; gives a function that waits for another number than one."""
        key, token = (viewer.scope, asked), object()
        kept = self._at(key)
        kept.watchers[token] = viewer
        if kept.task is None or kept.task.done():
            kept.task = asyncio.ensure_future(self._keep(key, kept))

        async def other_than(number: str) -> str:
            while kept.sheet is None or kept.sheet.number == number:
                await kept.changed.wait()
                # safety: a thousand watchers are not told in one turn of the loop, which is the engine's as well.
                await asyncio.sleep(random.uniform(0, min(SPREAD_S, len(kept.watchers) / 500)))  # noqa: S311
            return kept.sheet.number

        try:
            yield other_than
        finally:
            del kept.watchers[token]

    async def stop(self) -> None:
        """Nothing is made any more."""
        tasks = [kept.task for kept in self._kept.values() if kept.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, key: Key, kept: _Kept) -> None:
        """Look at it anew as long as somebody watches."""
        while kept.watchers:
            # One whose rights have changed meanwhile sees another sheet, and would make this one of what is his.
            viewer = next((each for each in kept.watchers.values() if each.scope == key[0]), None)
            cost = 0.0
            if viewer is not None:
                try:
                    cost = (await self._fresh(key, viewer, FRESH_S / 2)).cost_s
                except Exception:
                    _log.exception("a page that is watched could not be made")
            await asyncio.sleep(self._pause_s(cost))

    def _pause_s(self, cost_s: float) -> float:
        """After how long a sheet that took ``cost_s`` to make is looked at anew."""
        watched = sum(bool(kept.watchers) for kept in self._kept.values())
        return max(FRESH_S, SHARE * cost_s * max(1.0, watched / TOGETHER))

    def _at(self, key: Key) -> _Kept:
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = _Kept()
            self._make_room(key)
        self._kept.move_to_end(key)
        return kept

    def _make_room(self, key: Key) -> None:
        """What was asked for the longest ago goes, as long as it is too much and nobody watches it."""
        text = sum(each.length for each in self._kept.values())
        for old, each in list(self._kept.items()):
            if len(self._kept) <= MOST and text <= MOST_TEXT:
                return
            if old != key and not each.watchers and not each.making.locked():
                text -= each.length
                del self._kept[old]

    async def _fresh(self, key: Key, viewer: Viewer, within_s: float) -> Sheet:
        kept = self._at(key)
        async with kept.making:
            before = kept.sheet
            if before is not None and self._now() - before.at < max(within_s, min(before.cost_s * SHARE, OLDEST_S)):
                return before
            async with self._room:
                made = await self._make(viewer, key[1])
            if viewer.scope != key[0]:
                return made  # his rights have changed while it was made: it is nobody else's
            kept.sheet = made
            if before is None or before.number != made.number:
                kept.changed.set()
                kept.changed = asyncio.Event()
            return made

    async def _make(self, viewer: Viewer, asked: Asked) -> Sheet:
        began, turns = self._now(), self._turns()
        try:
            made = await self._views.make(viewer, asked)
            values = {**made.values, "asked": asked, "made_at": clock.wall_text()}
            html = await self._rendering.text(made.template, values, turns)
            title, level, status = made.title, made.level, 200
        except (Refused, NoPage) as error:
            status = error.status if isinstance(error, Refused) else 404
            html = self._rendering.short("trouble.html", text=str(error), made_at=clock.wall_text())
            title, level = "not shown", "warning"
        number = await _number(html, turns)
        return Sheet(html, title, level, number, self._now(), self._now() - began, status)


async def _number(html: str, turns: Turns) -> str:
    """Of what it says but for the ages; line by line, as no age goes over the end of one."""
    found, begin = hashlib.sha256(), 0
    while begin < len(html):
        end = html.find("\n", begin + _PIECE) + 1 or len(html)
        found.update(_AGES.sub("", html[begin:end]).encode("utf-8", "replace"))
        begin = end
        await turns.rest()
    return found.hexdigest()[:24]
