"""Stamps what agents do at the instant at which the kernel tells it: inotify(7) on their logs and durable slots.

Theory: an agent writes its started mark (term, order) into a slot *before* it acts on an order, so the first write to
its slots after a promote intent is the order's arrival at its gate; and it logs each order's end right before the
answer leaves. Both are seen from outside, so the programs measured are the shipped ones. A thread of its own reads
the events: the lab's event loop may be busy, and a stamp must not wait for it. What is added is one wake-up, tens of
microseconds on an idle machine.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_IN_MODIFY = 0x2
_EVENT = struct.Struct("iIII")


@dataclass(frozen=True, slots=True)
class Seen:
    """A write to a file, and for a log what it added. ``mono_ms`` is CLOCK_MONOTONIC with microseconds."""

    mono_ms: float
    path: Path
    text: str = ""


class Watch:
    """Collects what happens to files. ``logs`` are read on, of ``folders`` only the writes are noted."""

    def __init__(self, logs: list[Path], folders: list[Path]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._handle < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._paths = {self._add(path): path for path in [*logs, *folders]}
        self._offsets = {path: path.stat().st_size for path in logs}
        self._seen: list[Seen] = []
        self._guard = threading.Lock()
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def since(self, mono_ms: float) -> list[Seen]:
        with self._guard:
            return [item for item in self._seen if item.mono_ms >= mono_ms]

    def stop(self) -> None:
        os.write(self._stop_write, b"!")
        self._thread.join(5)
        for handle in (self._handle, self._stop_read, self._stop_write):
            os.close(handle)

    def _add(self, path: Path) -> int:
        watch = self._libc.inotify_add_watch(self._handle, os.fsencode(path), _IN_MODIFY)
        if watch < 0:
            raise OSError(ctypes.get_errno(), f"inotify_add_watch {path}")
        return int(watch)

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._handle, self._stop_read], [], [])
            now = time.monotonic_ns() / 1e6
            if self._stop_read in ready:
                return
            self._note(now, os.read(self._handle, 65536))

    def _note(self, now: float, data: bytes) -> None:
        offset = 0
        while offset < len(data):
            number, _, _, length = _EVENT.unpack_from(data, offset)
            name = data[offset + _EVENT.size : offset + _EVENT.size + length].rstrip(b"\0").decode()
            offset += _EVENT.size + length
            path = self._paths.get(number)
            if path is None:
                continue
            text = self._added(path) if path in self._offsets else ""
            with self._guard:
                self._seen.append(Seen(now, path / name if name else path, text))

    def _added(self, path: Path) -> str:
        with path.open("rb") as file:
            file.seek(self._offsets[path])
            data = file.read()
        self._offsets[path] += len(data)
        return data.decode("utf-8", "replace")
