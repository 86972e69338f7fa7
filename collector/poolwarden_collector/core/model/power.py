"""What a fence device says: power, whose machine it switches by its own word, and when each was read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from poolwarden_collector.core.model.values import HostId, Ms


class Power(Enum):
    """Power as a fence device reads it: three-valued, a failed reading is UNKNOWN."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


class Trouble(Enum):
    """Why a fence device did not do what it was asked; ``NONE`` if it did."""

    NONE = ""
    PASSWORD = "wrong-password"  # it refuses the name or the password, or the account may not do this
    UNREACHABLE = "unreachable"
    AGENT = "agent-missing"  # the fence agent is not installed, or cannot be started
    HUNG = "hung"  # it had not ended at its hard limit
    FAILED = "failed"  # anything else


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What a fence device itself says of the machine that it switches; ``text`` says why it tells nothing.

    ``uuids``: system UUIDs (DMTF DSP0266, ComputerSystem.UUID) or GUIDs (IPMI 2.0, 22.14), lower case; ``serials``:
    of product, chassis and board.
    """

    uuids: tuple[str, ...] = ()
    serials: tuple[str, ...] = ()
    text: str = ""

    def __bool__(self) -> bool:
        return bool(self.uuids or self.serials)


@dataclass(frozen=True, slots=True)
class PowerReading:
    """One run of a fence agent's ``status``: what it read, and between which instants.

    ``identity`` is what the device said of its machine right before; ``None``: it was not asked in this run.
    """

    power: Power
    device: str
    started_at: Ms
    ended_at: Ms
    text: str = ""
    identity: DeviceIdentity | None = None
    trouble: Trouble = Trouble.NONE
    monitor: str | None = None  # why its `monitor` failed, empty if it did not; None: it was not asked in this run
    status_ms: Ms = 0  # how long `status` itself took
    through: HostId = ""  # the member that ran it; empty: the collector itself

    @property
    def true_at(self) -> Ms:
        """The instant of which it speaks, at the latest that is certain: a member's word is as old as the question."""
        return self.started_at if self.through else self.ended_at


@dataclass(frozen=True, slots=True)
class FenceDevice:
    """A configured fence device of a host; the core knows its name and level, never its parameters.

    ``block`` is a digest of its agent and of the parameters that are no secret: another block is another device.
    """

    name: str
    host: HostId
    level: int = 1
    hard_limit_ms: int = 40_000
    block: str = ""
    agent: str = ""  # the name of its fence agent, without folder
    via_members: bool = False  # its agent is run by another member of its host's pool
