"""VM.* and PBD.*: start, stop, move and reset; and the ``lab.*`` messages by which tests move VMs about.

The master does all of it and lets the host concerned act on its own domains. A VM runs where its domain is; the
database is only told, so that the two can disagree, which is what the kill rule is about. Nothing by itself marks the
VMs of a dead host as halted: for the database they run on, resident_on the dead host, until somebody resets them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from poolwarden_lab.statedb import NULL_REF
from poolwarden_lab.xapi import mastering, membership, placement, storage
from poolwarden_lab.xapi.actions import HttpFailure, PeerLost, XapiFault
from poolwarden_lab.xapi.busy import with_task
from poolwarden_lab.xapi.tasks import Sleep, Task

if TYPE_CHECKING:
    from poolwarden_lab.statedb import Table
    from poolwarden_lab.xapi.calls import Call
    from poolwarden_lab.xapi.database import Database
    from poolwarden_lab.xapi.model import XapiModel


# ------------------------------------------------------------------------------------ where it can start


def get_possible_hosts(model: XapiModel, call: Call) -> object:
    database = mastering.database_of(model)
    return placement.possible_hosts(database, database.known("VM", call.text(1)))


def assert_can_boot_here(model: XapiModel, call: Call) -> object:
    """params: session, VM, host."""
    database = mastering.database_of(model)
    vm, host = database.known("VM", call.text(1)), database.known("host", call.text(2))
    placement.assert_can_boot_here(database, vm, host)
    return ""


# ------------------------------------------------------------------------------------ start and stop


def start(model: XapiModel, call: Call) -> Task[object]:
    """params: session, VM, [start paused, force]. The master chooses the host."""
    database = mastering.database_of(model)
    vm = database.known("VM", call.text(1))
    _assert_power(database, vm, "Halted")
    return (yield from with_task(model, call.method, _start(model, vm, placement.choose(database, vm))))


def start_on(model: XapiModel, call: Call) -> Task[object]:
    """params: session, VM, host, [start paused, force]."""
    database = mastering.database_of(model)
    vm, host = database.known("VM", call.text(1)), database.known("host", call.text(2))
    _assert_power(database, vm, "Halted")
    placement.assert_can_boot_here(database, vm, host)
    return (yield from with_task(model, call.method, _start(model, vm, host)))


def _start(model: XapiModel, vm: str, host: str) -> Task[object]:
    database = mastering.database_of(model)
    uuid, name = database.get("VM", vm, "uuid"), database.get("VM", vm, "name__label")
    storage.lock(database, vm, host)
    try:
        yield from _on_host(model, host, "lab.domain_create", uuid, name)
    except XapiFault:
        storage.unlock(database, host, vm)
        raise
    _place(database, vm, "Running", host)
    model.engine.event("vm-started", vm=uuid, host=database.get("host", host, "uuid"))
    yield Sleep(model.times.vm_start_ms)
    return ""


def shutdown(model: XapiModel, call: Call) -> Task[object]:
    """VM.clean_shutdown, VM.hard_shutdown."""
    database = mastering.database_of(model)
    vm = database.known("VM", call.text(1))
    _assert_power(database, vm, "Running")
    host, uuid = database.get("VM", vm, "resident_on"), database.get("VM", vm, "uuid")
    yield from _on_host(model, host, "lab.domain_end", uuid)
    _place(database, vm, "Halted", NULL_REF)
    storage.unlock(database, host, vm)
    model.engine.event("vm-stopped", vm=uuid)
    return ""


def reboot(model: XapiModel, call: Call) -> object:
    """VM.clean_reboot, VM.hard_reboot. It stays where it is."""
    database = mastering.database_of(model)
    vm = database.known("VM", call.text(1))
    _assert_power(database, vm, "Running")
    model.engine.event("vm-rebooted", vm=database.get("VM", vm, "uuid"))
    return ""


def pool_migrate(model: XapiModel, call: Call) -> Task[object]:
    """params: session, VM, host, [options]."""
    database = mastering.database_of(model)
    vm, host = database.known("VM", call.text(1)), database.known("host", call.text(2))
    _assert_power(database, vm, "Running")
    placement.assert_can_boot_here(database, vm, host)
    return (yield from with_task(model, call.method, migrate(model, vm, host, model.times.migrate_ms)))


def migrate(model: XapiModel, vm: str, target: str, takes_ms: int) -> Task[object]:
    """A domain is never alive on both: it ends here, then it goes on there, or here again if that fails."""
    database = mastering.database_of(model)
    uuid, name = database.get("VM", vm, "uuid"), database.get("VM", vm, "name__label")
    source = database.get("VM", vm, "resident_on")
    if takes_ms:
        yield Sleep(takes_ms)
    if source == target:
        return ""
    if source != NULL_REF:
        yield from _on_host(model, source, "lab.domain_end", uuid)
    try:
        yield from _on_host(model, target, "lab.domain_create", uuid, name)
    except XapiFault:
        if source != NULL_REF:
            yield from _on_host(model, source, "lab.domain_create", uuid, name)
        raise
    storage.unlock(database, source, vm)
    storage.lock(database, vm, target)
    _place(database, vm, "Running", target)
    model.engine.event("vm-migrated", vm=uuid, host=database.get("host", target, "uuid"))
    return ""


def _assert_power(database: Database, vm: str, wanted: str) -> None:
    row = database.table("VM")[vm]
    if row.get("is_a_template") == "true":
        raise XapiFault("VM_IS_TEMPLATE", vm)
    if row.get("is_control_domain") == "true":
        raise XapiFault("OPERATION_NOT_ALLOWED", "This operation is not allowed on a control domain")
    if row.get("power_state") != wanted:
        raise XapiFault("VM_BAD_POWER_STATE", vm, wanted.lower(), row.get("power_state", "").lower())


def _place(database: Database, vm: str, state: str, host: str) -> None:
    database.set("VM", vm, "power_state", state)
    database.set("VM", vm, "resident_on", host)


# ------------------------------------------------------------------------------------ the VMs of the dead


def power_state_reset(model: XapiModel, call: Call) -> Task[object]:
    """For the VM of a host that is dead. It stays locked by that host (xapi_vm.ml:451-519)."""
    database = mastering.database_of(model)
    vm = database.known("VM", call.text(1))
    if database.get("VM", vm, "is_control_domain") == "true":
        raise XapiFault("CANNOT_RESET_CONTROL_DOMAIN", vm)
    yield from reset(model, vm)
    return ""


def reset(model: XapiModel, vm: str) -> Task[None]:
    """Force a VM to Halted unless its host lives. Raises XapiFault HOST_IS_LIVE."""
    database = mastering.database_of(model)
    host = database.get("VM", vm, "resident_on")
    if host in database.table("host"):
        yield from assert_dead(model, host)
    _place(database, vm, "Halted", NULL_REF)
    model.engine.event("vm-reset", vm=database.get("VM", vm, "uuid"))


def assert_dead(model: XapiModel, host: str) -> Task[None]:
    """Raises XapiFault HOST_IS_LIVE. A host whose record says live=true is asked, without a limit but TCP's."""
    database = mastering.database_of(model)
    if host == database.master_ref():
        raise XapiFault("HOST_IS_LIVE", host)
    if not database.is_live(host):
        return
    try:
        yield from membership.with_session(model, database.address_of(host), "pool.is_slave", host)
    except (PeerLost, HttpFailure, XapiFault):
        return
    raise XapiFault("HOST_IS_LIVE", host)


# ------------------------------------------------------------------------------------ storage


def pbd_plug(model: XapiModel, call: Call) -> Task[object]:
    """Raises XapiFault SR_BACKEND_FAILURE_47 if that host has lost the storage."""
    database = mastering.database_of(model)
    pbd = database.known("PBD", call.text(1))
    sr = database.get("SR", database.get("PBD", pbd, "SR"), "uuid")
    yield from _on_host(model, database.get("PBD", pbd, "host"), "lab.storage_assert", sr)
    database.set("PBD", pbd, "currently_attached", "true")
    return ""


def pbd_unplug(model: XapiModel, call: Call) -> object:
    database = mastering.database_of(model)
    database.set("PBD", database.known("PBD", call.text(1)), "currently_attached", "false")
    return ""


def lab_pbd_lost(model: XapiModel, call: Call) -> object:
    """params: session, host uuid, SR uuid."""
    database = mastering.database_of(model)
    host, sr = database.find("host", call.text(1)), database.find("SR", call.text(2))
    for ref, row in database.table("PBD").items():
        if row.get("host") == host and row.get("SR") == sr:
            database.set("PBD", ref, "currently_attached", "false")
    return ""


# ------------------------------------------------------------------------------------ lab


def lab_vm_start(model: XapiModel, call: Call) -> Task[object]:
    """params: session, VM uuid, name, [host uuid; default: this host]. At once, and whatever its power state is.

    A VM that is not on record is made, with a disk on the pool's default SR.
    """
    database = mastering.database_of(model)
    uuid, name = call.text(1), call.text(2)
    host = _host_ref(model, call.text(3) if len(call.params) > 3 else model.host_uuid)
    yield from _on_host(model, host, "lab.domain_create", uuid, name)
    vm = database.find("VM", uuid)
    if vm is None:
        vm = f"OpaqueRef:{uuid}"
        database.add("VM", vm, {"uuid": uuid, "name__label": name, "is_control_domain": "false"})
        sr = database.get("pool", database.pool_ref(), "default_SR")
        made: dict[str, Table] = {"VM": database.table("VM"), "VBD": {}, "VDI": {}}
        storage.add_disk(made, vm, name, sr, NULL_REF)
        for table in ("VBD", "VDI"):
            for ref, row in made[table].items():
                database.add(table, ref, row)
    storage.unlock(database, database.get("VM", vm, "resident_on"), vm)
    storage.lock(database, vm, host)
    _place(database, vm, "Running", host)
    return vm


def lab_vm_migrate(model: XapiModel, call: Call) -> Task[object]:
    """params: session, VM uuid, host uuid. At once."""
    database = mastering.database_of(model)
    vm = database.find("VM", call.text(1))
    if vm is None:
        raise XapiFault("UUID_INVALID", "VM", call.text(1))
    return (yield from migrate(model, vm, _host_ref(model, call.text(2)), 0))


def _host_ref(model: XapiModel, uuid: str) -> str:
    ref = mastering.database_of(model).find("host", uuid)
    if ref is None:
        raise XapiFault("UUID_INVALID", "host", uuid)
    return ref


def _on_host(model: XapiModel, host: str, verb: str, *params: str) -> Task[None]:
    """Let a host act. Raises XapiFault CANNOT_CONTACT_HOST, or the host's own."""
    database = mastering.database_of(model)
    if database.get("host", host, "uuid") == model.host_uuid:
        _DOMAIN_ACTS[verb](model, *params)
        return
    try:
        yield from membership.with_session(model, database.address_of(host), verb, *params)
    except (PeerLost, HttpFailure) as error:
        raise XapiFault("CANNOT_CONTACT_HOST", host) from error


def _create(model: XapiModel, uuid: str, name: str) -> None:
    model.hypervisor.create(uuid, name)


def _end(model: XapiModel, uuid: str) -> None:
    model.hypervisor.end(uuid)


def _assert_storage(model: XapiModel, sr_uuid: str) -> None:
    if sr_uuid in membership.lost_storage(model):
        raise XapiFault(storage.CANNOT_PLUG, "", "The SR is not available", "")


_DOMAIN_ACTS: dict[str, Callable[..., None]] = {
    "lab.domain_create": _create,
    "lab.domain_end": _end,
    "lab.storage_assert": _assert_storage,
}


def lab_domain_create(model: XapiModel, call: Call) -> object:
    _create(model, call.text(1), call.text(2))
    return ""


def lab_domain_end(model: XapiModel, call: Call) -> object:
    _end(model, call.text(1))
    return ""


def lab_storage_assert(model: XapiModel, call: Call) -> object:
    _assert_storage(model, call.text(1))
    return ""


WITH_SESSION = {
    "VM.get_possible_hosts": get_possible_hosts,
    "VM.assert_can_boot_here": assert_can_boot_here,
    "VM.start": start,
    "VM.start_on": start_on,
    "VM.clean_shutdown": shutdown,
    "VM.hard_shutdown": shutdown,
    "VM.clean_reboot": reboot,
    "VM.hard_reboot": reboot,
    "VM.pool_migrate": pool_migrate,
    "VM.power_state_reset": power_state_reset,
    "PBD.plug": pbd_plug,
    "PBD.unplug": pbd_unplug,
    "lab.pbd_lost": lab_pbd_lost,
    "lab.vm_start": lab_vm_start,
    "lab.vm_migrate": lab_vm_migrate,
    "lab.domain_create": lab_domain_create,
    "lab.domain_end": lab_domain_end,
    "lab.storage_assert": lab_storage_assert,
}
