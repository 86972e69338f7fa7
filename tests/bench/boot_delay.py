"""How long the boot gate keeps xapi of a healthy host from starting: the packaged gate, from first process to end.

A host of a healthy pool of three loses its power and boots at once, so that nobody has succeeded it: the master with a
collector that answers, the master while the collector stands still (SIGSTOP) and only members answer, and a member. The
gate is ExecStartPre of xapi.service, so its life is the delay. It is looked for in /proc each 5 ms, and starts together
with the agent, as at a boot.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from agent_cost import _write_caches
from figures import Figure, reproduce
from settings import Settings, progress
from worlds import Stage, stage

from poolwarden_lab.processes.host import WRAPPER
from poolwarden_lab.processes.lab import Machine

NAME = "boot"
HOSTS = 3
BUDGET_S = 2.0
LOOK_S = 0.005
MISSED = 3  # looks without it before it has ended: amid an exec a process has no command line
LIMIT_S = 60.0
CASES = (
    ("a master, the collector answers", 0, False),
    ("a master, only members answer", 0, True),
    ("a member", 1, False),
)


async def run(settings: Settings) -> list[Figure]:
    figures = []
    for version, python in sorted(settings.pythons.items()):
        _write_caches(python)
        async with stage(HOSTS, settings.refused, python) as made:
            for what, number, frozen in CASES:
                count = math.ceil(settings.rounds / len(CASES))
                samples = [await _once(made, number, frozen) for _ in range(count)]
                progress(f"Python {version}, {what}: {', '.join(f'{each:.2f}' for each in samples)} s")
                notes = (*made.notes(), reproduce(NAME, settings.rounds))
                text = f"xapi's start delayed at a boot, {what}, Python {version}"
                figures.append(Figure(NAME, text, "s", tuple(samples), BUDGET_S, notes))
    return figures


async def _once(made: Stage, number: int, frozen: bool) -> float:
    await made.healthy()
    machine = made.world.machines[number]
    with _still(made) if frozen else contextlib.nullcontext():
        await machine.host.power_off()
        gate = asyncio.ensure_future(_lifetime(machine))
        await machine.host.power_on()
        return await gate


@contextlib.contextmanager
def _still(made: Stage) -> Iterator[None]:
    collector = made.world.collector
    assert collector is not None
    collector.send(signal.SIGSTOP)
    try:
        yield
    finally:
        collector.send(signal.SIGCONT)


async def _lifetime(machine: Machine) -> float:
    """Seconds from the gate's first process to its end. Raises TimeoutError if there is none, or no end."""
    mark, began, last, missed = str(machine.host.root / WRAPPER).encode(), 0.0, 0.0, 0
    async with asyncio.timeout(LIMIT_S):
        while missed < MISSED:
            there, now = await asyncio.to_thread(_runs, mark), time.monotonic()
            if there:
                began, last, missed = began or now, now, 0
            elif began:
                missed += 1
            await asyncio.sleep(LOOK_S)
    return last - began


def _runs(mark: bytes) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "cmdline").read_bytes().split(b"\0"):
                    return True
    return False


def main(settings: Settings) -> list[Figure]:
    return asyncio.run(run(settings))
