"""The operator's own OpenSSH: its configuration, keys, agent and known hosts. This program knows no password.

Rules
-----
* One login a host: the first connection is kept (ControlMaster) for as long as this command lasts, in a directory that
  is only its own.
* Without a terminal nothing may ask (BatchMode). With one, ``ssh`` itself asks the person.
* What is run is one string for the remote shell, with every value quoted; what must not stand in a list of processes
  goes by standard input.
* A destination that OpenSSH could take for an option is refused.
* Newer xapis keep sshd stopped while they are well, by default ("SSH auto mode"; xapi: ocaml/xapi/xapi_globs.ml,
  ssh_auto_mode_default; scripts/xapi-ssh-monitor). Who finds nobody listening is told of it.
"""

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from poolwarden_collector.cli.errors import BadInput, CommandError, Unreachable

CONNECT_S = 15
RUN_LIMIT_S = 300.0  # a package on a slow line
FAILED = 255  # ssh's own exit status, when it is not the remote command's
_DESTINATION = re.compile(r"(?:([A-Za-z0-9_][A-Za-z0-9_.-]{0,63})@)?([A-Za-z0-9][A-Za-z0-9.:_-]{0,252})")

_NOBODY = re.compile(r"connection (refused|timed out)|no route to host", re.IGNORECASE)


class Done(NamedTuple):
    """What a command on a host came to."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Its last words, on one line."""
        lines = [line.strip() for line in (self.err.strip() or self.out.strip()).splitlines() if line.strip()]
        return "; ".join(lines[-3:])[:400]


def destination(text: str) -> tuple[str, str]:
    """User and host of ``root@host``; the user is root where none is given. Raises BadInput."""
    found = _DESTINATION.fullmatch(text)
    if found is None:
        raise BadInput(f"{text!r} is no host to log in to", "e.g. poolwarden pool add root@192.0.2.11")
    return found[1] or "root", found[2]


class Logins:
    """Connections to hosts; use as a context manager. ``options`` are OpenSSH's, as the operator gave them."""

    def __init__(self, user: str, options: Sequence[str] = ()) -> None:
        if shutil.which("ssh") is None:
            raise BadInput("ssh is not here", "install OpenSSH's client, or enrol each host by hand: docs/enrolment.md")
        self._user = user
        self._folder = Path(tempfile.mkdtemp(prefix="pwssh-"))
        ours = ["-o", f"ControlPath={self._folder}/%C", "-o", "ControlMaster=auto", "-o", "ControlPersist=60"]
        ours += ["-o", f"ConnectTimeout={CONNECT_S}", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
        if not sys.stdin.isatty():
            ours += ["-o", "BatchMode=yes"]
        self._words = ["ssh", *options, *ours]
        self._used: set[str] = set()

    def __enter__(self) -> "Logins":
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._used:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                words = [*self._words, "-O", "exit", "--", f"{self._user}@{host}"]
                subprocess.run(words, capture_output=True, timeout=5, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, host: str, command: Sequence[str], given: str | Path = "", limit_s: float = RUN_LIMIT_S) -> Done:
        """Run a command on a host; ``given``: what it reads, or the file. Raises CommandError if ssh itself fails."""
        self._used.add(host)
        words = [*self._words, "--", f"{self._user}@{host}", shlex.join(command)]
        try:
            if isinstance(given, Path):
                with given.open("rb") as file:
                    done = subprocess.run(words, stdin=file, capture_output=True, timeout=limit_s, check=False)
            else:
                done = subprocess.run(words, input=given.encode(), capture_output=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            raise CommandError(
                f"{host}: no end within {limit_s:.0f} s of: {command[0]}", "see to the host, then again"
            ) from None
        except OSError as error:
            raise CommandError(f"ssh cannot be run: {error.strerror}") from None
        found = Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        if found.status == FAILED:
            hint = f"try it by hand: ssh {self._user}@{host}; options of ssh go behind --, e.g. -- -i KEY"
            if _NOBODY.search(found.said):
                hint = f"XenServer 9 stops its sshd while xapi is well: xe pool-enable-ssh; or {hint}"
            raise Unreachable(f"{host}: ssh does not get in: {found.said or 'no reason given'}", hint)
        return found

    def script(self, host: str, text: str, *values: str) -> Done:
        """Run a shell script on a host, with these positional parameters."""
        return self.run(host, ["sh", "-s", "--", *values], text)
