"""Disks of VMs in the pool database, and who holds them.

A VM's disk is a VBD that names a VDI, and the VDI lies on an SR. A host reaches an SR through a PBD of its own that is
currently attached. While a VM runs, each of its VDIs carries its host's lock, ``sm_config:host_<host ref> = RW``. The
lock is in the database alone, not on the storage (sm: libs/sm/blktap2.py:1324-1367), so that it survives its host:
host.declare_dead clears it, VM.power_state_reset does not, and until it is cleared the VM starts nowhere else.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from poolwarden_lab.statedb import NULL_REF, dump_map, parse_map
from poolwarden_lab.xapi.actions import XapiFault

if TYPE_CHECKING:
    from poolwarden_lab.statedb import Table
    from poolwarden_lab.xapi.database import Database

GIB = 1 << 30
LOST_STORAGE = "proc/lab-lost-storage"
"""Fault: this file of a host lists uuids of SRs, one a line, whose PBDs cannot be plugged there."""
DISK_IN_USE = "SR_BACKEND_FAILURE_46"
CANNOT_PLUG = "SR_BACKEND_FAILURE_47"


def lock_of(host_ref: str) -> str:
    """The key in a VDI's sm_config."""
    return f"host_{host_ref}"


def add_disk(tables: dict[str, Table], vm: str, name: str, sr: str, host: str) -> None:
    """Give the VM on record a disk on an SR. `host`: where it runs, or the null reference."""
    vm_uuid = tables["VM"][vm]["uuid"]
    vbd, vdi = (str(uuid.uuid5(uuid.NAMESPACE_OID, f"{vm_uuid}/{kind}")) for kind in ("VBD", "VDI"))
    tables["VBD"][f"OpaqueRef:{vbd}"] = {
        "uuid": vbd,
        "VM": vm,
        "VDI": f"OpaqueRef:{vdi}",
        "userdevice": "0",
        "bootable": "true",
        "mode": "RW",
        "type": "Disk",
        "empty": "false",
    }
    tables["VDI"][f"OpaqueRef:{vdi}"] = {
        "uuid": vdi,
        "name__label": f"{name} disk",
        "SR": sr,
        "virtual_size": str(20 * GIB),
        "sm_config": dump_map({} if host == NULL_REF else {lock_of(host): "RW"}),
    }


def vdis_of(database: Database, vm: str) -> list[str]:
    return [row["VDI"] for row in database.table("VBD").values() if row.get("VM") == vm and row.get("VDI")]


def srs_of(database: Database, vm: str) -> list[str]:
    """The SRs that a VM's disks lie on, each once."""
    return list(dict.fromkeys(database.get("VDI", vdi, "SR") for vdi in vdis_of(database, vm)))


def reaches(database: Database, host: str, sr: str) -> bool:
    """Is the SR attached on this host?"""
    return any(
        row.get("host") == host and row.get("SR") == sr and row.get("currently_attached") == "true"
        for row in database.table("PBD").values()
    )


def lock(database: Database, vm: str, host: str) -> None:
    """Take a VM's disks for a host. Raises XapiFault if another host holds one."""
    found = {vdi: parse_map(database.get("VDI", vdi, "sm_config") or "()") for vdi in vdis_of(database, vm)}
    for keys in found.values():
        if any(key.startswith("host_") and key != lock_of(host) for key in keys):
            raise XapiFault(DISK_IN_USE, "", "The VDI is not available [opterr=VDI already attached RW]", "")
    for vdi, keys in found.items():
        database.set("VDI", vdi, "sm_config", dump_map({**keys, lock_of(host): "RW"}))


def seize(database: Database, vm: str, host: str) -> None:
    """Write down that a host has a VM's disks, whatever was there before: its domain runs."""
    for vdi in vdis_of(database, vm):
        database.set("VDI", vdi, "sm_config", dump_map({lock_of(host): "RW"}))


def unlock(database: Database, host: str, vm: str | None = None) -> None:
    """Clear a host's locks: of one VM's disks, or all (sm: resetvdis.py)."""
    for vdi in list(database.table("VDI")) if vm is None else vdis_of(database, vm):
        keys = parse_map(database.get("VDI", vdi, "sm_config") or "()")
        if keys.pop(lock_of(host), None) is not None:
            database.set("VDI", vdi, "sm_config", dump_map(keys))


def plug(database: Database, host_uuid: str, lost: list[str]) -> None:
    """What a host's start does: attach its every SR, but for those (uuids) that it has lost."""
    host = database.find("host", host_uuid)
    for ref, row in database.table("PBD").items():
        if row.get("host") == host:
            there = database.get("SR", row.get("SR", ""), "uuid") not in lost
            database.set("PBD", ref, "currently_attached", str(there).lower())
