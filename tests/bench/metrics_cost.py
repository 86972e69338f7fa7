"""What a scrape costs, with 100 pools of 8 hosts: how long it takes, and what the engine feels of it.

The pools are the engine's own (tests/core), the page is written by the production code, in a worker's thread as in
production. Meanwhile an event loop steps one pool again and again, as a collector's does: its steps are measured with
and without a scrape beside them, and how long the loop at most waited for its turn.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median

from figures import Figure, reproduce
from settings import Settings
from tests.core.pool import Guarded
from tests.shell.looked import configured, look_at

from poolwarden_collector.core.engine import step
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.shell.metrics.exposition import write_out
from poolwarden_collector.shell.metrics.look import Look

NAME = "metrics"
POOLS, HOSTS = 100, 8
SCRAPE_BUDGET_S = 10.0  # Prometheus' own limit of a scrape
TURN_BUDGET_MS = 100.0  # a collector looks at its clock each 250 ms
ALONE_S = 1.0


def main(settings: Settings) -> list[Figure]:
    pool = Guarded(hosts=HOSTS)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as worker:
        look = _look(pool, Path(folder))
        text, _ = write_out(look, "")
        took, alone, quiet, beside, waits = [], [], [], [], []
        for _ in range(settings.rounds):
            steps, gaps = asyncio.run(_stepping(pool, _after(ALONE_S)))
            alone.append(median(steps))
            quiet.append(max(gaps))
            scrape = worker.submit(_timed, look)
            steps, gaps = asyncio.run(_stepping(pool, scrape.done))
            took.append(scrape.result())
            beside.append(median(steps))
            waits.append(max(gaps))
    size = f"{POOLS} pools of {HOSTS} hosts, {text.count(b'{')} series, {len(text) / 1e6:.1f} MB"
    again = reproduce(NAME, settings.rounds)
    ratios = tuple(b / a for a, b in zip(alone, beside, strict=True))
    turns = tuple(b / a for a, b in zip(quiet, waits, strict=True))
    seconds, used = (tuple(figures) for figures in zip(*took, strict=True))
    beside_it = "median step of each round; the scrape is written in another thread"
    return [
        Figure(NAME, "a scrape, beside an engine that never rests", "s", seconds, SCRAPE_BUDGET_S, (size, again)),
        Figure(NAME, "... of it on a processor", "s", used, None, (again,)),
        Figure(NAME, "engine step beside a scrape / alone", "", ratios, None, (beside_it, again)),
        Figure(NAME, "longest turn of the loop beside a scrape", "ms", tuple(waits), TURN_BUDGET_MS, (again,)),
        Figure(NAME, "... to the longest in a second without one", "", turns, None, (again,)),
    ]


def _after(seconds: float) -> Callable[[], bool]:
    until = time.perf_counter() + seconds
    return lambda: time.perf_counter() > until


def _look(pool: Guarded, folder: Path) -> Look:
    records = [f"aaaaaaaa-0000-4000-8000-{number:012d}" for number in range(POOLS)]
    pools = [(replace(pool.pool, record=replace(pool.pool.record, pool=uuid)), pool.site) for uuid in records]
    return look_at(configured(folder), *pools, now=pool.now, shown_at=pool.now)


def _timed(look: Look) -> tuple[float, float]:
    """Seconds that passed, and those of this thread on a processor."""
    began, used = time.perf_counter(), time.thread_time()
    write_out(look, "")
    return time.perf_counter() - began, time.thread_time() - used


async def _stepping(pool: Guarded, over: Callable[[], bool]) -> tuple[list[float], list[float]]:
    """Milliseconds of each step until it is over, and from the begin of each to that of the next."""
    host, steps, begins = pool.hosts[1], [], [time.perf_counter()]
    while not over():
        began = time.perf_counter()
        begins.append(began)
        step(pool.pool, ev.AgentReported(host.uuid, host.stream, pool.facts(host)), pool.now, pool.site)
        steps.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0)
    return steps, [(after - before) * 1000 for before, after in zip(begins, begins[1:], strict=False)]
