"""One supervised program of the lab: what systemd is to a unit.

Rules (systemd's ``Restart=on-failure``): an exit code other than 0, or a death by signal, restarts it after a short
delay; exit 0 does not; nor does anything after `stop` or `kill`, which mean that the unit is to be down. Signals go
to the program's own pid, or to it and all its descendants, found by process id and never by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

RESTART_DELAY_S = 0.2  # systemd's RestartSec default is 0.1 s; plus the start of the process


class Program:
    """A command, its log and the process that runs it now, if any."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str],
        first: Sequence[str] = (),
        restart_delay_s: float = RESTART_DELAY_S,
        stop_limit_s: float = 10.0,
        started: Callable[[int], None] = lambda pid: None,
        ended: Callable[[int], None] = lambda pid: None,
    ) -> None:
        self._command = list(command)
        self._first = list(first)  # ExecStartPre=-: must end before each start, however it ends
        self._asking: asyncio.subprocess.Process | None = None
        self._log = log
        self._environment = dict(environment)
        self._restart_delay_s = restart_delay_s
        self._stop_limit_s = stop_limit_s
        self._started, self._ended = started, ended
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._wanted = False
        self._kills = 0
        self.starts = 0
        self.unasked = 0  # of them, those since the last `start` that made up for a death
        self.last_code: int | None = None

    @property
    def pid(self) -> int:
        """The running process, 0 if there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    @property
    def state(self) -> str:
        if self.pid:
            return "active"
        return "activating" if self._wanted else "inactive"

    async def start(self) -> None:
        """Start it, and keep it started. Raises OSError if it cannot be started at all."""
        if self.pid or self._wanted:
            return
        self._wanted, self.unasked = True, 0
        if self._first:
            self._keeper = asyncio.create_task(self._keep_once_let())
            return
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL to it and its descendants after the limit."""
        self._wanted = False
        self._stop_asking()
        process = self._process
        if process is not None and process.returncode is None:
            family = self.family()
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), self._stop_limit_s)
            except TimeoutError:
                _signal_all(family, signal.SIGKILL)
        await self._gone()

    async def kill(self) -> None:
        """SIGKILL to it and its descendants; it stays down, also if a `restart` is under way."""
        self._wanted = False
        self._stop_asking()
        self._kills += 1
        self.send(signal.SIGKILL)
        await self._gone()

    async def restart(self) -> None:
        kills = self._kills
        await self.stop()
        if self._kills == kills:
            await self.start()

    def send(self, number: signal.Signals, *, family: bool = True) -> bool:
        """Signal the process (and its descendants). False if nothing runs."""
        if not self.pid:
            return False
        if not family:
            _signal_all([psutil.Process(self.pid)], number)
            return True
        others = self.family()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)  # its group first: a child that is just being forked gets it as well
        _signal_all([other for other in others if other.pid != self.pid], number)
        return True

    def family(self) -> list[psutil.Process]:
        """The process and its descendants."""
        with contextlib.suppress(psutil.NoSuchProcess):
            head = psutil.Process(self.pid)
            return [head, *head.children(recursive=True)]
        return []

    async def _gone(self) -> None:
        """Wait for the end; a process that a restart under way has started in between is killed."""
        keeper = self._keeper
        while keeper is not None and not keeper.done():
            self.send(signal.SIGKILL)
            await asyncio.wait({keeper}, timeout=0.05)

    def _stop_asking(self) -> None:
        if self._asking is not None and self._asking.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._asking.pid, signal.SIGKILL)

    async def _let(self) -> bool:
        """Run what comes before each start; is it still wanted afterwards?"""
        if self._first:
            self._asking = await self._execute(self._first)
            await self._asking.wait()
        return self._wanted

    async def _keep_once_let(self) -> None:
        if await self._let():
            await self._spawn()
            await self._keep()

    async def _execute(self, command: list[str]) -> asyncio.subprocess.Process:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd="/",
                start_new_session=True,
            )

    async def _spawn(self) -> None:
        process = await self._execute(self._command)
        self._process = process
        self.starts += 1
        self._started(process.pid)

    async def _keep(self) -> None:
        while self._process is not None:
            pid, begun = self._process.pid, time.monotonic()
            self.last_code = await self._process.wait()
            self._ended(pid)
            if not self._wanted or self.last_code == 0:
                self._wanted = False
                return
            # A program that cannot live (a bad configuration) must not be started in a tight loop.
            await asyncio.sleep(
                self._restart_delay_s if time.monotonic() - begun > 1 else max(self._restart_delay_s, 0.2)
            )
            if not self._wanted or not await self._let():
                return
            self.unasked += 1
            await self._spawn()


def _signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
