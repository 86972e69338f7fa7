"""What an agent costs a dom0 with few and with many domains, beside prometheus-node-exporter in the same run.

Both are asked at the same interval: the agent reports each 2 s, and the exporter's page is fetched each 2 s. A second
exporter is fetched each 15 s, the interval that Prometheus' own example uses: that is what a site with default settings
pays. All run at the same time on the same machine, so whatever disturbs one disturbs the others. The exporter is
Debian's package with its default collectors; without it its lines are left out, and that is said.

How much of a core each takes is processor time, which others on the machine change far less than they change delays;
the ratio is of the medians.

The agents are those of a pool of three hosts in the lab, with the time factor 1: each probes two peers by TLS as well,
which the exporter does not have to do. At the end stands the table of docs/footprint.md (footprint_table.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from agent_cost import CPU_BUDGET_PERCENT, HOSTS, LOOK_S, PSS_BUDGET_MB, SETTLE_S, Agent, Sample, _write_caches
from figures import Figure, reproduce
from footprint_table import Column, table
from settings import Settings, progress
from usage import Forks, context_switches, forks_are_seen, processor_ns, pss, threads
from worlds import Stage, stage

NAME = "footprint"
DOMAINS = (5, 100)
EXPORTER = "prometheus-node-exporter"
INTERVAL_S = 2.0
SELDOM_S = 15.0  # Prometheus' example (prometheus.yml), and what most sites have left as it is


@dataclass(frozen=True, slots=True)
class Exporter:
    """node_exporter at work, and where its page is."""

    pid: int
    url: str

    def fetch(self) -> int:
        """Bytes of one page."""
        with urllib.request.urlopen(self.url, timeout=5) as answer:
            return len(answer.read())


@contextlib.asynccontextmanager
async def exporter(interval_s: float) -> AsyncIterator[Exporter | None]:
    """Runs it on loopback for as long as this lasts, and fetches its page so often; None where it is not installed."""
    program = shutil.which(EXPORTER)
    if program is None:
        yield None
        return
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False)  # this is a network namespace of its own
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [program, f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    made = Exporter(process.pid, f"http://127.0.0.1:{port}/metrics")
    await _serves(made)
    scraping = asyncio.ensure_future(_scrape(made, interval_s))
    try:
        yield made
    finally:
        scraping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await scraping
        process.terminate()
        process.wait(5)


async def _serves(made: Exporter) -> None:
    """Until it answers. Raises OSError if it never does."""
    deadline = time.monotonic() + 10
    while True:
        try:
            await asyncio.to_thread(made.fetch)
        except OSError:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def _scrape(made: Exporter, interval_s: float) -> None:
    while True:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            await asyncio.to_thread(made.fetch)
        await asyncio.sleep(max(0.0, interval_s - (time.monotonic() - began)))


class Beside:
    """The exporter in one window, measured as an agent is."""

    def __init__(self, made: Exporter) -> None:
        self._pid = made.pid
        self._forks = Forks(made.pid)
        self._used, self._switched = processor_ns(made.pid), context_switches(made.pid)
        self._began = time.monotonic()

    def look(self) -> None:
        self._forks.look()

    def sample(self) -> Sample:
        self.look()
        lasted, used = time.monotonic() - self._began, pss(self._pid) / 1024
        return Sample(
            used,
            None,
            used,
            (processor_ns(self._pid) - self._used) / (lasted * 1e9) * 100,
            (context_switches(self._pid) - self._switched) / lasted,
            self._forks.count / lasted * 60,
            threads(self._pid),
        )


async def run(settings: Settings) -> list[Figure]:
    if not forks_are_seen():
        raise RuntimeError("this kernel does not account a child's page faults: forks could not be told")
    if shutil.which(EXPORTER) is None:
        progress(f"not measured: {EXPORTER} is not installed (apt-get install {EXPORTER})")
    figures: list[Figure] = []
    columns: list[Column] = []
    for version, python in sorted(settings.pythons.items()):
        _write_caches(python)
        for domains in DOMAINS:
            async with (
                stage(HOSTS, settings.refused, python, 1.0, domains) as made,
                exporter(INTERVAL_S) as often,
                exporter(SELDOM_S) as seldom,
            ):
                await asyncio.sleep(SETTLE_S)
                before = os.getloadavg()[0]
                agents, beside = await _windows(made, [one for one in (often, seldom) if one is not None], settings)
                load = before, os.getloadavg()[0]
            columns.append(Column(f"{version}, {domains} domains", tuple(agents), *map(tuple, beside), load))
            what = f"Python {version}, {domains} domains"
            figures += _figures(f"agent, {what}", agents, settings, PSS_BUDGET_MB, CPU_BUDGET_PERCENT)
            for interval_s, samples in zip((INTERVAL_S, SELDOM_S), beside, strict=True):
                if samples:
                    name = f"node_exporter beside it, each {interval_s:g} s ({what})"
                    figures += _figures(name, samples, settings, None, None)
    print("\n" + table(columns) + "\n", flush=True)
    return figures


async def _windows(
    made: Stage, others: list[Exporter], settings: Settings
) -> tuple[list[Sample], tuple[list[Sample], list[Sample]]]:
    """The agents' samples, and those of the exporter that is fetched often and of the one that is fetched seldom."""
    agents: list[Sample] = []
    beside: tuple[list[Sample], list[Sample]] = ([], [])
    for number in range(math.ceil(settings.rounds / HOSTS)):
        watched = [Agent(machine.host.agent.pid) for machine in made.world.machines]
        peers = [Beside(other) for other in others]
        deadline = time.monotonic() + settings.seconds
        while (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(LOOK_S, left))
            for one in [*watched, *peers]:
                one.look()
        agents += [agent.sample() for agent in watched]
        for samples, peer in zip(beside, peers, strict=False):
            samples.append(peer.sample())
        progress(f"window {number + 1}: PSS {agents[-1].pss_mb:.1f} MB, processor {agents[-1].cpu_percent:.2f} %")
    return agents[: settings.rounds], beside


def _figures(
    what: str, samples: list[Sample], settings: Settings, memory: float | None, processor: float | None
) -> list[Figure]:
    again = f"{reproduce(NAME, settings.rounds)} --seconds {settings.seconds:g}"

    def of(name: str, unit: str, value: Callable[[Sample], float], budget: float | None) -> Figure:
        return Figure(NAME, f"{what}: {name}", unit, tuple(value(s) for s in samples), budget, (again,))

    idle = 0.0 if memory is not None else None
    return [
        of("PSS", "MB", lambda s: s.pss_mb, memory),
        of("share of one core", "%", lambda s: s.cpu_percent, processor),
        of("context switches", "per s", lambda s: s.switches_per_s, None),
        of("forks", "per min", lambda s: s.forks_per_minute, idle),
        of("threads", "", lambda s: s.threads, None),
    ]


def main(settings: Settings) -> list[Figure]:
    return asyncio.run(run(settings))
