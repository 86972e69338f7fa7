"""Is a write-ahead log damaged before its end? SQLite itself ends at the first frame that is not whole, without a word.

After a power cut the last transaction's frames may be torn: it was promised to nobody. SQLite begins no transaction
before the one before it is synced (synchronous=FULL), so frames of a later one behind a torn frame say that what was
durable is damaged. Form of the file and of its checksums: sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_HEADER, _FRAME = 32, 24  # bytes
_LITTLE, _BIG = 0x377F0682, 0x377F0683  # order of the checksums' words
_PAGES = frozenset(1 << n for n in range(9, 17))
Sums = tuple[int, int]


def found(path: Path) -> str:
    """Why the log of the database at ``path`` is not whole; empty: nothing that was durable is damaged in it."""
    log = path.with_name(path.name + "-wal")
    if not log.exists() or log.stat().st_size <= _HEADER:
        return ""
    with log.open("rb") as file:
        head = file.read(_HEADER)
        magic, _, page, _, *salts, one, two = struct.unpack(">8I", head)
        if magic not in (_LITTLE, _BIG) or page not in _PAGES or _summed(head[:24], (0, 0), magic) != (one, two):
            return f"the header of its log {log.name} is damaged"
        frame = _end_of_the_whole(file, magic, page, (one, two), head[16:24])
        if _another_transaction(file, page, frame, head[16:24]):
            return f"its log {log.name} is damaged in frame {frame + 1}, and goes on behind it"
    return ""


def _end_of_the_whole(file: BinaryIO, magic: int, page: int, sums: Sums, salts: bytes) -> int:
    """How many frames from the first one on are whole."""
    count = 0
    while len(frame := file.read(_FRAME + page)) == _FRAME + page and frame[8:16] == salts:
        sums = _summed(frame[_FRAME:], _summed(frame[:8], sums, magic), magic)
        if sums != struct.unpack(">2I", frame[16:24]):
            break
        count += 1
    return count


def _another_transaction(file: BinaryIO, page: int, frame: int, salts: bytes) -> bool:
    """Does this log go on behind the end of the transaction that this frame, which is not whole, is of?"""
    over = False
    for head in _heads(file, page, frame):
        if head[8:16] != salts:
            continue
        if over:
            return True
        over = head[4:8] != b"\0\0\0\0"  # the size of the file: it ends a transaction
    return False


def _heads(file: BinaryIO, page: int, frame: int) -> Iterator[bytes]:
    while True:
        file.seek(_HEADER + frame * (_FRAME + page))
        if len(head := file.read(_FRAME)) < _FRAME:
            return
        yield head
        frame += 1


def _summed(data: bytes, sums: Sums, magic: int) -> Sums:
    words = array("I", data)
    if (magic == _LITTLE) != (sys.byteorder == "little"):
        words.byteswap()
    one, two = sums
    pairs = iter(words)
    for first, second in zip(pairs, pairs, strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
