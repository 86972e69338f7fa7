"""`poolwarden status` as an operator feels it: the whole process, from its start to its end, against a live collector.

Byte-code caches are written by a first run that does not count, into a directory of this benchmark's own: an installed
package has them, a fresh clone has not. The pool is healthy and idle. Beside the time that passed stands the processor
time that the command used: on a busy machine the first grows and the second hardly does.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from figures import Figure, reproduce
from settings import Settings
from worlds import stage

from poolwarden_lab.processes.places import base_environment, code_path

NAME = "status"
HOSTS = 3
BUDGET_MS = 300.0
COMMANDS = (("status",), ("status", "--json"), ("master", "lab"))


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of the command, ms."""

    passed_ms: float
    used_ms: float


async def run(settings: Settings) -> list[Figure]:
    figures: list[Figure] = []
    async with stage(HOSTS, settings.refused) as made:
        with tempfile.TemporaryDirectory() as caches:
            environ = environment(caches, made.world.operator_target)
            for words in COMMANDS:
                await once(words, environ)
                samples = [await once(words, environ) for _ in range(settings.rounds)]
                figures += _figures(words, samples, settings.rounds)
    return figures


def _figures(words: tuple[str, ...], samples: list[Sample], rounds: int) -> list[Figure]:
    what, again = f"poolwarden {' '.join(words)}", reproduce(NAME, rounds)
    how = f"{HOSTS} hosts; whole process, byte code cached"
    return [
        Figure(NAME, what, "ms", tuple(s.passed_ms for s in samples), BUDGET_MS, (how, again)),
        Figure(NAME, "... of it on a processor", "ms", tuple(s.used_ms for s in samples), None, (again,)),
    ]


def environment(caches: str, target: str) -> dict[str, str]:
    environment = base_environment(code_path("poolwarden_collector", "poolwarden", "poolwarden_lab"))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**environment, "PYTHONPYCACHEPREFIX": caches, "POOLWARDEN_COLLECTOR": target}


def _program() -> list[str]:
    """The installed command beside this Python, where there is one."""
    installed = Path(sys.executable).with_name("poolwarden")
    return (
        [str(installed)] if os.access(installed, os.X_OK) else [sys.executable, "-m", "poolwarden_collector.cli.main"]
    )


async def once(words: tuple[str, ...], environment: dict[str, str]) -> Sample:
    """Raises RuntimeError if it did not answer as it must."""
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    used, began = _children_s(), time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *_program(), *words, stdin=none, stdout=pipe, stderr=pipe, env=environment
    )
    output, error = await asyncio.wait_for(process.communicate(), 30)
    passed = time.perf_counter() - began
    if process.returncode != 0 or not output:
        raise RuntimeError(f"poolwarden {' '.join(words)} ended with {process.returncode}: {error.decode()[-300:]}")
    return Sample(passed * 1000, (_children_s() - used) * 1000)


def _children_s() -> float:
    """Processor time of all children that have ended; of a healthy lab's none does meanwhile but the command."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(settings: Settings) -> list[Figure]:
    return asyncio.run(run(settings))
