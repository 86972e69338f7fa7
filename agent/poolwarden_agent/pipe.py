"""The pipe between the two processes: one-byte verb, four-byte length, payload. Typed, bounded, never trusted.

Upwards (host side to link side): ``M``, a serialized AgentMessage to send. Downwards: ``U`` the link is up, ``D`` it is
down, ``C`` a serialized CollectorMessage. Whatever else comes from the link side is refused with a line in the log.
"""

import struct
from typing import List, Tuple

LONGEST = 4 * 1024 * 1024
MESSAGE, UP, DOWN, FROM_COLLECTOR = b"M", b"U", b"D", b"C"
DOWNWARDS = (UP, DOWN, FROM_COLLECTOR)
_HEAD = struct.Struct("!cI")


class PipeError(Exception):
    """The other side does not keep to the frames."""


def frame(verb: bytes, payload: bytes = b"") -> bytes:
    """One frame. :raises PipeError: the payload is too long."""
    if len(payload) > LONGEST:
        raise PipeError("a frame of %d bytes" % len(payload))
    return _HEAD.pack(verb, len(payload)) + payload


class Frames(object):
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> List[Tuple[bytes, bytes]]:
        """Whole frames so far. :raises PipeError: a length that no honest side sends."""
        self._data += data
        found = []
        while len(self._data) >= _HEAD.size:
            verb, length = _HEAD.unpack(self._data[: _HEAD.size])
            if length > LONGEST:
                raise PipeError("a frame of %d bytes" % length)
            if len(self._data) < _HEAD.size + length:
                break
            found.append((verb, self._data[_HEAD.size : _HEAD.size + length]))
            self._data = self._data[_HEAD.size + length :]
        return found
