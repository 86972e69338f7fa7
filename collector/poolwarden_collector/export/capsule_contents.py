"""What is in a capsule, as far as it can be what an agent writes: plain files of gzip'd text with names of its own.

A capsule comes from a host that may be anybody's by now: nothing in it decides a path, and none of its members is
unpacked beyond its bound. What is not as it should be is left out and said.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Iterator

MOST_MEMBERS = 64
BIGGEST = 32 << 20  # of a member, unpacked
BIGGEST_OF_ALL = 64 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}\.gz")
_PIECE = 65_536


def members(data: bytes) -> Iterator[tuple[str, str]]:
    """Name and text of each; a name that ends with ``.remark`` says what was left out."""
    left, seen = BIGGEST_OF_ALL, set[str]()
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for count, member in enumerate(tar, 1):
                name = member.name
                if count > MOST_MEMBERS:
                    yield "more.remark", f"it has more than {MOST_MEMBERS} members"
                    return
                if not member.isreg() or not _NAME.fullmatch(name) or name in seen:
                    yield f"member-{count}.remark", "left out: no plain file with a name of an agent's"
                    continue
                seen.add(name)
                file = tar.extractfile(member)
                text, whole = _unpacked(file.read() if file is not None else b"", min(BIGGEST, left))
                left -= len(text)
                yield name.removesuffix(".gz"), text.decode("utf-8", "replace")
                if not whole:
                    yield f"member-{count}.remark", "its end is left out: it is damaged, or longer than is taken"
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        yield "capsule.remark", f"it cannot be read to its end: {type(error).__name__}"


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
