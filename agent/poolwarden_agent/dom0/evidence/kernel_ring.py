"""What the kernel's own ring holds, from /dev/kmsg: it is there also where no log could be written.

Each read gives one record, ``priority,sequence,microseconds,flags;text``, oldest first, and EAGAIN at the end; EPIPE
means that records were overwritten before they were read (Linux: Documentation/ABI/testing/dev-kmsg).
"""

import collections
import errno
import os
import stat
from typing import Deque, Iterator

KMSG = "dev/kmsg"
MOST_RECORDS = 4000
MOST_READ = 50000
_LONGEST = 8192


def records(root: str) -> Iterator[str]:
    """The newest records, ``[seconds] text``; one line that says why where there are none."""
    try:
        descriptor = os.open(os.path.join(root, KMSG), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        yield "the kernel's ring cannot be read: %s" % error.strerror
        return
    kept: Deque[str] = collections.deque(maxlen=MOST_RECORDS)
    try:
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            kept.extend(_records(descriptor))
    finally:
        os.close(descriptor)
    for line in kept:
        yield line


def _records(descriptor: int) -> Iterator[str]:
    for _ in range(MOST_READ):
        try:
            data = os.read(descriptor, _LONGEST)
        except OSError as error:
            if error.errno == errno.EPIPE:
                continue
            return
        if not data:
            return
        yield record(data.decode("utf-8", "replace"))


def record(raw: str) -> str:
    """One record as a line; what follows in the next lines of it are key and value pairs of the device."""
    head, _, text = raw.partition(";")
    words = head.split(",")
    micro = words[2] if len(words) > 2 and words[2].isdigit() else "0"
    return "[%.6f] %s" % (int(micro) / 1e6, text.partition("\n")[0])
