"""`poolwarden status` as an operator feels it: the whole process, from its start to its end, against a live collector.

Byte-code caches are written by a first run that does not count, into a directory of this benchmark's own: an installed
package has them, a fresh clone has not. The pool is healthy and idle.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from figures import Figure, reproduce
from settings import Settings
from worlds import stage

from poolwarden_lab.places import base_environment, code_path

NAME = "status"
HOSTS = 3
BUDGET_MS = 300.0
_WORDS = {"poolwarden status": ("status",), "poolwarden status --json": ("status", "--json"), "poolwarden master": ()}


async def run(settings: Settings) -> list[Figure]:
    async with stage(HOSTS, settings.refused) as made:
        with tempfile.TemporaryDirectory() as caches:
            environment = _environment(caches, made.world.operator_target)
            figures = []
            for what, words in _WORDS.items():
                samples = await _times(words or ("master", "lab"), environment, settings.rounds)
                figures.append(
                    Figure(NAME, what, "ms", tuple(samples), BUDGET_MS, (_how(), reproduce(NAME, settings.rounds)))
                )
    return figures


def _environment(caches: str, target: str) -> dict[str, str]:
    environment = base_environment(code_path("poolwarden_collector", "poolwarden", "poolwarden_lab"))
    del environment["PYTHONDONTWRITEBYTECODE"]
    return {**environment, "PYTHONPYCACHEPREFIX": caches, "POOLWARDEN_COLLECTOR": target}


def _program() -> list[str]:
    """The installed command beside this Python, where there is one."""
    installed = Path(sys.executable).with_name("poolwarden")
    return (
        [str(installed)] if os.access(installed, os.X_OK) else [sys.executable, "-m", "poolwarden_collector.cli.main"]
    )


def _how() -> str:
    return f"{HOSTS} hosts; whole process, byte code cached; {Path(_program()[0]).name}"


async def _times(words: tuple[str, ...], environment: dict[str, str], rounds: int) -> list[float]:
    await _once(words, environment)
    return [await _once(words, environment) for _ in range(rounds)]


async def _once(words: tuple[str, ...], environment: dict[str, str]) -> float:
    """Milliseconds. Raises RuntimeError if it did not answer as it must."""
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *_program(), *words, stdin=none, stdout=pipe, stderr=pipe, env=environment
    )
    output, error = await asyncio.wait_for(process.communicate(), 30)
    lasted = (time.perf_counter() - began) * 1000
    if process.returncode != 0 or not output:
        raise RuntimeError(f"poolwarden {' '.join(words)} ended with {process.returncode}: {error.decode()[-300:]}")
    return lasted


def main(settings: Settings) -> list[Figure]:
    return asyncio.run(run(settings))
