"""A mark beside the journal while it is open: how far it went, so that a loss without damage is seen at the start.

SQLite takes a log that is not there, or that ends early at a whole transaction, for an end like any other, and says
nothing of what was durable in it.

Rules
-----
* The mark (``journal.db.running``) has the number of the last entry and the boot in which it was written. It is durable
  once the log is; after each commit it is written anew and not synced, so it never says more than was durable.
* It goes as the journal is closed, durably, once all of the log is in the file and before the log is removed. A kill or
  a power cut leaves it.
* In the boot in which it was written its number is exact, whoever has folded the log in the meantime. After another
  boot it may be older than the log, so a log that is not there any more is a loss by itself.
* No mark, or one that cannot be read, claims nothing. A backup has none (backup.py): nothing of it was lost.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from poolwarden_collector.shell import clock

RUNNING = ".running"  # behind the journal's name
_DIGITS = 20
_LOG_HEADER = 32  # bytes; a log of no more has no transaction


class RunningMark:
    """The mark of a journal that is open. Raises OSError where it cannot be made."""

    def __init__(self, path: Path, last: int) -> None:
        self._path = path.with_name(path.name + RUNNING)
        self._boot = clock.boot()
        self._last = -1
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.reached(last)
        os.fsync(self._file)
        sync_folder(path)

    def reached(self, last: int) -> None:
        """The entry of this number is durable; a disk that takes no mark holds nobody up."""
        if last != self._last:
            with contextlib.suppress(OSError):
                os.pwrite(self._file, f"{last:0{_DIGITS}d} {self._boot}\n".encode(), 0)
                self._last = last

    def take_away(self) -> None:
        """All that was durable is in the journal's file. Raises OSError."""
        self._path.unlink(missing_ok=True)
        sync_folder(self._path)

    def let_go(self) -> None:
        """Close it, as it is."""
        os.close(self._file)


def log_is_gone(path: Path) -> bool:
    """Is there no transaction in the journal's log? To be asked before SQLite makes an empty one."""
    log = path.with_name(f"{path.name}-wal")
    return not log.exists() or log.stat().st_size <= _LOG_HEADER


def missing(path: Path, last: int, gone: bool) -> str:
    """Why entries behind ``last``, the newest one that is there, were durable and are lost; empty: none is known to be.

    ``gone``: what ``log_is_gone`` said.
    """
    reached, boot = _read(path)
    if reached is None:
        return ""
    if last < reached:
        return f"entries up to {reached} were durable, and it ends at {last}"
    # safety: after a power cut the number may be older than what the log had.
    if gone and boot != clock.boot():
        return f"the collector before was not stopped, and the log that it wrote last, {path.name}-wal, is not there"
    return ""


def forget(path: Path) -> None:
    """What the mark says has been seen to."""
    path.with_name(path.name + RUNNING).unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make durable which files stand beside this one."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> tuple[int | None, str]:
    try:
        number, _, boot = path.with_name(path.name + RUNNING).read_text("ascii", "replace").partition(" ")
    except OSError:
        return None, ""
    return (int(number), boot.strip()) if len(number) == _DIGITS and number.isdigit() else (None, "")
