"""How root opens files here: what lies under a name decides nothing.

Rules
-----
* What is written anew is a file that did not exist a moment ago (O_EXCL, O_NOFOLLOW) beside its target, and is renamed
  onto it: whatever lay under either name (a symbolic link, another name of somebody else's file, a FIFO) is unlinked or
  replaced, never written through.
* What is overwritten in place is a plain file of this process's own user with one name, told of what was opened.
* What is read is a plain file; a FIFO or a device under its name holds nobody up (O_NONBLOCK).
* The agent's own directories belong to root and can be written by nobody else, so that no name in them changes between
  two steps. ``own_directory`` says where that is not so.
"""

import errno
import os
import stat
from typing import Any, Tuple

_CAREFUL = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def new(path: str, mode: int = 0o600) -> Any:
    """A new file of this name, to be written; what had the name is gone. :raises OSError: it cannot be made."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CAREFUL, mode)
    return os.fdopen(descriptor, "wb")


def existing(path: str) -> int:
    """A descriptor for overwriting a file of our own in place. :raises OSError: there is none, or it is another's."""
    descriptor = os.open(path, os.O_WRONLY | _CAREFUL)
    about = os.fstat(descriptor)
    # safety: a second name could be that of any other file on this file system.
    if stat.S_ISREG(about.st_mode) and about.st_nlink == 1 and about.st_uid == os.geteuid():
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EPERM, "it is no plain file of the agent's own")


def to_read(path: str) -> int:
    """A descriptor of a plain file for reading, through links too. :raises OSError: it is none."""
    return sized(path)[0]


def sized(path: str) -> Tuple[int, int]:
    """The same with its size in bytes, 0 where that is not known beforehand. :raises OSError: it is no plain file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    about = os.fstat(descriptor)
    if stat.S_ISREG(about.st_mode):
        return descriptor, about.st_size
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no plain file")


def own_directory(path: str) -> str:
    """Why a directory is not the agent's own alone, in words; empty: it is, or is not there."""
    try:
        about = os.lstat(path)
    except OSError:
        return ""
    if not stat.S_ISDIR(about.st_mode):
        return "%s is no directory" % path
    if about.st_uid not in (0, os.geteuid()):
        return "%s belongs to user %d; expected root: chown root:root %s" % (path, about.st_uid, path)
    if about.st_mode & stat.S_IWOTH:
        return "%s can be written by everybody; expected root alone: chmod 700 %s" % (path, path)
    return ""
