"""A file that is there to be deleted: on a full disk it makes room for pool.conf, and gives an inode for it.

What fills ``/`` takes the room of what is written next, and the next thing to be written may be the pool.conf
that keeps a superseded master from coming back as one. So a mebibyte is kept back while there is plenty, given up when
a write fails for want of room, and taken again when there is plenty. Room is asked of statvfs: psutil knows no inodes.
"""

import errno
import os
from typing import Callable

from poolwarden_agent.dom0.system import plain_files

BYTES = 1024 * 1024
PLENTY = 64 * BYTES  # free, before some of it is kept back
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Ballast(object):
    """One file in the agent's own directory."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "ballast")

    def keep(self) -> None:
        """Keep room back if there is plenty and none is kept. Fails silently: it is a precaution."""
        temporary = self._path + ".new"
        try:
            if os.path.exists(self._path):
                return
            state = os.statvfs(os.path.dirname(self._path))
            if state.f_bfree * state.f_frsize < PLENTY:
                return
            with plain_files.new(temporary) as file:
                file.write(os.urandom(4096) * (BYTES // 4096))  # no file system makes a hole of that
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, self._path)
        except OSError:
            self._remove(temporary)

    def release(self) -> bool:
        """Give it up; was there any?"""
        return self._remove(self._path)

    def write(self, write: Callable[[], None]) -> None:
        """Do a write, once more without the ballast where there is no room for it. :raises OSError: there is none."""
        try:
            write()
        except OSError as error:
            if error.errno not in NO_ROOM or not self.release():
                raise
            write()

    def make_room(self) -> None:
        """For a write that another process is about to make: give it up where there is hardly anything left."""
        try:
            state = os.statvfs(os.path.dirname(self._path))
        except OSError:
            return
        if state.f_bfree * state.f_frsize < BYTES or (state.f_files and state.f_ffree < 2):
            self.release()

    def _remove(self, path: str) -> bool:
        try:
            os.unlink(path)
        except OSError:
            return False
        return True
