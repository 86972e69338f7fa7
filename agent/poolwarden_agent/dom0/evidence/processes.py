"""Every process of dom0 as one line, from proc(5): what `ps` would show. Nothing is forked.

The command line of a process that waits for a disk is not asked for: it lies in that process's memory, and whoever
reads it may wait as long. What stands behind a password's option is taken out as of a log's line.
"""

import os
from typing import Iterator

from poolwarden_agent.core.log_lines import shown
from poolwarden_agent.dom0.system import files

MOST = 5000
LONGEST = 300
_TICKS, _PAGE_KB = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE") // 1024
_STATE, _PARENT, _USER, _SYSTEM, _THREADS, _STARTED, _RESIDENT = 0, 1, 11, 12, 17, 19, 21  # behind the name


def listed(root: str) -> Iterator[str]:
    """A head line, then a line for each process in the order of their numbers."""
    yield "%7s %7s %s %9s %9s %4s %10s  %-20s %s" % (
        "PID", "PARENT", "S", "RSS_KB", "CPU_S", "THR", "STARTED_S", "WAITS_IN", "COMMAND",
    )  # fmt: skip
    try:
        pids = sorted(int(name) for name in os.listdir(os.path.join(root, "proc")) if name.isdigit())
    except OSError as error:
        yield "proc cannot be read: %s" % error
        return
    for pid in pids[:MOST]:
        line = _line(root, pid)
        if line:
            yield line
    if len(pids) > MOST:
        yield "%d more" % (len(pids) - MOST)


def _line(root: str, pid: int) -> str:
    """Empty: it has just ended."""
    stat = files.read(root, "proc/%d/stat" % pid, 4096)
    if stat is None:
        return ""
    head, _, tail = stat.rpartition(")")
    words, name = tail.split(), head.partition("(")[2]
    try:
        cpu_s = (int(words[_USER]) + int(words[_SYSTEM])) / float(_TICKS)
        started_s, resident = int(words[_STARTED]) / float(_TICKS), int(words[_RESIDENT]) * _PAGE_KB
        state, parent, threads = words[_STATE], int(words[_PARENT]), int(words[_THREADS])
    except (IndexError, ValueError):
        return "%7d %s" % (pid, shown(stat, LONGEST))
    command = None if state == "D" else files.read(root, "proc/%d/cmdline" % pid)
    command = " ".join(word for word in command.split("\0") if word) if command else "[%s]" % name
    waits = files.read(root, "proc/%d/wchan" % pid, 256) or "-"
    return "%7d %7d %s %9d %9.1f %4d %10.1f  %-20s %s" % (
        pid, parent, state, resident, cpu_s, threads, started_s, shown(waits, 40), shown(command, LONGEST),
    )  # fmt: skip
