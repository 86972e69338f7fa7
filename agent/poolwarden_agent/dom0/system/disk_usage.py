"""Looks through a dom0's disk, a little at a time, within bounds: what is big, what could be cleaned.

The known fillers first, then what is of this host alone, then the rest of the root file system: where the bounds cut a
look off, the system's own files are what is missing.

Rules
-----
* It only reads directories and stats files, never a file's content; it stays on the file systems that it was asked
  about, follows no link, and changes nothing.
* ``step`` does at most ``STEP_ENTRIES`` entries and about ``STEP_S`` seconds, so that a dom0 whose disk is dying is not
  kept busier by this; a whole look ends after ``MOST_ENTRIES`` entries or ``MOST_STEPS`` steps and says then that it
  is partial. A directory that cannot be read is left out.
"""

import os
import stat
import time
from typing import Callable, Iterator, List, Optional, Set

from poolwarden_agent.core.disk_fillers import ELSEWHERE, FILLERS, SYSTEM, Filler, Result, Tally, own_place

STEP_ENTRIES = 400
STEP_S = 0.05
MOST_ENTRIES = 120000  # a dom0 has 60,000 to 90,000
MOST_STEPS = 400
DEEPEST = 12
_BLOCK = 512  # st_blocks counts these
_MOST_LINKED = 20000  # inodes with several names that are remembered
_TOP_FILLERS = frozenset(filler.path for filler in FILLERS if "/" not in filler.path)


class Filling(object):
    """One look, from its first step to its result."""

    def __init__(self, root: str, wall_s: Callable[[], float] = time.time) -> None:
        self._root = root
        self._now_s = wall_s()
        self._tally = Tally()
        self._entries = 0
        self._steps = 0
        self._device = _device(root)
        self._linked = set()  # type: Set[int]
        self._walk = self._all()

    def step(self, at_ms: int) -> Optional[Result]:
        """Go on for a moment; the result once there is one."""
        deadline = time.monotonic() + STEP_S
        self._steps += 1
        for number in range(STEP_ENTRIES):
            if next(self._walk, None) is None:
                self._tally.unseen(self._used())
                return self._tally.result(at_ms, False)
            self._entries += 1
            if self._entries >= MOST_ENTRIES:
                return self._tally.result(at_ms, True)
            if number % 16 == 15 and time.monotonic() >= deadline:
                break
        return self._tally.result(at_ms, True) if self._steps >= MOST_STEPS else None

    def _used(self) -> int:
        """What the root file system says is used; 0: it is none of its own, or does not say."""
        try:
            space = os.statvfs(self._root)
        except OSError:
            return 0
        return (space.f_blocks - space.f_bfree) * space.f_frsize if os.path.ismount(self._root) else 0

    def _first(self, inode: int) -> bool:
        if inode in self._linked or len(self._linked) >= _MOST_LINKED:
            return False
        self._linked.add(inode)
        return True

    def cut(self, at_ms: int) -> Result:
        """What was found so far."""
        return self._tally.result(at_ms, True)

    def _all(self) -> Iterator[bool]:
        tops = self._tops()
        places = list(FILLERS) + [own_place(name) for name in tops if name not in SYSTEM and name not in _TOP_FILLERS]
        own = {os.path.join(self._root, place.path) for place in places}
        yield from self._at_the_top()
        for place in places:
            path = os.path.join(self._root, place.path)
            yield from self._place(place, path, own - {path})
        for name in tops:
            path = os.path.join(self._root, name)
            if path not in own:
                yield from self._place(ELSEWHERE, path, own)

    def _tops(self) -> List[str]:
        """The directories at the top of the root file system itself."""
        try:
            device = os.lstat(self._root).st_dev
            with os.scandir(self._root) as entries:
                return sorted(
                    entry.name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_dev == device
                )
        except OSError:
            return []

    def _at_the_top(self) -> Iterator[bool]:
        """The files that lie in / itself: an image or a core dump that was written there."""
        try:
            entries = os.scandir(self._root)
        except OSError:
            return
        with entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    yield True
                    self._entry(ELSEWHERE, entry, self._device, set())

    def _place(self, place: Filler, path: str, others: Set[str]) -> Iterator[bool]:
        try:
            about = os.lstat(path)
        except OSError:
            return
        if stat.S_ISDIR(about.st_mode):
            yield from self._below(place, path, about.st_dev, others, 0)

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
            # Of two names of one file each would be counted: it is used once.
            if device == self._device and (about.st_nlink < 2 or self._first(about.st_ino)):
                self._tally.on_root(about.st_blocks * _BLOCK)
        return ""


def _device(path: str) -> int:
    try:
        return os.lstat(path).st_dev
    except OSError:
        return -1


def look(root: str, limit_s: float) -> Result:
    """A whole look at once, for a person who waits; cut off after ``limit_s`` seconds, which the result then says."""
    filling, deadline = Filling(root), time.monotonic() + limit_s
    while True:
        result = filling.step(int(time.monotonic() * 1000))
        if result is not None:
            return result
        if time.monotonic() >= deadline:
            return filling.cut(int(time.monotonic() * 1000))
