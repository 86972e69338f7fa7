"""A restart of a master's xapi in place, with the newest copy of its database: the durable part.

Invariant: ``follow`` is total and pure, as ``record.apply`` is, of which it is a part. At most one is open per pool,
and none while a failover is. What may lie on the host when it ends is owed by the entries beside its end, not by this.
The rules are in restart_in_place.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import HostId

COPY, OWN = "copy", "own"


@dataclass(frozen=True, slots=True)
class InPlace:
    """One restart under way, from the intent to hold the toolstack on."""

    host: HostId
    boot: str
    term: int  # of the hold, and of what is placed under it
    epoch: int  # of the collector that began it; part of its orders' ids
    order: str  # the hold's order: from here on xapi may be stopped
    accepted: tuple[str, ...] = ()  # VMs to whose loss an operator has said yes, by uuid
    accepted_by: str = ""  # and which one, where that was after it began
    transfer: str = ""  # the copy under way, or the last one
    source: HostId = ""  # whose copy that is
    arrived: bool | None = None  # how that ended; None: it has not
    placed: int = 0  # the generation that lies there, verified; 0: none
    littered: bool = False  # may anything lie there, whole or half?
    other: str = ""  # the file that it is for where its own keeps xapi down: "copy" of a member, or its "own" below one
    copy_of: HostId = ""  # whose copy, and of which generation, was said yes to; for its own: what lies over it
    copy_generation: int = 0
    start: dict[str, Any] | None = None  # the decision: ``generation`` (0: its own file), ``source``, ``term``

    @property
    def last_term(self) -> int:
        """The newest term that it has taken itself."""
        return int(self.start["term"]) if self.start is not None else self.term

    @property
    def base(self) -> str:
        """How the ids of its orders begin: the same over restarts of the collector, never another restart's."""
        return f"in-place/{self.epoch}/{self.term}"


def fold_restart(under_way: InPlace | None, entry: Entry) -> InPlace | None:
    """What is under way after one entry."""
    if entry.kind is Kind.IN_PLACE_INTENT:
        data = entry.data
        begun = InPlace(data["host"], data["boot"], entry.term, data["epoch"], data["order"], tuple(data["accepted"]))
        return _for_another_file(begun, entry)
    if entry.kind is Kind.DECIDED or (entry.kind is Kind.IN_PLACE_ENDED):
        return None
    change = _CHANGES.get(entry.kind)
    return change(under_way, entry) if change is not None and under_way is not None else under_way


def _for_another_file(begun: InPlace, entry: Entry) -> InPlace:
    data, other = entry.data, entry.data.get("other", "")
    if not other:
        return begun
    # Of its own file: the generation is that of what lies over it and is removed.
    named = replace(begun, other=other, copy_generation=data["generation"])
    return replace(named, copy_of=data["source"]) if other == COPY else replace(named, littered=True)


def _transfer(under_way: InPlace, entry: Entry) -> InPlace:
    data = entry.data
    if not data.get("in_place"):
        return under_way
    changed = replace(under_way, transfer=data["transfer"], source=data["source"], arrived=None, placed=0)
    return replace(changed, littered=True)


def _transferred(under_way: InPlace, entry: Entry) -> InPlace:
    data = entry.data
    if data["transfer"] != under_way.transfer:
        return under_way
    return replace(under_way, arrived=data["placed"], placed=data["generation"] if data["placed"] else 0)


def _removed(under_way: InPlace, entry: Entry) -> InPlace:
    gone = replace(under_way, arrived=False, placed=0, littered=False)
    return gone if entry.data["host"] == under_way.host else under_way


def _starting(under_way: InPlace, entry: Entry) -> InPlace:
    data = entry.data
    return replace(under_way, start={"generation": data["generation"], "source": data["source"], "term": entry.term})


_CHANGES: dict[Kind, Callable[[InPlace, Entry], InPlace]] = {
    Kind.HANDOVER_INTENT: _transfer,
    Kind.HANDOVER_RESULT: _transferred,
    Kind.IN_PLACE_REMOVED: _removed,
    Kind.IN_PLACE_ACCEPTED: lambda u, e: replace(u, accepted=tuple(e.data["vms"]), accepted_by=e.actor),
    Kind.IN_PLACE_START: _starting,
}
