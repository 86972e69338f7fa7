"""Messages: what a pool tells its clients, and what they are told of them by ``event.from``.

* They are no rows of the database but files of the serving master below /var/lib/xcp/blobs/messages, so that no copy of
  the database carries them and a new master begins with those that it had itself. Here they are one file of JSON.
* ``message.create`` wants a known object of its class (UUID_INVALID) and a body that is UTF-8 as XML allows it
  (INVALID_VALUE); it answers the null reference where the file cannot be written. Names are free text. At most 10000
  are kept, the oldest go first.
* ``event.from`` knows this class alone; it waits until there is something new, or for its limit.

Source: xapi ocaml/xapi/xapi_message.ml, ocaml/xapi/xapi_event.ml, ocaml/xapi-consts/api_messages.ml (priorities 1..5).
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from poolwarden_lab.statedb import NULL_REF
from poolwarden_lab.xapi import mastering
from poolwarden_lab.xapi.actions import Timestamp, XapiFault
from poolwarden_lab.xapi.tasks import Signal, Task, Until

if TYPE_CHECKING:
    from collections.abc import Callable

    from poolwarden_lab.xapi.calls import Call
    from poolwarden_lab.xapi.model import XapiModel

FOLDER = "var/lib/xcp/blobs/messages"
FILE = FOLDER + "/all.json"
LIMIT = 10_000
TABLES = {"VM": "VM", "Host": "host", "SR": "SR", "Pool": "pool", "VDI": "VDI"}
CLASSES = (*TABLES, "VMPP", "VMSS", "PVS_proxy", "Certificate")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Message:
    """One message; ``timestamp`` is UTC, to the second."""

    uuid: str
    name: str
    priority: int
    cls: str
    obj_uuid: str
    timestamp: str
    body: str

    def record(self) -> dict[str, object]:
        return {**asdict(self), "timestamp": Timestamp(self.timestamp)}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that ``event.from`` tells."""

    number: int
    operation: str  # "add" or "del"
    ref: str
    message: Message
    at: str


@dataclass(slots=True)
class Messages:
    """Those of one process, by reference; None: not read yet."""

    known: dict[str, Message] | None = None
    made: int = 0
    changes: list[Change] = field(default_factory=list)
    changed: Signal = field(default_factory=Signal)


def _known(model: XapiModel) -> dict[str, Message]:
    """All of them. Raises XapiFault HOST_IS_SLAVE on a member."""
    mastering.database_of(model)
    if model.messages.known is None:
        try:
            stored = json.loads(model.disk.read(FILE))
        except (OSError, ValueError):
            stored = {}
        model.messages.known = {ref: Message(**item) for ref, item in stored.items()}
    return model.messages.known


def _store(model: XapiModel) -> bool:
    content = {ref: asdict(message) for ref, message in _known(model).items()}
    try:
        model.disk.write(FILE, json.dumps(content).encode())
    except OSError as error:
        model.engine.event("message-not-stored", error=error.strerror or str(error))
        return False
    return True


def _wall(model: XapiModel) -> str:
    days, second = divmod((model.config.wall_zero_ms + model.engine.now) // 1000, 86_400)
    return f"{_date(days)}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def _date(days: int) -> str:
    """The date so many days after 1970-01-01, as YYYYMMDD; years begin in March here, so that a leap day ends one."""
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day += 1 - (153 * month + 2) // 5
    month += 3 if month < 10 else -9
    return f"{400 * era + year + (month <= 2):04}{month:02}{day:02}"


def _tell(model: XapiModel, operation: str, ref: str, message: Message) -> None:
    number = model.messages.changes[-1].number + 1 if model.messages.changes else 1
    model.messages.changes.append(Change(number, operation, ref, message, _wall(model)))
    model.engine.fire(model.messages.changed)


# ------------------------------------------------------------------------------------ message


def create(model: XapiModel, call: Call) -> object:
    """params: session, name, priority, cls, obj_uuid, body."""
    name, priority, cls, obj_uuid, body = (call.text(index) for index in range(1, 6))
    known = _known(model)
    if not priority.lstrip("-").isdigit() or cls not in CLASSES:
        raise XapiFault("FIELD_TYPE_ERROR", "cls" if priority.lstrip("-").isdigit() else "priority")
    if _NOT_XML.search(body):
        raise XapiFault("INVALID_VALUE", "UTF8 expected", body)
    if cls not in TABLES or mastering.database_of(model).find(TABLES[cls], obj_uuid) is None:
        raise XapiFault("UUID_INVALID", cls, obj_uuid)
    model.messages.made += 1
    seed = f"{model.host_uuid}/{model.boot_id()}/{model.config.pid}/message/{model.messages.made}"
    made = str(uuid.uuid5(uuid.NAMESPACE_OID, seed))
    message = Message(made, name, int(priority), cls, obj_uuid, _wall(model), body)
    ref = f"OpaqueRef:{uuid.uuid5(uuid.NAMESPACE_OID, seed + '/ref')}"
    known[ref] = message
    if not _store(model):
        del known[ref]
        return NULL_REF
    model.engine.event("message", called=name, priority=priority, cls=cls)
    _tell(model, "add", ref, message)
    for oldest in list(known)[: max(0, len(known) - LIMIT)]:
        _remove(model, oldest)
    return ref


def destroy(model: XapiModel, call: Call) -> object:
    _remove(model, _ref(model, call))
    _store(model)
    return ""


def destroy_many(model: XapiModel, call: Call) -> object:
    """params: session, references."""
    wanted = call.params[1] if len(call.params) > 1 else []
    for ref in wanted if isinstance(wanted, list) else []:
        if ref in _known(model):
            _remove(model, ref)
    _store(model)
    return ""


def _remove(model: XapiModel, ref: str) -> None:
    _tell(model, "del", ref, _known(model).pop(ref))


def _ref(model: XapiModel, call: Call) -> str:
    ref = call.text(1)
    if ref not in _known(model):
        raise XapiFault("HANDLE_INVALID", "message", ref)
    return ref


def get_all(model: XapiModel, _call: Call) -> object:
    return list(_known(model))


def get_all_records(model: XapiModel, _call: Call) -> object:
    return _records(model, lambda _: True)


def get_record(model: XapiModel, call: Call) -> object:
    return _known(model)[_ref(model, call)].record()


def get_by_uuid(model: XapiModel, call: Call) -> object:
    found = [ref for ref, message in _known(model).items() if message.uuid == call.text(1)]
    if not found:
        raise XapiFault("UUID_INVALID", "message", call.text(1))
    return found[0]


def get(model: XapiModel, call: Call) -> object:
    """params: session, cls, obj_uuid, since. What was told of one object after that instant."""
    cls, obj_uuid, since = call.text(1), call.text(2), _since(call.text(3))
    return _records(model, lambda m: (m.cls, m.obj_uuid) == (cls, obj_uuid) and m.timestamp > since)


def get_since(model: XapiModel, call: Call) -> object:
    """params: session, since."""
    since = _since(call.text(1))
    return _records(model, lambda m: m.timestamp > since)


def _since(text: str) -> str:
    """An instant as XenAPI writes it. Raises XapiFault FIELD_TYPE_ERROR."""
    if not re.fullmatch(r"\d{8}T\d{2}:\d{2}:\d{2}Z?", text):
        raise XapiFault("FIELD_TYPE_ERROR", "since")
    return text if text.endswith("Z") else text + "Z"


def _records(model: XapiModel, wanted: Callable[[Message], bool]) -> dict[str, dict[str, object]]:
    return {ref: message.record() for ref, message in _known(model).items() if wanted(message)}


# ------------------------------------------------------------------------------------ event


def event_from(model: XapiModel, call: Call) -> Task[object]:
    """params: session, classes, token (empty: from the beginning of this process), limit in seconds."""
    classes = call.params[1] if len(call.params) > 1 else []
    if not isinstance(classes, list) or not {"message", "*"} & {str(each).lower() for each in classes}:
        raise XapiFault("INVALID_VALUE", "classes", "this xapi tells of messages alone")
    known = _known(model)
    after = _after(model, call.text(2))
    end = model.engine.now + int(float(call.text(3)) * 1000)
    while not (news := [change for change in model.messages.changes if change.number > after]):
        left = end - model.engine.now
        if left <= 0 or not (yield Until(model.messages.changed, left)):
            break
    last = news[-1].number if news else after
    token = f"{model.config.pid},{last}"
    events = [_event(change) for change in news]
    return {"events": events, "valid_ref_counts": {"message": len(known)}, "token": token}


def _after(model: XapiModel, token: str) -> int:
    """The number of the last change that a token has been told. Raises XapiFault EVENTS_LOST."""
    if not token:
        return 0
    pid, _, number = token.partition(",")
    if pid != str(model.config.pid) or not number.isdigit():
        raise XapiFault("EVENTS_LOST", token)
    return int(number)


def _event(change: Change) -> dict[str, object]:
    told: dict[str, object] = {
        "id": change.number,
        "timestamp": Timestamp(change.at),
        "class": "message",
        "operation": change.operation,
        "ref": change.ref,
        "obj_uuid": change.message.uuid,
    }
    return told | ({"snapshot": change.message.record()} if change.operation == "add" else {})


WITH_SESSION = {
    "message.create": create,
    "message.destroy": destroy,
    "message.destroy_many": destroy_many,
    "message.get": get,
    "message.get_all": get_all,
    "message.get_all_records": get_all_records,
    "message.get_by_uuid": get_by_uuid,
    "message.get_record": get_record,
    "message.get_since": get_since,
    "event.from": event_from,
}
