"""An agent's durable slot in the simulation: it outlives agent, boot and power, and fails as disks do.

Production writes two checksummed slots, both before it answers (agent/poolwarden_agent/dom0/system/slots.py). What that
gives is imitated: a save is whole or has not happened; a torn write leaves the state before it; a directory whose slots
are both unreadable is an error and never "empty"; an administrator who restores a backup brings an older state back.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from poolwarden_agent.dom0.system.slots import SlotError


class SlotFault(Enum):
    """What is wrong with the slot now."""

    NONE = "none"
    ENOSPC = "enospc"  # it cannot be written: somebody deleted the preallocated files and the disk is full
    EIO = "eio"  # it can be neither written nor read
    READ_ONLY = "read-only"  # / was remounted read-only
    TORN = "torn"  # the next write is torn: the power goes, or the process dies, in the middle of it


class TornWrite(Exception):
    """The process dies in the middle of a write."""


class Slot:
    """What an agent has made durable."""

    def __init__(self, payload: bytes = b"") -> None:
        self.payload = payload
        self.fault = SlotFault.NONE
        self.read_only: Callable[[], bool] = lambda: False
        self.snapshots: list[bytes] = []

    def load(self) -> bytes:
        """Raises SlotError where it cannot be read."""
        if self.fault is SlotFault.EIO:
            raise SlotError("state.0 and state.1 cannot be read: Input/output error")
        return self.payload

    def save(self, payload: bytes) -> None:
        """Raises SlotError where it cannot be written, TornWrite where the process dies of it."""
        if self.fault is SlotFault.TORN:
            self.fault = SlotFault.NONE
            raise TornWrite("the write was torn")
        if self.read_only() or self.fault is SlotFault.READ_ONLY:
            raise SlotError("state.0 cannot be written: Read-only file system")
        if self.fault is not SlotFault.NONE:
            what = "No space left on device" if self.fault is SlotFault.ENOSPC else "Input/output error"
            raise SlotError(f"state.0 cannot be written: {what}")
        self.payload = payload

    def snapshot(self) -> int:
        """Keep the present content; its number."""
        self.snapshots.append(self.payload)
        return len(self.snapshots) - 1

    def roll_back(self, number: int = -1) -> None:
        """The content of a snapshot (the newest unless said) is back. Raises IndexError: there is none."""
        self.payload = self.snapshots[number]
