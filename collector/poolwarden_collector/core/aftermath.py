"""What is durable beside the failovers: repairs, database pushes, planned switchovers, the dead and what ran on them.

Invariant: ``follow`` is total and pure, as ``record.apply`` is, of which it is a part; entries of other kinds change
nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from poolwarden_collector.core.facts import HostId
from poolwarden_collector.core.journal import Entry, Kind


@dataclass(frozen=True, slots=True)
class Designation:
    """A planned switchover that was asked for and has no result yet; ``order`` is empty until it was ordered."""

    host: HostId
    before: HostId
    by: str
    order: str = ""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """One pool's share of it."""

    repairs: dict[HostId, tuple[str, ...]] = field(default_factory=dict)  # what was tried on a member: repoint, restart
    repaired: frozenset[HostId] = frozenset()  # of these, who is attached again
    sync_order: str = ""  # a database push without a result
    sync_failure: str = ""  # why the last one failed; empty: it did not
    designation: Designation | None = None


def follow(after: Aftermath, entry: Entry) -> Aftermath:
    """The aftermath after one entry."""
    change = _CHANGES.get(entry.kind)
    return change(after, entry) if change is not None else after


def _tried(what: str) -> Callable[[Aftermath, Entry], Aftermath]:
    def change(after: Aftermath, entry: Entry) -> Aftermath:
        if not entry.data.get("repair"):
            return after
        host = entry.data["host"]
        tried = (*after.repairs.get(host, ()), what)
        return replace(after, repairs={**after.repairs, host: tried}, repaired=after.repaired - {host})

    return change


def _repaired(after: Aftermath, entry: Entry) -> Aftermath:
    host = entry.data["host"]
    if not entry.data.get("over"):
        return replace(after, repaired=after.repaired | {host})
    return _forget_host(after, entry)


def _forget_host(after: Aftermath, entry: Entry) -> Aftermath:
    host = entry.data["host"]
    kept = {name: tried for name, tried in after.repairs.items() if name != host}
    return replace(after, repairs=kept, repaired=after.repaired - {host})


def _sync_result(after: Aftermath, entry: Entry) -> Aftermath:
    done = entry.data["outcome"] == "done"
    return replace(after, sync_order="", sync_failure="" if done else entry.data["why"])


def _designating(after: Aftermath, entry: Entry) -> Aftermath:
    d = entry.data
    return replace(after, designation=Designation(d["host"], d["before"], d["by"], d.get("order", "")))


_CHANGES: dict[Kind, Callable[[Aftermath, Entry], Aftermath]] = {
    Kind.REPOINT_INTENT: _tried("repoint"),
    Kind.RESTART_INTENT: _tried("restart"),
    Kind.REPAIRED: _repaired,
    Kind.HOST_LEFT: _forget_host,
    Kind.SYNC_INTENT: lambda a, e: replace(a, sync_order=e.data["order"]),
    Kind.SYNC_RESULT: _sync_result,
    Kind.DESIGNATE_INTENT: _designating,
    Kind.DESIGNATE_RESULT: lambda a, _: replace(a, designation=None),
}
