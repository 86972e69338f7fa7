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
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from machine import ROOT, find_code

if __name__ == "__main__":
    find_code()

import grpc
import status_cost
from figures import Figure, reproduce
from settings import Settings
from tests.shell.many import called, pools, served, uuid_of

from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell import garbage

NAME = "pools"
POOLS, HOSTS = 2_000, 5
STATUS_BUDGET_MS, HELD_BUDGET_MS = 300.0, 20.0
LIMIT_S = 120
LOOK_S = 0.001
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
        self._answer()

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


# ------------------------------------------------------------------------------------------------ the figures


def main(settings: Settings) -> list[Figure]:
    figures = []
    for count in (1, 30, POOLS):
        with tempfile.TemporaryDirectory() as folder, in_process(Path(folder), count, HOSTS) as collector:
            figures += _commands(collector, count, settings)
            if count == POOLS:
                figures += [_held(collector, what, call, settings) for what, call in _calls(collector).items()]
    return figures


def _commands(collector: Served, count: int, settings: Settings) -> list[Figure]:
    """`poolwarden status` as a person feels it, byte code cached."""
    passed, used = [], []
    with tempfile.TemporaryDirectory() as caches:
        environment = status_cost.environment(caches, collector.target)
        for number in range(settings.rounds + 1):
            sample = asyncio.run(status_cost.once(("status",), environment))
            if number:
                passed.append(sample.passed_ms)
                used.append(sample.used_ms)
    what, again = f"poolwarden status, {count} pools of {HOSTS} hosts", reproduce(NAME, settings.rounds)
    return [
        Figure(NAME, what, "ms", tuple(passed), STATUS_BUDGET_MS, ("whole process; the engine rests", again)),
        Figure(NAME, "... of it on a processor, without the collector's part", "ms", tuple(used), None, (again,)),
    ]


def _calls(collector: Served) -> dict[str, Callable[[], object]]:
    """What an operator, or a program of his, may ask for."""
    options = [("grpc.default_authority", "localhost"), ("grpc.max_receive_message_length", 1 << 28)]
    stub = rpc.OperatorStub(grpc.insecure_channel(collector.target, options=options))
    pool = uuid_of(7)

    def refused(request: pb.LateRequest) -> None:
        with contextlib.suppress(grpc.RpcError):
            stub.Late(request, timeout=LIMIT_S)

    return {
        "the overview": lambda: stub.Status(pb.StatusRequest(overview=True, limit=10), timeout=LIMIT_S),
        "a line of each pool": lambda: stub.Status(pb.StatusRequest(overview=True), timeout=LIMIT_S),
        "a page of 100 pools": lambda: stub.Status(pb.StatusRequest(limit=100), timeout=LIMIT_S),
        "all pools whole, as an older command asks": lambda: stub.Status(pb.StatusRequest(), timeout=LIMIT_S),
        "one pool": lambda: stub.Status(pb.StatusRequest(pool=pool), timeout=LIMIT_S),
        "readiness of all": lambda: stub.Readiness(pb.ReadinessRequest(), timeout=LIMIT_S),
        "explain": lambda: stub.Explain(pb.ExplainRequest(pool=pool), timeout=LIMIT_S),
        "10,000 entries of history": lambda: stub.History(pb.HistoryRequest(limit=10_000), timeout=LIMIT_S),
        "all alerts": lambda: stub.Alerts(pb.AlertsRequest(limit=10_000), timeout=LIMIT_S),
        "a host that is not there": lambda: refused(pb.LateRequest(host="hots-1")),
        "a name that each pool has": lambda: refused(pb.LateRequest(host="host-1")),
        "doctor": lambda: stub.Doctor(pb.DoctorRequest(), timeout=LIMIT_S),
    }


def _held(collector: Served, what: str, call: Callable[[], object], settings: Settings) -> Figure:
    felt = [collector.felt(call) for _ in range(min(settings.rounds, 5))]
    took, late = max(each.took for each in felt), max(each.late for each in felt)
    notes = (
        f"the call took {took:.0f} ms at most, the loop was {late:.0f} ms late at most",
        reproduce(NAME, settings.rounds),
    )
    said = f"the loop's own work in a row: {what}"
    return Figure(NAME, said, "ms", tuple(each.busy for each in felt), HELD_BUDGET_MS, notes)


# ------------------------------------------------------------------------------------------------ the process


async def _serve(folder: Path, count: int, hosts: int, blanks: bool) -> None:
    named = (lambda n: f"pool {n:04d}") if blanks else called
    async with served(folder, pools(count, hosts, named)) as parts:
        for each in parts.service.roster.pools:
            entries = [Entry(Kind.VERDICT, f"Healthy: entry {n}", {"verdict": "Healthy"}) for n in range(ENTRIES)]
            parts.journal.commit(each, entries, [AlertRaised(f"{each}/x", "warning", "bench", "a\nb\nc\nd", {})], each)
        garbage.seldom()  # as in a collector's process
        print("ready", flush=True)
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
