"""The latch: one small file that says, for a shell without Python, whether this host's xapi must stay down.

What is durable is in the slots (slots.py). The latch repeats one word of it for the case that the program that reads
them cannot run (no Python, no memory, killed): ``hold``, ``tombstone`` or ``none``, padded with spaces, one line. The
gate's shell wrapper (packaging/agent/poolwarden-gate) then keeps xapi down only where this file says so, and lets it
start otherwise: a bug of the agent blocks no healthy host, and releases no held one.

Allocated once and overwritten in place: a full disk cannot stop it. Order: before the slots say *held*, the latch is
closed; it opens after the slots say *free*. Cut off in between, it errs on the closed side, until the agent starts.

Its words are for every version: one that keeps xapi down for a new reason writes an old word, because an agent that was
installed in its place may be able to read nothing else of it (core/gate_state.py).
"""

import os

from poolwarden_agent.core.gate_state import GateState
from poolwarden_agent.dom0.system import plain_files
from poolwarden_agent.dom0.system.slots import SlotError

SIZE = 16
NONE, HOLD, TOMBSTONE = "none", "hold", "tombstone"


def word(state: GateState) -> str:
    """What the latch says for this state."""
    if state.hold is not None:
        return HOLD
    return TOMBSTONE if state.tombstone is not None else NONE


def _line(text: str) -> bytes:
    return (text.ljust(SIZE - 1) + "\n").encode("ascii")


class Latch(object):
    """The file in the agent's state directory."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "latch")

    def prepare(self) -> None:
        """Allocate it.

        :raises SlotError: there is no room, or the directory cannot be written.
        """
        if not os.path.exists(self._path):
            try:
                temporary = self._path + ".new"
                with plain_files.new(temporary) as file:
                    file.write(_line(NONE))
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, self._path)
            except OSError as error:
                raise SlotError("%s cannot be prepared: %s" % (self._path, error)) from error

    def read(self) -> str:
        """Its word; ``none`` where there is none."""
        try:
            with os.fdopen(plain_files.to_read(self._path), "rb") as file:
                found = file.read(SIZE).decode("ascii", "replace").strip()
        except OSError:
            return NONE
        return found if found in (HOLD, TOMBSTONE) else NONE

    def write(self, text: str) -> None:
        """Durable when it returns.

        :raises SlotError: it is not.
        """
        if self.read() == text:
            return
        try:
            descriptor = plain_files.existing(self._path)
            try:
                os.pwrite(descriptor, _line(text), 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SlotError("%s cannot be written: %s" % (self._path, error)) from error
