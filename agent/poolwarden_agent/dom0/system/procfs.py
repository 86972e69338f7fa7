"""What psutil reads of a dom0: memory, swap, mount points, command lines; told below which root it finds proc.

What psutil offers and this agent reads itself all the same, with the reason beside each reader: use of a file system
(mounts.py), xapi's process (files.py), network interfaces (surroundings.py), an interface's address (address.py). Of a
boot it is the kernel's boot id that counts here, never psutil's boot time, which moves with the wall clock.

psutil keeps the path of proc in one variable for the whole process. The root of an agent is always the same, but mount
points are the kernel's own for every root, so that variable is set and used under one lock.
"""

import contextlib
import os
import select
import threading
from typing import Dict, Iterator, List, Optional, Tuple

import psutil

_LOCK = threading.Lock()
MOUNT_TABLE = "/proc/self/mounts"


@contextlib.contextmanager
def _below(root: str) -> Iterator[None]:
    with _LOCK:
        before, psutil.PROCFS_PATH = psutil.PROCFS_PATH, os.path.join(root, "proc")
        try:
            yield
        finally:
            psutil.PROCFS_PATH = before


def memory(root: str) -> Tuple[int, int]:
    """Total and available bytes; (0, 0) if they cannot be read."""
    try:
        with _below(root):
            found = psutil.virtual_memory()
    except (OSError, ValueError, LookupError):  # the last two: not as the kernel writes it
        return 0, 0
    return found.total, found.available


def swap(root: str) -> Tuple[int, int]:
    """Total and free bytes; (0, 0) if they cannot be read."""
    try:
        with _below(root):
            found = psutil.swap_memory()
    except (OSError, ValueError, LookupError):
        return 0, 0
    return found.total, found.free


class Mounts(object):
    """The mount table as it is now, read anew only when the kernel says that it has changed.

    A poll of an open mount table returns POLLERR and POLLPRI once for each change since it was opened or polled last
    (proc(5), linux: fs/proc_namespace.c, mounts_poll). A table that cannot be polled is read each time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened = False  # for as long as this process lives
        self._poll = select.poll()
        self._known: Optional[Dict[str, str]] = None

    def table(self) -> Dict[str, str]:
        """See ``mount_points``. Whoever asks changes nothing in it."""
        with self._lock:
            # Asked before it is read: what changes meanwhile is told by the next poll.
            if self._changed():
                self._known = None  # also where it cannot be read now
            if self._known is None:
                self._known = _mount_points()
            return self._known

    def _changed(self) -> bool:
        try:
            if not self._opened:
                self._poll.register(os.open(MOUNT_TABLE, os.O_RDONLY | os.O_CLOEXEC), select.POLLPRI | select.POLLERR)
                self._opened = True
                return True
            return bool(self._poll.poll(0))
        except OSError:
            return True


_MOUNTS = Mounts()


def mount_points() -> Dict[str, str]:
    """What is mounted where, as this process sees it: directory -> type of file system. No file system is asked.

    :raises OSError: the mount table cannot be read.
    """
    return _MOUNTS.table()


def _mount_points() -> Dict[str, str]:
    # Not "/": psutil would read /etc/mtab then, and that may be a file in which a mount is missing.
    with _below("/."):
        found = psutil.disk_partitions(all=True)
    # Where two are mounted on one directory, the later one hides the earlier one.
    return {each.mountpoint: each.fstype for each in found}


def commands(root: str) -> Optional[Dict[int, List[str]]]:
    """The command line of every process, by pid; None: they cannot be listed. Kernel threads have an empty one."""
    try:
        with _below(root):
            processes = [process for process in map(_process, psutil.pids()) if process is not None]
    except (OSError, IndexError):  # safety: the last one is psutil's word for a proc that holds no process: not mounted
        return None
    found = {}
    for process in processes:
        try:
            found[process.pid] = process.cmdline()
        except (psutil.Error, OSError):
            continue  # it has just ended
    return found


def _process(pid: int) -> Optional[psutil.Process]:
    try:
        return psutil.Process(pid)
    except (psutil.Error, OSError):
        return None  # it has just ended
