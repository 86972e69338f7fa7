"""What a master does by itself and for its members.

* hello: a member that starts gets its address recorded, is called back, becomes live and *disabled* until it enables
  itself at the end of its start (xapi: ocaml/xapi/xapi_pool.ml:2729-2801).
* Liveness: a timer per host, fresh at this process's start and at each heartbeat; the collector thread looks every 30 s
  and calls a host dead after 600 s. So a host that has just died stays live=true for ten minutes (db_gc.ml:80-141).
* Copies: one host after the other, 300 s before each (pool_db_backup.ml:316-361).
* The check for other masters, once per start (xapi.ml:193-229): ask every other host on record, without a limit of our
  own, whether it is a slave. One that cannot be reached is passed over; one that hangs stalls us; one that says no
  makes
  *us* yield, since the restarting host knows less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_lab.statedb import NULL_REF
from poolwarden_lab.xapi import records, storage
from poolwarden_lab.xapi.actions import RESTART_CODE, HttpFailure, PeerLost, XapiFault
from poolwarden_lab.xapi.membership import with_session
from poolwarden_lab.xapi.pool_conf import member_of
from poolwarden_lab.xapi.tasks import Signal, Sleep, Task, Until

if TYPE_CHECKING:
    from poolwarden_lab.xapi.calls import Call
    from poolwarden_lab.xapi.database import Database
    from poolwarden_lab.xapi.model import XapiModel


def database_of(model: XapiModel) -> Database:
    """The database that this process masters.

    Raises XapiFault: HOST_IS_SLAVE on a member; INTERNAL_ERROR on a master that has not loaded it yet.
    """
    if model.database is None and model.role.is_master:
        raise no_tables("host")
    if model.database is None:
        raise XapiFault("HOST_IS_SLAVE", model.role.master)
    return model.database


def no_tables(name: str) -> XapiFault:
    """What a master says of a class before its database is loaded: until then it has an empty one, without tables.

    Source: ocaml/database/db_backend.ml, db_cache_types.ml (missing table), ocaml/xapi/exnHelper.ml.
    """
    return XapiFault("INTERNAL_ERROR", "missing table", name, "")


def other_hosts(model: XapiModel) -> list[str]:
    """References of every other host on record, in the database's order."""
    table = database_of(model).table("host")
    return [ref for ref, row in table.items() if row.get("uuid") != model.host_uuid]


# ------------------------------------------------------------------------------------ members


def hello(model: XapiModel, host_uuid: str, address: str) -> Task[str]:
    """Answers ok, unknown_host or cannot_talk_back."""
    database = database_of(model)
    ref = database.find("host", host_uuid)
    if ref is None:
        model.engine.event("hello", host=host_uuid, result="unknown_host")
        return "unknown_host"
    database.set("host", ref, "address", address)
    try:
        yield from with_session(model, address, "pool.is_slave", ref)
    except (PeerLost, HttpFailure, XapiFault):
        model.engine.event("hello", host=host_uuid, result="cannot_talk_back")
        return "cannot_talk_back"
    database.set("host", ref, "enabled", "false")
    database.set_live(ref, True)
    model.heard[host_uuid] = model.engine.now
    model.engine.event("hello", host=host_uuid, result="ok")
    return "ok"


def tickle(model: XapiModel, host_uuid: str) -> str:
    database = database_of(model)
    if database.find("host", host_uuid) is None:
        raise XapiFault("UUID_INVALID", "host", host_uuid)
    model.heard[host_uuid] = model.engine.now
    return ""


def watch_liveness(model: XapiModel) -> Task[None]:
    database = database_of(model)
    for ref in other_hosts(model):
        model.heard[database.get("host", ref, "uuid")] = model.engine.now
    while True:
        yield Sleep(model.times.gc_ms)
        for ref in other_hosts(model):
            uuid = database.get("host", ref, "uuid")
            alive = model.engine.now - model.heard.get(uuid, 0) <= model.times.assumed_dead_ms
            if alive != database.is_live(ref):
                database.set_live(ref, alive)
                model.engine.event("live", host=uuid, live=str(alive).lower())


def send_copies(model: XapiModel) -> Task[None]:
    while True:
        hosts = other_hosts(model)
        for ref in hosts:
            yield Sleep(model.times.copy_ms)
            try:
                yield from send_copy(model, ref)
            except (PeerLost, HttpFailure, XapiFault) as error:
                model.engine.event("copy-failed", host=database_of(model).get("host", ref, "uuid"), why=error.args[0])
        if not hosts:
            yield Sleep(model.times.copy_ms)


def send_copy(model: XapiModel, ref: str) -> Task[object]:
    """Make one member fetch a copy. Raises like `tasks.ask`."""
    database = database_of(model)
    return with_session(model, database.address_of(ref), "pool.request_backup", str(database.generation))


def flush_now_and_then(model: XapiModel) -> Task[None]:
    """A master's own file follows its memory (db_cache_impl.ml spawn_db_flush_threads).

    A thread looks every 2 s. It flushes what has changed if its last flush, or its own start, is 5 minutes ago: after a
    quiet time at once. A flush that fails is tried again at each look.
    """
    database, times = database_of(model), model.times
    began = flushed = model.engine.now
    failed = False
    while True:
        if not database.dirty:
            yield Until(model.dirtied)
        if not database.dirty:
            continue  # what was written does not persist
        due = max(model.engine.now + 1, flushed + times.flush_ms)
        looks = -(-(due - began) // times.flush_tick_ms)
        yield Sleep(began + looks * times.flush_tick_ms - model.engine.now)
        try:
            database.flush(model.disk)
        except OSError as error:
            if not failed:
                model.engine.event("flush-failed", error=error.strerror or str(error))
            failed = True
        else:
            flushed, failed = model.engine.now, False


def stop_when_flushed(model: XapiModel) -> Task[None]:
    """SIGTERM: the flushing thread ends the process after its next flush, so not as long as that fails.

    Source: xapi.ml cleanup_handler, db_connections.ml flush_dirty_and_maybe_exit. The first look is taken at once here.
    """
    failed = False
    while (error := model.flush()) is not None:
        if not failed:
            model.engine.event("flush-failed", error=error)
        failed = True
        yield Sleep(model.times.flush_tick_ms)
    model.exit(0, flush=False)


def alone(model: XapiModel) -> Task[bool]:
    """The check for other masters; False: this process has yielded and is gone."""
    database = database_of(model)
    for ref in other_hosts(model):
        uuid, address = database.get("host", ref, "uuid"), database.address_of(ref)
        model.engine.event("asks-is-slave", host=uuid)
        try:
            answer = yield from with_session(model, address, "pool.is_slave", ref)
        except (PeerLost, HttpFailure, XapiFault) as error:
            model.engine.event("is-slave", host=uuid, answer="-", why=error.args[0])
            continue
        model.engine.event("is-slave", host=uuid, answer=str(answer).lower())
        if answer is False:
            model.engine.event("other-master", host=uuid)
            model.set_role(member_of(address))
            model.exit(RESTART_CODE, flush=False)
            return False
    return True


# ------------------------------------------------------------------------------------ the database, for members


def remote(model: XapiModel, call: Call) -> Task[object]:
    """A member's operation on this database: params are the pool secret and the operation's own.

    Stands for xapi's /remote_db_access and /pool/xmldbdump. A host that masters nothing refuses with HTTP 403.
    """
    if call.text(0) != model.secret:
        raise XapiFault("SESSION_AUTHENTICATION_FAILED", "pool", "secret")
    if model.database is None:
        raise HttpFailure(403)
    database, args = model.database, call.params[1:]
    if call.method == "db.hold":
        yield Until(Signal())
    return _OPERATIONS[call.method](model, database, args)


def _open_session(model: XapiModel, _database: Database, args: tuple[object, ...]) -> object:
    return model.sessions.open(str(args[0]))


def _check_session(model: XapiModel, database: Database, args: tuple[object, ...]) -> object:
    if not model.sessions.is_open(str(args[0])):
        raise XapiFault("SESSION_INVALID", str(args[0]))
    return database.address_of(database.master_ref())


def _fetch(_model: XapiModel, database: Database, args: tuple[object, ...]) -> object:
    if str(args[0]) == str(database.generation):
        return {}
    return {"generation": str(database.generation), "content": database.content().decode()}


def _get(_model: XapiModel, database: Database, args: tuple[object, ...]) -> object:
    params = args[1] if isinstance(args[1], (list, tuple)) else ()
    return records.call(database, str(args[0]), tuple(params))


def _settle(_model: XapiModel, database: Database, args: tuple[object, ...]) -> object:
    host_uuid, adopted, gone = args
    settle(database, str(host_uuid), _texts(adopted), _texts(gone))
    return ""


def _enable(model: XapiModel, database: Database, args: tuple[object, ...]) -> object:
    enable(model, database, str(args[0]))
    return ""


def _disable(model: XapiModel, database: Database, args: tuple[object, ...]) -> object:
    enable(model, database, str(args[0]), False)
    return ""


def _plug(_model: XapiModel, database: Database, args: tuple[object, ...]) -> object:
    storage.plug(database, str(args[0]), _texts(args[1]))
    return ""


_OPERATIONS = {
    "db.open": lambda _model, _database, _args: "",
    "db.read": lambda _model, database, _args: str(database.generation),
    "db.hold": lambda _model, _database, _args: "",
    "db.open_session": _open_session,
    "db.check_session": _check_session,
    "db.fetch": _fetch,
    "db.get": _get,
    "db.placements": lambda _model, database, _args: database.placements(),
    "db.settle": _settle,
    "db.enable": _enable,
    "db.disable": _disable,
    "db.plug": _plug,
}
REMOTE = tuple(_OPERATIONS)


def settle(database: Database, host_uuid: str, adopted: list[str], gone: list[str]) -> None:
    """Record what a host found at its start: domains it adopted, and VMs placed there that do not run."""
    host = database.find("host", host_uuid) or NULL_REF
    for uuid, state, place in [(uuid, "Running", host) for uuid in adopted] + [
        (uuid, "Halted", NULL_REF) for uuid in gone
    ]:
        ref = database.find("VM", uuid)
        if ref is not None:
            database.set("VM", ref, "power_state", state)
            database.set("VM", ref, "resident_on", place)
            storage.unlock(database, host, ref)
            if place != NULL_REF:
                storage.seize(database, ref, host)


def enable(model: XapiModel, database: Database, host_uuid: str, wanted: bool = True) -> None:
    ref = database.find("host", host_uuid)
    if ref is not None:
        database.set("host", ref, "enabled", str(wanted).lower())
        model.engine.event("enabled" if wanted else "disabled", host=host_uuid)


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else []
