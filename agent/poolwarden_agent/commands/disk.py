"""``poolwarden-agent disk``: how full this dom0 is, what fills it, and what could be given back. Changes nothing.

It needs no configuration, no running agent and no room on any disk. Exit status: 0 all is well, 1 a level is crossed,
2 nothing could be read.
"""

import argparse
import sys
from typing import Any, Iterable, List

from poolwarden_agent.core import disks
from poolwarden_agent.core.disk_fillers import Result, command_list
from poolwarden_agent.dom0.system import disk_usage, mounts

LIMIT_S = 20.0
MOST = 10
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def main(words: List[str]) -> int:
    """The command with these arguments; its exit status."""
    parser = argparse.ArgumentParser(prog="poolwarden-agent disk", description=__doc__.split("\n")[0])
    parser.add_argument("--root", default="/", help="the directory that is this host's / (default: /)")
    parser.add_argument("--seconds", type=float, default=LIMIT_S, help="look for no longer than this (default: 20)")
    given = parser.parse_args(words)
    found = mounts.disks(given.root)
    if not found:
        sys.stderr.write("poolwarden-agent: the file systems below %s cannot be read\n" % given.root)
        return 2
    worst = disks.OK
    for item in found:
        level = disks.level(disks.Use(*item[:5]).percent, disks.OK)
        worst = max(worst, level, key=disks.ORDER.index)
        _say(_line(item, level))
    _say("")
    for text in _explained(disk_usage.look(given.root, given.seconds)):
        _say(text)
    return 0 if worst == disks.OK else 1


def _line(item: Any, level: str) -> str:
    use = disks.Use(*item[:5])
    where = "" if item.own_mount or item.mount == "/" else "; not a mount of its own: it lies on /"
    state = "READ-ONLY; " if item.read_only else ""
    text = "%s%-9s %3.0f %% of %s used, %s free; inodes %3.0f %% used%s"
    inodes = disks.Use(item.mount, item.total_inodes, item.free_inodes, 0, 0).percent
    space = disks.Use(item.mount, item.total_bytes, item.free_bytes, 0, 0).percent
    line = text % (state, level, space, size(use.total_bytes), size(use.free_bytes), inodes, where)
    return "%-12s %s" % (item.mount, line)


def _explained(result: Result) -> Iterable[str]:
    least = "at least " if result.partial else ""
    yield "What takes the room%s:" % (" (cut off, more may be there)" if result.partial else "")
    for item in result.found[:MOST]:
        yield "  %10s  /%-28s %s, %d files; biggest: %s (%s)" % (
            size(item.bytes), item.path, item.what, item.files, item.biggest, size(item.biggest_bytes)
        )  # fmt: skip
    if not result.cleanable:
        yield "Nothing of it is known to be safe to delete."
        return
    total = sum(item.bytes for item in result.cleanable)
    yield "What could be given back, %s%s in all (nothing has been deleted):" % (least, size(total))
    for clean in result.cleanable[:MOST]:
        yield "  %10s  /%-28s %s, %d files" % (size(clean.bytes), clean.path, clean.what, clean.files)
    yield "The commands, for a person to run who needs none of it any more:"
    for command in command_list(result.cleanable):
        yield "  " + command


def size(count: float) -> str:
    """Bytes for people: ``1.5 GiB``."""
    step = 0
    while count >= 1024 and step < len(_UNITS) - 1:
        count, step = count / 1024.0, step + 1
    unit = _UNITS[step]
    return "%.0f %s" % (count, unit) if unit == "B" or count >= 100 else "%.1f %s" % (count, unit)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
