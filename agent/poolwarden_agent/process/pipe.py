"""The pipe between the two processes: one-byte verb, four-byte length, payload. Typed, bounded, never trusted.

Upwards (host side to link side): ``M``, the number of a stream and a serialized AgentMessage for it; ``R``, begin a new
stream; ``W``, the collector of this stream has welcomed this host; ``G``, the collector of this stream is not this
host's: go on to the HOST:PORT that follows, or to the next one where nothing does. Downwards: ``U`` a stream is up,
with its number and the address that was dialled; ``D`` none is, with that address, a zero byte and a text; ``C`` a
serialized CollectorMessage. Whatever else comes from the link side is refused with a line in the log.

Streams are numbered because the two sides learn of a stream's end at different times: a report that was meant for the
last stream must not come before the Hello of the next one.
"""

import struct
from typing import List, Tuple

LONGEST = 4 * 1024 * 1024
MOST_ADDRESS = 300  # characters
MOST_WHY = 200
MESSAGE, RENEW, WELCOMED, GO = b"M", b"R", b"W", b"G"
UP, DOWN, FROM_COLLECTOR = b"U", b"D", b"C"
_HEAD = struct.Struct("!cI")
_STREAM = struct.Struct("!I")


class PipeError(Exception):
    """The other side does not keep to the frames."""


def frame(verb: bytes, payload: bytes = b"") -> bytes:
    """One frame. :raises PipeError: the payload is too long."""
    if len(payload) > LONGEST:
        raise PipeError("a frame of %d bytes" % len(payload))
    return _HEAD.pack(verb, len(payload)) + payload


def numbered(stream: int, message: bytes = b"") -> bytes:
    """A payload that belongs to one stream."""
    return _STREAM.pack(stream) + message


def unnumbered(payload: bytes) -> Tuple[int, bytes]:
    """Stream and message. :raises PipeError: there is no number."""
    if len(payload) < _STREAM.size:
        raise PipeError("a message without a stream")
    return _STREAM.unpack(payload[: _STREAM.size])[0], payload[_STREAM.size :]


def about(address: str, why: str) -> bytes:
    """The payload of ``DOWN``."""
    return address.encode("utf-8") + b"\0" + why.encode("utf-8", "replace")


def read_about(payload: bytes) -> Tuple[str, str]:
    """Address and text of a ``DOWN``, each cut."""
    address, _, why = payload.partition(b"\0")
    return address.decode("utf-8", "replace")[:MOST_ADDRESS], why.decode("utf-8", "replace")[:MOST_WHY]


class Frames(object):
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> List[Tuple[bytes, bytes]]:
        """Whole frames so far. :raises PipeError: a length that neither side ever sends."""
        self._data += data
        found, start = [], 0
        while len(self._data) - start >= _HEAD.size:
            verb, length = _HEAD.unpack(bytes(self._data[start : start + _HEAD.size]))
            if length > LONGEST:
                raise PipeError("a frame of %d bytes" % length)
            end = start + _HEAD.size + length
            if len(self._data) < end:
                break
            found.append((verb, bytes(self._data[start + _HEAD.size : end])))
            start = end
        del self._data[:start]
        return found
