"""What an idle agent costs its dom0: memory and processor of both its processes, context switches, forks.

A pool of three and not of one: an agent's own xapi, its files and one report each 2 s are only half of what it does,
the TLS probe of its peers is the other; a lone host has no peers. Every agent gives a sample per window, masters and
members alike; nothing is broken meanwhile.

* Time factor 1: the model's clock decides how often a master's database changes, and with it what reports contain.
* PSS is what the budget is about, but here three agents share their libraries with each other, and on the collector's
  Python with the lab's programs; a dom0 has one agent. So, as root, the different page frames of both processes are
  counted too: that is their PSS where nobody else shares a page with them, and what the budget should be held against.
* An agent that must compile its sources at each start needs more memory for ever after; the caches beside the sources
  are written first, as an installed package has them.
"""

from __future__ import annotations

import asyncio
import math
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from figures import Figure, reproduce
from machine import ROOT
from settings import Settings, progress
from usage import Forks, children, context_switches, forks_are_seen, memory_alone, processor_ns, pss, threads
from worlds import Stage, stage

NAME = "agent"
HOSTS = 3
SETTLE_S = 20.0  # after the pool became healthy: first reports, first probes, caches
LOOK_S = 0.1
PSS_BUDGET_MB = 55.0
CPU_BUDGET_PERCENT = 0.5
_MB = 1024.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One agent, both processes, one window."""

    pss_mb: float
    alone_mb: float | None
    host_side_mb: float
    cpu_percent: float
    switches_per_s: float
    forks_per_minute: float
    threads: int


class Agent:
    """The host side and its link side, from the window's begin on."""

    def __init__(self, host_side: int) -> None:
        links = children(host_side)
        if len(links) != 1:
            raise RuntimeError(f"agent {host_side} has {len(links)} children, not its one link side")
        self.pids = (host_side, *links)
        self._forks = [Forks(pid) for pid in self.pids]
        self._used = self._all(processor_ns)
        self._switched = self._all(context_switches)
        self._began = time.monotonic()

    def look(self) -> None:
        for forks in self._forks:
            forks.look()

    def sample(self) -> Sample:
        self.look()
        lasted = time.monotonic() - self._began
        used = [pss(pid) for pid in self.pids]
        alone = memory_alone(self.pids)
        return Sample(
            sum(used) / _MB,
            None if alone is None else alone / _MB,
            used[0] / _MB,
            (self._all(processor_ns) - self._used) / (lasted * 1e9) * 100,
            (self._all(context_switches) - self._switched) / lasted,
            sum(forks.count for forks in self._forks) / lasted * 60,
            self._all(threads),
        )

    def _all(self, value: Callable[[int], int]) -> int:
        return sum(value(pid) for pid in self.pids)


async def run(settings: Settings) -> list[Figure]:
    if not forks_are_seen():
        raise RuntimeError("this kernel does not account a child's page faults: forks could not be told")
    figures: list[Figure] = []
    for version, python in sorted(settings.pythons.items()):
        _write_caches(python)
        async with stage(HOSTS, settings.refused, python, factor=1.0) as made:
            samples = await _windows(made, settings, version)
            figures += _figures(samples, version, settings, made.notes())
    return figures


def _write_caches(python: str) -> None:
    """As an installed package has them. Without effect where the sources cannot be written."""
    folders = [str(ROOT / "agent"), str(ROOT / "protos")]
    subprocess.run([python, "-m", "compileall", "-q", *folders], check=False, capture_output=True, timeout=60)


async def _windows(made: Stage, settings: Settings, version: str) -> list[Sample]:
    await asyncio.sleep(SETTLE_S)
    samples: list[Sample] = []
    count = math.ceil(settings.rounds / HOSTS)
    for number in range(count):
        agents = [Agent(machine.host.agent.pid) for machine in made.world.machines]
        deadline = time.monotonic() + settings.seconds
        while (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(LOOK_S, left))
            for agent in agents:
                agent.look()
        samples += [agent.sample() for agent in agents]
        last = samples[-HOSTS:]
        progress(
            f"Python {version}, window {number + 1} of {count}:"
            f" PSS {', '.join(f'{s.pss_mb:.1f}' for s in last)} MB,"
            f" processor {', '.join(f'{s.cpu_percent:.2f}' for s in last)} %"
        )
    return samples[: settings.rounds]


def _figures(samples: list[Sample], version: str, settings: Settings, notes: tuple[str, ...]) -> list[Figure]:
    again = f"{reproduce(NAME, settings.rounds)} --seconds {settings.seconds:g}"

    def of(what: str, unit: str, value: Callable[[Sample], float], budget: float | None, *more: str) -> Figure:
        return Figure(NAME, f"{what}, Python {version}", unit, tuple(value(s) for s in samples), budget, (*more, again))

    shown = [
        of("agent PSS, both processes", "MB", lambda s: s.pss_mb, PSS_BUDGET_MB, *notes),
        of("... of it the host side", "MB", lambda s: s.host_side_mb, None),
        of(
            f"agent's share of one core over {settings.seconds:g} s at 2 s reports",
            "%",
            lambda s: s.cpu_percent,
            CPU_BUDGET_PERCENT,
            f"{HOSTS} hosts, so each probes {HOSTS - 1} peers' xapi by TLS each 2 s; time factor 1",
        ),
        of("agent's context switches", "per s", lambda s: s.switches_per_s, None),
        of("agent's threads, both processes", "", lambda s: s.threads, None),
        of(
            "agent's forks when idle",
            "per min",
            lambda s: s.forks_per_minute,
            0.0,
            "by the page faults of waited-for children in /proc/PID/stat: none is exact (tests/bench/usage.py)",
        ),
    ]
    if any(sample.alone_mb is None for sample in samples):
        progress("not measured: memory if nobody shared a page with the agent (the kernel tells it to root only)")
        return shown
    alone = "different page frames of both processes: the PSS in a dom0 where nothing else shares a page with them"
    return [of("agent memory alone, both processes", "MB", lambda s: s.alone_mb or 0.0, PSS_BUDGET_MB, alone), *shown]


def main(settings: Settings) -> list[Figure]:
    return asyncio.run(run(settings))
