"""Durable state that a full disk cannot stop: two preallocated slots, overwritten in place, alternately.

Rules
-----
* A slot is one file of fixed size, allocated once; every save overwrites the *older* slot and fsyncs it, so the newer
  one is whole whatever happens in between.
* Slot: magic, sequence number (8 bytes), length (4 bytes), sha256 of all that and the payload, payload, zeroes.
* No readable slot while one of the files exists is not "empty": it is an error, and the gate then refuses everything.
"""

import errno
import hashlib
import os
import struct
from typing import Optional, Tuple

SIZE = 65536
MAGIC = b"PWSLOT1\n"
_HEAD = struct.Struct("!8sQI32s")
CAPACITY = SIZE - _HEAD.size


class SlotError(Exception):
    """Durable state cannot be read or written; the text says which file and why."""


class Slots(object):
    """Two slots in one directory. Not for two processes at once."""

    def __init__(self, directory: str) -> None:
        self._paths = [os.path.join(directory, "state.%d" % n) for n in (0, 1)]
        self._directory = directory
        self._sequence = 0
        self._newest = 1

    def prepare(self) -> None:
        """Allocate what is missing.

        :raises SlotError: there is no room, or the directory cannot be written.
        """
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            missing = [number for number in (0, 1) if not os.path.exists(self._paths[number])]
            if len(missing) == 1 and self._read(1 - missing[0]) is None:
                raise SlotError("%s: one slot is gone and the other is not readable" % self._directory)
            for number in missing:
                self._allocate(self._paths[number])
        except OSError as error:
            raise SlotError("%s cannot be prepared: %s" % (self._directory, error)) from error

    def _allocate(self, path: str) -> None:
        temporary = path + ".new"
        with open(temporary, "wb") as file:
            file.write(_pack(0, b""))
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def load(self) -> bytes:
        """The newest payload; empty bytes if nothing was ever saved.

        :raises SlotError: no slot is readable.
        """
        found = [(slot, number) for number in (0, 1) for slot in [self._read(number)] if slot is not None]
        if not found:
            raise SlotError(
                "neither slot in %s is readable; if you know that no failover is under way, remove both files "
                "(the agent then knows no term and no tombstone)" % self._directory
            )
        (self._sequence, payload), self._newest = max(found, key=lambda item: item[0][0])
        return payload

    def _read(self, number: int) -> Optional[Tuple[int, bytes]]:
        try:
            with open(self._paths[number], "rb") as file:
                return _unpack(file.read(SIZE))
        except OSError:
            return None

    def save(self, payload: bytes) -> None:
        """Make this payload durable before returning.

        :raises SlotError: it could not be made durable; the previous payload still is.
        """
        if len(payload) > CAPACITY:
            raise SlotError("state of %d bytes exceeds %d" % (len(payload), CAPACITY))
        target = 1 - self._newest
        try:
            descriptor = os.open(self._paths[target], os.O_WRONLY)
            try:
                data = _pack(self._sequence + 1, payload)
                written = os.pwrite(descriptor, data, 0)
                if written != len(data):
                    raise OSError(errno.ENOSPC, "only %d of %d bytes were written" % (written, len(data)))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SlotError("%s cannot be written: %s" % (self._paths[target], error)) from error
        self._sequence, self._newest = self._sequence + 1, target


def _pack(sequence: int, payload: bytes) -> bytes:
    digest = hashlib.sha256(struct.pack("!QI", sequence, len(payload)) + payload).digest()
    return (_HEAD.pack(MAGIC, sequence, len(payload), digest) + payload).ljust(SIZE, b"\0")


def _unpack(data: bytes) -> Optional[Tuple[int, bytes]]:
    if len(data) < _HEAD.size:
        return None
    magic, sequence, length, digest = _HEAD.unpack(data[: _HEAD.size])
    payload = data[_HEAD.size : _HEAD.size + length]
    whole = hashlib.sha256(struct.pack("!QI", sequence, length) + payload).digest()
    return (sequence, payload) if magic == MAGIC and len(payload) == length and whole == digest else None
