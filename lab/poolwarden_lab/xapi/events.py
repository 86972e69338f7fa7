"""Events: how clients keep a copy of the pool's objects, and learn that they have missed something.

* ``event.from`` is told classes and a token and answers what changed since: rows made (``add``), written (``mod``) and
  removed (``del``), each with a snapshot but the last, and a token for the next call. Without a token everything is
  ``add``. It waits until there is something to tell, or for its limit. A token that is none is
  EVENT_FROM_TOKEN_PARSE_FAILURE; tokens are numbers alone, so that one of another master is not recognised as such: it
  is the session that is refused there, SESSION_INVALID.
* ``event.inject`` marks one object as written, so that a caller gets a token and an event of its own;
  ``event.get_current_id`` is the number of the last change.
* ``event.register``, ``event.next`` and ``event.unregister`` are the older way, by session: EVENTS_LOST where more has
  happened than is remembered, SESSION_NOT_REGISTERED without a registration.

Source: xapi ocaml/xapi/xapi_event.ml (classes in lower case, numbers of references as integers).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from poolwarden_lab.xapi import mastering, records
from poolwarden_lab.xapi.actions import Number, XapiFault
from poolwarden_lab.xapi.datamodel import CLASSES
from poolwarden_lab.xapi.tasks import Signal, Task, Until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from poolwarden_lab.xapi.calls import Call
    from poolwarden_lab.xapi.changes import Key
    from poolwarden_lab.xapi.model import XapiModel

ALL = "*"
_TABLES = {name.lower(): name for name in CLASSES}


@dataclass(slots=True)
class Events:
    """Of one process."""

    changed: Signal = field(default_factory=Signal)
    registered: dict[str, tuple[set[str], int]] = field(default_factory=dict)  # session -> classes, last number told


def event_from(model: XapiModel, call: Call) -> Task[object]:
    """params: session, classes, token, limit in seconds."""
    wanted, (after, after_message) = _classes(call), _token(call.text(2))
    end = model.engine.now + int(float(call.text(3)) * 1000)
    while True:
        told, last = _rows(model, wanted, after)
        messages, last_message = _messages(model, wanted, after_message)
        left = end - model.engine.now
        if told or messages or left <= 0:
            break
        yield Until(model.events.changed, left)
    counts = {name.lower(): Number(len(mastering.database_of(model).table(name))) for name in CLASSES}
    token = f"{last:020},{last_message:020}"
    return {"events": [*told, *messages], "valid_ref_counts": counts, "token": token}


def inject(model: XapiModel, call: Call) -> object:
    """params: session, class, reference; a token from just before."""
    database = mastering.database_of(model)
    name = _TABLES.get(call.text(1).lower(), call.text(1))
    before = database.changes.clock
    database.mark(name, database.known(name, call.text(2)))
    return f"{before:020},{model.messages.number:020}"


def get_current_id(model: XapiModel, _call: Call) -> object:
    return str(mastering.database_of(model).changes.clock)


def register(model: XapiModel, call: Call) -> object:
    """params: session, classes."""
    classes, last = model.events.registered.get(call.text(0), (set(), mastering.database_of(model).changes.clock))
    model.events.registered[call.text(0)] = (classes | _classes(call), last)
    return ""


def unregister(model: XapiModel, call: Call) -> object:
    """params: session, classes."""
    classes, last = model.events.registered.get(call.text(0), (set(), 0))
    model.events.registered[call.text(0)] = (classes - _classes(call), last)
    return ""


def following(model: XapiModel, call: Call) -> Task[object]:
    """event.next: what happened since the last call of this session; waits for as long as it takes."""
    session = call.text(0)
    while True:
        wanted, after = model.events.registered.get(session, (set(), 0))
        if not wanted:
            raise XapiFault("SESSION_NOT_REGISTERED", session)
        changes = mastering.database_of(model).changes
        told, _ = _rows(model, wanted, after)
        model.events.registered[session] = (wanted, changes.clock)
        if after < changes.forgotten:
            raise XapiFault("EVENTS_LOST")
        if told:
            return told
        yield Until(model.events.changed)


# ------------------------------------------------------------------------------------ inside


def _classes(call: Call) -> set[str]:
    """Lower-case classes, ``class/reference``, or ``*``. Raises XapiFault FIELD_TYPE_ERROR."""
    given = call.params[1] if len(call.params) > 1 else None
    if not isinstance(given, (list, tuple)):
        raise XapiFault("FIELD_TYPE_ERROR", "classes")
    found = set()
    for each in given:
        name, slash, ref = str(each).partition("/")
        found.add(name.lower() + slash + ref)
    return found


def _token(text: str) -> tuple[int, int]:
    """The numbers of the last change and the last message that were told. Raises XapiFault."""
    if not text:
        return 0, 0
    change, _, message = text.partition(",")
    if not (change.isdigit() and message.isdigit()):
        raise XapiFault("EVENT_FROM_TOKEN_PARSE_FAILURE", text)
    return int(change), int(message)


def _wants(wanted: set[str], key: Key) -> bool:
    name = key[0].lower()
    return ALL in wanted or name in wanted or f"{name}/{key[1]}" in wanted


def _rows(model: XapiModel, wanted: set[str], after: int) -> tuple[list[dict[str, object]], int]:
    """Events of rows, and the number of the last change."""
    database = mastering.database_of(model)
    changes = database.changes
    there: Iterable[Key] = changes.written_since(after)
    if after < 1:
        there = [(name, ref) for name in CLASSES for ref in database.table(name)]
    told = []
    for name, ref in there:
        if name not in CLASSES or ref not in database.table(name) or not _wants(wanted, (name, ref)):
            continue
        operation = "add" if changes.made_at((name, ref)) > after else "mod"
        snapshot = records.record(database, name, ref)
        told.append(_event(changes.written_at((name, ref)), name, operation, ref) | {"snapshot": snapshot})
    told += [
        _event(gone.number, gone.key[0], "del", gone.key[1])
        for gone in changes.removed_since(after)
        if gone.key[0] in CLASSES and _wants(wanted, gone.key)
    ]
    return told, changes.clock


def _messages(model: XapiModel, wanted: set[str], after: int) -> tuple[list[dict[str, object]], int]:
    """Events of messages, which are no rows, and the number of the last one."""
    if not {"message", ALL} & wanted:
        return [], 0
    told = []
    for change in model.messages.changes:
        if change.number > after:
            event = _event(0, "message", change.operation, change.ref)
            told.append(event | ({"snapshot": change.message.record()} if change.operation == "add" else {}))
    return told, max(after, model.messages.number)


def _event(number: int, name: str, operation: str, ref: str) -> dict[str, object]:
    kind = {"id": str(number), "timestamp": "0.0", "class": name.lower(), "operation": operation, "ref": ref}
    return dict[str, object](kind)


WITH_SESSION = {
    "event.from": event_from,
    "event.inject": inject,
    "event.get_current_id": get_current_id,
    "event.register": register,
    "event.unregister": unregister,
    "event.next": following,
}
