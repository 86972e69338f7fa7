"""The checksum of an entry as it is stored: a bit that is another one now is seen, though SQLite reads the page.

Rules
-----
* It is of what decides: all but the entry's two times, which are for people.
* CRC-32, which finds each flipped bit and each run of up to 32: it is against a disk that errs, and not against whoever
  may write the file.
* An entry from before there were any has none, and is taken as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

_DECIDING = ("seq", "epoch", "term", "pool", "failover", "kind", "actor", "text", "data")


def checksum(row: Mapping[str, Any]) -> int:
    """Of a row as it is stored."""
    return zlib.crc32("\0".join([str(row[name]) for name in _DECIDING]).encode("utf-8", "surrogatepass"))


def sound(row: Mapping[str, Any]) -> bool:
    """Is this stored row as it was written, as far as its checksum tells?"""
    found = row.get("checked")
    return found is None or found == checksum(row)
