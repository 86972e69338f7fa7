"""The engine's price: one step for a report and for a tick, and the step that decides a promotion with its commit.

Pure: the pool of tests/core in its own time, no process, no socket. Only ``engine.step`` is inside the stopwatch, what
the harness around it does is not. The deciding step is the one that takes the last answer of the last look (every
other evidence is there by then) and gives back the promote order; its entries are then committed to a real journal,
because nothing is sent before that.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest import mock

from figures import Figure, reproduce
from settings import Settings
from tests.core.pool import POOL, Guarded, Host

from poolwarden_collector.core.engine import StepResult, step
from poolwarden_collector.core.evidence.mastership import EVERYONE_UP_TO
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import SendOrder
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.config.config import Config, Tls
from poolwarden_collector.shell.loop import rests
from poolwarden_collector.shell.loop.engine_loop import EngineLoop
from poolwarden_collector.shell.queue.happening import Happening
from poolwarden_collector.shell.store.journal import Journal

NAME = "engine"
SIZES = (3, 16, 64)
EVENTS_PER_ROUND = 20
WARM_MS, IDLE_MS = 70_000, 60_000
# What the policy's own rules ask for with reports each 5 s.
SLOWER = {"suspect_after": 10_000, "vanished_after": 15_000}
DECISION_BUDGET_MS = 1_000.0
DECISION_LIMIT_MS = 40_000


def main(settings: Settings) -> list[Figure]:
    figures: list[Figure] = []
    for size in SIZES:
        figures += _steps(size, settings)
        figures += _decisions(size, settings)
        figures += _idle(size, settings)
    return figures


# ------------------------------------------------------------------------------------------------ pools that are idle


def _idle(size: int, settings: Settings) -> list[Figure]:
    """What a pool costs to which nothing happens: the loop's reports, own probes and ticks, as share of a core."""
    figures = []
    for every in (5_000, 2_000):
        for always in (True, False):
            none = mock.patch.object(rests, "rest_of", return_value=None) if always else nullcontext()
            with none:
                shares = tuple(_share(size, every) * 1_000 / size for _ in range(min(settings.rounds, 3)))
            how = "ticked always" if always else "at rest"
            name = f"engine for 1,000 idle agents, {size} hosts a pool, reports each {every // 1000} s, {how}"
            figures.append(Figure(NAME, name, "core", shares, None, (reproduce(NAME, settings.rounds),)))
    return figures


def _share(size: int, every: int) -> float:
    """Seconds of CPU time for a second of one idle pool. Raises RuntimeError if it is not idle."""
    pool = Guarded(hosts=size)
    few = {pool.hosts[0].uuid} if size > EVERYONE_UP_TO else {host.uuid for host in pool.hosts}
    nowhere = Path("/nonexistent")
    policy = replace(Policy(), report_interval=every, **SLOWER) if every > 2_000 else Policy()
    config = Config(nowhere, "bench", "", nowhere, nowhere, Tls(nowhere, nowhere, nowhere), policy=policy)
    roster = Roster(config, 1, lambda: pool.now)
    loop = EngineLoop(roster, {}, pool.now, pool.now)
    roster.pools[POOL] = replace(pool.pool, policy=policy)
    busy = 0.0

    def take(event: ev.Event) -> None:
        nonlocal busy
        began = time.process_time()
        ready = loop.take(Happening(POOL, event, pool.now), pool.now, pool.now)
        while ready.write is not None:
            ready = loop.committed(pool.now, pool.now)
        busy += time.process_time() - began

    for ms in range(0, WARM_MS + IDLE_MS, 250):
        if ms == WARM_MS:
            busy = 0.0
        for number, host in enumerate(pool.hosts):
            if (ms + 250 * number) % every == 0:
                facts = pool.facts(host)
                probes = tuple(probe for probe in facts.probes if probe.target in few)
                take(ev.AgentReported(host.uuid, host.stream, replace(facts, probes=probes), pool.now))
        if ms % policy.probe_interval == 0:
            take(ev.CollectorProbed(pool.hosts[0].uuid, ProbeOutcome.ANSWERED, pool.now, ""))
        pool.now += 250
        began = time.process_time()
        due = loop.due(pool.now)
        busy += time.process_time() - began
        if due:
            take(ev.Tick())
    if roster.pools[POOL].live.verdict.word != "Healthy":
        raise RuntimeError(f"the measured pool is {roster.pools[POOL].live.verdict.word}, not Healthy")
    return busy / (IDLE_MS / 1000)


# ------------------------------------------------------------------------------------------------ ordinary steps


def _steps(size: int, settings: Settings) -> list[Figure]:
    """A healthy pool that hears reports and ticks, none of them news."""
    pool = Guarded(hosts=size)
    members = pool.hosts[1:]
    reports, ticks = [], []
    for number in range(settings.rounds * EVENTS_PER_ROUND):
        host = members[number % len(members)]
        pool.now += 10
        report = ev.AgentReported(host.uuid, host.stream, pool.facts(host))
        reports.append(_timed(pool, report))
        ticks.append(_timed(pool, ev.Tick()))
        if number % 100 == 99:
            _refresh(pool)
    again = reproduce(NAME, settings.rounds)
    return [
        Figure(NAME, f"engine step for a report, {size} hosts", "ms", tuple(reports), None, (again,)),
        Figure(NAME, f"engine step for a tick, {size} hosts", "ms", tuple(ticks), None, (again,)),
    ]


def _refresh(pool: Guarded) -> None:
    """Nobody may fall silent: that would be another event than the one that is measured."""
    for host in pool.hosts:
        pool.report(host)
    if pool.verdict != "Healthy":
        raise RuntimeError(f"the measured pool is {pool.verdict}, not Healthy")


def _timed(pool: Guarded, event: ev.Event) -> float:
    """Milliseconds of one step; the pool goes on from its outcome."""
    began = time.perf_counter_ns()
    outcome = step(pool.pool, event, pool.now, pool.site)
    lasted = (time.perf_counter_ns() - began) / 1e6
    pool.pool = outcome.pool
    pool.journal.extend(outcome.entries)
    return lasted


# ------------------------------------------------------------------------------------------------ the decision


class _Held:
    """Withholds the last look's last answer; everybody else answers at once."""

    def __init__(self, pool: Guarded) -> None:
        self._pool = pool
        self._last = pool.hosts[-1]
        self.order: Order | None = None

    def __call__(self, host: Host, order: Order) -> object:
        if order.kind_name == "probe_now" and host is self._last:
            self.order = order
            return None
        return self._pool.default(host, order)


def _decisions(size: int, settings: Settings) -> list[Figure]:
    pure, durable = [], []
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), "bench", ("log",))
        journal.begin_epoch()
        try:
            for _ in range(settings.rounds):
                decided, committed = _decision(size, journal)
                pure.append(decided)
                durable.append(decided + committed)
        finally:
            journal.close()
    again = reproduce(NAME, settings.rounds)
    return [
        Figure(
            NAME,
            f"engine step from the last evidence to the promote order, {size} hosts",
            "ms",
            tuple(pure),
            DECISION_BUDGET_MS,
            (again,),
        ),
        Figure(
            NAME,
            f"... and its entries durable (SQLite, WAL, synchronous=FULL), {size} hosts",
            "ms",
            tuple(durable),
            DECISION_BUDGET_MS,
            (f"journal in {tempfile.gettempdir()}", again),
        ),
    ]


def _decision(size: int, journal: Journal) -> tuple[float, float]:
    """Milliseconds of the deciding step, and of its commit."""
    pool = Guarded(hosts=size)
    held = _Held(pool)
    pool.on_order = held  # type: ignore[assignment]
    pool.cut_power()
    _until(pool, lambda: held.order is not None)
    assert held.order is not None
    last = pool.by_uuid(held.order.host)
    answer = ev.OrderAnswered(last.uuid, last.stream, pool.default(last, held.order))  # type: ignore[arg-type]
    began = time.perf_counter_ns()
    outcome = step(pool.pool, answer, pool.now, pool.site)
    decided = time.perf_counter_ns()
    journal.commit(outcome.pool.record.pool, outcome.entries, outcome.alerts, "bench")
    committed = time.perf_counter_ns()
    _check(outcome)
    return (decided - began) / 1e6, (committed - decided) / 1e6


def _check(outcome: StepResult) -> None:
    """It must have been the deciding step, or the figure is about something else."""
    kinds = [entry.kind for entry in outcome.entries]
    orders = [e.order.kind_name for e in outcome.effects if isinstance(e, SendOrder)]
    if Kind.PROMOTE_INTENT not in kinds or orders != ["promote"]:
        raise RuntimeError(f"the last evidence decided nothing: {[kind.value for kind in kinds]}, orders {orders}")


def _until(pool: Guarded, reached: Callable[[], bool]) -> None:
    deadline = pool.now + DECISION_LIMIT_MS
    while not reached():
        if pool.now > deadline:
            raise RuntimeError(f"no last look within {DECISION_LIMIT_MS / 1000:.0f} s: {pool.verdict}")
        pool.run(250)
