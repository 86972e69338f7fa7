"""What the looks at one dom0 share: its root, what is asked once, and how a file is told from one that cannot be read.

Rules
-----
* A file that is not there is a finding only where its directory can be listed. Whatever else keeps it from being read
  (permission, a device under its name, an input error) is no finding at all.
* What comes up with the boot is missed only after ``SETTLED_S``.
* systemd is asked once, by ``systemctl show``, which changes nothing; it is killed at its limit.
"""

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from poolwarden_agent.dom0.system import files, ping, plain_files
from poolwarden_agent.dom0.system.clock import now_s

SETTLED_S = 900.0
SYSTEMCTL_LIMIT_S = 5.0
MOST_SAID = 16384
UNIT = "xapi.service"
PROPERTIES = (
    "LoadState", "Type", "Restart", "RestartForceExitStatus", "RestartPreventExitStatus", "SuccessExitStatus",
    "TimeoutStartUSec", "TimeoutStopUSec", "KillMode", "DropInPaths",
)  # fmt: skip

# A text, or why there is none; ``gone``: it was looked for, and is not there.
Text = NamedTuple("Text", [("text", Optional[str]), ("why", str), ("gone", bool)])


class Machine(NamedTuple):
    """What this very process runs on."""

    python: Tuple[int, int, int]
    glibc: str  # as "glibc 2.17"; empty: not known
    protobuf: str  # its backend: "cpp", "upb" or "python"; empty: not known
    wall_s: float
    up_s: float  # since this boot
    privileged: bool
    pids: Tuple[int, ...]  # the agent's own processes; empty: looked for by their control group
    proc: str  # where these are told of
    icmp: Callable[[], Tuple[Any, bool]]  # opens an ICMP socket; is it a raw one?


def this_machine(pids: Tuple[int, ...] = ()) -> Machine:
    """As it is now."""
    try:
        glibc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        glibc = ""
    try:
        from google.protobuf.internal import api_implementation

        backend = str(api_implementation.Type())
    except ImportError:
        backend = ""
    privileged = os.geteuid() == 0
    opened = lambda: ping.open_socket(4)  # noqa: E731
    return Machine(sys.version_info[:3], glibc, backend, time.time(), now_s(), privileged, pids, "/proc", opened)


class Scene(object):
    """One dom0 below a root, looked at once.

    ``answers``: does its xapi answer on TCP 80 of its own host now? None: that is not known, and nothing that rests on
    it is found. ``placed``: has this agent placed a database there? None: not known.
    """

    def __init__(
        self,
        root: str,
        http: Tuple[str, int],
        tls_port: int,
        machine: Machine,
        answers: Callable[[], Optional[bool]],
        placed: Callable[[], Optional[bool]],
    ) -> None:
        self.root = root
        self.http, self.tls_port = http, tls_port
        self.machine = machine
        self.inventory = files.inventory(root)
        self._asked: Dict[str, Any] = {}
        self._answers, self._placed = answers, placed

    def once(self, name: str, ask: Callable[[], Any]) -> Any:
        """What several looks need, asked by the first of them."""
        if name not in self._asked:
            self._asked[name] = ask()
        return self._asked[name]

    def answers(self) -> Optional[bool]:
        return self.once("answers", self._answers)

    def placed(self) -> Optional[bool]:
        return self.once("placed", self._placed)

    def path(self, *parts: str) -> str:
        return os.path.join(self.root, *parts)

    def settled(self) -> bool:
        """Has this host been up for long enough that what belongs to it has started? No, where that is not known."""
        text = files.read(self.root, "proc/uptime") or ""
        try:
            return float(text.split()[0]) >= SETTLED_S
        except (IndexError, ValueError):
            return False

    def unit(self) -> Tuple[Dict[str, str], str]:
        """Properties of xapi.service, or why they are not known."""
        return self.once("unit", lambda: ask_unit(self.path("usr/bin/systemctl")))


def read(root: str, path: str, limit: int = files.SMALL) -> Text:
    """A small text, stripped."""
    full = os.path.join(root, path)
    try:
        descriptor = plain_files.to_read(full)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        missing = error.errno == errno.ENOENT and not os.path.lexists(full) and listed(os.path.dirname(full))
        return Text(None, "it is not there" if missing else _reason(error), missing)
    if len(data) > limit:
        return Text(None, "it is larger than %d bytes" % limit, False)
    return Text(data.decode("utf-8", "replace").strip(), "", False)


def listed(directory: str) -> bool:
    """Can this directory be listed?"""
    try:
        os.listdir(directory)
    except OSError:
        return False
    return True


def is_socket(path: str) -> Optional[bool]:
    """Is a Unix socket there? None: that cannot be seen."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except FileNotFoundError:
        return False if listed(os.path.dirname(path)) else None
    except OSError:
        return None


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def ask_unit(systemctl: str) -> Tuple[Dict[str, str], str]:
    """What systemd says of xapi.service; empty, with the reason, where it says nothing within its limit."""
    words = [systemctl, "show"] + ["--property=%s" % name for name in PROPERTIES] + [UNIT]
    try:
        run = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        return {}, "systemctl cannot be run: %s" % _reason(error)
    said: list = []
    reader = threading.Thread(target=lambda: said.append(_all(run.stdout)))
    reader.daemon = True
    reader.start()
    try:
        code = run.wait(SYSTEMCTL_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(1.0)  # one that waits for a disk ends when that answers
        return {}, "systemctl show did not end within %d s" % SYSTEMCTL_LIMIT_S
    reader.join(1.0)
    if code or not said:
        return {}, "systemctl show ended with %d" % code
    lines = said[0].decode("utf-8", "replace").splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    known = {name: found[name].strip() for name in PROPERTIES if name in found}
    return known, "" if known else "systemctl show said nothing"


def _all(stream: Any) -> bytes:
    """Its first bytes; the rest is read and thrown away, so that the writer ends."""
    with stream:
        kept = stream.read(MOST_SAID)
        while stream.read(MOST_SAID):
            pass
    return kept
