"""XenAPI's view of the rows: field names and types of the classes that the model serves.

Column texts become what XML-RPC carries: booleans, sets, maps, references as strings, and integers as *strings*
(XenAPI's own convention). ``resident_VMs`` and ``PBDs`` are the other ends of a relation and are computed, never
stored. Source: xapi ocaml/idl/datamodel_host.ml, datamodel_pool.ml, datamodel.ml,
datamodel_vm.ml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_lab.statedb import NULL_REF, Row, parse_map, parse_set
from poolwarden_lab.xapi.actions import Timestamp, XapiFault

if TYPE_CHECKING:
    from poolwarden_lab.xapi.database import Database

_TEXT, _BOOL, _INT, _REF, _SET, _MAP, _TIME, _REAL = "text", "bool", "int", "ref", "set", "map", "time", "real"
_COMPUTED = {
    ("host", "resident_VMs"): ("VM", "resident_on"),
    ("host", "PBDs"): ("PBD", "host"),
    ("SR", "PBDs"): ("PBD", "SR"),
    ("SR", "VDIs"): ("VDI", "SR"),
    ("VM", "VBDs"): ("VBD", "VM"),
    ("VDI", "VBDs"): ("VBD", "VDI"),
}
_NAMES = {"uuid": _TEXT, "name_label": _TEXT, "name_description": _TEXT}
_NAMESPACED = {
    "name_label": "name__label",
    "name_description": "name__description",
    "API_version_major": "API_version__major",
    "API_version_minor": "API_version__minor",
    "memory_total": "memory__total",
    "memory_free": "memory__free",
    "memory_static_max": "memory__static_max",
}

CLASSES: dict[str, dict[str, str]] = {
    "pool": {
        **_NAMES,
        "master": _REF,
        "default_SR": _REF,
        "ha_enabled": _BOOL,
        "ha_configuration": _MAP,
        "ha_statefiles": _SET,
        "ha_host_failures_to_tolerate": _INT,
        "ha_plan_exists_for": _INT,
        "ha_overcommitted": _BOOL,
        "is_psr_pending": _BOOL,
        "tls_verification_enabled": _BOOL,
        "other_config": _MAP,
    },
    "host": {
        **_NAMES,
        "address": _TEXT,
        "hostname": _TEXT,
        "enabled": _BOOL,
        "metrics": _REF,
        "resident_VMs": _SET,
        "PBDs": _SET,
        "control_domain": _REF,
        "software_version": _MAP,
        "other_config": _MAP,
        "edition": _TEXT,
        "API_version_major": _INT,
        "API_version_minor": _INT,
        "power_on_mode": _TEXT,
        "tls_verification_enabled": _BOOL,
        "pending_guidances": _SET,
        "pending_guidances_recommended": _SET,
        "updates_requiring_reboot": _SET,
        "https_only": _BOOL,
    },
    "host_metrics": {
        "uuid": _TEXT,
        "memory_total": _INT,
        "memory_free": _INT,
        "live": _BOOL,
        "last_updated": _TIME,
        "other_config": _MAP,
    },
    "VM": {
        **_NAMES,
        "power_state": _TEXT,
        "resident_on": _REF,
        "affinity": _REF,
        "is_control_domain": _BOOL,
        "is_a_template": _BOOL,
        "is_a_snapshot": _BOOL,
        "memory_static_max": _INT,
        "VBDs": _SET,
        "other_config": _MAP,
        "ha_restart_priority": _TEXT,
        "order": _INT,
        "start_delay": _INT,
    },
    "SR": {
        **_NAMES,
        "type": _TEXT,
        "content_type": _TEXT,
        "shared": _BOOL,
        "PBDs": _SET,
        "VDIs": _SET,
        "physical_size": _INT,
        "physical_utilisation": _INT,
        "virtual_allocation": _INT,
        "sm_config": _MAP,
        "other_config": _MAP,
    },
    "PBD": {
        "uuid": _TEXT,
        "host": _REF,
        "SR": _REF,
        "device_config": _MAP,
        "currently_attached": _BOOL,
        "other_config": _MAP,
    },
    "VBD": {
        "uuid": _TEXT,
        "VM": _REF,
        "VDI": _REF,
        "userdevice": _TEXT,
        "bootable": _BOOL,
        "mode": _TEXT,
        "type": _TEXT,
        "empty": _BOOL,
        "other_config": _MAP,
    },
    "VDI": {
        **_NAMES,
        "SR": _REF,
        "VBDs": _SET,
        "virtual_size": _INT,
        "sharable": _BOOL,
        "read_only": _BOOL,
        "sm_config": _MAP,
        "other_config": _MAP,
    },
    "task": {
        **_NAMES,
        "created": _TIME,
        "finished": _TIME,
        "status": _TEXT,
        "progress": _REAL,
        "resident_on": _REF,
        "result": _TEXT,
        "error_info": _SET,
        "other_config": _MAP,
    },
}
_DEFAULTS = {_REF: NULL_REF, _INT: "0", _SET: "()", _MAP: "()", _TIME: "19700101T00:00:00Z"}
VERBS = ("get_all", "get_all_records", "get_record", "get_by_uuid", "get_by_name_label")


def method_names() -> list[str]:
    """Every message that `call` answers."""
    names = []
    for name, fields in CLASSES.items():
        names += [f"{name}.{verb}" for verb in VERBS if verb != "get_by_name_label" or "name_label" in fields]
        names += [f"{name}.get_{item}" for item in fields]
    return names


def column_of(field: str) -> str:
    return _NAMESPACED.get(field, field)


def call(database: Database, method: str, args: tuple[object, ...]) -> object:
    """Answer a getter, without its session parameter.

    Raises XapiFault: MESSAGE_METHOD_UNKNOWN, MESSAGE_PARAMETER_COUNT_MISMATCH, HANDLE_INVALID, UUID_INVALID.
    """
    name, _, verb = method.partition(".")
    fields = CLASSES.get(name, {})
    if not fields or (verb not in VERBS and verb.removeprefix("get_") not in fields) or not verb.startswith("get_"):
        raise XapiFault("MESSAGE_METHOD_UNKNOWN", method)
    wanted = 0 if verb in ("get_all", "get_all_records") else 1
    if len(args) != wanted:
        raise XapiFault("MESSAGE_PARAMETER_COUNT_MISMATCH", method, str(wanted + 1), str(len(args) + 1))
    table = database.table(name)
    if verb == "get_all":
        return list(table)
    if verb == "get_all_records":
        others = {field: _other_ends(database, name, field) for each, field in _COMPUTED if each == name}
        return {ref: _record(database, name, ref, others) for ref in table}
    key = str(args[0])
    if verb == "get_by_uuid":
        ref = database.find(name, key)
        if ref is None:
            raise XapiFault("UUID_INVALID", name, key)
        return ref
    if verb == "get_by_name_label":
        return [ref for ref, row in table.items() if row.get("name__label") == key]
    if key not in table:
        raise XapiFault("HANDLE_INVALID", name, key)
    if verb == "get_record":
        return _record(database, name, key, {})
    return _value(database, name, key, verb.removeprefix("get_"))


def _record(database: Database, name: str, ref: str, others: dict[str, dict[str, list[str]]]) -> dict[str, object]:
    """`others`: what `_other_ends` says of fields, where somebody has asked already."""
    return {
        field: others[field].get(ref, []) if field in others else _value(database, name, ref, field)
        for field in CLASSES[name]
    }


def _other_ends(database: Database, name: str, field: str) -> dict[str, list[str]]:
    """A computed field of every row that has anything in it."""
    other, column = _COMPUTED[name, field]
    found: dict[str, list[str]] = {}
    for ref, row in database.table(other).items():
        found.setdefault(row.get(column, NULL_REF), []).append(ref)
    return found


def _value(database: Database, name: str, ref: str, field: str) -> object:
    if (name, field) in _COMPUTED:
        return _other_ends(database, name, field).get(ref, [])
    row: Row = database.table(name)[ref]
    kind = CLASSES[name][field]
    text = row.get(column_of(field)) or _DEFAULTS.get(kind, "")
    if kind == _BOOL:
        return text == "true"
    if kind == _SET:
        return parse_set(text)
    if kind == _MAP:
        return parse_map(text)
    if kind == _REAL:
        return float(text or 0)
    return Timestamp(text) if kind == _TIME else text
