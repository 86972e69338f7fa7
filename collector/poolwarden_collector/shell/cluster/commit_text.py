"""What the keys of a pool hold in etcd: commits and the folded record, as text and back.

Rules
-----
* What a decision was made from is not in it, only its digest: inputs are tens of kB, etcd takes 1.5 MiB in a request.
* A record is text by the names of its fields, and entries are read as those of every release are, so that collectors of
  two releases can take pools over from each other (core/state/decision_input.py, core/model/entries.py).
* Everything stands behind its digest. What is damaged, missing, or written by a later release and not known here is
  ``Unreadable``: who cannot read a pool does not own it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import HIGHEST
from poolwarden_collector.core.model.occasion import Occasion
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.state.decision_input import BadInput, pack_record, unpack_record
from poolwarden_collector.core.state.pool_record import BadEntry, PoolRecord, apply
from poolwarden_collector.shell.cluster.etcd import Kept
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.telling import OpenAlert as OpenAlert
from poolwarden_collector.shell.cluster.telling import (
    Telling,
    after,
    occasions_of,
    occasions_text,
    take_alerts,
    telling_of,
    text_of,
)

_FORMAT = 1
Shot = tuple[str, str]  # device, run
_KINDS = {kind.value: kind for kind in Kind}


class Unreadable(Exception):
    """What etcd holds of a pool cannot be understood here; the text names the key, what is wrong and what to do."""


class TooBig(ValueError):
    """A step or a record that no etcd would take."""


@dataclass(frozen=True, slots=True)
class PoolTail:
    """What etcd holds of a pool: its record as of the entry ``last``, and the alerts that are open."""

    record: PoolRecord
    last: int = 0
    alerts: dict[str, OpenAlert] = field(default_factory=dict)
    record_revision: int = 0  # at which the record was written last; 0: there is none
    shots: frozenset[Shot] = frozenset()  # power-offs that were intended and of which no result is known
    # The entries since the last fold, which a new owner's archive takes in.
    entries: tuple[Entry, ...] = ()
    numbers: tuple[int, ...] = ()  # of each of them
    telling: Telling = Telling()
    newest: int = 0  # the number of the newest commit; 0: all are folded


def commit_text(
    entries: Iterable[Entry],
    alerts: Iterable[AlertRaised | AlertResolved],
    commit_id: str,
    epoch: int,
    last: int,
    at: str,
    occasions: Iterable[Occasion] = (),
) -> bytes:
    """One commit. Raises TooBig for what is no JSON."""
    said = {"v": _FORMAT, "id": commit_id, "epoch": epoch, "last": last, "at": at}
    rest = {"entries": [_said(entry) for entry in entries], "alerts": [_alert(alert) for alert in alerts]}
    hooks = occasions_text(occasions)
    return _packed(said | rest | ({"occasions": hooks} if hooks else {}))


def _said(entry: Entry) -> dict[str, Any]:
    data = {name: value for name, value in entry.data.items() if name not in ("input", "step")}
    if isinstance(stored := entry.data.get("input"), str):
        data["input_sha256"] = hashlib.sha256(stored.encode()).hexdigest()
    said = {"kind": entry.kind.value, "text": entry.text, "data": data, "actor": entry.actor}
    return (
        said | ({"failover": entry.failover} if entry.failover else {}) | ({"term": entry.term} if entry.term else {})
    )


def _alert(alert: AlertRaised | AlertResolved) -> dict[str, Any]:
    if isinstance(alert, AlertResolved):
        return {"key": alert.key, "over": alert.text}
    return {
        "key": alert.key,
        "severity": alert.severity,
        "title": alert.title,
        "body": alert.body,
        "data": alert.data,
    }


def _packed(said: dict[str, Any]) -> bytes:
    """Compressed JSON behind its digest. Raises TooBig for what is no JSON."""
    try:
        text = zlib.compress(json.dumps(said, separators=(",", ":"), allow_nan=False).encode(), 6)
    except (TypeError, ValueError, RecursionError) as error:
        raise TooBig(f"it cannot be written as JSON: {error}") from error
    return hashlib.sha256(text).digest() + text


def _unpacked(kept: Kept) -> dict[str, Any]:
    digest, text = kept.value[:32], kept.value[32:]
    if hashlib.sha256(text).digest() != digest:
        raise _unreadable(kept, "its checksum is wrong")
    try:
        said = json.loads(zlib.decompress(text))
        if said["v"] != _FORMAT:
            raise _unreadable(kept, f"it is of format {said['v']}, written by a later Poolwarden")
    except (ValueError, TypeError, KeyError, RecursionError, zlib.error) as error:
        raise _unreadable(kept, f"it cannot be read: {error}") from error
    found: dict[str, Any] = said
    return found


def _unreadable(kept: Kept, why: str) -> Unreadable:
    step = "install the newest release that any collector runs, or restore etcd's last backup"
    return Unreadable(f"{kept.key} in etcd (revision {kept.modified}): {why}; {step}")


def id_of(kept: Kept) -> str:
    """Whose commit this is; empty for what cannot be read."""
    try:
        return str(_unpacked(kept).get("id", ""))
    except Unreadable:
        return ""


def record_text(
    record: PoolRecord,
    last: int,
    alerts: Iterable[OpenAlert],
    shots: Iterable[Shot] = (),
    telling: Telling | None = None,
) -> bytes:
    """The record as of the entry ``last``. Raises TooBig where it could not be read back as it is."""
    text = pack_record(record)
    if unpack_record(text) != record:
        raise TooBig(f"the record of {record.display_name} cannot be read back as it is")
    opened = [[a.key, a.severity, a.title, a.body, a.data, a.raised_at, a.occurrence] for a in alerts]
    said = {"v": _FORMAT, "last": last, "record": text, "alerts": opened, "shots": sorted(shots)}
    return _packed(said | ({"telling": text_of(telling)} if telling is not None else {}))


def last_in(kept: Kept) -> int:
    """Up to which entry a record goes. Raises Unreadable."""
    return _last_of(kept, _unpacked(kept), -1)


def tail_of(kept: Kept, pool: PoolId) -> PoolTail:
    """The record alone. Raises Unreadable."""
    said = _unpacked(kept)
    try:
        record = unpack_record(said["record"])
        alerts = {row[0]: OpenAlert(*row) for row in said["alerts"]}
        last = int(said["last"])
        shots = frozenset((str(device), str(run)) for device, run in said["shots"])
        telling = telling_of(said.get("telling", {}))
    except (BadInput, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise _unreadable(kept, f"its record cannot be read: {error}") from error
    if record.pool != pool:
        raise _unreadable(kept, f"it is the record of pool {record.pool}")
    return PoolTail(record, last, alerts, kept.modified, shots, telling=telling)


def with_commits(names: Names, tail: PoolTail, commits: Iterable[Kept]) -> PoolTail:
    """And the commits after it, none of which may be missing. Raises Unreadable."""
    record, last, alerts, telling, newest = tail.record, tail.last, dict(tail.alerts), tail.telling, 0
    entries: list[Entry] = []
    numbers: list[int] = []
    for kept in commits:
        said = _unpacked(kept)
        if kept.key != names.commit(record.pool, last + 1):
            raise _unreadable(kept, f"the one with entry {last + 1} is missing before it")
        found = _entries_of(kept, said)
        for number, entry in enumerate(found, last + 1):
            try:
                record = apply(record, entry)
            except BadEntry as error:
                raise _unreadable(kept, f"an entry {entry.kind.value!r} cannot be understood: {error}") from error
            entries.append(entry)
            numbers.append(number)
        at = str(said.get("at", ""))
        ended = take_alerts(alerts, _alerts_of(kept, said), at, last + 1)
        telling = after(telling, found, ended, _occasions_of(kept, said), at, last + 1)
        newest, last = last + 1, _last_of(kept, said, last)
    shots = take_shots(tail.shots, entries)
    return replace(
        tail,
        record=record,
        last=last,
        alerts=alerts,
        shots=shots,
        entries=tuple(entries),
        numbers=tuple(numbers),
        telling=telling,
        newest=newest,
    )


def _last_of(kept: Kept, said: dict[str, Any], before: int) -> int:
    last = said.get("last")
    if not isinstance(last, int) or last <= before:
        raise _unreadable(kept, "its numbers are not those of its entries")
    return last


def _entries_of(kept: Kept, said: dict[str, Any]) -> list[Entry]:
    try:
        return [_entry_of(kept, each) for each in said["entries"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise _unreadable(kept, f"an entry lacks something, or is none: {error}") from error


def _entry_of(kept: Kept, said: dict[str, Any]) -> Entry:
    kind = _KINDS.get(said["kind"])
    if kind is None:
        raise _unreadable(kept, f"its kind {said['kind']!r} is unknown")
    term, data = said.get("term", 0), said["data"]
    texts = (said["text"], said.get("failover", ""), said["actor"])
    if not isinstance(data, dict) or not all(isinstance(each, str) for each in texts):
        raise _unreadable(kept, "an entry's fields are not of their types")
    if type(term) is not int or not 0 <= term <= HIGHEST:
        raise _unreadable(kept, "an entry's term is not of its type")
    return Entry(kind, texts[0], data, texts[1], term, texts[2])


def _alerts_of(kept: Kept, said: dict[str, Any]) -> list[AlertRaised | AlertResolved]:
    found: list[AlertRaised | AlertResolved] = []
    try:
        for each in said["alerts"]:
            if "over" in each:
                found.append(AlertResolved(each["key"], each["over"]))
            else:
                found.append(AlertRaised(each["key"], each["severity"], each["title"], each["body"], each["data"]))
    except (KeyError, TypeError) as error:
        raise _unreadable(kept, f"an alert lacks something: {error}") from error
    return found


def _occasions_of(kept: Kept, said: dict[str, Any]) -> tuple[Occasion, ...]:
    try:
        return occasions_of(said)
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(kept, f"an occasion of hooks cannot be read: {error}") from error


def take_shots(shots: frozenset[Shot], entries: Iterable[Entry]) -> frozenset[Shot]:
    """Which power-offs have no result after these; also of a failover that was ended meanwhile."""
    left = set(shots)
    for entry in entries:
        if entry.kind is Kind.FENCE_INTENT:
            left.add((str(entry.data.get("device", "")), str(entry.data.get("run", ""))))
        elif entry.kind is Kind.FENCE_RESULT:
            left = {shot for shot in left if shot[0] != entry.data.get("device")}
    return frozenset(left)
