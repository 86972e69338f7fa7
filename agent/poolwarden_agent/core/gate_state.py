"""The gate's durable state, as bytes too, and what an older or a newer agent makes of it.

Rules
-----
* JSON: one key for each thing that is durable, a list of fixed length for each tuple. A newer version adds keys, or
  items at a list's end; it never changes what is there already. ``FORMAT`` is raised with each addition.
* An older agent keeps what it does not know and writes it again: unknown keys always, unknown items at a list's end as
  long as the items that it knows are the same (another tombstone is not the one that they belonged to).
* ``READS`` is the lowest format whose agents may go on from this. A newer version raises it only where one that does
  not know the addition would do harm. Such a state is not corrupt and not empty: ``Newer`` says what to do, every order
  is refused, and xapi's start asks the latch (dom0/system/latch.py), whose words every version understands.
* What has not the known shape is a ValueError that names the place; nothing is guessed.
"""

import json
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from poolwarden_agent.core.host_now import Process

FORMAT = 2
READS = 1

# Each thing that is durable, and its type: a plain value, a tuple's items, or (in a list of one) a tuple for each kind.
SHAPES = {
    "epoch": int,
    "term": int,
    "pool": str,
    "gc": int,
    "unsure_ms": int,
    "tombstone": (int, str, str),
    "hold": (int, str, int, str),
    "placed": (int, int, bool),
    "started": [(str, int, int)],
    "results": [(str, str, str, str, str)],
}  # type: Dict[str, Any]
# What an earlier version did not know yet, and what its absence means.
LATER = {"hold": None, "placed": None, "gc": 0, "unsure_ms": 0}  # type: Dict[str, Any]
MAY_BE_NONE = ("tombstone", "hold", "placed")


Tombstone = NamedTuple("Tombstone", [("term", int), ("successor", str), ("address", str)])
Started = NamedTuple("Started", [("order_id", str), ("process", Process)])
Result = NamedTuple("Result", [("order_id", str), ("kind", str), ("outcome", str), ("reason", str), ("text", str)])

# The hold of a toolstack fence: since when on the clock of which boot.
Hold = NamedTuple("Hold", [("term", int), ("boot_id", str), ("since_ms", int), ("successor", str)])

# A database placed at this term, for a promotion or (under_hold) for the restart of a held master; ``promoted``: that
# promotion, or the release that starts xapi with it, was begun.
Placed = NamedTuple("Placed", [("term", int), ("generation", int), ("promoted", bool)])


class GateState(NamedTuple):
    """What is durable."""

    epoch: int
    term: int
    tombstone: Optional[Tombstone]
    pool: str
    started: Dict[str, Started]
    results: Dict[str, Result]
    hold: Optional[Hold] = None
    placed: Optional[Placed] = None
    gc: int = 0  # the term of the promotion for which storage's garbage collection is held here; 0: it is not
    more: str = ""  # what a newer agent has stored beside it (gate_state.py)
    unsure_ms: int = 0  # when, on this boot's clock, a promotion ended without being done; 0: none has


EMPTY = GateState(0, 0, None, "", {}, {})


class Newer(ValueError):
    """It was stored by a newer agent, which forbids this one to go on from it."""


def write(known: Dict[str, Any], more: str) -> bytes:
    """What is known, and ``more``: what ``read`` has found beside it. Canonical."""
    beside = json.loads(more) if more else {}
    value = dict(beside.get("keys", {}), **known)
    for key, kind, whole in beside.get("ends", []):
        holder, name = (value[key], kind) if kind else (value, key)
        mine = holder.get(name)
        if mine is not None and list(mine) == whole[: len(mine)]:
            holder[name] = whole
    value["format"] = max(FORMAT, beside.get("format", 0))
    value["reads"] = max(READS, beside.get("reads", 0))
    return json.dumps(value, sort_keys=True).encode("utf-8")


def read(data: bytes) -> Tuple[Dict[str, Any], str]:
    """What is known of it, lists as tuples; and what is not, for ``write``.

    :raises Newer: a newer agent's, which this one must not go on from.
    :raises ValueError: it is no stored state.
    """
    try:
        value = json.loads(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("not a gate state: it is nested deeper than any") from None
    if not isinstance(value, dict):
        raise ValueError("not a gate state: no object")
    written, reads = value.pop("format", 0), value.pop("reads", 0)
    if type(written) is not int or type(reads) is not int:
        raise ValueError("not a gate state: its format is %r" % written)
    if reads > FORMAT:
        raise Newer(
            "it was stored by a newer agent (format %d, this one reads up to %d): install the newer one again"
            % (reads, FORMAT)
        )
    ends = []  # type: List[Any]
    known = {key: _shaped(value, key, ends) for key in SHAPES}
    keys = {key: item for key, item in value.items() if key not in SHAPES}
    if not keys and not ends and written <= FORMAT:
        return known, ""
    beside = {"keys": keys, "ends": ends, "format": written, "reads": reads}
    return known, json.dumps(beside, sort_keys=True)


def _shaped(value: Dict[str, Any], key: str, ends: List[Any]) -> Any:
    if key not in value:
        if key not in LATER:
            raise ValueError("not a gate state: no %s" % key)
        return LATER[key]
    shape, found = SHAPES[key], value[key]
    if found is None and key in MAY_BE_NONE:
        return None
    if isinstance(shape, tuple):
        return _items(found, shape, ends, key, "")
    if isinstance(shape, list):
        if not isinstance(found, dict):
            raise ValueError("not a gate state: %s is %.60r" % (key, found))
        return {kind: _items(item, shape[0], ends, key, kind) for kind, item in found.items()}
    if type(found) is not shape:
        raise ValueError("not a gate state: %s is %.60r" % (key, found))
    return found


def _items(found: Any, shape: Tuple[type, ...], ends: List[Any], key: str, kind: str) -> Tuple[Any, ...]:
    if not isinstance(found, list) or any(type(item) is not wanted for item, wanted in zip(found, shape)):
        raise ValueError("not a gate state: %s is %.60r" % (kind or key, found))
    if len(found) < len(shape):
        raise ValueError("not a gate state: %s has %d items, not %d" % (kind or key, len(found), len(shape)))
    if len(found) > len(shape):
        ends.append([key, kind, found])
    return tuple(found[: len(shape)])


def kept_by(state: GateState) -> str:
    """Why epoch and term of this state must not be forgotten, in words; empty: they may be."""
    if state.hold is not None:
        return "the toolstack is held since term %d" % state.hold.term
    if state.tombstone is not None:
        return "this host was superseded at term %d" % state.tombstone.term
    if state.gc:
        return "storage's garbage collection is held since term %d" % state.gc
    return "a database was placed here at term %d" % state.placed.term if state.placed is not None else ""


def with_tombstone(state: GateState, tombstone: Optional[Tombstone]) -> GateState:
    """The state with this tombstone; None clears it."""
    return state._replace(tombstone=tombstone)


def with_hold(state: GateState, hold: Optional[Hold]) -> GateState:
    """The state with this hold; None lifts it."""
    return state._replace(hold=hold)


def with_placed(state: GateState, placed: Optional[Placed]) -> GateState:
    """The state with this placed database; None: there is none."""
    return state._replace(placed=placed)


def encode(state: GateState) -> bytes:
    """The state as bytes for a slot (py)."""
    value = {
        "epoch": state.epoch,
        "term": state.term,
        "tombstone": _listed(state.tombstone),
        "pool": state.pool,
        "started": {kind: [m.order_id, m.process.pid, m.process.start_ticks] for kind, m in state.started.items()},
        "results": {kind: list(r) for kind, r in state.results.items()},
        "hold": _listed(state.hold),
        "placed": _listed(state.placed),
        "gc": state.gc,
        "unsure_ms": state.unsure_ms,
    }
    return write(value, state.more)


def _listed(item: Optional[Tuple[Any, ...]]) -> Optional[List[Any]]:
    return list(item) if item is not None else None


def decode(data: bytes) -> GateState:
    """The state from a slot's bytes.

    :raises ValueError: the bytes are not an encoded state; ``Newer``: not one for this agent.
    """
    value, more = read(data)
    return GateState(
        value["epoch"],
        value["term"],
        Tombstone(*value["tombstone"]) if value["tombstone"] is not None else None,
        value["pool"],
        {kind: Started(m[0], Process(m[1], m[2])) for kind, m in value["started"].items()},
        {kind: Result(*r) for kind, r in value["results"].items()},
        Hold(*value["hold"]) if value["hold"] is not None else None,
        Placed(*value["placed"]) if value["placed"] is not None else None,
        value["gc"],
        more,
        value["unsure_ms"],
    )
