"""A decision's full input as text, so that it can be made again: the pool, the event, the instant, the site.

Rules
-----
* What is stored is everything that ``engine.step`` is given; it is pure, so the same input gives the same output.
* Only this package's own values are read back, by the names of their classes; nothing of what is stored is executed.
* An input of the version before is read as well: ``_WAS_TEXT`` says what has another type since. Where an input names
  what is not there any more, ``BadInput`` says so, and nothing is guessed.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from types import ModuleType
from typing import Any

from poolwarden_collector.core.model import (
    blockers,
    effects,
    entries,
    events,
    hello,
    host_facts,
    order_results,
    orders,
    policy,
    power,
    proof_kinds,
    values,
)
from poolwarden_collector.core.model.events import Event, OrderAnswered
from poolwarden_collector.core.model.proof_kinds import ProofKind
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state import (
    device_record,
    failover_record,
    followup_record,
    live,
    pool_record,
    question_record,
)
from poolwarden_collector.core.state.live import Pool, Site

VERSION = 3
# Classes that had another name when a decision of version 2 was stored.
_FORMER_NAMES = {
    "Around": "HostEnvironment",
    "Hold": "ToolstackHold",
    "OwnProbe": "CollectorProbe",
    "Said": "RoleClaim",
}
# What earlier versions stored otherwise: a field of a class that was text then, and the enumeration that it is now.
_WAS_TEXT: dict[str, dict[str, Callable[[str], Enum]]] = {"RecordedProof": {"kind": ProofKind.of}}
_READ = (2, VERSION)
# Fields that no rule has ever read and that stored inputs still name: they are left out as they are read back.
LEFT_OUT = {"PowerState": {"next_at"}, "RoleFacts": {"serves_since"}, "XapiFacts": {"init_complete"}}


class BadInput(ValueError):
    """A stored input that cannot be read back; the text says why."""


def _classes(*modules: ModuleType) -> dict[str, type]:
    found: dict[str, type] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and (is_dataclass(value) or issubclass(value, Enum)):
                found[value.__name__] = value
    return found


_KNOWN = _classes(
    values,
    power,
    hello,
    host_facts,
    order_results,
    events,
    orders,
    effects,
    entries,
    policy,
    blockers,
    proof_kinds,
    followup_record,
    question_record,
    device_record,
    failover_record,
    pool_record,
    live,
)


def pack(pool: Pool, event: Event, now: Ms, site: Site) -> str:
    """The input as compressed text."""
    if isinstance(event, OrderAnswered):
        # The pieces of a database are carried by the shell; the engine never looks at them.
        event = replace(event, result=replace(event.result, database=None))
    value = {"version": VERSION, "now": now, "pool": _plain(pool), "event": _plain(event), "site": _plain(site)}
    raw = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    return base64.b85encode(zlib.compress(raw, 6)).decode()


def unpack(text: str) -> tuple[Pool, Event, Ms, Site]:
    """The input again. Raises BadInput."""
    try:
        value = json.loads(zlib.decompress(base64.b85decode(text)))
        if value["version"] not in _READ:
            raise BadInput(f"it was stored in version {value['version']}, this one reads {VERSION}")
        return _value(value["pool"]), _value(value["event"]), value["now"], _value(value["site"])
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise error if isinstance(error, BadInput) else BadInput(f"it cannot be read: {error}") from error


def _plain(value: Any) -> Any:
    """JSON for one of the core's values; what JSON has no word for is a list that begins with a letter."""
    if isinstance(value, Enum):
        return ["E", type(value).__name__, value.name]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value):
        kept = {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
        return ["C", type(value).__name__, kept]
    if isinstance(value, tuple):
        return ["T", *(_plain(item) for item in value)]
    if isinstance(value, list):
        return ["L", *(_plain(item) for item in value)]
    if isinstance(value, frozenset):
        return ["S", *sorted((_plain(item) for item in value), key=json.dumps)]
    if isinstance(value, dict):
        return ["D", *([_plain(key), _plain(item)] for key, item in value.items())]
    if isinstance(value, bytes):
        return ["B", base64.b85encode(value).decode()]
    raise TypeError(f"{type(value).__name__} is no value of the core")


def _value(plain: Any) -> Any:
    if not isinstance(plain, list):
        return plain
    kind, rest = plain[0], plain[1:]
    if kind == "E":
        return _known(rest[0])[rest[1]]  # type: ignore[index]
    if kind == "C":
        gone = LEFT_OUT.get(rest[0], ())
        kept = {name: _value(item) for name, item in rest[1].items() if name not in gone}
        was_text = {name for name in _WAS_TEXT.get(rest[0], {}) if isinstance(kept.get(name), str)}
        changed = {name: _WAS_TEXT[rest[0]][name](kept[name]) for name in was_text}
        return _known(rest[0])(**{**kept, **changed})
    if kind == "D":
        return {_value(key): _value(item) for key, item in rest}
    if kind == "B":
        return base64.b85decode(rest[0])
    return {"T": tuple, "L": list, "S": frozenset}[kind](_value(item) for item in rest)


def _known(name: str) -> type:
    name = _FORMER_NAMES.get(name, name)
    if name not in _KNOWN:
        raise BadInput(f"it names {name}, which this version does not have")
    return _KNOWN[name]
