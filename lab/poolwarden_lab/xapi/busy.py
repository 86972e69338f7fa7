"""Tasks as clients see them: what xapi is busy with, and what ``Async.*`` came to.

A task is a row of the master's database that does not persist: it raises no generation, it is in no file and no copy,
and a new master starts without any. A call that takes its time has one while it runs. ``Async.X`` answers the reference
of a task at once, and the call's end is written there: ``success`` with its value as XML text, or ``failure`` with the
error; it stays until somebody destroys it. Clients make tasks of their own, too. ``lab.task_create`` makes one that
stays pending, as an export that goes on and on.

Source: xapi ocaml/xapi/xapi_task.ml, ocaml/xapi/server_helpers.ml, context.ml. A session's logout leaves them alone.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from poolwarden_lab.statedb import dump_set
from poolwarden_lab.xapi import mastering
from poolwarden_lab.xapi.actions import HttpFailure, PeerLost, XapiFault
from poolwarden_lab.xapi.dates import wall
from poolwarden_lab.xapi.tasks import Task
from poolwarden_lab.xapi.xml_value import write_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from poolwarden_lab.xapi.calls import Call
    from poolwarden_lab.xapi.model import XapiModel

STATUSES = ("pending", "success", "failure", "cancelling", "cancelled")


def with_task(model: XapiModel, name: str, work: Task[object]) -> Task[object]:
    """Do the work with a pending task of this name beside it."""
    database = mastering.database_of(model)
    ref = _create(model, name)
    try:
        return (yield from work)
    finally:
        database.remove("task", ref)


def in_background(model: XapiModel, method: str, work: Callable[[], Task[object]]) -> str:
    """Begin the work; the reference of its task."""
    database = mastering.database_of(model)
    ref = _create(model, method)

    def done(value: object, error: Exception | None) -> None:
        if ref not in database.table("task"):
            return
        if error is None:
            database.set("task", ref, "result", "" if value == "" else write_value(value))
        else:
            database.set("task", ref, "error_info", dump_set(_error(error)))
        database.set("task", ref, "progress", "1")
        database.set("task", ref, "finished", wall(model))
        if database.get("task", ref, "status") == "pending":
            database.set("task", ref, "status", "success" if error is None else "failure")

    model.engine.spawn(method, work(), done)
    return ref


def _error(error: Exception) -> list[str]:
    if isinstance(error, XapiFault):
        return [error.code, *error.params]
    if isinstance(error, (PeerLost, HttpFailure)):
        return ["CANNOT_CONTACT_HOST", str(error.args[0])]
    return ["INTERNAL_ERROR", f"{type(error).__name__}({error})"]


def _create(model: XapiModel, name: str, description: str = "") -> str:
    database = mastering.database_of(model)
    model.tasks_made += 1
    name_of_it = f"{model.host_uuid}/{model.boot_id()}/{model.config.pid}/task/{model.tasks_made}"
    made = str(uuid.uuid5(uuid.NAMESPACE_OID, name_of_it))
    ref = f"OpaqueRef:{made}"
    row = {"uuid": made, "name__label": name, "status": "pending", "resident_on": database.master_ref()}
    row |= {"name__description": description, "created": wall(model), "type": "<none/>"}
    database.add("task", ref, row)
    return ref


def create(model: XapiModel, call: Call) -> object:
    """params: session, label, description."""
    return _create(model, call.text(1), call.text(2))


def set_status(model: XapiModel, call: Call) -> object:
    """params: session, task, status."""
    if call.text(2) not in STATUSES:
        raise XapiFault("FIELD_TYPE_ERROR", "value")
    database = mastering.database_of(model)
    database.set("task", database.known("task", call.text(1)), "status", call.text(2))
    return ""


def set_progress(model: XapiModel, call: Call) -> object:
    """params: session, task, 0..1."""
    database = mastering.database_of(model)
    database.set("task", database.known("task", call.text(1)), "progress", call.text(2))
    return ""


def set_result(model: XapiModel, call: Call) -> object:
    """params: session, task, text."""
    database = mastering.database_of(model)
    database.set("task", database.known("task", call.text(1)), "result", call.text(2))
    return ""


def set_error_info(model: XapiModel, call: Call) -> object:
    """params: session, task, texts."""
    database = mastering.database_of(model)
    task, given = database.known("task", call.text(1)), call.params[2] if len(call.params) > 2 else None
    if not isinstance(given, (list, tuple)):
        raise XapiFault("FIELD_TYPE_ERROR", "value")
    database.set("task", task, "error_info", dump_set([str(each) for each in given]))
    return ""


def lab_task_create(model: XapiModel, call: Call) -> object:
    """params: session, name. A task that stays pending until it is finished, cancelled or forgotten."""
    return _create(model, call.text(1))


def lab_task_finish(model: XapiModel, call: Call) -> object:
    return _end(model, call.text(1), "success")


def cancel(model: XapiModel, call: Call) -> object:
    return _end(model, call.text(1), "cancelled")


def destroy(model: XapiModel, call: Call) -> object:
    database = mastering.database_of(model)
    database.remove("task", database.known("task", call.text(1)))
    return ""


def _end(model: XapiModel, ref: str, status: str) -> str:
    database = mastering.database_of(model)
    row = database.table("task")[database.known("task", ref)]
    if row["status"] != "pending":
        raise XapiFault("OPERATION_NOT_ALLOWED", f"the task is {row['status']}")
    database.set("task", ref, "status", status)
    return ""


WITH_SESSION = {
    "task.create": create,
    "task.set_status": set_status,
    "task.set_progress": set_progress,
    "task.set_result": set_result,
    "task.set_error_info": set_error_info,
    "task.cancel": cancel,
    "task.destroy": destroy,
    "lab.task_create": lab_task_create,
    "lab.task_finish": lab_task_finish,
}
