"""Durable state that a full disk cannot stop: two preallocated slots, both overwritten in place by each save.

Rules
-----
* A slot is one file of fixed size, allocated once. A save writes and fsyncs the older slot, then the other one, and
  only then it is done: from then on either slot alone brings back what was answered. One that is torn, flipped or gone
  never brings back an older term, hold or tombstone.
* While a save is under way one slot is whole whatever happens. What stands after a crash in its middle is the state
  before it or the new one; no order was answered yet.
* A load takes the newest readable slot. Slots that differ are made alike again by ``mend``, which also tells that one
  was not readable.
* A save that fails between its slots is taken back, if that leaves one slot whole all the time; in any case the caller
  reads again, so that memory says what a restart would find.
* Slot: magic, sequence number (8 bytes), length (4 bytes), sha256 of all that and the payload, payload, zeroes. Another
  number in the magic is another layout: it is told as such, and nothing is guessed.
* No readable slot while one of the files exists is not "empty": it is an error, and the gate then refuses everything.
"""

import errno
import hashlib
import os
import struct
from typing import List, Optional, Tuple

from poolwarden_agent.dom0.system import plain_files

SIZE = 65536
MAGIC = b"PWSLOT1\n"
_FAMILY = MAGIC[:6]
_HEAD = struct.Struct("!8sQI32s")
CAPACITY = SIZE - _HEAD.size
ASIDE = ".unreadable"  # what `set_aside` appends to a slot's name

WAY_OUT = "poolwarden-agent gate forget"


class SlotError(Exception):
    """Durable state cannot be read or written; the text says which file and why."""


class Slots(object):
    """Two slots in one directory. Not for two processes that write at once."""

    def __init__(self, directory: str) -> None:
        self._paths = [os.path.join(directory, "state.%d" % n) for n in (0, 1)]
        self._directory = directory
        self._sequence = 0
        self._payload = b""
        self._newest = 1
        self._alike = False  # both slots were seen to hold what stands

    def prepare(self) -> None:
        """Allocate what is missing.

        :raises SlotError: there is no room, or the directory cannot be written.
        """
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            shared = plain_files.own_directory(self._directory)
            if shared:
                raise SlotError(shared)
            missing = [number for number in (0, 1) if not os.path.exists(self._paths[number])]
            if len(missing) == 1 and self._read(1 - missing[0]) is None:
                raise SlotError("%s: one slot is gone and the other is not readable; %s" % (self._directory, WAY_OUT))
            for number in missing:
                self._allocate(self._paths[number])
        except OSError as error:
            raise SlotError("%s cannot be prepared: %s" % (self._directory, error)) from error

    def _allocate(self, path: str) -> None:
        temporary = path + ".new"
        with plain_files.new(temporary) as file:
            file.write(_pack(0, b""))
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        self._sync_directory()

    def _sync_directory(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def load(self) -> bytes:
        """The newest payload; empty bytes if nothing was ever saved. Writes nothing.

        :raises SlotError: no slot is readable.
        """
        slots = [self._read(number) for number in (0, 1)]
        found = [(slot, number) for number, slot in enumerate(slots) if slot is not None]
        if not found:
            raise SlotError(self._unreadable())
        (self._sequence, self._payload), self._newest = max(found, key=lambda item: item[0][0])
        self._alike = slots[0] == slots[1]
        return self._payload

    def _unreadable(self) -> str:
        layouts = [layout for layout in (self._layout(path) for path in self._paths) if layout]
        if layouts:
            return "the slots in %s are of a layout (%s) that this agent does not know: install the newer one again" % (
                self._directory,
                layouts[0],
            )
        return "neither slot in %s is readable; if you know that no failover is under way: %s" % (
            self._directory,
            WAY_OUT,
        )

    def _layout(self, path: str) -> str:
        """The name of another version's layout; empty: it is ours, or none."""
        try:
            with os.fdopen(plain_files.to_read(path), "rb") as file:
                magic = file.read(len(MAGIC))
        except OSError:
            return ""
        ours = magic == MAGIC or not magic.startswith(_FAMILY)
        return "" if ours else magic.decode("ascii", "replace").strip()

    def mend(self) -> str:
        """Make both slots hold what ``load`` has found; what was wrong in words, empty: nothing was.

        :raises SlotError: a slot cannot be written; what stands is what was read.
        """
        if self._alike:
            return ""
        older = self._read(1 - self._newest)
        self._write(1 - self._newest, self._sequence, self._payload)
        self._alike = True
        if older is not None and (older[0] or self._sequence == 1):
            return ""  # a crash between the two slots of a save that nobody was answered
        said = "not readable" if older is None else "empty"
        return "%s was %s; the other slot stands, and has been copied to it" % (self._paths[1 - self._newest], said)

    def _read(self, number: int) -> Optional[Tuple[int, bytes]]:
        try:
            with os.fdopen(plain_files.to_read(self._paths[number]), "rb") as file:
                return _unpack(file.read(SIZE))
        except OSError:
            return None

    def save(self, payload: bytes) -> None:
        """Make this payload durable in both slots before returning.

        :raises SlotError: it could not be; what stands is to be read again.
        """
        if len(payload) > CAPACITY:
            raise SlotError("state of %d bytes exceeds %d" % (len(payload), CAPACITY))
        first = 1 - self._newest
        self._write(first, self._sequence + 1, payload)
        try:
            # safety: answered only when both hold it, so that one slot that is lost later brings nothing old back.
            self._write(1 - first, self._sequence + 1, payload)
        except SlotError:
            self._take_back(first)
            raise
        self._sequence, self._payload, self._newest, self._alike = self._sequence + 1, payload, 1 - first, True

    def _take_back(self, number: int) -> None:
        """Undo half a save, only while the other slot is whole: one is readable at any moment."""
        self._alike = False
        if self._read(1 - number) != (self._sequence, self._payload):
            return
        try:
            self._write(number, self._sequence, self._payload)
        except SlotError:
            pass  # the new payload stands; the next reader finds it

    def _write(self, number: int, sequence: int, payload: bytes) -> None:
        path = self._paths[number]
        try:
            descriptor = plain_files.existing(path)
            try:
                data = _pack(sequence, payload)
                written = os.pwrite(descriptor, data, 0)
                if written != len(data):
                    raise OSError(errno.ENOSPC, "only %d of %d bytes were written" % (written, len(data)))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SlotError("%s cannot be written: %s" % (path, error)) from error

    def set_aside(self) -> List[str]:
        """Rename the slots, so that nothing was ever saved; the new names. Only on an operator's command.

        :raises SlotError: they cannot be.
        """
        moved = []
        try:
            for path in self._paths:
                if os.path.exists(path):
                    os.rename(path, path + ASIDE)
                    moved.append(path + ASIDE)
            self._sync_directory()
        except OSError as error:
            raise SlotError("%s cannot be set aside: %s" % (self._directory, error)) from error
        return moved


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
