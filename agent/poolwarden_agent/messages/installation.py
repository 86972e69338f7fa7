"""What a new installation of a host would meet, as the contract's section. Imports protobuf, never grpc."""

from typing import Any, Optional

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core.host_records import HostRecords, LocalRepository
from poolwarden_agent.dom0.system import adapters
from poolwarden_agent.dom0.system.adapters import Adapters
from poolwarden_agent.messages.reports import tri

_TRANSPORTS = {
    adapters.UNKNOWN: pb.RootDisk.TRANSPORT_UNSPECIFIED,
    adapters.LOCAL: pb.RootDisk.LOCAL,
    adapters.FIBRE_CHANNEL: pb.RootDisk.FIBRE_CHANNEL,
    adapters.ISCSI: pb.RootDisk.ISCSI,
    adapters.NVME_FABRIC: pb.RootDisk.NVME_FABRIC,
}


def installation(seen: Optional[Adapters], records: Optional[HostRecords]) -> pb.InstallationFacts:
    """What sysfs and the database show; each is left out where it is not known."""
    return pb.InstallationFacts(
        adapters=_adapters(seen) if seen is not None else None,
        records=_records(records) if records is not None else None,
    )


def _adapters(seen: Adapters) -> Any:
    return pb.HostAdapters(
        fc_ports=[pb.FcPort(name=port.name, wwpn=port.wwpn, state=port.state) for port in seen.fc_ports],
        iscsi_hosts=seen.iscsi_hosts,
        iscsi_targets=seen.iscsi_targets,
        iscsi_initiator=tri(seen.initiator),
        root_disks=[pb.RootDisk(name=disk.name, transport=_TRANSPORTS[disk.transport]) for disk in seen.root_disks],
        nics=[pb.NicAddress(name=nic.name, mac=nic.mac) for nic in seen.nics],
    )


def _records(records: HostRecords) -> Any:
    return pb.HostRecords(
        pifs=[pb.PifRecord(uuid=pif.uuid, device=pif.device, mac=pif.mac) for pif in records.pifs],
        repositories_known=records.repositories is not None,
        repositories=[_repository(each) for each in records.repositories or ()],
        edition=records.edition,
        redo_log=tri(records.redo_log),
    )


def _repository(each: LocalRepository) -> Any:
    return pb.LocalRepository(
        uuid=each.uuid,
        name=each.name,
        type=each.type,
        disks=each.disks,
        bytes=each.bytes,
        running_vms=each.running,
        other_vms=each.others,
        vms=each.vms,
    )
