"""host.evacuate: every VM of a host moves to another one, as a maintenance mode asks for it.

A VM moves only if *every* other enabled host could take it but for its memory; then the biggest goes first, to where
most memory is free. One VM that cannot move ends it before anything has moved. Source: xapi ocaml/xapi/xapi_host.ml
(compute_evacuation_plan_no_wlb, evacuate). The real one packs in a wiser order, and moves ten VMs at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_lab.xapi import mastering, placement, vm_verbs
from poolwarden_lab.xapi.actions import XapiFault
from poolwarden_lab.xapi.busy import with_task
from poolwarden_lab.xapi.tasks import Task

if TYPE_CHECKING:
    from poolwarden_lab.xapi.calls import Call
    from poolwarden_lab.xapi.database import Database
    from poolwarden_lab.xapi.model import XapiModel


def evacuate(model: XapiModel, call: Call) -> Task[object]:
    """params: session, host, [network, batch size]. Raises XapiFault: the first reason against it."""
    database = mastering.database_of(model)
    moves, refusals = _plan(database, database.known("host", call.text(1)))
    for reason in refusals.values():
        raise reason
    return (yield from with_task(model, call.method, _move(model, moves)))


def assert_can_evacuate(model: XapiModel, call: Call) -> object:
    """params: session, host. Raises XapiFault CANNOT_EVACUATE_HOST with every reason."""
    reasons = _refusals(model, call)
    if reasons:
        raise XapiFault("CANNOT_EVACUATE_HOST", "|".join(",".join(each) for each in reasons.values()))
    return ""


def get_vms_which_prevent_evacuation(model: XapiModel, call: Call) -> object:
    """params: session, host. VM -> code and parameters."""
    return _refusals(model, call)


def _refusals(model: XapiModel, call: Call) -> dict[str, list[str]]:
    database = mastering.database_of(model)
    _, refusals = _plan(database, database.known("host", call.text(1)))
    return {vm: [reason.code, *reason.params] for vm, reason in refusals.items()}


def _plan(database: Database, host: str) -> tuple[dict[str, str], dict[str, XapiFault]]:
    """VM -> where it goes to, and VM -> why it cannot move."""
    hosts = database.table("host")
    targets = [ref for ref, row in hosts.items() if ref != host and row.get("enabled") == "true"]
    free = {target: placement.free_memory(database, target) for target in targets}
    moves: dict[str, str] = {}
    refusals: dict[str, XapiFault] = {}
    vms = placement.resident_vms(database, host)
    for vm in sorted(vms, key=lambda vm: placement.memory_of(database, vm), reverse=True):
        if not targets:
            refusals[vm] = XapiFault("NO_HOSTS_AVAILABLE", vm)
            continue
        try:
            for target in targets:
                placement.assert_can_boot_here(database, vm, target, memory=False)
        except XapiFault as reason:
            refusals[vm] = reason
            continue
        target, wanted = max(targets, key=lambda target: free[target]), placement.memory_of(database, vm)
        if wanted > free[target]:
            refusals[vm] = XapiFault("HOST_NOT_ENOUGH_FREE_MEMORY", vm)
        else:
            free[target] -= wanted
            moves[vm] = target
    return moves, refusals


def _move(model: XapiModel, moves: dict[str, str]) -> Task[object]:
    database = mastering.database_of(model)
    for vm, target in moves.items():
        if database.get("VM", vm, "power_state") != "Running":
            continue  # it was shut down meanwhile: VM_BAD_POWER_STATE is passed over there, too
        yield from vm_verbs.migrate(model, vm, target, model.times.migrate_ms)
    return ""


WITH_SESSION = {
    "host.evacuate": evacuate,
    "host.assert_can_evacuate": assert_can_evacuate,
    "host.get_vms_which_prevent_evacuation": get_vms_which_prevent_evacuation,
}
