"""Asks the file systems of storage repositories whether they answer, and finds processes that wait for a disk.

Rules
-----
* A file system whose server is away keeps whoever asks it for as long as it is away: each is asked in a thread of its
  own, and never again beside one that has not been answered; at most ``MOST_MOUNTS`` threads wait at once. A thread can
  be ended with its process all the same: the network file systems wait killably (linux: net/sunrpc, fs/cifs, fs/fuse).
* Which are mounted is the kernel's own table, and asks none of them.
* Only what lies below ``PLACES`` and comes over the network is asked: others answer from memory.
* Processes are read from proc by their ``stat`` alone, each ``PROCESSES_EVERY_MS``.
"""

import os
import re
import threading
from typing import Callable, Dict, List, Optional, Tuple

from poolwarden_agent.core.storage import (
    ANSWER_MS,
    LOG_AGAIN_MS,
    MOST_STALLED,
    Mount,
    Stalled,
    Storage,
    Waiting,
    Waits,
    errors,
    named,
)
from poolwarden_agent.dom0.system import files, log_tail

PLACES = ("/run/sr-mount/", "/var/run/sr-mount/")
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "ceph", "moosefs", "lizardfs", "glusterfs")
ASK_EVERY_MS = 10000
PROCESSES_EVERY_MS = 30000
PROCESSES_AGAIN_MS = 10000  # while something waits
MOST_MOUNTS = 64
MOST_PROCESSES = 4096
_ESCAPED = re.compile(r"\\([0-7]{3})")


class _Question(object):
    """One file system that is asked, in a thread that may hang."""

    def __init__(self, path: str, now_ms: int, ask: Callable[[str], object]) -> None:
        self.path = path
        self.since_ms = now_ms
        self.answered = False
        thread = threading.Thread(target=self._ask, args=(ask,))
        thread.daemon = True
        thread.start()

    def _ask(self, ask: Callable[[str], object]) -> None:
        try:
            ask(self.path)
        except OSError:
            pass  # an error is an answer
        self.answered = True


class StorageLook(object):
    """Looks again and again; one caller at a time. ``look`` never waits for a file system."""

    def __init__(self, root: str, ask: Callable[[str], object] = os.statvfs) -> None:
        self._root = root
        self._ask = ask
        self._questions: Dict[str, _Question] = {}
        self._asked_ms: Optional[int] = None
        self._processes_ms: Optional[int] = None
        self._waits = Waits()
        self._waiting: Tuple[Stalled, ...] = ()
        self._suspects = False
        self._errors: Tuple[str, ...] = ()
        self._errors_ms: Optional[int] = None

    def look(self, now_ms: int) -> Storage:
        """What hangs now."""
        hanging = self._mounts(now_ms)
        if self._due(self._processes_ms, now_ms, PROCESSES_AGAIN_MS if self._suspects else PROCESSES_EVERY_MS):
            self._processes_ms = now_ms
            found = waiting(self._root)
            self._suspects = bool(found)
            self._waiting = self._waits.seen(found, now_ms)
        stalled = (hanging + self._waiting)[:MOST_STALLED]
        self._read_log(bool(stalled), now_ms)
        return Storage(now_ms, stalled, self._errors)

    @staticmethod
    def _due(last_ms: Optional[int], now_ms: int, every_ms: int) -> bool:
        return last_ms is None or now_ms - last_ms >= every_ms

    def _mounts(self, now_ms: int) -> Tuple[Stalled, ...]:
        if self._due(self._asked_ms, now_ms, ASK_EVERY_MS):
            self._asked_ms = now_ms
            known = {named(mount): mount for mount in mounted(self._root)}
            for name, mount in known.items():
                asked = self._questions.get(name)
                room = sum(not each.answered for each in self._questions.values()) < MOST_MOUNTS
                if room and (asked is None or asked.answered):
                    self._questions[name] = _Question(mount.point, now_ms, self._ask)
            # One that is no longer mounted and still hangs stays: its thread does, too.
            kept = {name: each for name, each in self._questions.items() if name in known or not each.answered}
            self._questions = kept
        late = [
            Stalled(name, asked.since_ms)
            for name, asked in sorted(self._questions.items())
            if not asked.answered and now_ms - asked.since_ms >= ANSWER_MS
        ]
        return tuple(late)

    def _read_log(self, stalled: bool, now_ms: int) -> None:
        if not stalled:
            self._errors, self._errors_ms = (), None
        elif self._due(self._errors_ms, now_ms, LOG_AGAIN_MS):
            self._errors_ms = now_ms
            lines = log_tail.tail(self._root, log_tail.STORAGE, log_tail.LONG)
            self._errors = errors(lines + log_tail.tail(self._root, log_tail.KERNEL, log_tail.SHORT))


def mounted(root: str) -> List[Mount]:
    """The network file systems of storage repositories, from the kernel's table."""
    text = files.read(root, "proc/self/mounts", 1024 * 1024)
    found = []
    for line in (text or "").splitlines():
        fields = [_ESCAPED.sub(lambda octal: chr(int(octal.group(1), 8)), field) for field in line.split(" ")]
        if len(fields) < 3 or not fields[1].startswith(PLACES):
            continue
        if fields[2] in NETWORK or fields[2].startswith("fuse."):
            found.append(Mount(fields[0], fields[1], fields[2]))
    # /var/run is /run: the same mount may stand there under both names.
    unique = {(mount.source, mount.point.replace("/var/run/", "/run/", 1)): mount for mount in found}
    return list(unique.values())[:MOST_MOUNTS]


def waiting(root: str) -> List[Waiting]:
    """The processes that wait for a disk at this moment (proc(5): state D)."""
    proc = os.path.join(root, "proc")
    try:
        names = [name for name in os.listdir(proc) if name.isdigit()]
    except OSError:
        return []
    found = []
    for name in names[:MOST_PROCESSES]:
        data = _stat(os.path.join(proc, name, "stat"))
        if b") D " not in data:
            continue
        own, _, rest = data.decode("utf-8", "replace").strip().rpartition(") ")
        fields = rest.split(" ")
        if len(fields) > 19 and fields[0] == "D" and fields[19].isdigit():
            in_kernel = (files.read(root, "proc/%s/wchan" % name, 128) or "").strip()
            known = in_kernel if re.match(r"[A-Za-z_][A-Za-z0-9_.]{1,60}\Z", in_kernel) else ""
            found.append(Waiting(int(name), int(fields[19]), own.partition("(")[2][:40], known))
    return found[: 2 * MOST_STALLED]


def _stat(path: str) -> bytes:
    """A process's line, which proc tells in one piece; empty: it has ended. A dom0 has hundreds: no step too many."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
