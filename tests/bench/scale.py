"""One collector and thousands of agents: what it costs, how late it is, what it does when all come at once.

For each number of agents, in pools of 8 that report each 5 s: first a bare gRPC echo is given the very same messages
over the same TLS, then the shipped collector. Agents' side, collector and reader are processes of their own (the first
two on a core each); the reader is this one.

A run is bounded. Of N agents: connecting, twice, and the herd take at most ``limit_s(N)`` each, the settling
``SETTLE_LIMIT_S``, the windows 20 s and ``--seconds``; 10,000 agents about 15 minutes, at most 55; a thousand lost
masters about 8, at most 20. Memory by ``MEMORY_LIMIT``. What does not come about within its bound is said as MISSED, in
the table and at the end, the rest goes on; so is every budget that is not kept. What has been started is ended.

What is measured
----------------
* core share: processor time of the process over the time of the window, all connected and the quiet time over.
* report to state: from the write of a report of one of the sampled hosts until the operators' API first shows what only
  that report says (its available memory). The API is asked for that one pool again and again, so the figure has the
  question's own way through the collector in it.
* `poolwarden status`: the whole command, as a person waits for it.
* herd: `kill -9`, started anew with its journal, until each agent has been welcomed again. Agents reconnect at the
  shipped agent's pace.
* mass loss (`scale_loss.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from figures import Figure, Stopped, reproduce
from scale_loss import losses
from scale_stage import AGENTS_CORE, COLLECTOR_CORE, Agents, Collector, Echo, Running, Site
from settings import Settings, progress

from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_lab.processes.places import base_environment, code_path

NAME = "scale"
SIZES = (1_000, 3_000, 10_000)
REPORT_S = 5
POLICY: dict[str, object] = {"report_interval": f"{REPORT_S}s", "suspect_after": "10s", "vanished_after": "20s"}
CORE_BUDGET_PERCENT = 100.0
LATE_BUDGET_MS = 250.0
STATUS_BUDGET_MS = 300.0
SETTLE_LIMIT_S = 240.0
MOST_OF_THEM = 0.9  # connected: then the others are missed, and these are measured
SAMPLE_LIMIT_S = 5.0
MEMORY_LIMIT = 6 << 30  # bytes, of collector and agents together; more ends the benchmark
CONNECT_PER_S = 50  # connections begun a second: what the benchmark waits for, and no herd
_POLL_S = 0.004
_PROBLEMS = (TimeoutError, OSError, RuntimeError, psutil.Error, grpc.RpcError)


@dataclass
class Found:
    """Of one number of agents."""

    agents: int
    echo: float = 0.0  # shares of a core, percent
    core: float = 0.0
    side: float = 0.0
    rss_mb: float = 0.0
    late_ms: list[float] = field(default_factory=list)
    status_ms: list[float] = field(default_factory=list)
    herd_s: float = 0.0
    trouble: str = ""
    missed: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def told_as_missed(self) -> Iterator[None]:
        """What does not come about in here is said, and what comes after it goes on."""
        try:
            yield
        except _PROBLEMS as problem:
            self.missed.append(str(problem)[:200])
            progress(f"MISSED: {self.agents} agents: {problem}")

    def row(self) -> str:
        late = sorted(self.late_ms)
        half, most = (late[len(late) // 2], late[int(len(late) * 0.99)]) if late else (float("nan"), float("nan"))
        status = min(self.status_ms, default=float("nan"))
        ratio = self.core / self.echo if self.echo else float("nan")
        cells = [
            f"{self.agents:,}",
            f"{self.core:.0f} %",
            f"{self.echo:.0f} %",
            f"{ratio:.1f}",
            f"{self.rss_mb:.0f} MB",
        ]
        cells += [f"{half:.0f} ms", f"{most:.0f} ms", f"{status:.0f} ms", self._herd(), self._trouble()]
        return "| " + " | ".join(cells) + " |"

    def _herd(self) -> str:
        return f"{self.herd_s:.1f} s" if self.herd_s else "missed"

    def _trouble(self) -> str:
        return "; ".join(filter(None, [self.trouble, f"{len(self.missed)} missed" if self.missed else ""])) or "-"


HEAD = (
    "| agents | core share | bare echo | ratio | RSS | p50 | p99 | `status` | herd | trouble |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


async def run(settings: Settings) -> list[Figure]:
    sizes = settings.agents or SIZES
    _lo_up(settings)
    progress(f"{_processor()}; collector on core {COLLECTOR_CORE}, agents on {AGENTS_CORE}")
    rows: list[Found] = []
    figures: list[Figure] = []
    for size in sizes:
        rows.append(await _of(size, min(settings.seconds, 60.0)))
        print(f"{HEAD}\n{rows[-1].row()}", flush=True)
        figures += _figures([rows[-1]], settings)
    try:
        figures += await losses(settings)
    except _PROBLEMS as failure:
        raise Stopped(failure, figures) from failure
    finally:
        print("\n" + "\n".join([HEAD, *(found.row() for found in rows)]), flush=True)
        _say_missed(rows, figures)
    return figures


def _say_missed(rows: list[Found], figures: list[Figure]) -> None:
    for found in rows:
        for what in found.missed:
            print(f"MISSED: {found.agents:,} agents: {what}", flush=True)
    for figure in figures:
        if figure.budget is not None and figure.maximum > figure.budget:
            print(f"MISSED: {figure.what}: at most {figure.maximum:.3g} {figure.unit}, budget {figure.budget:.3g}")


def _lo_up(settings: Settings) -> None:
    if not settings.refused:  # in namespaces of our own, where nobody has done it yet
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{os.cpu_count()} cores"


async def _of(size: int, seconds: float) -> Found:
    found, site = Found(size), Site()
    try:
        site.configure(POLICY)
        with found.told_as_missed():
            found.echo = await _echo(site, size, seconds)
            progress(f"{size} agents: bare echo {found.echo:.0f} % of a core")
        with found.told_as_missed():
            await _collector(site, found, seconds)
    finally:
        site.remove()
    return found


def limit_s(size: int) -> float:
    """For so many agents to come in: four times as long as connecting at this benchmark's pace takes, and a minute."""
    return 60.0 + 4 * size / CONNECT_PER_S


async def _all_in(agents: Agents, size: int, within_s: float, found: Found, what: str) -> bool:
    """False: fewer than most of them have come in; that it is not all of them is missed anyway."""
    with found.told_as_missed():
        await agents.until(lambda said: bool(said["heard"] == size), within_s, what)
    return bool(agents.state["heard"] >= MOST_OF_THEM * size)


async def _echo(site: Site, size: int, seconds: float) -> float:
    """Share of a core, percent."""
    echo, agents = Echo(site), None
    try:
        await echo.listening()
        agents = Agents(site, size, "--interval", str(REPORT_S), "--deaf", "--connect-per-s", str(CONNECT_PER_S))
        await agents.until(lambda said: bool(said["heard"] == size), limit_s(size), "connected to the echo")
        await asyncio.sleep(REPORT_S)
        return (await _window(echo, agents, min(seconds, 20.0)))[0]
    finally:
        if agents is not None:
            await agents.end()
        echo.kill()


async def _window(program: Running, agents: Agents, seconds: float) -> tuple[float, float]:
    """Shares of a core of the program and of the agents' side, percent."""
    before, began = (program.cpu_s(), agents.cpu_s()), time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        if psutil.virtual_memory().available < 1 << 30 or program.rss_mb() + agents.rss_mb() > MEMORY_LIMIT / 1e6:
            raise RuntimeError("the machine's memory is too small for so many")
        program.alive()
        agents.alive()
        await asyncio.sleep(min(1.0, max(0.0, seconds - passed)))
    lasted = time.monotonic() - began
    return 100 * (program.cpu_s() - before[0]) / lasted, 100 * (agents.cpu_s() - before[1]) / lasted


async def _collector(site: Site, found: Found, seconds: float) -> None:
    collector, agents = Collector(site), None
    try:
        await collector.listening()
        sample = ("--sample", str(min(40, found.agents)))
        agents = Agents(site, found.agents, "--connect-per-s", str(CONNECT_PER_S), *sample)
        if not await _all_in(agents, found.agents, limit_s(found.agents), found, "all are welcomed"):
            return
        await _settled(site, agents)
        reader = _Reader(site, agents)
        window = asyncio.ensure_future(_window(collector, agents, seconds))
        found.late_ms = await reader.until(window)
        found.core, found.side = await window
        found.rss_mb = collector.rss_mb()
        progress(f"{found.agents} agents: {found.core:.0f} % of a core, their side {found.side:.0f} %")
        found.status_ms = [await asyncio.to_thread(_status_ms, site) for _ in range(3)]
        found.trouble = await _trouble(site)
        collector = await _herd(site, collector, agents, found)
    finally:
        if agents is not None:
            await agents.end()
        collector.stop()


async def _settled(site: Site, agents: Agents) -> None:
    """What has come with the agents' first reports has been worked through, and the start's quiet time is over."""
    deadline = time.monotonic() + SETTLE_LIMIT_S
    async with grpc.aio.insecure_channel(site.target, options=[("grpc.max_receive_message_length", -1)]) as channel:
        while time.monotonic() < deadline:
            agents.alive()
            with contextlib.suppress(grpc.aio.AioRpcError):
                reply = await rpc.OperatorStub(channel).Status(pb.StatusRequest(pool="pool-1"), timeout=20)
                if not reply.quiet_ms and reply.behind_ms < 500:
                    await asyncio.sleep(REPORT_S)
                    return
            await asyncio.sleep(1.0)


async def _trouble(site: Site) -> str:
    """What it accuses anybody of while all are well; empty: of nothing."""
    async with grpc.aio.insecure_channel(site.target, options=[("grpc.max_receive_message_length", -1)]) as channel:
        reply = await rpc.OperatorStub(channel).History(pb.HistoryRequest(limit=100_000), timeout=60)
    kinds = [entry.kind for entry in reply.entries]
    silent = kinds.count("agent-silent")
    return f"{silent} taken for silent" if silent else ""


class _Reader:
    """Waits for a report to be seen, one after the other."""

    def __init__(self, site: Site, agents: Agents) -> None:
        self._site = site
        self._newest: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1)
        agents.on_sample = self._sampled

    def _sampled(self, said: dict[str, Any]) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._newest.put_nowait(said)

    async def until(self, over: asyncio.Future[Any]) -> list[float]:
        found: list[float] = []
        async with grpc.aio.insecure_channel(self._site.target) as channel:
            stub = rpc.OperatorStub(channel)
            while not over.done():
                with contextlib.suppress(TimeoutError):
                    said = await asyncio.wait_for(self._newest.get(), 1.0)
                    # One that waited here while the last was looked for is no fresh one.
                    if time.monotonic_ns() / 1e6 - said["at_ms"] < 5:
                        found.append(await self._seen(stub, said))
        return found

    @staticmethod
    async def _seen(stub: Any, said: dict[str, Any]) -> float:
        """Milliseconds until it is shown; the limit where it is not within it."""
        while (passed := time.monotonic_ns() / 1e6 - said["at_ms"]) < SAMPLE_LIMIT_S * 1000:
            with contextlib.suppress(grpc.aio.AioRpcError):
                reply = await stub.Status(pb.StatusRequest(pool=said["pool"]), timeout=SAMPLE_LIMIT_S)
                shown = {host.host_uuid: host.memory_available_bytes for pool in reply.pools for host in pool.hosts}
                if shown.get(said["host"], 0) >= said["marker"]:
                    return time.monotonic_ns() / 1e6 - float(said["at_ms"])
            await asyncio.sleep(_POLL_S)
        return passed


def _status_ms(site: Site) -> float:
    command = Path(sys.executable).with_name("poolwarden")
    environment = base_environment(code_path("poolwarden_collector", "poolwarden", "poolwarden_lab"))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment |= {"POOLWARDEN_COLLECTOR": site.target, "PYTHONPYCACHEPREFIX": str(site.home / "pycache")}
    began = time.monotonic()
    done = subprocess.run([str(command), "status"], env=environment, capture_output=True, timeout=60, check=False)
    if not done.stdout:
        raise RuntimeError(f"poolwarden status ended with {done.returncode}: {done.stderr.decode()[-200:]}")
    return (time.monotonic() - began) * 1000


async def _herd(site: Site, collector: Collector, agents: Agents, found: Found) -> Collector:
    """Seconds from its death until all are welcomed by the next one; gives that one back."""
    began = time.monotonic()
    await asyncio.to_thread(collector.kill)
    await agents.until(lambda said: bool(said["up"] == 0), 30, "all streams end")
    following = Collector(site)
    try:
        await following.listening()
        missed = len(found.missed)
        await _all_in(agents, found.agents, limit_s(found.agents), found, "all are welcomed again after kill -9")
        if len(found.missed) == missed:
            found.herd_s = time.monotonic() - began
    except BaseException:
        following.kill()
        raise
    return following


def _figures(rows: list[Found], settings: Settings) -> list[Figure]:
    again = reproduce(NAME, settings.rounds)
    figures: list[Figure] = []
    for row in rows:
        of = f"{row.agents} agents, reports each {REPORT_S} s"
        if row.core:
            ratio = (
                f"bare gRPC echo of the same messages in the same run: {row.echo:.0f} %; agents' side {row.side:.0f} %"
            )
            figures += [
                Figure(
                    NAME, f"collector, share of one core, {of}", "%", (row.core,), CORE_BUDGET_PERCENT, (ratio, again)
                ),
                Figure(NAME, "... memory", "MB", (row.rss_mb,), None, (again,)),
            ]
        if row.late_ms:
            late = sorted(row.late_ms)
            most = late[int(len(late) * 0.99)]
            how = f"n {len(late)}, median {late[len(late) // 2]:.0f} ms; until the operators' API shows it"
            figures.append(
                Figure(NAME, f"report to state, 99th percentile, {of}", "ms", (most,), LATE_BUDGET_MS, (how,))
            )
        if row.status_ms:
            pools = f"`poolwarden status` of {-(-row.agents // 8)} pools"
            figures.append(Figure(NAME, pools, "ms", tuple(row.status_ms), STATUS_BUDGET_MS, (again,)))
        if row.herd_s:
            figures.append(
                Figure(NAME, f"kill -9 until {row.agents} agents are welcomed again", "s", (row.herd_s,), None)
            )
    return figures


def main(settings: Settings) -> list[Figure]:
    return asyncio.run(run(settings))
