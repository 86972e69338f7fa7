"""The two start sequences, and the rule that kills running domains.

Master (xapi: ocaml/xapi/xapi.ml:1074-1540, xapi_ha.ml:1132-1150, dbsync_master.ml): the Unix socket opens, and answers
what needs no database; the database is loaded and flushed; *every* host becomes enabled=false; this host's address and
mastership are written; only then do TCP 80 and 443 open, so that the first login there means a loaded database. Then
the check for other masters, which may stall for long while the API is already usable; storage, the kill rule,
enabled=true and the init cookie come only after it.

Member (xapi.ml:1074-1260): Unix socket and TCP 80 open early. Bringing up the management interface already reads the
database, so a member that starts while its master is dead blocks *there*, with its emergency flag false and without any
cookie (variant A, as read from source). Variant B has the flag true and goes on saying hello. Port 443 is stunnel's and
outlives xapi within a boot. Between its hello and the end of its dbsync it has 10 s of patience with the database; then
it has the flag true, without a hello, and starts anew after 60..180 s (xapi.ml:1232-1253). A member's database is not
flushed over its copy, and the copy is fetched last.

The kill rule, at every start of every xapi (xapi_xenops.ml:3161-3224): a running domain that the database does not
know, or places on another host, is terminated at once; one that it places nowhere is adopted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_lab.statedb import NULL_REF, BadDatabase
from poolwarden_lab.xapi import mastering, membership, storage
from poolwarden_lab.xapi.actions import RESTART_CODE, HttpFailure, PeerLost, XapiFault
from poolwarden_lab.xapi.database import Database, load, read_local
from poolwarden_lab.xapi.tasks import Sleep, Task

if TYPE_CHECKING:
    from poolwarden_lab.xapi.model import XapiModel

STARTUP_COOKIE = "var/run/xapi_startup.cookie"
INIT_COOKIE = "var/run/xapi_init_complete.cookie"
STUNNEL_MARK = "var/run/stunnel-xapi.boot"
"""Holds the boot id since which stunnel@xapi runs: it outlives xapi, but not the boot."""


def run(model: XapiModel) -> Task[None]:
    if model.role.is_master:
        yield from _start_master(model)
    elif model.role.is_member:
        yield from _start_member(model)
    else:
        yield from _start_broken(model)


def _start_broken(model: XapiModel) -> Task[None]:
    """HOST_BROKEN for everything; the process tries again after a while (xapi.ml:307-326,1190-1194)."""
    yield Sleep(model.times.member_start_ms // 5)
    model.set_emergency(XapiFault("HOST_BROKEN"))
    model.listen("unix", "tcp", "tls")
    model.note(STARTUP_COOKIE)
    yield Sleep(model.times.emergency_exit_ms)
    model.exit(RESTART_CODE, flush=False)


def _start_master(model: XapiModel) -> Task[None]:
    total = model.times.master_start_ms
    yield Sleep(total // 10)
    model.listen("unix")
    yield Sleep(total * 2 // 10)
    database = _load(model)
    if database is None:
        return
    _take_over(model, database)
    model.listen("tcp", "tls")
    _mark_stunnel(model)
    model.engine.spawn("flush", mastering.flush_now_and_then(model))
    model.engine.spawn("liveness", mastering.watch_liveness(model))
    yield Sleep(total * 2 // 10)
    model.engine.spawn("copies", mastering.send_copies(model))
    model.note(STARTUP_COOKIE)
    if not (yield from mastering.alone(model)):
        return
    model.engine.event("no-other-masters")
    yield Sleep(total * 3 // 10)
    model.engine.event("storage-touched", role="master")
    storage.plug(database, model.host_uuid, membership.lost_storage(model))
    mastering.settle(database, model.host_uuid, *_resync(model, database.placements()))
    yield Sleep(total * 2 // 10)
    model.startup_complete = True
    if read_local(model.disk).get("host_auto_enable") != "false":
        mastering.enable(model, database, model.host_uuid)
    _init_complete(model)


def _load(model: XapiModel) -> Database | None:
    try:
        model.database, path = load(model.disk, model.wrote, must_flush=model.config.full_stops)
    except (BadDatabase, OSError) as error:
        model.engine.event("db-refused", error=error)
        model.exit(2, flush=False)
        return None
    model.engine.event("db-loaded", generation=model.database.generation, path=path)
    return model.database


def _take_over(model: XapiModel, database: Database) -> None:
    """Dbsync_master.update_env and on_database_engine_ready."""
    me = database.find("host", model.host_uuid) or _create_localhost(model, database)
    hosts = database.table("host")
    database.set("pool", database.pool_ref(), "master", me)
    database.set("host", me, "address", model.config.address)
    database.set_live(me, True)
    for ref in hosts:
        database.set("host", ref, "enabled", "false")
    for ref, row in database.table("PBD").items():
        if row.get("host") == me:
            database.set("PBD", ref, "currently_attached", "false")
    for ref, row in database.table("VM").items():
        if row.get("resident_on", NULL_REF) not in (*hosts, NULL_REF):
            database.set("VM", ref, "power_state", "Halted")
            database.set("VM", ref, "resident_on", NULL_REF)
    model.engine.event("pool-master", host=model.host_uuid)


def _create_localhost(model: XapiModel, database: Database) -> str:
    """A master whose database does not know it enters itself (xapi: ocaml/xapi/dbsync_slave.ml, create_localhost).

    So a database of another pool is not refused: this host becomes that pool's master, and kills what it does not know.
    """
    ref, metrics = f"OpaqueRef:{model.host_uuid}", f"OpaqueRef:{model.host_uuid}/metrics"
    database.add("host_metrics", metrics, {"uuid": f"{model.host_uuid}/metrics", "live": "true"})
    label = model.host_name()
    row = {"uuid": model.host_uuid, "name__label": label, "hostname": label, "address": model.config.address}
    database.add("host", ref, {**row, "enabled": "false", "metrics": metrics, "control_domain": NULL_REF})
    model.engine.event("localhost-created", host=model.host_uuid)
    return ref


def _start_member(model: XapiModel) -> Task[None]:
    total = model.times.member_start_ms
    yield Sleep(total * 2 // 10)
    link = model.link = membership.DbLink(model)
    link.begin()
    model.listen("unix", "tcp")
    stunnel_runs = _stunnel_mark(model) == model.boot_id() != ""
    if stunnel_runs:
        model.listen("tls")
    if model.config.variant == "A":
        model.engine.event("management-interface", state="coming-up")
        yield from link.call("db.read")
    if not stunnel_runs:
        model.listen("tls")
        _mark_stunnel(model)
    yield Sleep(total * 2 // 10)
    model.note(STARTUP_COOKIE)
    yield from membership.join(model)
    if (yield from _dbsync(model, link, total // 10)):
        yield from _complete_member(model, link, total)


def _dbsync(model: XapiModel, link: membership.DbLink, took_ms: int) -> Task[bool]:
    """Write what this host is to the master's database; False: given up, and this process is gone.

    The reason of the flag is what `membership.join` had last set (xapi.ml wait_for_management_ip_address).
    """
    link.patience_ms = model.times.dbsync_patience_ms
    try:
        yield Sleep(took_ms)
        yield from link.call("db.read")
    except PeerLost as lost:
        model.engine.event("dbsync-given-up", why=lost.why)
        model.set_emergency(XapiFault("HOST_STILL_BOOTING"))
        model.note(STARTUP_COOKIE)
        yield Sleep(model.times.emergency_exit_ms)
        model.exit(RESTART_CODE, flush=False)
        return False
    link.patience_ms = None
    return True


def _complete_member(model: XapiModel, link: membership.DbLink, total: int) -> Task[None]:
    model.engine.spawn("heartbeat", membership.heartbeat(model))
    yield Sleep(total * 2 // 10)
    model.engine.event("storage-touched", role="member")
    yield from link.call("db.plug", model.host_uuid, membership.lost_storage(model))
    placements = yield from link.call("db.placements")
    adopted, gone = _resync(model, dict(placements) if isinstance(placements, dict) else {})
    yield from link.call("db.settle", model.host_uuid, adopted, gone)
    yield Sleep(total * 3 // 10)
    model.startup_complete = True
    yield from link.enable()
    _init_complete(model)
    try:
        yield from membership.fetch_copy(model)
    except (PeerLost, HttpFailure, XapiFault, OSError) as error:
        model.engine.event("copy-failed", host=model.host_uuid, why=error.args[0])


def _init_complete(model: XapiModel) -> None:
    model.note(INIT_COOKIE)
    model.engine.event("init-complete")


def _stunnel_mark(model: XapiModel) -> str:
    try:
        return model.disk.read(STUNNEL_MARK).decode("ascii", "replace")
    except OSError:
        return ""


def _mark_stunnel(model: XapiModel) -> None:
    model.note(STUNNEL_MARK, model.boot_id())


def _resync(model: XapiModel, placements: dict[str, str]) -> tuple[list[str], list[str]]:
    """Apply the kill rule; VM uuids adopted here, and VM uuids that were placed here and do not run."""
    try:
        running = model.hypervisor.domains()
    except (OSError, ValueError) as error:
        model.engine.event("resync-failed", error=error)
        return [], []
    adopted = []
    for uuid in sorted(running):
        place = placements.get(uuid)
        if place == "":
            adopted.append(uuid)
            model.engine.event("adopted", vm=uuid)
        elif place != model.host_uuid:
            why = "unknown-to-database" if place is None else f"resident-on-{place}"
            # safety: this is xapi's own rule, reproduced so that the guard's kill forecast can be tested against it.
            model.hypervisor.kill(uuid, why)
            model.engine.event("killed", vm=uuid, why=why)
    return adopted, [uuid for uuid, place in placements.items() if place == model.host_uuid and uuid not in running]
