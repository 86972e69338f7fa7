"""A capsule's file: a plain tar (POSIX ustar) whose members are gzip'd text, written one after the other.

It is written as a stream, in the memory of one piece: of a member its head is written when its size is known. A member
has a share of the whole; one whose end would not fit is made anew from a shorter piece of its log, for of a log the end
is worth most. On the host itself: ``tar xf CAPSULE; zcat xensource.log.gz``.
"""

import zlib
from typing import Any, Callable, Iterator, List

BLOCK = 512
_PIECE = 32768
_TRIES = (1, 4, 16, 64)


class Full(Exception):
    """What was to be written does not fit."""


class Writer(object):
    """Writes into an open binary file. ``pause`` is called between pieces; false: it is too late for more."""

    def __init__(self, file: Any, most_bytes: int, mtime_s: int, pause: Callable[[], bool]) -> None:
        self._file = file
        self._most = most_bytes - 2 * BLOCK
        self._mtime = mtime_s
        self._pause = pause
        self.remarks: List[str] = []

    def add(self, name: str, make: Callable[[int], Iterator[str]], most_read: int, share: int) -> None:
        """A member of the lines that ``make`` gives of at most so many bytes; ``share``: of the file, compressed.

        :raises OSError: it could not be written.
        """
        begin = self._file.tell()
        for divided in _TRIES:
            try:
                self._member(name, make(most_read // divided), min(share, self._most - begin - 2 * BLOCK))
            except Full:
                self._file.seek(begin)
                self._file.truncate()
                continue
            if divided > 1:
                self.remarks.append("%s: only the last %d KiB fit" % (name, most_read // divided // 1024))
            return
        self.remarks.append("%s: nothing of it fits" % name)

    def end(self) -> None:
        """What ends a tar."""
        self._file.write(b"\0" * 2 * BLOCK)
        self._file.flush()

    def _member(self, name: str, lines: Iterator[str], share: int) -> None:
        head = self._file.tell()
        self._file.write(b"\0" * BLOCK)
        packed, size, waiting, held = zlib.compressobj(6, zlib.DEFLATED, 31), 0, [], 0
        for line in lines:
            data = line.encode("utf-8", "replace") + b"\n"
            waiting.append(data)
            held += len(data)
            if held >= _PIECE:
                size += self._write(packed.compress(b"".join(waiting)), share - size)
                waiting, held = [], 0
                if not self._pause():
                    self.remarks.append("%s: not to its end, this took too long" % name)
                    break
        last = packed.compress(b"".join(waiting)) + packed.flush()
        size += self._write(last, share - size)
        self._file.write(b"\0" * (-size % BLOCK))
        end = self._file.tell()
        self._file.seek(head)
        self._file.write(header(name + ".gz", size, self._mtime))
        self._file.seek(end)

    def _write(self, data: bytes, left: int) -> int:
        if len(data) > left:
            raise Full()
        self._file.write(data)
        return len(data)


def header(name: str, size: int, mtime_s: int) -> bytes:
    """The head of a plain file of root's, mode 0600 (IEEE Std 1003.1, pax: ustar interchange format)."""
    fields = [
        name.encode("ascii")[:100].ljust(100, b"\0"),
        b"0000600\0" + b"0000000\0" * 2,
        b"%011o\0" % size,
        b"%011o\0" % max(0, mtime_s),
        b" " * 8,
        b"0" + b"\0" * 100,
        b"ustar\0" + b"00",
        b"root".ljust(32, b"\0") * 2,
    ]
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block.replace(b" " * 8, b"%06o\0 " % sum(bytearray(block)), 1)
