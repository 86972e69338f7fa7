"""A piece of a database that is to be placed, and what makes it none."""

import re
from typing import NamedTuple

BIGGEST_DATABASE = 256 * 1024 * 1024
BIGGEST_PIECE = 1024 * 1024
_SHA256 = re.compile("[0-9a-f]{64}\\Z")


class Piece(NamedTuple):
    """A piece of a database to be placed: ``size`` bytes at ``offset`` of ``total_bytes``."""

    generation: int
    total_bytes: int
    offset: int
    size: int
    sha256: str
    remove: bool
    held_master: bool = False  # for the restart of a held master, not for a promotion

    @property
    def last(self) -> bool:
        return self.offset + self.size == self.total_bytes


def piece_wrong(piece: Piece) -> str:
    """What makes a piece none; empty: nothing."""
    if not 1 <= piece.total_bytes <= BIGGEST_DATABASE:
        return "a database of %d bytes is not placed" % piece.total_bytes
    if not 1 <= piece.size <= BIGGEST_PIECE or piece.offset + piece.size > piece.total_bytes:
        return "a piece of %d bytes at %d is none of %d" % (piece.size, piece.offset, piece.total_bytes)
    if not _SHA256.match(piece.sha256):
        return "its sha256 is none"
    if not 1 <= piece.generation < 1 << 62:
        return "%d is no generation" % piece.generation
    return ""
