"""One run of a fence agent: how it is started, fed, limited and ended (ClusterLabs: doc/FenceAgentAPI.md).

Rules
-----
* The agent gets a session of its own, a minimal environment (never PCMK_service: it disables the agent's own
  timeouts), ``/`` as its folder, no open files of ours, and ``name=value`` lines on stdin; nothing on its command
  line, which every user can read.
* ``action`` is written last and exactly once: the last one wins, and without one most agents would *reboot*.
* A hard limit of wall-clock time: then SIGTERM to the whole group, SIGKILL a second later. Such a run is *cut off*:
  what it asked of the device may still happen.
* When the agent itself has ended, whatever it left in its group is killed: a late child must not act after the result.
* One that must not begin too late is executed by a launcher (launcher.py), which compares the clock right before. Of
  one that the launcher has not executed it is certain that nothing of it has happened.
* What it says is cleaned of the values of its secret parameters before anything is cut or taken from it (redaction.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import PIPE
from types import MappingProxyType
from typing import IO

from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.shell.plain_text import printable
from poolwarden_collector.shell.redaction import hidden, secrets_of

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "PYTHONWARNINGS": "ignore",  # else the agent's last word is a deprecation warning (fence-agents 4.12, Python 3.11)
}
ACTIONS = ("status", "off", "on", "monitor", "metadata", "validate-all", "list")  # there is no reboot
LAUNCHER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py")))
_TERM_GRACE_S = 1.0
_KILL_GRACE_S = 2.0  # an agent in an uninterruptible sleep cannot be waited for
_OUTPUT_LIMIT = 1024 * 1024
LONGEST_LINE = 500  # characters of a run's last line, which is shown to people


@dataclass(frozen=True, slots=True)
class AgentRun:
    """How a run ended: its exit status, or ``None`` if it was cut off or never began; and what it said."""

    code: int | None
    started: bool
    output: str
    errors: str
    text: str  # one line for people

    @property
    def cut_off(self) -> bool:
        return self.started and self.code is None


def stdin_of(parameters: Mapping[str, str], action: str) -> bytes:
    """What the agent reads. Raises ValueError for an action that Poolwarden never asks for."""
    if action not in ACTIONS:
        raise ValueError(f"{action!r} is no action that Poolwarden uses")
    lines = [f"{name}={value}" for name, value in parameters.items() if name.replace("-", "_") != "action"]
    return "\n".join([*lines, f"action={action}", ""]).encode()


async def run_agent(
    agent: Path, parameters: Mapping[str, str], action: str, limit_s: float, begin_by: Ms | None = None
) -> AgentRun:
    """Run the agent once; returns after at most ``limit_s`` and about three seconds, whatever the agent does.

    ``begin_by``: not executed at this instant of CLOCK_BOOTTIME or later, and told as *not started*; None: whenever.
    """
    given, secrets = stdin_of(parameters, action), secrets_of(parameters)
    launcher = launched(begin_by, limit_s) if begin_by is not None else ()
    run = await run_program([str(agent)], given, limit_s, secrets=secrets, launcher=launcher)
    full = len(run.output.encode()) >= _OUTPUT_LIMIT
    return replace(run, output=hidden(run.output, secrets, cut=full))


def launched(begin_by: Ms, limit_s: float) -> tuple[str, ...]:
    """The launcher, as it is started: by when, and for how long also where this process has died."""
    return (*LAUNCHER, str(begin_by), str(int((limit_s + _TERM_GRACE_S + _KILL_GRACE_S) * 1000)))


async def run_program(
    command: Sequence[str],
    given: bytes,
    limit_s: float,
    environment: Mapping[str, str] = MappingProxyType({}),
    secrets: Sequence[str] = (),
    launcher: Sequence[str] = (),
) -> AgentRun:
    """Run a program as an agent is run, with this on its stdin; ``environment`` is added to the minimal one.

    ``launcher``: what it is executed by (``launched``), if it is not at once. ``secrets``: values that nobody
    may see in its last line and its errors. Its output is for a parser, and is whole.
    """
    name = Path(command[0]).name
    try:
        process = _Process(command, given, {**ENVIRONMENT, **environment}, launcher)
    except OSError as error:
        return AgentRun(None, False, "", "", f"{name} cannot be started: {error.strerror or error}")
    ended = False
    try:
        ended = await process.exited(limit_s)
        if not ended:
            process.signal_group(signal.SIGTERM)
            await process.exited(_TERM_GRACE_S)
    except asyncio.CancelledError:
        process.signal_group(signal.SIGKILL)
        process.finish()
        raise
    finally:
        # Whatever is left of the group.
        process.signal_group(signal.SIGKILL)
    await process.exited(_KILL_GRACE_S)
    code = process.finish()
    if why := process.why_not_begun(name):
        return AgentRun(None, False, "", "", why)
    errors = _text(process.errors, secrets)
    said = _last_line(errors) or _last_line(_text(process.output, secrets))
    if not ended:
        said = f"no result within {limit_s:g} s, killed" + (f"; last it said: {said}" if said else "")
        code = None
    return AgentRun(code, True, _text(process.output), errors, said or f"exit status {code}")


class _Process:
    """A running agent. Its exit is seen by a pidfd and not by its pipes, which a child that left the group may hold
    open for ever; it is reaped last, so that until then nobody else can get its group's id."""

    def __init__(
        self, command: Sequence[str], given: bytes, environment: Mapping[str, str], launcher: Sequence[str]
    ) -> None:
        self.output, self.errors = bytearray(), bytearray()
        self._loop = asyncio.get_running_loop()
        self._word = b""  # the launcher's
        self._hears: int | None = None
        says: int | None = None
        if launcher:
            self._hears, says = os.pipe()
            command = [*launcher, str(says), *command]
        try:
            self._start(command, environment, (says,) if says is not None else ())
        except OSError:
            self._close_word()
            raise
        finally:
            if says is not None:
                os.close(says)
        self._gone = asyncio.Event()
        self._loop.add_reader(self._pidfd, self._gone.set)
        self._pipes = {self._fd(self._popen.stdout): self.output, self._fd(self._popen.stderr): self.errors}
        for fd in self._pipes:
            os.set_blocking(fd, False)
            self._loop.add_reader(fd, self._take, fd)
        self._feed(given)

    def _start(self, command: Sequence[str], environment: Mapping[str, str], kept: tuple[int, ...]) -> None:
        self._popen = subprocess.Popen(
            list(command),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
            bufsize=0,
            pass_fds=kept,
        )
        try:
            self._pidfd = os.pidfd_open(self._popen.pid)
        except OSError:
            # safety: killed before its input ends, because an agent that reads no action reboots by default.
            self._popen.kill()
            self._popen.wait()
            raise

    def why_not_begun(self, name: str) -> str:
        """Why the launcher has not executed the program, after the end; empty: it has, or there was none."""
        kind, said = self._word[:1], self._word[1:].decode("utf-8", "replace")
        if self._hears is None or self._word == b"b":
            return ""
        if kind == b"l":
            return f"not begun: it was about to be executed {int(said) / 1000:.1f} s too late"
        if kind == b"b":
            return f"{name} cannot be started: {said[1:]}"
        # safety: it says so before it executes anything, and is dead by now.
        return f"not begun: {name} was not executed within its time, and its launcher was killed"

    def _close_word(self) -> None:
        """Take the launcher's word; after its end, so that nothing is to be waited for."""
        if self._hears is not None:
            os.set_blocking(self._hears, False)
            with contextlib.suppress(BlockingIOError):
                self._word = os.read(self._hears, 200)
            os.close(self._hears)

    def _feed(self, given: bytes) -> None:
        assert self._popen.stdin is not None
        os.set_blocking(self._popen.stdin.fileno(), False)
        written = 0
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            written = os.write(self._popen.stdin.fileno(), given)
        if written != len(given):
            # safety: the action is the last line; an agent that does not read it reboots by default.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.stdin.close()

    def _take(self, fd: int) -> None:
        """Keep what was said, up to the limit."""
        kept = self._pipes[fd]
        try:
            chunk = os.read(fd, 65536)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        kept.extend(chunk[: max(0, _OUTPUT_LIMIT - len(kept))])
        if not chunk:
            self._loop.remove_reader(fd)

    async def exited(self, within_s: float) -> bool:
        """Has the agent itself ended, within this time?"""
        try:
            await asyncio.wait_for(self._gone.wait(), within_s)
        except TimeoutError:
            return False
        self._loop.remove_reader(self._pidfd)
        return True

    def signal_group(self, number: signal.Signals) -> None:
        # safety: the agent is not reaped yet, so its pid, which is the group's id, belongs to nobody else.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)

    def finish(self) -> int | None:
        """Take what was still said, let go of everything; the exit status, ``None`` if it cannot even be killed."""
        for fd in self._pipes:
            self._take(fd)
            self._loop.remove_reader(fd)
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._close_word()
        for pipe in (self._popen.stdout, self._popen.stderr):
            assert pipe is not None
            pipe.close()
        return self._popen.poll()

    @staticmethod
    def _fd(pipe: IO[bytes] | None) -> int:
        assert pipe is not None
        return pipe.fileno()


def _last_line(said: str) -> str:
    """The last line in which something can be read, as it may stand in any log."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return printable(lines[-1][:LONGEST_LINE]) if lines else ""


def _text(said: bytearray, secrets: Sequence[str] = ()) -> str:
    return hidden(said.decode("utf-8", "replace"), secrets, cut=len(said) >= _OUTPUT_LIMIT)
