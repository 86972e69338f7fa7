"""Messages: what a pool tells its clients. `events` tells of new ones.

* They are no rows of the database but files of the serving master below /var/lib/xcp/blobs/messages, so that no copy of
  the database carries them and a new master begins with those that it had itself. Here they are one file of JSON.
* ``message.create`` wants a known object of its class (UUID_INVALID) and a body that is UTF-8 as XML allows it
  (INVALID_VALUE); it answers the null reference where the file cannot be written. Names are free text. At most 10000
  are kept, the oldest go first.

Source: xapi ocaml/xapi/xapi_message.ml, ocaml/xapi-consts/api_messages.ml (priorities 1..5).
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from poolwarden_lab.statedb import NULL_REF
from poolwarden_lab.xapi import filters, mastering
from poolwarden_lab.xapi.actions import Timestamp, XapiFault
from poolwarden_lab.xapi.dates import wall

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
    """One thing to tell."""

    number: int
    operation: str  # "add" or "del"
    ref: str
    message: Message


@dataclass(slots=True)
class Messages:
    """Those of one process, by reference; None: not read yet."""

    known: dict[str, Message] | None = None
    made: int = 0
    changes: list[Change] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Of the last change; 0: there was none."""
        return self.changes[-1].number if self.changes else 0


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


def _tell(model: XapiModel, operation: str, ref: str, message: Message) -> None:
    model.messages.changes.append(Change(model.messages.number + 1, operation, ref, message))
    model.engine.fire(model.events.changed)


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
    message = Message(made, name, int(priority), cls, obj_uuid, wall(model), body)
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


def get_all_records_where(model: XapiModel, call: Call) -> object:
    """params: session, expression (`filters`) of the fields of a message."""
    test = filters.parse(call.text(1))

    def lookup(message: Message, field: str) -> str:
        if field not in Message.__slots__:
            raise XapiFault("INTERNAL_ERROR", "missing field", field, "")
        return str(getattr(message, field))

    return _records(model, lambda m: test(partial(lookup, m)))


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


WITH_SESSION = {
    "message.create": create,
    "message.destroy": destroy,
    "message.destroy_many": destroy_many,
    "message.get": get,
    "message.get_all": get_all,
    "message.get_all_records": get_all_records,
    "message.get_all_records_where": get_all_records_where,
    "message.get_by_uuid": get_by_uuid,
    "message.get_record": get_record,
    "message.get_since": get_since,
}
