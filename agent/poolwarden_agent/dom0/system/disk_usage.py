"""Looks through the known fillers of a dom0, a little at a time, within bounds: what is big, what could be cleaned.

Rules
-----
* It only reads directories and stats files, never a file's content; it stays on the file systems that it was asked
  about, follows no link, and changes nothing.
* ``step`` does at most ``STEP_ENTRIES`` entries and about ``STEP_S`` seconds, so that a dom0 whose disk is dying is not
  kept busier by us; a whole look ends after ``MOST_ENTRIES`` entries or ``MOST_STEPS`` steps and says then that it
  is partial. A directory that cannot be read is left out.
"""

import os
import stat
import time
from typing import Callable, Iterator, Optional, Set

from poolwarden_agent.core.disk_fillers import FILLERS, Filler, Result, Tally

STEP_ENTRIES = 400
STEP_S = 0.05
MOST_ENTRIES = 40000
MOST_STEPS = 400
DEEPEST = 12
_BLOCK = 512  # st_blocks counts these


class Filling(object):
    """One look, from its first step to its result."""

    def __init__(self, root: str, wall_s: Callable[[], float] = time.time) -> None:
        self._root = root
        self._now_s = wall_s()
        self._tally = Tally()
        self._entries = 0
        self._steps = 0
        self._walk = self._all()

    def step(self, at_ms: int) -> Optional[Result]:
        """Go on for a moment; the result once there is one."""
        deadline = time.monotonic() + STEP_S
        self._steps += 1
        for number in range(STEP_ENTRIES):
            if next(self._walk, None) is None:
                return self._tally.result(at_ms, False)
            self._entries += 1
            if self._entries >= MOST_ENTRIES:
                return self._tally.result(at_ms, True)
            if number % 16 == 15 and time.monotonic() >= deadline:
                break
        return self._tally.result(at_ms, True) if self._steps >= MOST_STEPS else None

    def cut(self, at_ms: int) -> Result:
        """What was found so far."""
        return self._tally.result(at_ms, True)

    def _all(self) -> Iterator[bool]:
        own = {os.path.join(self._root, filler.path) for filler in FILLERS}
        for filler in FILLERS:
            path = os.path.join(self._root, filler.path)
            try:
                device = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISDIR(device.st_mode):
                yield from self._below(filler, path, device.st_dev, own - {path}, 0)

    def _below(self, filler: Filler, path: str, device: int, others: Set[str], depth: int) -> Iterator[bool]:
        try:
            entries = os.scandir(path)
        except OSError:
            return
        with entries:
            for entry in entries:
                yield True
                found = self._entry(filler, entry, device, others)
                if found and depth < DEEPEST:
                    yield from self._below(filler, found, device, others, depth + 1)

    def _entry(self, filler: Filler, entry: "os.DirEntry", device: int, others: Set[str]) -> str:
        """Count a file; the path of a directory to go into, else empty."""
        try:
            about = entry.stat(follow_symlinks=False)
        except OSError:
            return ""
        if about.st_dev != device or entry.path in others:
            return ""
        if stat.S_ISDIR(about.st_mode):
            return entry.path
        if stat.S_ISREG(about.st_mode):
            shown = "/" + os.path.relpath(entry.path, self._root)
            self._tally.add(filler, shown, entry.name, about.st_blocks * _BLOCK, self._now_s - about.st_mtime)
        return ""


def look(root: str, limit_s: float) -> Result:
    """A whole look at once, for a person who waits; cut off after ``limit_s`` seconds, which the result then says."""
    filling, deadline = Filling(root), time.monotonic() + limit_s
    while True:
        result = filling.step(int(time.monotonic() * 1000))
        if result is not None:
            return result
        if time.monotonic() >= deadline:
            return filling.cut(int(time.monotonic() * 1000))
