"""All that an archive holds, asked of a collector through the operator's API: what the caller may see, and no more."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli.as_json import as_object
from poolwarden_collector.cli.errors import BadInput, CommandError
from poolwarden_collector.cli.times import rfc3339
from poolwarden_collector.core.replay import Replayed, replay
from poolwarden_collector.core.state.decision_input import BadInput as Unreadable
from poolwarden_collector.export.pages import Fact, Look
from poolwarden_collector.export.redaction import loads

if TYPE_CHECKING:
    from poolwarden_collector.cli.collector import Collector

AROUND = timedelta(minutes=15)  # before a failover's first entry, and after its last
CAPSULES_BEFORE, CAPSULES_AFTER = timedelta(minutes=30), timedelta(minutes=60)
MOST_ENTRIES, MOST_DECISIONS, MOST_CAPSULES, MOST_ALERTS, MOST_LATE = 100_000, 200, 64, 10_000, 1_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What is exported: a failover, or a time; ``pool`` empty: all of the caller's. Instants in RFC 3339."""

    failover: str = ""
    pool: str = ""
    since: str = ""
    until: str = ""

    @property
    def title(self) -> str:
        what = f"failover {self.failover}" if self.failover else f"{self.since or 'the beginning'} to {self.until}"
        return f"{what} of {f'pool {self.pool}' if self.pool else 'every pool'}"


@dataclass(slots=True)
class Decision:
    """``stored``: as the collector has it; ``made``: as it is made again here, None where it is not."""

    seq: int
    stored: dict[str, Any]
    made: Replayed | None


@dataclass(slots=True)
class Gathered:
    """Everything but the capsules' contents."""

    asked: Asked
    status: api.StatusReply
    entries: list[api.HistoryEntry]
    decisions: list[Decision]
    alerts: list[api.Alert]
    capsules: list[api.KeptCapsule]
    late: dict[str, list[dict[str, Any]]]
    remarks: list[str] = field(default_factory=list)

    @property
    def looks(self) -> list[Look]:
        """What was known at each verdict and decision, in order: as it was recorded, else as it is made again."""
        found = {each.seq: _of_decision(each) for each in self.decisions if each.made is not None}
        found |= {look.seq: look for entry in self.entries if (look := _of_verdict(entry)) is not None}
        return [found[seq] for seq in sorted(found)]


def gather(collector: Collector, asked: Asked) -> Gathered:
    """Ask for all of it. Raises CommandError."""
    asked, entries = _entries(collector, asked)
    remarks = []
    if len(entries) >= MOST_ENTRIES:
        remarks.append(f"of the journal's entries the newest {MOST_ENTRIES} are here")
    numbers = [(each.collector, int(seq)) for each in entries if (seq := _data(each).get("replay")) is not None]
    places = _counted_anew(entries)
    if places:
        remarks.append("several collectors have recorded this, each with numbers of its own: those here are new ones")
    if len(numbers) > MOST_DECISIONS:
        remarks.append(f"of {len(numbers)} decisions the newest {MOST_DECISIONS} are here")
    decisions = []
    for at in numbers[-MOST_DECISIONS:]:
        try:
            decisions.append(_decision(collector, *at, places.get(at, at[1])))
        except CommandError as error:
            remarks.append(f"decision {at[1]}{f' of collector {at[0]}' if places else ''} is not here: {error}")
    status = collector.all_pages(api.StatusRequest(pool=asked.pool))
    return Gathered(
        asked,
        status,
        entries,
        decisions,
        _alerts(collector, asked),
        _capsules(collector, asked, remarks),
        _late(collector, status, remarks),
        remarks,
    )


def _entries(collector: Collector, asked: Asked) -> tuple[Asked, list[api.HistoryEntry]]:
    """The entries, and what is asked for with its pool and its times."""
    if not asked.failover:
        request = api.HistoryRequest(pool=asked.pool, since=asked.since, until=asked.until, limit=MOST_ENTRIES)
        return asked, list(collector.history(request).entries)
    own = collector.history(api.HistoryRequest(pool=asked.pool, failover=asked.failover, limit=MOST_ENTRIES)).entries
    if not own:
        raise BadInput(f"no failover {asked.failover!r} is in the journal", "poolwarden history POOL shows their ids")
    pool = own[0].pool_uuid
    since, until = _moved(own[0].at, -AROUND), _moved(own[-1].at, AROUND)
    around = collector.history(api.HistoryRequest(pool=pool, since=since, until=until, limit=MOST_ENTRIES)).entries
    both = {(entry.collector, entry.seq): entry for entry in (*around, *own) if entry.pool_uuid == pool}
    entries = [both[at] for at in sorted(both)]
    if len({entry.collector for entry in entries}) > 1:
        entries.sort(key=lambda entry: entry.at)
    return Asked(asked.failover, pool, since, until), entries


def _moved(at: str, by: timedelta) -> str:
    return rfc3339(datetime.fromisoformat(at) + by)


def _data(entry: api.HistoryEntry) -> dict[str, Any]:
    found = loads(entry.data)
    return found if isinstance(found, dict) else {}


def _counted_anew(entries: list[api.HistoryEntry]) -> dict[tuple[str, int], int]:
    """Entries of several collectors in one row; the new number of each by whose it was. Of one they stay."""
    places: dict[tuple[str, int], int] = {}
    if len({entry.collector for entry in entries}) > 1:
        for number, entry in enumerate(entries, 1):
            places[entry.collector, entry.seq] = number
            entry.seq = number
    return places


def _decision(collector: Collector, whose: str, number: int, place: int) -> Decision:
    stored = json.loads(zlib.decompress(collector.decision(str(number), whose).input))
    return Decision(place, stored, made_again(stored))


def made_again(stored: dict[str, Any]) -> Replayed | None:
    """The decision, made again here; None where this version cannot read it."""
    try:
        return replay(stored["input"], tuple(stored["step"]))
    except (Unreadable, KeyError, TypeError):
        return None


def _alerts(collector: Collector, asked: Asked) -> list[api.Alert]:
    """Those that were open at some instant of the time."""
    request = api.AlertsRequest(pool=asked.pool, open_only=False, limit=MOST_ALERTS)
    found = collector.alerts(request).alerts
    return [
        alert
        for alert in found
        if (not asked.until or alert.raised_at <= asked.until)
        and (not alert.resolved_at or alert.resolved_at >= asked.since)
    ]


def _capsules(collector: Collector, asked: Asked, remarks: list[str]) -> list[api.KeptCapsule]:
    since = _moved(asked.since, -CAPSULES_BEFORE) if asked.since else ""
    until = _moved(asked.until, CAPSULES_AFTER) if asked.until else ""
    try:
        found = collector.capsules(api.ListCapsulesRequest(pool=asked.pool, since=since, until=until)).capsules
    except CommandError as error:  # one of an older version has none
        remarks.append(f"capsules are not here: {error}")
        return []
    if len(found) > MOST_CAPSULES:
        remarks.append(f"of {len(found)} capsules the newest {MOST_CAPSULES} are here")
    return list(found[-MOST_CAPSULES:])


def _late(collector: Collector, status: api.StatusReply, remarks: list[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for host in [host.host_uuid for pool in status.pools for host in pool.hosts]:
        try:
            told = [as_object(entry) for entry in collector.late(host, False, MOST_LATE).entries]
        except CommandError as error:
            remarks.append(f"what host {host} told late is not here: {error}")
            continue
        if told:
            found[host] = told
    return found


def contents(collector: Collector, kept: api.KeptCapsule) -> bytes:
    """The whole of a capsule. Raises CommandError."""
    return b"".join(_pieces(collector, kept))


def _pieces(collector: Collector, kept: api.KeptCapsule) -> Iterator[bytes]:
    left = kept.size_bytes
    for piece in collector.capsule(kept.host_uuid, kept.id):
        left -= len(piece)
        if left < 0:
            return
        yield piece


def _of_verdict(entry: api.HistoryEntry) -> Look | None:
    told = _data(entry).get("evidence")
    if not isinstance(told, list):
        return None
    facts = [
        Fact(str(e.get("subject")), str(e.get("value")), e.get("age_ms"), str(e.get("witness")), str(e.get("text")))
        for e in told
        if isinstance(e, dict)
    ]
    return Look(entry.seq, entry.at, f"{entry.kind}: {entry.text}", tuple(facts))


def _of_decision(decision: Decision) -> Look:
    assert decision.made is not None
    facts = tuple(Fact(e.subject, e.value, e.age_ms, e.witness, e.text) for e in decision.made.evidence)
    stored = decision.stored
    return Look(decision.seq, stored["at"], f"{stored['kind']}: {stored['text']}", facts)
