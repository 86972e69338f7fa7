"""The end of a log of dom0, bounded: on demand, and when something has gone wrong; never on a healthy host.

A log that was rotated just now holds little: what the one before it ended with is read as well, where the new one is
shorter than ``FRESH`` bytes. Logs are plain files of root's; a FIFO or a device under their names is none.
"""

import os
import stat
from typing import List, Tuple

from poolwarden_agent.core.log_lines import lines_of
from poolwarden_agent.dom0.system import plain_files

XENSOURCE, DAEMON, KERNEL, STORAGE = "var/log/xensource.log", "var/log/daemon.log", "var/log/kern.log", "var/log/SMlog"
LONG, SHORT = 256 * 1024, 64 * 1024
FRESH = 64 * 1024
_CHUNK = 64 * 1024


def tail(root: str, path: str, limit: int) -> List[str]:
    """The last lines of a log, oldest first, of at most ``limit`` bytes; none where it cannot be read."""
    whole = os.path.join(root, path)
    data, from_begin = _end(whole, limit)
    lines = lines_of(data, from_begin)
    if from_begin and len(data) < min(FRESH, limit):
        older, begun = _end(whole + ".1", limit - len(data))
        lines = lines_of(older, begun) + lines
    return lines


def _end(path: str, limit: int) -> Tuple[bytes, bool]:
    """The last bytes of a file, and whether these are all of it."""
    try:
        descriptor = plain_files.to_read(path)
    except OSError:
        return b"", True
    try:
        size = os.fstat(descriptor).st_size
        at = max(0, size - limit)
        os.lseek(descriptor, at, os.SEEK_SET)
        return _read(descriptor, limit), at == 0
    except OSError:
        return b"", True
    finally:
        os.close(descriptor)


def _read(descriptor: int, limit: int) -> bytes:
    """At most so many bytes: a file may grow while it is read."""
    pieces, left = [], limit
    while left > 0:
        piece = os.read(descriptor, min(_CHUNK, left))
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def empty(root: str, path: str) -> bool:
    """Is there a plain file of this name without a byte in it?"""
    try:
        about = os.stat(os.path.join(root, path))
    except OSError:
        return False
    return stat.S_ISREG(about.st_mode) and about.st_size == 0
