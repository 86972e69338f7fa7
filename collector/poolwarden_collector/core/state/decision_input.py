"""A decision's full input as text, so that it can be made again: the pool, the event, the instant, the site.

Rules
-----
* What is stored is everything that ``engine.step`` is given; it is pure, so the same input gives the same output.
* Only this package's own values are read back, by the names of their classes; nothing of what is stored is executed.
* Inputs of the versions before are read as well: ``_WAS_TEXT`` says what has another type since, ``_RENAMED`` what
  has another name in the slice of the live state or of a failover into which it goes; up to version 3 there were none.
  Where an input names what is not there any more, ``BadInput`` says so, and nothing is guessed.
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
    installation,
    order_results,
    orders,
    policy,
    power,
    proof_kinds,
    reasons,
    takeover,
    values,
)
from poolwarden_collector.core.model.events import Event, OrderAnswered
from poolwarden_collector.core.model.proof_kinds import ProofKind
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state import (
    assumption_record,
    device_record,
    drill_record,
    failover_record,
    followup_record,
    live,
    live_slices,
    pool_record,
    question_record,
)
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.live import Pool, PoolLive, Site
from poolwarden_collector.core.state.pool_record import PoolRecord

VERSION = 4
# Classes that had another name when a decision of version 2 was stored.
_FORMER_NAMES = {
    "Around": "HostEnvironment",
    "Hold": "ToolstackHold",
    "OwnProbe": "CollectorProbe",
    "Said": "RoleClaim",
}
# What earlier versions stored otherwise: a field of a class that was text then, and the enumeration that it is now.
_WAS_TEXT: dict[str, dict[str, Callable[[str], Enum]]] = {"RecordedProof": {"kind": ProofKind.of}}
_READ = (2, 3, VERSION)
# Fields that no rule has ever read and that stored inputs still name: they are left out as they are read back.
LEFT_OUT = {"PowerState": {"next_at"}, "RoleFacts": {"serves_since"}, "XapiFacts": {"init_complete"}}
# Fields that no rule reads: what people alone are told has no place in a decision's input, nor in an export of it.
NOT_STORED = {"HostFacts": {"installation"}}

# Fields up to version 3 that have another name in their slice, or one that two slices have.
_RENAMED = {
    "PoolLive": {
        "alerted": ("alerts", "told"),
        "asked_gates": ("gates", "asked"),
        "gate_words": ("gates", "words"),
        "gates": ("gates", "waiting"),
        "told": ("unheard", "told"),
        "members_asked": ("member_recovery", "asked_at"),
        "recovering": ("member_recovery", "order"),
        "witnesses": ("promotion_witnesses", "asked"),
        "witnesses_since": ("promotion_witnesses", "since"),
        "claims": ("claims", "answers"),
        "claims_since": ("claims", "since"),
        "claim_round": ("claims", "number"),
        "look": ("look", "round"),
        "look_misses": ("look", "misses"),
        "fence_since": ("power_off", "begun_at"),
        "fenced_at": ("power_off", "ended_at"),
        "in_place_at": ("in_place", "step"),
        "in_place_look": ("in_place", "seen_since"),
        "in_place_passed": ("in_place", "passed"),
        "in_place_yes": ("in_place", "yes_at"),
        "sync_at": ("database_sync", "pushed_at"),
        "sync_skipped": ("database_sync", "skipped"),
        "identity_at": ("identity", "seen_at"),
        "asked": ("questions", "told"),
        "master_since": ("mastership", "since"),
        "human_at": ("fenced", "word_used"),
        "own_probe": ("own_probe", "newest"),
        "own_standing": ("own_probe", "standing"),
        "verdict": ("verdict", "word"),
        "verdict_since": ("verdict", "since"),
        "verdict_sentence": ("verdict", "sentence"),
    },
    "Failover": {
        "fence_attempts": ("fencing", "attempts"),
        "fence_unbegun": ("fencing", "unbegun"),
        "fence_pending": ("fencing", "pending"),
        "hold_order": ("hold", "order"),
        "promote_order": ("promotion", "order"),
        "promote_result": ("promotion", "result"),
        "candidate_process": ("promotion", "process"),
        "blocked": ("standstill", "blocker"),
        "blocker": ("standstill", "why"),
        "blocker_told": ("standstill", "told"),
    },
}


class BadInput(ValueError):
    """A stored input that cannot be read back; the text says why."""


def classes_of(*modules: ModuleType) -> dict[str, type]:
    """Their dataclasses and enumerations, by name."""
    found: dict[str, type] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and (is_dataclass(value) or issubclass(value, Enum)):
                found[value.__name__] = value
    return found


_KNOWN = classes_of(
    values,
    power,
    hello,
    host_facts,
    installation,
    order_results,
    events,
    orders,
    effects,
    entries,
    policy,
    blockers,
    proof_kinds,
    reasons,
    takeover,
    followup_record,
    question_record,
    assumption_record,
    device_record,
    drill_record,
    failover_record,
    pool_record,
    live,
    live_slices,
)


def pack(pool: Pool, event: Event, now: Ms, site: Site) -> str:
    """The input as compressed text."""
    if isinstance(event, OrderAnswered):
        # The pieces of a database are carried by the shell; the engine never looks at them.
        event = replace(event, result=replace(event.result, database=None))
    value = {"version": VERSION, "now": now, "pool": _plain(pool), "event": _plain(event), "site": _plain(site)}
    return sealed(value)


def sealed(value: Any) -> str:
    """A stored input's text of its JSON."""
    raw = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    return base64.b85encode(zlib.compress(raw, 6)).decode()


def opened(text: str) -> Any:
    """The JSON of a stored input, as it is: an export replaces names in it. Raises BadInput."""
    try:
        return json.loads(zlib.decompress(base64.b85decode(text)))
    except (ValueError, zlib.error) as error:
        raise BadInput(f"it cannot be read: {error}") from error


def pack_record(record: PoolRecord) -> str:
    """A pool's record as text for any later version, by the names of its fields, as in a stored input."""
    return json.dumps({"version": VERSION, "record": _plain(record)}, separators=(",", ":"), sort_keys=True)


def unpack_record(text: str) -> PoolRecord:
    """The record again; a field that came later has its default. Raises BadInput, so for one of a later version."""
    try:
        value = json.loads(text)
        if value["version"] not in _READ:
            raise BadInput(f"it was stored in version {value['version']}, this one reads {VERSION}")
        record = _value(value["record"])
    except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise error if isinstance(error, BadInput) else BadInput(f"it cannot be read: {error}") from error
    if not isinstance(record, PoolRecord):
        raise BadInput("it is no pool's record")
    return record


def unpack(text: str) -> tuple[Pool, Event, Ms, Site]:
    """The input again. Raises BadInput."""
    try:
        value = opened(text)
        if value["version"] not in _READ:
            raise BadInput(f"it was stored in version {value['version']}, this one reads {VERSION}")
        if value["version"] < 4:
            _into_slices(PoolLive, value["pool"][2]["live"])
            _into_slices(Failover, value["pool"][2]["record"][2]["failover"])
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
        left = NOT_STORED.get(type(value).__name__, ())
        kept = {item.name: _plain(getattr(value, item.name)) for item in fields(value) if item.name not in left}
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


def _into_slices(whole: type[PoolLive | Failover], stored: Any) -> None:
    """What versions before the fourth stored of it: each field goes into its slice."""
    if stored is None:
        return
    slices: dict[str, Any] = {item.name: type(item.default) for item in fields(whole) if is_dataclass(item.default)}
    places = {item.name: (name, item.name) for name, part in slices.items() for item in fields(part)}
    places |= _RENAMED[whole.__name__]
    flat: dict[str, Any] = stored[2]
    held: dict[str, dict[str, Any]] = {name: {} for name in slices}
    for name in places.keys() & flat.keys():
        part, field = places[name]
        held[part][field] = flat.pop(name)
    flat.update({name: ["C", part.__name__, held[name]] for name, part in slices.items()})


def _known(name: str) -> type:
    name = _FORMER_NAMES.get(name, name)
    if name not in _KNOWN:
        raise BadInput(f"it names {name}, which this version does not have")
    return _KNOWN[name]
