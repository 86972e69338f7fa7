"""What of a step is an occasion for hooks: read from its journal entries, so what is told is what happened.

| event | the entry | ``master`` |
|---|---|---|
| promoted | promoted | whom a failover has made master: verified, its members still on their way |
| closed | closed | the same, once the failover is over |
| master-changed | master-observed | who serves by its own login: first seen, by an order, or made master by hand |
| master-changed | host-seen | the same one as before, at another address |
| two-masters | alert | the one on record: which of the two is right is not known |
| resolved | alert-resolved | the one on record |

A master that was only named by others, or whose toolstack is held, has not been seen to serve: nothing is told of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from poolwarden_collector.core.catalogue.verdicts import BY_WORD
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.occasion import OCCASIONS, Occasion
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.alert_topic import of_key
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.pool_record import PoolRecord, apply
from poolwarden_collector.shell.loop.ready import ERROR, Say

LONGEST_TEXT = 2_000  # characters of a text; what a hook reads stays below a pipe's 64 KiB, however it is escaped
_TWO_MASTERS = BY_WORD[Verdict.TWO_MASTERS.word].id


def found_occasions(before: PoolRecord, entries: tuple[Entry, ...], do: Callable[[Say], None]) -> tuple[Occasion, ...]:
    """What of a step hooks are run for; none, and a line in the log, where that cannot be said."""
    try:
        return occasions(before, entries)
    except Exception as error:
        # safety: what is only told to hooks must not stop a step of the engine.
        do(Say(ERROR, f"hooks are not told of a step: {type(error).__name__}: {error}"))
        return ()


def occasions(record: PoolRecord, entries: Iterable[Entry]) -> tuple[Occasion, ...]:
    """Those of a step that began at this record and wrote these entries, in their order."""
    entries = tuple(entries)
    if not any(entry.kind in OCCASIONS for entry in entries):
        return ()
    found = []
    for entry in entries:
        after = apply(record, entry)
        if (occasion := _occasion(record, after, entry)) is not None:
            found.append(occasion)
        record = after
    return tuple(found)


def _occasion(before: PoolRecord, after: PoolRecord, entry: Entry) -> Occasion | None:
    data, failover = entry.data, after.failover
    match entry.kind:
        case Kind.PROMOTED if failover is not None:
            return _of_failover("promoted", after, failover, entry)
        case Kind.CLOSED if failover is not None:
            return _of_failover("closed", after, failover, entry)
        case Kind.MASTER_OBSERVED if not data.get("held"):
            old = _host(before, data.get("before", ""))
            return Occasion("master-changed", _facts(after, entry, old))
        case Kind.HOST_SEEN if _has_moved(before, after, data["host"]):
            return Occasion("master-changed", _facts(after, entry, _host(before, data["host"])))
        case Kind.ALERT if data.get("facts", {}).get("message") == _TWO_MASTERS:
            alert = {"key": data["key"], "state": "firing", "severity": data["severity"]}
            alert |= {"title": _cut(data["title"]), "text": _cut(data["body"])}
            return Occasion("two-masters", _facts(after, entry, None, alert=alert))
        case Kind.ALERT_RESOLVED if of_key(before.pool, data["key"]).verdict == Verdict.TWO_MASTERS.word:
            key = data["key"]
            alert = {"key": key, "state": "resolved", "severity": before.severities.get(key, "")}
            alert |= {"title": _cut(before.titles.get(key, "")), "text": _cut(entry.text)}
            return Occasion("resolved", _facts(after, entry, None, alert=alert))
    return None


def _has_moved(before: PoolRecord, after: PoolRecord, host: HostId) -> bool:
    """Has the master another address now? One that is being succeeded is not asked about any more."""
    failover = before.failover
    replaced = failover is not None and failover.open and failover.old_master == host
    address = after.address_of(host)
    return host == before.master and bool(address) and address != before.address_of(host) and not replaced


def _of_failover(event: str, record: PoolRecord, failover: Failover, entry: Entry) -> Occasion:
    told = {
        "id": failover.id,
        "term": failover.term,
        "proof": failover.proof.kind.word if failover.proof is not None else "",
        "durations_ms": entry.data.get("durations_ms", {}),
    }
    old = failover.old_master if failover.old_master != record.master else ""
    return Occasion(event, _facts(record, entry, _host(record, old), failover=told))


def _facts(
    record: PoolRecord,
    entry: Entry,
    old: dict[str, str] | None,
    failover: dict[str, Any] | None = None,
    alert: dict[str, str] | None = None,
) -> dict[str, Any]:
    return {
        "term": entry.term,
        "master": _host(record, record.master),
        "old_master": old,
        "failover": failover,
        "alert": alert,
        "text": _cut(entry.text),
    }


def _host(record: PoolRecord, host: HostId) -> dict[str, str] | None:
    if not host:
        return None
    return {"uuid": host, "name": record.name_of(host), "address": record.address_of(host)}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 4] + " ..."
