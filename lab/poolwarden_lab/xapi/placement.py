"""Where a VM can start, and why not elsewhere (xapi: ocaml/xapi/xapi_vm_helpers.ml:682-870).

A host is asked in this order: is it live, is it enabled, does it reach every SR of the VM's disks, has it the memory.
CPU, networks and GPUs are not modelled: every host of the pool has the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_lab.statedb import NULL_REF
from poolwarden_lab.xapi import storage
from poolwarden_lab.xapi.actions import XapiFault

if TYPE_CHECKING:
    from poolwarden_lab.xapi.database import Database

DOM0_MEMORY = 4 << 30


def assert_can_boot_here(database: Database, vm: str, host: str, *, memory: bool = True) -> None:
    """Raises XapiFault HOST_NOT_LIVE, HOST_DISABLED, VM_REQUIRES_SR; with ``memory`` HOST_NOT_ENOUGH_FREE_MEMORY."""
    if not database.is_live(host):
        raise XapiFault("HOST_NOT_LIVE")
    if database.get("host", host, "enabled") != "true":
        raise XapiFault("HOST_DISABLED", host)
    for sr in storage.srs_of(database, vm):
        if not storage.reaches(database, host, sr):
            raise XapiFault("VM_REQUIRES_SR", vm, sr)
    wanted, free = memory_of(database, vm), free_memory(database, host)
    if memory and wanted > free:
        raise XapiFault("HOST_NOT_ENOUGH_FREE_MEMORY", str(wanted), str(free))


def possible_hosts(database: Database, vm: str) -> list[str]:
    """References of the hosts that would take it now."""
    found = []
    for host in database.table("host"):
        try:
            assert_can_boot_here(database, vm, host)
        except XapiFault:
            continue
        found.append(host)
    return found


def choose(database: Database, vm: str) -> str:
    """The host that VM.start takes: its affinity, else the one with most free memory.

    Raises XapiFault NO_HOSTS_AVAILABLE.
    """
    hosts = possible_hosts(database, vm)
    if not hosts:
        raise XapiFault("NO_HOSTS_AVAILABLE")
    affinity = database.get("VM", vm, "affinity")
    return affinity if affinity in hosts else max(hosts, key=lambda host: free_memory(database, host))


def free_memory(database: Database, host: str) -> int:
    """Bytes that a VM could have on this host."""
    total = int(database.get("host_metrics", database.get("host", host, "metrics"), "memory__total") or 0)
    used = sum(memory_of(database, vm) for vm in resident_vms(database, host))
    return max(0, total - DOM0_MEMORY - used)


def resident_vms(database: Database, host: str) -> list[str]:
    """References of the VMs that the database places on a host, without its control domain."""
    return [
        ref
        for ref, row in database.table("VM").items()
        if row.get("resident_on", NULL_REF) == host and row.get("is_control_domain") != "true"
    ]


def memory_of(database: Database, vm: str) -> int:
    """Bytes that a VM takes of its host."""
    return int(database.get("VM", vm, "memory__static_max") or 0)
