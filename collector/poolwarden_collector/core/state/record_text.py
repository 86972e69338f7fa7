"""A pool's record as text and back: what a snapshot in the journal holds.

Rules
-----
* The text is for the code that wrote it alone (shell/store/snapshots.py asks for the same code); any other one folds
  the entries anew. So fields stand in their order, and nothing of an earlier form is read.
* Reading is strict: an unknown class, another number of fields or an unknown tag is a ``BadRecord``. Only the core's
  own values are made, by the names of their classes; nothing of what is stored is executed.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from poolwarden_collector.core.model import asks, blockers, power, proof_kinds, values
from poolwarden_collector.core.state import (
    assumption_record,
    device_record,
    drill_record,
    failover_record,
    followup_record,
    phases,
    pool_record,
    question_record,
    restart_record,
)
from poolwarden_collector.core.state.decision_input import classes_of
from poolwarden_collector.core.state.pool_record import PoolRecord


class BadRecord(ValueError):
    """A text that is no record of this code; the text says why."""


_KNOWN = classes_of(
    asks,
    blockers,
    power,
    proof_kinds,
    values,
    assumption_record,
    device_record,
    drill_record,
    failover_record,
    followup_record,
    phases,
    question_record,
    restart_record,
    pool_record,
)
_NAMES = {name: tuple(item.name for item in fields(each)) for name, each in _KNOWN.items() if is_dataclass(each)}
_SEQUENCES: dict[str, type] = {"T": tuple, "L": list, "S": frozenset}


def to_text(record: PoolRecord) -> str:
    """The record as JSON. Raises BadRecord for a value that cannot be read back."""
    return json.dumps(_plain(record), separators=(",", ":"))


def from_text(text: str) -> PoolRecord:
    """The record again. Raises BadRecord."""
    try:
        record = _value(json.loads(text))
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise BadRecord(f"it cannot be read: {error}") from error
    if not isinstance(record, PoolRecord):
        raise BadRecord("it is no pool's record")
    return record


def _plain(value: Any) -> Any:
    """JSON for one value; what JSON has no word for is a list that begins with a letter."""
    if isinstance(value, Enum):
        return ["E", _known(value), value.name]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value):
        name = _known(value)
        return ["C", name, *(_plain(getattr(value, field)) for field in _NAMES[name])]
    if isinstance(value, dict):
        return ["D", *([_plain(key), _plain(item)] for key, item in value.items())]
    if isinstance(value, frozenset):
        return ["S", *sorted((_plain(item) for item in value), key=json.dumps)]
    if isinstance(value, tuple | list):
        return ["T" if isinstance(value, tuple) else "L", *(_plain(item) for item in value)]
    raise BadRecord(f"{type(value).__name__} is no value of a record")


def _known(value: Any) -> str:
    name = type(value).__name__
    if _KNOWN.get(name) is not type(value):
        raise BadRecord(f"{name} is no class of a record")
    return name


def _value(plain: Any) -> Any:
    if type(plain) is not list:
        return plain
    kind = plain[0]
    if kind == "C":
        name = plain[1]
        if len(plain) - 2 != len(_NAMES[name]):
            raise BadRecord(f"{name} has {len(plain) - 2} fields, {len(_NAMES[name])} are known")
        return _KNOWN[name](*[item if type(item) is not list else _value(item) for item in plain[2:]])
    if kind == "D":
        return {_value(key): _value(item) for key, item in plain[1:]}
    if kind == "E":
        return _KNOWN[plain[1]][plain[2]]  # type: ignore[index]
    return _SEQUENCES[kind](_value(item) for item in plain[1:])
