"""One run of a fence agent on this host, for another host's power (ClusterLabs: doc/FenceAgentAPI.md).

* A session of its own, a minimal environment (never PCMK_service: it disables the agent's own timeouts), ``/`` as its
  folder, none of our open files, parameters on stdin alone: every user can read a command line.
* The agent's user is the unprivileged one of the link side, where this host side is root: it talks to the network.
* A hard limit of time, then SIGTERM to its group, and SIGKILL a second later. Such a run is cut off: what it has asked
  of the device may still happen.
* When it has ended by itself, whatever it left in its group is killed: a late child must not act after the result.
* It is reaped last: until then no other process can get its group's id.
"""

import functools
import os
import pwd
import select
import signal
import subprocess
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from poolwarden_agent.core.fence_order import cleaned
from poolwarden_agent.dom0.fencing import identity
from poolwarden_agent.host_port import FenceRun

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "PYTHONWARNINGS": "ignore",
}
OUTPUT_LIMIT = 65536
TERM_GRACE_S = 1.0
KILL_GRACE_S = 2.0  # one in an uninterruptible sleep cannot be waited for
LOOK_S = 0.05


class FenceAgents(object):
    """The fence agents that this host's configuration names."""

    def __init__(self, paths: Sequence[str], user: str) -> None:
        self._paths = {os.path.basename(path): path for path in paths}
        self._user = user

    def there(self) -> Tuple[str, ...]:
        """The names of those that are there and can be run."""
        return tuple(
            name for name, path in sorted(self._paths.items()) if os.path.isfile(path) and os.access(path, os.X_OK)
        )

    def run(self, name: str, given: bytes, limit_ms: int, secrets: Sequence[str] = ()) -> FenceRun:
        """Run one; returns after at most ``limit_ms`` and some three seconds, whatever it does."""
        path = self._paths.get(name)
        if path is None:
            return FenceRun(False, None, "", "", "%s is not allowed here" % name)
        return self.run_program([path], given, limit_ms, secrets=secrets)

    def identify(
        self, name: str, parameters: Dict[str, str], limit_ms: int, thorough: bool, secrets: Sequence[str] = ()
    ) -> FenceRun:
        """Ask a device which machine it switches (identity.py)."""
        run = functools.partial(self.run_program, secrets=secrets)
        return identity.ask(run, name, parameters, limit_ms, thorough)

    def run_program(
        self,
        command: List[str],
        given: bytes,
        limit_ms: int,
        environment: Optional[Dict[str, str]] = None,
        secrets: Sequence[str] = (),
    ) -> FenceRun:
        """Run a program of this host's as a fence agent is run; ``environment`` is added to the minimal one."""
        try:
            process = _start(command, dict(ENVIRONMENT, **(environment or {})), _becoming(self._user))
        except (OSError, subprocess.SubprocessError) as error:
            why = getattr(error, "strerror", None) or error
            return FenceRun(False, None, "", "", "%s cannot be started: %s" % (command[0], why))
        said = _Said(process)
        try:
            ended = _feed(process, given) and said.listen(process, limit_ms / 1000.0)
            if not ended:
                _signal(process, signal.SIGTERM)
                said.listen(process, TERM_GRACE_S)
        finally:
            _signal(process, signal.SIGKILL)  # whatever is left of the group
        said.listen(process, KILL_GRACE_S)
        code = process.poll()
        said.close()
        return said.result(code if ended else None, limit_ms, secrets)


def _start(command: List[str], environment: Dict[str, str], becoming: Optional[Callable[[], None]]) -> Any:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
        close_fds=True,
        start_new_session=True,
        bufsize=0,
        preexec_fn=becoming,
    )


def _becoming(user: str) -> Optional[Callable[[], None]]:
    """What the child does before it becomes the agent: three system calls, all names looked up beforehand."""
    if not user or os.geteuid() != 0:
        return None
    entry = pwd.getpwnam(user)
    uid, gid = entry.pw_uid, entry.pw_gid

    def become() -> None:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)

    return become


def _feed(process: Any, given: bytes) -> bool:
    """Give it all of its parameters; False: it does not read them."""
    try:
        os.set_blocking(process.stdin.fileno(), False)
        written = os.write(process.stdin.fileno(), given)
    except OSError:
        written = 0
    if written != len(given):
        # safety: killed before its input ends: the action is the last line, and an agent that reads none reboots.
        _signal(process, signal.SIGKILL)
    process.stdin.close()
    return written == len(given)


def _signal(process: Any, number: int) -> None:
    try:
        # safety: not reaped yet, so its pid, which is the group's id, belongs to no other process.
        os.killpg(process.pid, number)
    except OSError:
        pass


def _has_ended(process: Any) -> bool:
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


class _Said(object):
    """What a run says, as far as it is kept.

    A child that left the group may hold its pipes open: they are not waited for.
    """

    def __init__(self, process: Any) -> None:
        self._pipes: Dict[Any, bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
        self._open: List[Any] = [process.stdout, process.stderr]
        self._both = (process.stdout, process.stderr)
        for pipe in self._open:
            os.set_blocking(pipe.fileno(), False)

    def listen(self, process: Any, limit_s: float) -> bool:
        """Until it has ended or the time is over; has it ended?"""
        until = time.monotonic() + limit_s
        while True:
            ended = _has_ended(process)
            for pipe in select.select(self._open, [], [], 0 if ended else LOOK_S)[0]:
                self._take(pipe)
            if ended or time.monotonic() >= until:
                return ended

    def _take(self, pipe: Any) -> None:
        try:
            chunk = os.read(pipe.fileno(), 65536)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        kept = self._pipes[pipe]
        kept += chunk[: max(0, OUTPUT_LIMIT - len(kept))]
        if not chunk:
            self._open.remove(pipe)

    def close(self) -> None:
        for pipe in self._both:
            pipe.close()

    def result(self, code: Optional[int], limit_ms: int, secrets: Sequence[str]) -> FenceRun:
        output, errors = (_text(self._pipes[pipe], secrets) for pipe in self._both)
        last = _last_line(errors) or _last_line(output)
        if code is None:
            last = "no result within %g s, killed%s" % (limit_ms / 1000.0, "; last it said: " + last if last else "")
        return FenceRun(True, code, output, errors, last or "exit status %s" % code)


def _text(said: bytearray, secrets: Sequence[str]) -> str:
    """What it said, cleaned before anything is cut or taken from it; a full buffer may end within a secret."""
    return cleaned(bytes(said).decode("utf-8", "replace"), secrets, cut=len(said) >= OUTPUT_LIMIT)


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""
