"""Agents' words about what a new installation of their host would meet, as the core's facts. Only shapes change here.

UUIDs stand in commands that people type as root: what is none is taken as not told.
"""

from __future__ import annotations

import re

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.installation import (
    Adapters,
    HostRecords,
    Installation,
    LocalRepository,
    Pif,
    Transport,
)
from poolwarden_collector.shell.agents.messages.facts import tri

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_TRANSPORTS = {
    pb.RootDisk.LOCAL: Transport.LOCAL,
    pb.RootDisk.FIBRE_CHANNEL: Transport.FIBRE_CHANNEL,
    pb.RootDisk.ISCSI: Transport.ISCSI,
    pb.RootDisk.NVME_FABRIC: Transport.NVME_FABRIC,
}


def installation(m: pb.InstallationFacts) -> Installation:
    """Each part is ``None`` where its agent does not know it."""
    return Installation(
        _adapters(m.adapters) if m.HasField("adapters") else None,
        _records(m.records) if m.HasField("records") else None,
    )


def _adapters(m: pb.HostAdapters) -> Adapters:
    return Adapters(
        fc_ports=tuple((port.wwpn or port.name, port.state) for port in m.fc_ports),
        iscsi_hosts=m.iscsi_hosts,
        iscsi_targets=tuple(m.iscsi_targets),
        initiator=tri(m.iscsi_initiator),
        root_disks=tuple((disk.name, _TRANSPORTS.get(disk.transport, Transport.UNKNOWN)) for disk in m.root_disks),
        nics=tuple((nic.name, nic.mac) for nic in m.nics),
    )


def _records(m: pb.HostRecords) -> HostRecords:
    return HostRecords(
        pifs=tuple(Pif(_uuid(pif.uuid), pif.device, pif.mac) for pif in m.pifs),
        repositories=tuple(_repository(each) for each in m.repositories) if m.repositories_known else None,
        edition=m.edition,
        redo_log=tri(m.redo_log),
    )


def _repository(m: pb.LocalRepository) -> LocalRepository:
    running, others = tuple(m.running_vms), tuple(m.other_vms)
    return LocalRepository(_uuid(m.uuid), m.name, m.type, m.disks, m.bytes, running, others, m.vms)


def _uuid(text: str) -> str:
    # safety: people type it; a text of another shape would be a host's own words on a root's command line.
    return text if _UUID.match(text) else ""
