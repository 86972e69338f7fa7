"""The lab process behind ``poolwarden lab up``: started detached, it reports on a pipe until the pool is healthy.

Lines on the pipe: ``progress TEXT``, then ``ready`` or ``failed REASON``; the pipe's end without either is a failure
too. The lab process lives until ``down`` or a signal, and takes everything with it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from poolwarden_collector.shell.config.certificates import CaError
from poolwarden_lab.processes.control import ControlServer, LabError, ask
from poolwarden_lab.processes.network import NetworkError
from poolwarden_lab.processes.places import PlaceError, answers, base_environment, code_path

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from poolwarden_lab.processes.lab import WorldSettings

HEALTHY_LIMIT_S = 120.0
DOWN_LIMIT_S = 60.0


def launch(arguments: list[str], say: Callable[[str], None]) -> str:
    """Start the lab process and wait until its pool is healthy. "" or the reason why not."""
    reading, writing = os.pipe()
    environment = base_environment(
        code_path("poolwarden_lab", "poolwarden_collector", "poolwarden", "poolwarden_agent")
    )
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "poolwarden_lab", "serve", *arguments, "--report", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=[writing],
            start_new_session=True,
        )
        os.close(writing)
        problem = _await_ready(reading, say)
        if problem != _SILENT:
            return problem
        process.wait(10)
        output.seek(0)
        last = output.read().decode(errors="replace").strip().splitlines()[-1:]
    return last[0].removeprefix("poolwarden lab: ") if last else problem


_SILENT = "the lab process ended without a word"


def _await_ready(reading: int, say: Callable[[str], None]) -> str:
    with os.fdopen(reading, encoding="utf-8") as report:
        for line in report:
            word, _, text = line.strip().partition(" ")
            if word == "progress":
                say(text)
            elif word == "ready":
                return ""
            elif word == "failed":
                return text
    return _SILENT


def hints(home: Path, collectors: int = 1) -> str:
    """What to try now."""
    target = f"unix:{home / ('collector.sock' if collectors == 1 else 'c1.sock')}"
    of_several = [
        "  poolwarden collectors",
        "  poolwarden lab fault c1 kill         (`poolwarden lab fault c1 list` names the faults)",
    ]
    return "\n".join(
        [
            f"The lab is up in {home}. Try:",
            f"  export POOLWARDEN_COLLECTOR={target} POOLWARDEN_LAB_DIR={home}",
            "  poolwarden status",
            *(of_several if collectors > 1 else ()),
            "  poolwarden lab fault h1 power        (`poolwarden lab fault h1 list` names the faults)",
            "  poolwarden history --follow",
            "  poolwarden lab exec h2 -- cat etc/xensource/pool.conf",
            "  poolwarden lab heal",
            "  poolwarden lab down",
        ]
    )


def end(home: Path) -> str:
    """End the lab in this directory and wait until it is gone. "" or what is wrong."""
    try:
        ask(home, {"op": "down"})
    except LabError as error:
        return str(error)
    deadline = time.monotonic() + DOWN_LIMIT_S
    while (home / "lab.sock").exists() or answers(home):
        if time.monotonic() > deadline:
            return f"the lab in {home} has not ended after {DOWN_LIMIT_S:.0f} s"
        time.sleep(0.05)
    return ""


async def serve(settings: WorldSettings, report: int) -> int:
    """The lab process: build, report, serve until ``down``."""
    from poolwarden_lab.processes.lab import World

    with os.fdopen(report, "w", encoding="utf-8") as pipe:

        def tell(line: str) -> None:
            pipe.write(line + "\n")
            pipe.flush()

        try:
            world = World(settings)
        except PlaceError as error:
            tell(f"failed {error}")
            return 1
        control = ControlServer(world)
        try:
            problem = await _until_down(_start(world, control, tell), control)
            tell(f"failed {problem}" if problem else "ready")
            pipe.close()
            if not problem:
                await control.down.wait()
            return 1 if problem else 0
        finally:
            await control.stop()
            await world.stop()


async def _until_down(start: Coroutine[None, None, str], control: ControlServer) -> str:
    """What the start says, or that it was called off by ``down``."""
    starting, down = asyncio.create_task(start), asyncio.create_task(control.down.wait())
    try:
        await asyncio.wait({starting, down}, return_when=asyncio.FIRST_COMPLETED)
        return starting.result() if starting.done() else "it was taken down before it was healthy"
    finally:
        for task in (starting, down):
            task.cancel()
        await asyncio.gather(starting, down, return_exceptions=True)


async def _start(world: object, control: ControlServer, tell: Callable[[str], None]) -> str:
    from poolwarden_lab.processes.lab import World
    from poolwarden_lab.processes.operator_link import OperatorLink, wait_healthy

    assert isinstance(world, World)
    tell(f"progress {world.headline}")
    for line in world.network.limitations():
        tell(f"progress without namespaces: {line}")
    link = OperatorLink(world.operator_target)
    try:
        await world.start()
        await control.start()
        await wait_healthy(link, world.settings.hosts, HEALTHY_LIMIT_S, world.hopeless)
    except (OSError, ValueError, NetworkError, CaError) as error:
        return str(error) or type(error).__name__
    finally:
        await link.close()
    return ""
