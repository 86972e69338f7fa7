"""What a new installation of a host would meet or lose, as its agent reads it in sysfs and in the pool's database.

For people: nothing decides by it. ``None`` and ``UNKNOWN`` are "not known", never "none".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from poolwarden_collector.core.model.values import Tri


class Transport(Enum):
    """By what a disk is reached."""

    LOCAL = "local"
    FIBRE_CHANNEL = "Fibre Channel"
    ISCSI = "iSCSI"
    NVME_FABRIC = "NVMe over a network"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Adapters:
    """``fc_ports``: (WWPN, state); ``root_disks``: (name, transport) below ``/``; ``nics``: (name, MAC or empty)."""

    fc_ports: tuple[tuple[str, str], ...] = ()
    iscsi_hosts: int = 0
    iscsi_targets: tuple[str, ...] = ()
    initiator: Tri = Tri.UNKNOWN  # is there a name for Open-iSCSI
    root_disks: tuple[tuple[str, Transport], ...] = ()  # empty: not known
    nics: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Pif:
    """A physical PIF of the host."""

    uuid: str
    device: str
    mac: str


@dataclass(frozen=True, slots=True)
class LocalRepository:
    """A repository that is not shared: its VDIs, bytes of all of them, some names of VMs that use it, how many do."""

    uuid: str
    name: str
    type: str = ""
    disks: int = 0
    bytes: int = 0
    running: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    vms: int = 0


@dataclass(frozen=True, slots=True)
class HostRecords:
    """Of the database file that the host's xapi would load: a member's is as old as the master's last push."""

    pifs: tuple[Pif, ...] = ()
    repositories: tuple[LocalRepository, ...] | None = None
    edition: str = ""
    redo_log: Tri = Tri.UNKNOWN


@dataclass(frozen=True, slots=True)
class Installation:
    """Both parts; an older agent tells none."""

    adapters: Adapters | None = None
    records: HostRecords | None = None
