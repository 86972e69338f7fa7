"""What a process has used, as the kernel accounts it: processor, memory, context switches, and children it has forked.

Forks, honestly. The kernel has no counter of a process's children, and /proc/stat's ``processes`` counts the whole
machine and threads too. But a process that forks must wait for its child, and at that wait the kernel adds the child's
page faults to the parent's ``cminflt`` and ``cmajflt`` (/proc/PID/stat, fields 11 and 13): no child lives without a
page fault. So: counters that stand still, no new entry in ``/proc/PID/task/*/children``, and SIGCHLD not ignored (then
nothing would be added) *prove* that nothing was forked. Where they move, each look (ten a second) that saw a movement
counts as one fork: a lower bound. The very first thing done here is to try this on a process that does fork.
"""

from __future__ import annotations

import os
import signal
import time
from array import array
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESENT, _FRAME = 1 << 63, (1 << 55) - 1  # of a 64-bit word in /proc/PID/pagemap
_CHILD_MINOR_FAULTS, _CHILD_MAJOR_FAULTS = 10, 12  # in the words of /proc/PID/stat, from 0


class Ended(Exception):
    """A process that was measured is gone."""


def pss(pid: int) -> int:
    """KiB; a page that is shared with n processes counts 1/n. Raises Ended."""
    return _fields(f"/proc/{pid}/smaps_rollup")["Pss"]


def memory_alone(pids: tuple[int, ...]) -> int | None:
    """KiB of different page frames that these processes have together: their PSS if nobody else shared a page.

    None where the kernel hides frame numbers (anyone but root outside of user namespaces). Raises Ended.
    """
    frames: set[int] = set()
    for pid in pids:
        frames |= _frames(pid)
    frames.discard(0)
    return len(frames) * PAGE // 1024 if frames else None


def _frames(pid: int) -> set[int]:
    found: set[int] = set()
    try:
        with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
            for line in _read(f"/proc/{pid}/maps").splitlines():
                begin, end = (int(word, 16) // PAGE for word in line.split()[0].split("-"))
                if begin * PAGE >= 1 << 63:  # vsyscall is no memory of the process
                    continue
                pagemap.seek(begin * 8)
                words = array("Q", pagemap.read((end - begin) * 8))
                found.update(word & _FRAME for word in words if word & _PRESENT)
    except OSError as error:
        raise Ended(f"process {pid}: its page map cannot be read: {error}") from None
    return found


def processor_ns(pid: int) -> int:
    """On-processor time of the whole process, threads that have ended included (clock_getcpuclockid(3)). Ended."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        raise Ended(f"process {pid} is gone") from None


def context_switches(pid: int) -> int:
    """Of the threads that live now, voluntary and not. An agent's threads live as long as it does."""
    total = 0
    for task in _tasks(pid):
        values = _fields(f"{task}/status")
        total += values["voluntary_ctxt_switches"] + values["nonvoluntary_ctxt_switches"]
    return total


def threads(pid: int) -> int:
    return len(_tasks(pid))


def children(pid: int) -> set[int]:
    return {int(word) for task in _tasks(pid) for word in _read(f"{task}/children").split()}


class Forks:
    """Counts the forks of one process. ``look`` often; ``count`` is exact for none, and else a lower bound."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._state = self._now()
        self.count = 0

    def look(self) -> None:
        """Raises Ended."""
        state = self._now()
        born = state[1] - self._state[1]
        self.count += max(len(born), int(state[0] != self._state[0]))
        self._state = state

    def _now(self) -> tuple[tuple[str, str], set[int]]:
        words = _read(f"/proc/{self._pid}/stat").rpartition(")")[2].split()
        if _ignores_sigchld(self._pid):
            raise RuntimeError(f"process {self._pid} ignores SIGCHLD: its forks cannot be told")
        offset = 2  # pid and the name are cut off
        faults = words[_CHILD_MINOR_FAULTS - offset], words[_CHILD_MAJOR_FAULTS - offset]
        return faults, children(self._pid)


def forks_are_seen() -> bool:
    """Does this kernel tell of a child that came and went between two looks? Tried on this very process."""
    forks = Forks(os.getpid())
    child = os.posix_spawnp("true", ["true"], os.environ)
    os.waitpid(child, 0)
    forks.look()
    return forks.count == 1


def _ignores_sigchld(pid: int) -> bool:
    ignored = int(next(line for line in _read(f"/proc/{pid}/status").splitlines() if line.startswith("SigIgn"))[7:], 16)
    return bool(ignored >> (signal.SIGCHLD - 1) & 1)


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        raise Ended(f"process {pid} is gone") from None


def _fields(path: str) -> dict[str, int]:
    """``Name:  123 kB`` lines of a file in /proc."""
    found: dict[str, int] = {}
    for line in _read(path).splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            found[name] = int(words[0])
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        raise Ended(f"{path} cannot be read: the process is gone") from None
