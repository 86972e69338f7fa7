"""What is in a capsule, as far as it can be what an agent writes: plain files of gzip'd text with names of its own.

A capsule comes from a host that may be anybody's by now: nothing in it decides a path, and none of its members is
unpacked beyond its bound. What is not as it should be is left out and said.

Of the tar (IEEE Std 1003.1, pax: ustar interchange format) only what an agent writes is read, and not by a library:
pax headers and sparse files, which libraries follow, say sizes that have nothing to do with what is there.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MOST_MEMBERS = 64
BIGGEST = 32 << 20  # of a member, unpacked
BIGGEST_OF_ALL = 64 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}\.gz")
_PIECE = 65_536
_BLOCK = 512
_OCTAL = re.compile(rb"[0-7]{1,11}[ \0]*")


@dataclass(frozen=True, slots=True)
class _Member:
    """One file of a tar; ``plain``: no link, no device, no header of headers; ``data``: as much as is there."""

    name: str
    plain: bool
    data: bytes


def members(data: bytes) -> Iterator[tuple[str, str]]:
    """Name and text of each; a name that ends with ``.remark`` says what was left out."""
    left, seen = BIGGEST_OF_ALL, set[str]()
    for count, member in enumerate(_members(data), 1):
        if member is None:
            yield "capsule.remark", "it cannot be read to its end: no tar goes on like that"
            return
        if count > MOST_MEMBERS:
            yield "more.remark", f"it has more than {MOST_MEMBERS} members"
            return
        if not member.plain or not _NAME.fullmatch(member.name) or member.name in seen:
            yield f"member-{count}.remark", "left out: no plain file with a name of an agent's"
            continue
        seen.add(member.name)
        text, whole = _unpacked(member.data, min(BIGGEST, left))
        left -= len(text)
        yield member.name.removesuffix(".gz"), text.decode("utf-8", "replace")
        if not whole:
            yield f"member-{count}.remark", "its end is left out: it is damaged, or longer than is taken"


def _members(data: bytes) -> Iterator[_Member | None]:
    """Each in its order; None, and nothing more, where what follows is no head of one and no end of a tar."""
    at = 0
    while (head := data[at : at + _BLOCK]) != bytes(_BLOCK):
        size = _size(head)
        if size is None:
            yield None
            return
        at += _BLOCK
        name = head[:100].partition(b"\0")[0].decode("utf-8", "replace")
        # A name that goes on in the second field has a folder: no agent writes one.
        plain = head[156:157] in (b"0", b"\0") and not head[345:346].strip(b"\0")
        yield _Member(name, plain, data[at : at + size])
        at += size + -size % _BLOCK


def _size(head: bytes) -> int | None:
    """Of the file behind this head; None: it is no whole head, or was damaged."""
    size, checksum = _octal(head[124:136]), _octal(head[148:156])
    whole = len(head) == _BLOCK and checksum == sum(head[:148]) + 8 * ord(" ") + sum(head[156:])
    return size if whole else None


def _octal(field: bytes) -> int | None:
    """What it says; None: no number, or one in another form than an agent's."""
    return int(field.rstrip(b" \0"), 8) if _OCTAL.fullmatch(field) else None


def _unpacked(data: bytes, most: int) -> tuple[bytes, bool]:
    """What is in it, at most so many bytes, and whether that is all."""
    stream, found = zlib.decompressobj(31), bytearray()
    try:
        while data and not stream.eof and len(found) < most:
            found += stream.decompress(data, min(_PIECE, most - len(found)))
            data = stream.unconsumed_tail
    except zlib.error:
        return bytes(found), False
    return bytes(found), stream.eof
