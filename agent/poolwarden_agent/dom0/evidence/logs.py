"""The end of a log for an evidence capsule: the last minutes of it, redacted, line by line in little memory.

Rules
-----
* At most so many bytes of the end are read. A log that was rotated a moment ago goes on before it in ``.1``: the newer
  file is opened first, and where rotation came between, both are one and the same, and it is read once.
* What was appended after the opening is not read; where the file was cut short meanwhile its end is where it ends.
* Lines older than ``WINDOW_S`` are left out but for the last ``BEFORE`` of them. A line without a time belongs to the
  one before it, and a log without times is taken as it is. Times are compared with this host's clock alone; what seems
  to be of the future stays.
* Of a line the first LONGEST_READ characters count, whatever comes before its end; secrets are taken out of them as of
  all that is shown (core/log_lines.py), and so is a key or certificate that goes over several lines.
"""

import collections
import os
from typing import Deque, Iterator, List, Optional, Tuple

from poolwarden_agent.core.log_lines import LONGEST_READ, shown, stamp_s
from poolwarden_agent.dom0.system import plain_files

WINDOW_S = 20 * 60
BEFORE = 100  # lines
MOST_OF_A_KEY = 400  # lines
_CHUNK = 65536
_YEAR_S = 12 * 31 * 24 * 3600  # as stamp_s counts


def lines(path: str, most_bytes: int, now_s: Optional[int]) -> Iterator[str]:
    """Its last lines as they may be shown. ``now_s``: this instant as ``stamp_s`` writes it; None: all are young."""
    return redacted(_young(_tail(path, most_bytes), now_s))


def redacted(raw: Iterator[str]) -> Iterator[str]:
    """Lines without secrets; of what goes over several lines between BEGIN and END nothing is left."""
    inside = 0
    for line in raw:
        if inside:
            inside -= 1
            if "-----END " in line:
                inside = 0
            continue
        if "-----BEGIN " in line and "-----END " not in line:
            inside = MOST_OF_A_KEY
        yield shown(line, LONGEST_READ)


def _young(raw: Iterator[str], now_s: Optional[int]) -> Iterator[str]:
    older: Deque[str] = collections.deque(maxlen=BEFORE)
    young, timed = now_s is None, False
    for line in raw:
        if not young and now_s is not None:
            at = stamp_s(line)
            timed = timed or at is not None
            # Years are not written: half a year is what is told from a clock that was ahead.
            young = at is not None and not WINDOW_S < (now_s - at) % _YEAR_S < _YEAR_S // 2
            young = young or (not timed and len(older) >= BEFORE)
            if not young:
                older.append(line)
                continue
        while older:
            yield older.popleft()
        yield line
    for line in older:
        yield line


def _tail(path: str, most_bytes: int) -> Iterator[str]:
    parts = _opened(path, most_bytes)
    try:
        for descriptor, size, whole in parts:
            for line in _of(descriptor, size, whole):
                yield line
    finally:
        for descriptor, _, _ in parts:
            os.close(descriptor)


def _opened(path: str, most_bytes: int) -> List[Tuple[int, int, bool]]:
    """Descriptors at where to begin, the older file first, how much to read, and whether that begins with a line."""
    found: List[Tuple[int, int, bool]] = []
    seen: List[Tuple[int, int]] = []
    left = most_bytes
    for name in (path, path + ".1"):
        if left <= 0:
            break
        try:
            descriptor = plain_files.to_read(name)
        except OSError:
            continue
        about = os.fstat(descriptor)
        if (about.st_dev, about.st_ino) in seen:
            os.close(descriptor)
            continue
        seen.append((about.st_dev, about.st_ino))
        size = min(left, about.st_size)
        os.lseek(descriptor, about.st_size - size, os.SEEK_SET)
        found.append((descriptor, size, size == about.st_size))
        left -= size
    return found[::-1]


def _of(descriptor: int, size: int, whole: bool) -> Iterator[str]:
    """Lines of the next ``size`` bytes; a line that is longer than what is read of one takes no memory for it."""
    rest, skipping, left = b"", not whole, size
    while left > 0:
        data = os.read(descriptor, min(_CHUNK, left))
        if not data:
            break
        left -= len(data)
        *ended, last = data.split(b"\n")
        for piece in ended:
            if not skipping and (rest or piece):
                yield (rest + piece[: 4 * LONGEST_READ]).decode("utf-8", "replace")
            rest, skipping = b"", False
        rest = b"" if skipping else (rest + last[: 4 * LONGEST_READ])[: 4 * LONGEST_READ]
    if rest:
        yield rest.decode("utf-8", "replace")
