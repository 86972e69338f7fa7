"""What was asked of an operator, and how it was answered: the durable part.

Rules
-----
* At most one question is open per pool. It outlives the collector, so that the id in an alert stays good; the approval
  that it leads to does not (questions.py).
* A denial holds for one ground, until the incident is over (the pool is Healthy again) or somebody acknowledges it.

Invariant: ``follow`` is total and pure, as ``record.apply`` is, of which it is a part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import HostId, Ms


@dataclass(frozen=True, slots=True)
class Needs:
    """What a yes must contain: how many running VMs may be killed, how old the database may be, ms, and the shot."""

    kill: int = 0
    stale_ms: Ms = 0
    shoot: bool = False

    def as_data(self) -> dict[str, Any]:
        return {"kill": self.kill, "stale_ms": self.stale_ms, "shoot": self.shoot}


@dataclass(frozen=True, slots=True)
class Question:
    """One question; ``ground`` is what it is about: kind, hosts, VMs, numbers (questions.py). Its sentence is not."""

    id: str
    number: int
    kind: Ask
    host: HostId
    what: str
    stakes: tuple[str, ...]
    needs: Needs
    ground: str
    failover: str = ""  # the open failover that stands still for it; empty: none is decided
    path: str = ""  # how the old master would be made harmless, where a yes decides a failover
    vms: tuple[str, ...] = ()  # the VMs that would be killed: a yes covers these and no others
    hosts: tuple[HostId, ...] = ()  # members that are alive and not heard: a yes covers these and no others
    generation: int = 0  # that of the host's copy, where it is what is asked about: a yes covers this one and no other
    failed: tuple[str, ...] = ()  # "HOST/ID" of assumptions that failed: a yes covers these and no others


@dataclass(frozen=True, slots=True)
class Asked:
    """One pool's share of it."""

    open: Question | None = None
    number: int = 0
    of: str = ""  # the failover that the last question belonged to
    before: str = ""  # the ground of the last question of this incident
    replaced: bool = False  # another one went before in this incident: whoever answers has to name the question
    denied: dict[str, str] = field(default_factory=dict)  # ground -> who denied it and why


def fold_questions(asked: Asked, entry: Entry) -> Asked:
    """What is asked after one entry."""
    change = _CHANGES.get(entry.kind)
    return change(asked, entry) if change is not None else asked


def _asked(asked: Asked, entry: Entry) -> Asked:
    data = entry.data
    if "id" not in data:
        return asked  # an entry that only tells why nothing is done
    question = Question(
        data["id"],
        data["number"],
        Ask(data["kind"]),
        data["host"],
        data["what"],
        tuple(data["stakes"]),
        Needs(**data["needs"]),
        data["ground"],
        entry.failover,
        data["path"],
        tuple(data["vms"]),
        tuple(data.get("hosts", ())),
        int(data.get("generation", 0)),
        tuple(data.get("failed", ())),
    )
    replaced, ground = asked.replaced or asked.before not in ("", question.ground), question.ground
    return replace(asked, open=question, number=question.number, of=entry.failover, before=ground, replaced=replaced)


def _closed(asked: Asked, entry: Entry) -> Asked:
    return replace(asked, open=None) if asked.open is not None else asked


def _approved(asked: Asked, entry: Entry) -> Asked:
    denied = {ground: why for ground, why in asked.denied.items() if ground != entry.data["ground"]}
    return replace(asked, open=None, denied=denied)


def _denied(asked: Asked, entry: Entry) -> Asked:
    return replace(asked, open=None, denied={**asked.denied, entry.data["ground"]: entry.data["why"]})


def _moved_on(asked: Asked, entry: Entry) -> Asked:
    """The failover that the question belongs to stands still for it no longer."""
    ours = asked.open is not None and asked.open.failover == entry.failover
    return _closed(asked, entry) if ours else asked


def _decided(asked: Asked, entry: Entry) -> Asked:
    """A failover is open now: what was asked while none was is answered by it."""
    return _closed(asked, entry) if asked.open is not None and not asked.open.failover else asked


def _verdict(asked: Asked, entry: Entry) -> Asked:
    if entry.data.get("verdict") != "Healthy" or not (asked.denied or asked.before):
        return asked
    return replace(asked, denied={}, before="", replaced=False)


_CHANGES: dict[Kind, Callable[[Asked, Entry], Asked]] = {
    Kind.ASKED: _asked,
    Kind.WITHDRAWN: _closed,
    Kind.EXPIRED: _closed,
    Kind.APPROVED: _approved,
    Kind.DENIED: _denied,
    Kind.DECIDED: _decided,
    Kind.BLOCKED: _moved_on,
    Kind.UNBLOCKED: _moved_on,
    Kind.PROMOTE_INTENT: _moved_on,
    Kind.ABORTED: _moved_on,
    Kind.SUPERSEDED: _moved_on,
    Kind.CLOSED: _moved_on,
    Kind.VERDICT: _verdict,
    Kind.ACKNOWLEDGED: lambda a, _: replace(a, denied={}),
}
