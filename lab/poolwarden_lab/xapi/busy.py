"""Tasks as clients see them: what xapi is busy with.

A task is a row of the master's database that does not persist: it raises no generation, it is in no file and no copy,
and a new master starts without any. A call that takes its time has one while it runs; ``lab.task_create`` makes one
that stays pending, as an export that goes on and on.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from poolwarden_lab.xapi import mastering
from poolwarden_lab.xapi.actions import XapiFault
from poolwarden_lab.xapi.tasks import Task

if TYPE_CHECKING:
    from poolwarden_lab.xapi.calls import Call
    from poolwarden_lab.xapi.model import XapiModel


def with_task(model: XapiModel, name: str, work: Task[object]) -> Task[object]:
    """Do the work with a pending task of this name beside it."""
    database = mastering.database_of(model)
    ref = _create(model, name)
    try:
        return (yield from work)
    finally:
        database.table("task").pop(ref, None)


def _create(model: XapiModel, name: str) -> str:
    database = mastering.database_of(model)
    model.tasks_made += 1
    name_of_it = f"{model.host_uuid}/{model.boot_id()}/{model.config.pid}/task/{model.tasks_made}"
    made = str(uuid.uuid5(uuid.NAMESPACE_OID, name_of_it))
    ref = f"OpaqueRef:{made}"
    row = {"uuid": made, "name__label": name, "status": "pending", "resident_on": database.master_ref()}
    database.table("task")[ref] = row
    return ref


def lab_task_create(model: XapiModel, call: Call) -> object:
    """params: session, name. A task that stays pending until it is finished, cancelled or forgotten."""
    return _create(model, call.text(1))


def lab_task_finish(model: XapiModel, call: Call) -> object:
    return _end(model, call.text(1), "success")


def cancel(model: XapiModel, call: Call) -> object:
    return _end(model, call.text(1), "cancelled")


def destroy(model: XapiModel, call: Call) -> object:
    database = mastering.database_of(model)
    database.table("task").pop(database.known("task", call.text(1)))
    return ""


def _end(model: XapiModel, ref: str, status: str) -> str:
    database = mastering.database_of(model)
    row = database.table("task")[database.known("task", ref)]
    if row["status"] != "pending":
        raise XapiFault("OPERATION_NOT_ALLOWED", f"the task is {row['status']}")
    row["status"] = status
    return ""


WITH_SESSION = {
    "task.cancel": cancel,
    "task.destroy": destroy,
    "lab.task_create": lab_task_create,
    "lab.task_finish": lab_task_finish,
}
