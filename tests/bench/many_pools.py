"""Thousands of pools in a collector's operator interface: what each call takes, and what the engine's loop feels of it.

The pools are the engine's own (tests/core): most of them healthy, of every 20 one has lost its master and waits for a
person, one has a silent member, one is paused. They stand in a real collector in a process of its own, whose engine has
nothing to do: beside the calls its loop only looks at the clock each millisecond. How late that is holds the turns of
other threads and of other processes as well; how much its own thread worked from one look to the next is no matter of
how busy the machine is.

Run as a program this module is that collector: it takes ``begin`` and ``end`` on standard input, and answers with how
late the loop was at most since the ``begin`` and how long its thread worked at most, ms.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from machine import ROOT, find_code

if __name__ == "__main__":
    find_code()

from tests.shell.many import called, pools, served

from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.entries import Entry, Kind

LOOK_S = 0.001
METRICS = '[metrics]\nlisten = "127.0.0.1:0"'
ENTRIES = 10  # of each pool in the journal


class Felt(NamedTuple):
    """How long a call took, how late the loop was at most meanwhile, and how long its own thread worked at most; ms."""

    took: float
    late: float
    busy: float


class Served:
    """A collector's process, driven over its standard input."""

    def __init__(self, folder: Path, count: int, hosts: int, blanks: bool = False) -> None:
        words = [sys.executable, __file__, str(folder), str(count), str(hosts), "blanks" if blanks else ""]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True)
        self.target = f"unix:{folder / 'c.sock'}"
        self.metrics = self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the collector has ended")
        return line.strip()

    def _say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def felt(self, call: Callable[[], object]) -> Felt:
        """Make this call, and what the collector's loop felt of it."""
        self._say("begin")
        self._answer()
        began = time.perf_counter()
        call()
        took = (time.perf_counter() - began) * 1000
        self._say("end")
        late, busy = self._answer().split(" ")
        return Felt(took, float(late), float(busy))

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


@contextmanager
def in_process(folder: Path, count: int, hosts: int, blanks: bool = False) -> Iterator[Served]:
    """A collector with these pools; ``blanks``: names that have to be quoted where they are typed."""
    made = Served(folder, count, hosts, blanks)
    try:
        yield made
    finally:
        made.stop()


# ------------------------------------------------------------------------------------------------ the process


async def _serve(folder: Path, count: int, hosts: int, blanks: bool) -> None:
    named = (lambda n: f"pool {n:04d}") if blanks else called
    async with served(folder, pools(count, hosts, named), METRICS) as parts:
        for each in parts.service.roster.pools:
            entries = [Entry(Kind.VERDICT, f"Healthy: entry {n}", {"verdict": "Healthy"}) for n in range(ENTRIES)]
            parts.journal.commit(each, entries, [AlertRaised(f"{each}/x", "warning", "bench", "a\nb\nc\nd", {})], each)
        assert parts.metrics is not None
        parts.metrics.start()
        await asyncio.to_thread(parts.metrics.listening.wait)
        print(parts.metrics.port, flush=True)
        await _driven()


async def _driven() -> None:
    """Look at the clock each millisecond until standard input ends."""
    loop, late, busy = asyncio.get_running_loop(), 0.0, 0.0
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def look() -> None:
        nonlocal late, busy
        while True:
            before, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(LOOK_S)
            late = max(late, time.perf_counter() - before - LOOK_S)
            busy = max(busy, time.thread_time() - used)

    looking = asyncio.ensure_future(look())
    while line := await reader.readline():
        if line == b"begin\n":
            late = busy = 0.0
        print(f"{late * 1000:.2f} {busy * 1000:.2f}", flush=True)
    looking.cancel()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), bool(sys.argv[4])))
