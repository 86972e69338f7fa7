"""host.*: what a host says of itself, and how it is enabled and declared dead.

host.declare_dead (xapi: ocaml/xapi/xapi_host.ml:1000-1176): live=false in the database is definitive, with live=true
the host is asked, for as long as TCP takes. It is asked once before anything, and once more for each of its VMs: until
the master has given a dead host up (10 minutes) the call costs one connect timeout per VM and one. It resets its VMs to
Halted, clears its locks on their disks and disables it; live stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_lab.xapi import mastering, membership, placement, storage, vm_verbs
from poolwarden_lab.xapi.actions import HttpFailure, PeerLost, Timestamp, XapiFault
from poolwarden_lab.xapi.database import write_local
from poolwarden_lab.xapi.dates import wall
from poolwarden_lab.xapi.tasks import Task

if TYPE_CHECKING:
    from poolwarden_lab.xapi.calls import Call
    from poolwarden_lab.xapi.model import XapiModel


def is_in_emergency_mode(model: XapiModel, _call: Call) -> object:
    return model.emergency is not None


def local_assert_healthy(model: XapiModel, _call: Call) -> object:
    """The reason of the emergency, as a fault; no database (xapi_host.ml:53-61)."""
    if model.emergency is not None:
        raise model.emergency
    return ""


def ha_xapi_healthcheck(_model: XapiModel, _call: Call) -> object:
    return True


def shutdown_agent(model: XapiModel, _call: Call) -> object:
    model.exit(0, flush=True)
    return ""


def tickle_heartbeat(model: XapiModel, call: Call) -> object:
    return mastering.tickle(model, call.text(1))


# ------------------------------------------------------------------------------------ enabled, dead


def enable(model: XapiModel, call: Call) -> Task[object]:
    """HOST_STILL_BOOTING until that host's start is complete, HOST_OFFLINE if it does not answer."""
    return _set_enabled(model, call, True)


def disable(model: XapiModel, call: Call) -> Task[object]:
    return _set_enabled(model, call, False)


def _set_enabled(model: XapiModel, call: Call, wanted: bool) -> Task[object]:
    """A host is told by the master, and remembers it for its next start (local.db host_auto_enable)."""
    ref = call.text(1)
    if model.database is None:
        return (yield from _set_own_enabled(model, ref, wanted))
    database = model.database
    database.known("host", ref)
    if database.get("host", ref, "uuid") == model.host_uuid:
        _remember_enabled(model, wanted)
        database.set("host", ref, "enabled", str(wanted).lower())
        return ""
    if not database.is_live(ref):
        raise XapiFault("HOST_OFFLINE", ref)
    try:
        yield from membership.with_session(model, database.address_of(ref), call.method, ref)
    except (PeerLost, HttpFailure) as error:
        raise XapiFault("HOST_OFFLINE", ref) from error
    return ""


def _set_own_enabled(model: XapiModel, ref: str, wanted: bool) -> Task[object]:
    if model.link is None:
        raise XapiFault("HOST_STILL_BOOTING")
    uuid = yield from model.link.call("db.get", "host.get_uuid", [ref])
    if uuid != model.host_uuid:
        raise XapiFault("HOST_IS_SLAVE", model.role.master)
    _remember_enabled(model, wanted)
    yield from model.link.call("db.enable" if wanted else "db.disable", model.host_uuid)
    return ""


def _remember_enabled(model: XapiModel, wanted: bool) -> None:
    if wanted and not model.startup_complete:
        raise XapiFault("HOST_STILL_BOOTING")
    write_local(model.disk, host_auto_enable=str(wanted).lower())


def declare_dead(model: XapiModel, call: Call) -> Task[object]:
    """See the module's words. Raises XapiFault HOST_IS_LIVE, also for the master itself, before anything is changed."""
    database = mastering.database_of(model)
    ref = database.known("host", call.text(1))
    yield from vm_verbs.assert_dead(model, ref)
    model.engine.event("declare-dead", host=database.get("host", ref, "uuid"))
    for vm in placement.resident_vms(database, ref):
        yield from vm_verbs.reset(model, vm)
    database.set("host", ref, "enabled", "false")
    storage.unlock(database, ref)
    model.engine.event("declared-dead", host=database.get("host", ref, "uuid"))
    return ""


def compute_free_memory(model: XapiModel, call: Call) -> object:
    database = mastering.database_of(model)
    return str(placement.free_memory(database, database.known("host", call.text(1))))


def get_servertime(model: XapiModel, call: Call) -> object:
    """What client libraries take as the server's clock (xapi_host.ml get_servertime)."""
    mastering.database_of(model).known("host", call.text(1))
    return Timestamp(wall(model))


WITH_SESSION = {
    "host.is_in_emergency_mode": is_in_emergency_mode,
    "host.local_assert_healthy": local_assert_healthy,
    "host.ha_xapi_healthcheck": ha_xapi_healthcheck,
    "host.shutdown_agent": shutdown_agent,
    "host.tickle_heartbeat": tickle_heartbeat,
    "host.enable": enable,
    "host.disable": disable,
    "host.declare_dead": declare_dead,
    "host.compute_free_memory": compute_free_memory,
    "host.get_servertime": get_servertime,
    "host.get_server_localtime": get_servertime,
}
