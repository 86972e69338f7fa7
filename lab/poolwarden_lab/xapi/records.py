"""XenAPI's view of the rows: records, single fields, and the few fields that clients write.

Column texts become what the wire carries: booleans, sets, maps, references as strings, and integers as *strings*
(XenAPI's own convention, in JSON too). Fields that are the other end of a relation are computed, never stored.
What fields there are says `datamodel`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from poolwarden_lab.statedb import NULL_REF, dump_map, dump_set, parse_map, parse_set
from poolwarden_lab.xapi import filters
from poolwarden_lab.xapi.actions import Timestamp, XapiFault
from poolwarden_lab.xapi.datamodel import CLASSES, OTHER_ENDS, Field, column_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from poolwarden_lab.statedb import Row
    from poolwarden_lab.xapi.database import Database

_WITH_EXPRESSION = ("get_all_where", "get_all_records_where")
VERBS = ("get_all", "get_all_records", *_WITH_EXPRESSION, "get_record", "get_by_uuid", "get_by_name_label")
WRITABLE = ("name_label", "name_description", "other_config", "tags")
"""Of every class that has them. xapi lets more be written; nothing that the model lives by may be."""


def method_names() -> list[str]:
    """Every message that `call` answers."""
    names = []
    for name, fields in CLASSES.items():
        names += [f"{name}.{verb}" for verb in VERBS if verb != "get_by_name_label" or "name_label" in fields]
        names += [f"{name}.get_{item}" for item in fields]
        names += [f"{name}.{verb}" for verb in _writes(name)]
    return names


def _writes(name: str) -> list[str]:
    found = []
    for item in WRITABLE:
        if item in CLASSES[name]:
            found.append(f"set_{item}")
            kind = CLASSES[name][item].kind
            found += [f"add_to_{item}", f"remove_from_{item}"] if kind == "map" else []
            found += [f"add_{item}", f"remove_{item}"] if kind == "set" else []
    return found


def call(database: Database, method: str, args: tuple[object, ...]) -> object:
    """Answer a getter or a setter, without its session parameter.

    Raises XapiFault: MESSAGE_METHOD_UNKNOWN, MESSAGE_PARAMETER_COUNT_MISMATCH, HANDLE_INVALID, UUID_INVALID,
    MAP_DUPLICATE_KEY, INVALID_VALUE.
    """
    name, _, verb = method.partition(".")
    fields = CLASSES.get(name, {})
    if fields and verb in _writes(name):
        return _write(database, name, verb, args)
    if not fields or (verb not in VERBS and verb.removeprefix("get_") not in fields) or not verb.startswith("get_"):
        raise XapiFault("MESSAGE_METHOD_UNKNOWN", method)
    _count(method, args, 0 if verb in ("get_all", "get_all_records") else 1)
    table = database.table(name)
    if verb == "get_all":
        return list(table)
    if verb == "get_all_records":
        return _records(database, name, table)
    key = str(args[0])
    if verb in _WITH_EXPRESSION:
        found = _matching(database, name, key)
        return found if verb == "get_all_where" else _records(database, name, found)
    if verb == "get_by_uuid":
        ref = database.find(name, key)
        if ref is None:
            raise XapiFault("UUID_INVALID", name, key)
        return ref
    if verb == "get_by_name_label":
        column = column_of(name, "name_label")
        return [ref for ref, row in table.items() if row.get(column) == key]
    database.known(name, key)
    if verb == "get_record":
        return record(database, name, key)
    field = verb.removeprefix("get_")
    if (name, field) in OTHER_ENDS:
        return _other_ends(database, name, field).get(key, [])
    return _value(fields[field], table[key].get(column_of(name, field)))


def record(database: Database, name: str, ref: str) -> dict[str, object]:
    """One whole record. Raises KeyError where there is no such row."""
    return _record(database, name, ref, {})


def _records(database: Database, name: str, refs: Iterable[str]) -> dict[str, dict[str, object]]:
    others = {field: _other_ends(database, name, field) for each, field in OTHER_ENDS if each == name}
    return {ref: _record(database, name, ref, others) for ref in refs}


def _matching(database: Database, name: str, expression: str) -> list[str]:
    """References of the rows for which an expression holds (`filters`)."""
    test = filters.parse(expression)
    fields = {column_of(name, field): (field, kind.default) for field, kind in CLASSES[name].items()}

    def lookup(ref: str, row: Row, column: str) -> str:
        if column == "_ref":
            return ref
        if column not in fields:
            raise XapiFault("INTERNAL_ERROR", "missing field", column, "")
        field, absent = fields[column]
        if (name, field) in OTHER_ENDS:
            return dump_set(_other_ends(database, name, field).get(ref, []))
        return row.get(column) or absent

    return [ref for ref, row in database.table(name).items() if test(partial(lookup, ref, row))]


def _count(method: str, args: tuple[object, ...], wanted: int) -> None:
    if len(args) != wanted:
        raise XapiFault("MESSAGE_PARAMETER_COUNT_MISMATCH", method, str(wanted + 1), str(len(args) + 1))


def _record(database: Database, name: str, ref: str, others: dict[str, dict[str, list[str]]]) -> dict[str, object]:
    """`others`: what `_other_ends` says of fields, where somebody has asked already."""
    row = database.table(name)[ref]
    found: dict[str, object] = {}
    for field, (column, kind, absent) in _PLANS[name].items():
        if (name, field) in OTHER_ENDS:
            ends = others[field] if field in others else _other_ends(database, name, field)
            found[field] = ends.get(ref, [])
        else:
            found[field] = _value(kind, row[column]) if row.get(column) else absent
    return found


def _other_ends(database: Database, name: str, field: str) -> dict[str, list[str]]:
    """A computed field of every row that has anything in it."""
    other, column = OTHER_ENDS[name, field]
    found: dict[str, list[str]] = {}
    for ref, row in database.table(other).items():
        found.setdefault(row.get(column, NULL_REF), []).append(ref)
    return found


def _value(field: Field, column: str | None) -> object:
    text = column or field.default
    match field.kind:
        case "bool":
            return text == "true"
        case "set":
            return parse_set(text)
        case "map":
            return parse_map(text)
        case "real":
            return float(text)
        case "time":
            return Timestamp(text)
    return text


_PLANS = {
    name: {field: (column_of(name, field), kind, _value(kind, None)) for field, kind in fields.items()}
    for name, fields in CLASSES.items()
}
"""Column, type and absent value of each field of each class: records are read by the thousand."""


# ------------------------------------------------------------------------------------ writing


def _write(database: Database, name: str, verb: str, args: tuple[object, ...]) -> object:
    method = f"{name}.{verb}"
    _count(method, args, 3 if verb.startswith("add_to_") else 2)
    ref = database.known(name, str(args[0]))
    field = next(item for item in WRITABLE if verb.endswith(f"_{item}"))
    column = column_of(name, field)
    if verb.startswith("set_"):
        database.set(name, ref, column, _text(CLASSES[name][field], args[1]))
        return ""
    if CLASSES[name][field].kind == "set":
        others = [item for item in parse_set(database.get(name, ref, column) or "()") if item != str(args[1])]
        added = [str(args[1])] if verb.startswith("add_") else []
        database.set(name, ref, column, dump_set([*others, *added]))
        return ""
    present: Row = parse_map(database.get(name, ref, column) or "()")
    key = str(args[1])
    if verb.startswith("remove_from_"):
        present.pop(key, None)
    elif key in present:
        raise XapiFault("MAP_DUPLICATE_KEY", name, field, ref, key)
    else:
        present[key] = str(args[2])
    database.set(name, ref, column, dump_map(present))
    return ""


def _text(field: Field, value: object) -> str:
    """A column's text. Raises XapiFault FIELD_TYPE_ERROR."""
    if field.kind == "map" and isinstance(value, dict):
        return dump_map({str(key): str(item) for key, item in value.items()})
    if field.kind == "set" and isinstance(value, (list, tuple)):
        return dump_set([str(item) for item in value])
    if field.kind == "text" and isinstance(value, str):
        return value
    raise XapiFault("FIELD_TYPE_ERROR", field.kind)
