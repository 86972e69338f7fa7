"""Which processes of dom0 use most memory: resident sizes from proc(5), ``/proc/PID/statm``. Nothing is forked.

A process that ends while it is looked at is left out. The command line of one that waits for a disk is not asked for:
it lies in that process's memory, and whoever reads it may wait as long. Names are those by which a person knows it: the
program's, and after an interpreter's that of its script.
"""

import os
from typing import List, Tuple

from poolwarden_agent.core.memory import User
from poolwarden_agent.dom0.system import files

MOST = 5
MOST_LOOKED_AT = 20000
LONGEST = 60
_PAGE = os.sysconf("SC_PAGE_SIZE")
_INTERPRETERS = ("python", "perl", "bash", "sh", "ruby", "node")


def biggest(root: str) -> Tuple[User, ...]:
    """The biggest first, at most MOST; empty where proc cannot be read."""
    try:
        pids = [name for name in os.listdir(os.path.join(root, "proc")) if name.isdigit() and len(name) < 10]
    except OSError:
        return ()
    sizes = [(_resident(root, pid), int(pid)) for pid in pids[:MOST_LOOKED_AT]]
    found = sorted((size, pid) for size, pid in sizes if size)[::-1][:MOST]
    return tuple(User(_name(root, pid), pid, size) for size, pid in found)


def _resident(root: str, pid: str) -> int:
    """Bytes; 0: it has ended, or is a kernel thread."""
    words = (files.read(root, "proc/%s/statm" % pid, 256) or "").split()
    return int(words[1]) * _PAGE if len(words) > 1 and words[1].isdigit() and len(words[1]) < 15 else 0


def _name(root: str, pid: int) -> str:
    words = _words(root, pid)
    if not words:
        return "a process"
    name, script = os.path.basename(words[0]), next((word for word in words[1:] if word[:1] not in ("-", "")), "")
    if script and name.rstrip("0123456789.") in _INTERPRETERS:
        name = "%s %s" % (name, os.path.basename(script))
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:LONGEST] or "a process"


def _words(root: str, pid: int) -> List[str]:
    """Its command line; where there is none, what the kernel calls it."""
    if (files.read(root, "proc/%d/stat" % pid, 4096) or "").rpartition(")")[2].startswith(" D"):
        line = None  # type: Optional[str]
    else:
        line = files.read(root, "proc/%d/cmdline" % pid)
    if line:
        return line.split("\0")
    comm = files.read(root, "proc/%d/comm" % pid)
    return [comm] if comm else []
