"""The page with a thousand people who only look, and with 2,000 pools: what the engine's loop feels of both.

A real collector in a process of its own serves the page over TLS; its engine has nothing to do, and its loop looks at
the clock each millisecond. *Late* is how much later than that it came to look: on a busy machine it holds other
processes' turns as well, so it is measured without any viewer too. *Work in a row* is what the loop's own thread did
between two looks, on that thread's own clock: no matter how busy the machine is.

Run as a program this module is that collector; it answers ``begin`` and ``end`` on standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from machine import ROOT, find_code

if __name__ == "__main__":
    find_code()

import aiohttp
from figures import Figure, reproduce
from settings import Settings, progress
from tests.page.rig import PASSWORD, paged
from tests.shell.many import pools, uuid_of

from poolwarden_collector.shell import garbage
from poolwarden_collector.shell.page import streams

NAME = "page"
POOLS, HOSTS, VIEWERS = 2_000, 5, 1_000
LATE_BUDGET_MS, HELD_BUDGET_MS = 5.0, 20.0
LOOK_S = 0.001
WINDOW_S = 20.0  # two beats of every viewer
LIMIT_S = 120.0


def main(settings: Settings) -> list[Figure]:
    if not settings.refused:  # in a network namespace of its own, whose loopback is down
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return asyncio.run(_measured(settings))


async def _measured(settings: Settings) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        async with _process(Path(folder), POOLS) as collector, collector.browser() as web:
            figures += await _pages(collector, web, settings)
    with tempfile.TemporaryDirectory() as folder:
        async with _process(Path(folder), 100) as collector, collector.browser() as web:
            figures += await _viewers(collector, web, settings)
    return figures


async def _pages(collector: _Collector, web: aiohttp.ClientSession, settings: Settings) -> list[Figure]:
    found = []
    for what, path in (("the list of 2,000 pools", "/"), ("one pool", f"/pools/{uuid_of(7)}")):
        took, felt = [], []
        for _ in range(min(settings.rounds, 10)):
            await asyncio.sleep(5.5)  # nothing that was made before is fresh any more
            await collector.say("begin")
            began = time.perf_counter()
            async with web.get(f"{collector.base}{path}") as reply:
                assert reply.status == 200
                await reply.read()
            took.append((time.perf_counter() - began) * 1000)
            felt.append(await collector.say("end"))
        again = reproduce(NAME, settings.rounds)
        held = tuple(each["busy_max"] for each in felt)
        found.append(Figure(NAME, f"the loop's own work in a row: {what}", "ms", held, HELD_BUDGET_MS, (again,)))
        found.append(Figure(NAME, f"{what}, made anew, as a browser waits for it", "ms", tuple(took), None, (again,)))
    return found


async def _viewers(collector: _Collector, web: aiohttp.ClientSession, settings: Settings) -> list[Figure]:
    rounds, again = max(1, min(settings.rounds, 5)), reproduce(NAME, settings.rounds)
    progress(f"{rounds} windows of {WINDOW_S:.0f} s without a viewer")
    alone = [await _window(collector) for _ in range(rounds)]
    progress(f"{VIEWERS} viewers are connecting")
    async with contextlib.AsyncExitStack() as open_streams:
        readers = []
        for number in range(VIEWERS):
            reply = await open_streams.enter_async_context(web.get(f"{collector.base}/events?page=pools"))
            if reply.status != 200:
                raise RuntimeError(f"stream {number}: {reply.status}")
            readers.append(asyncio.ensure_future(_read(reply)))
        progress(f"{rounds} windows of {WINDOW_S:.0f} s with {VIEWERS} viewers")
        watched = [await _window(collector) for _ in range(rounds)]
        for reader in readers:
            reader.cancel()
    late_alone = tuple(each["late_p99"] for each in alone)
    added = tuple(max(0.0, each["late_p99"] - statistics.median(late_alone)) for each in watched)
    share_alone = statistics.median(each["share"] for each in alone)
    used = tuple(max(0.0, each["share"] - share_alone) for each in watched)
    notes = (f"p99 without a viewer {statistics.median(late_alone):.2f} ms at the median", again)
    return [
        Figure(NAME, f"lateness of the loop, p99, by {VIEWERS} idle viewers", "ms", added, LATE_BUDGET_MS, notes),
        Figure(
            NAME, "... its own work in a row, p99", "ms", tuple(each["busy_p99"] for each in watched), None, (again,)
        ),
        Figure(NAME, "... at most", "ms", tuple(each["busy_max"] for each in watched), HELD_BUDGET_MS, (again,)),
        Figure(NAME, "... share of a core, by them", "%", used, None, (again,)),
    ]


async def _read(reply: aiohttp.ClientResponse) -> None:
    while await reply.content.readany():
        pass


async def _window(collector: _Collector) -> dict[str, float]:
    await collector.say("begin")
    await asyncio.sleep(WINDOW_S)
    return await collector.say("end")


# ------------------------------------------------------------------------------------------------ its process


class _Collector:
    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self.base = ""

    async def say(self, word: str) -> dict[str, Any]:
        """The answer to a word; an empty one only waits for it to be ready."""
        return dict(json.loads(await asyncio.to_thread(self._said, word)))

    def _said(self, word: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        if word:
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise RuntimeError("the collector has ended")
        return line

    @contextlib.asynccontextmanager
    async def browser(self) -> AsyncIterator[aiohttp.ClientSession]:
        context = ssl.create_default_context(cafile=str(self._folder / "tls/ca.pem"))
        jar = aiohttp.CookieJar(unsafe=True)
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        limit = aiohttp.ClientTimeout(total=None, sock_connect=LIMIT_S)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, timeout=limit) as web:
            async with web.get(f"{self.base}/sign-in") as reply:
                token = (await reply.text()).partition('name="token" value="')[2].partition('"')[0]
            form = {"name": "anna", "password": PASSWORD, "token": token, "to": "/"}
            async with web.post(f"{self.base}/sign-in", data=form) as reply:
                if reply.status != 200:
                    raise RuntimeError(f"signing in: {reply.status}")
            yield web


@contextlib.asynccontextmanager
async def _process(folder: Path, count: int) -> AsyncIterator[_Collector]:
    words = [sys.executable, __file__, str(folder), str(count)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    try:
        collector = _Collector(process, folder)
        collector.base = (await collector.say(""))["base"]
        yield collector
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.to_thread(process.wait, 30)


async def _serve(folder: Path, count: int) -> None:
    streams.MOST_OF_ONE = VIEWERS  # one person, a thousand times
    async with paged(folder, pools(count, HOSTS)) as site:
        site.user("anna")
        garbage.seldom()  # as in a collector's process
        print(json.dumps({"base": site.base}), flush=True)
        await _driven()


async def _driven() -> None:
    """Look at the clock each millisecond until standard input ends."""
    loop, late, busy, began = asyncio.get_running_loop(), list[float](), list[float](), (0.0, 0.0)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def look() -> None:
        while True:
            before, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(LOOK_S)
            late.append(time.perf_counter() - before - LOOK_S)
            busy.append(time.thread_time() - used)

    looking = asyncio.ensure_future(look())
    while line := await reader.readline():
        told: dict[str, float] = {}
        if line == b"begin\n":
            late.clear()
            busy.clear()
            began = (time.perf_counter(), time.thread_time())
        elif late:
            passed = time.perf_counter() - began[0]
            told = {"late_p99": _p99(late), "late_max": max(late) * 1000, "busy_p99": _p99(busy)}
            told |= {"busy_max": max(busy) * 1000, "share": 100 * (time.thread_time() - began[1]) / passed}
        print(json.dumps(told), flush=True)
    looking.cancel()


def _p99(samples: list[float]) -> float:
    return sorted(samples)[int(len(samples) * 0.99)] * 1000


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
