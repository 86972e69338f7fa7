"""The world's log: what every source told, in one order.

Sources: the journal's kinds (``decided``, ``proof`` ...), ``alert`` and ``alert over``, ``answer`` (to an operator),
``power``, ``host``, ``xe`` (faults and people, told by the world itself), ``promote`` (a xapi was told to become
master) and ``killed`` (a xapi terminated a VM), ``xapi`` (everything else of the models). Lines of one millisecond
stand in the order journal, alerts, world, xapi, answers; each keeps its own order. Where there are several collectors
or pools, their names stand before the text.
Nothing comes from a wall clock, so two runs of one seed have the same log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved, Reply
from poolwarden_lab.virtual.collector.station import Station
from poolwarden_lab.virtual.world.guarded import GuardedPool
from poolwarden_lab.xapi.virtual import LogEntry

_SOURCES = {"power-on": "power", "power-off": "power", "promote-call": "promote", "killed": "killed", "role": "role"}


class Line(NamedTuple):
    """One thing that happened."""

    ms: int
    source: str
    text: str


class Told(Protocol):
    """What a log is read from: a world's collectors and pools, what happened to it, and the answers to operators."""

    stations: dict[str, Station]
    pools: dict[str, GuardedPool]
    happenings: list[tuple[int, str, str]]
    replied: list[tuple[int, str, Reply]]


def read_log(world: Told) -> list[Line]:
    """All of it, oldest first."""
    lines = [line for station in world.stations.values() for line in _journal(world, station)]
    lines += [Line(ms, source, text) for ms, source, text in world.happenings]
    lines += [_event(entry) for pool in world.pools.values() for entry in pool.pool.log]
    for ms, _, reply in world.replied:
        word = "yes" if reply.accepted else f"no ({reply.code})"
        lines.append(Line(ms, "answer", f"{word}: {reply.text}"))
    return sorted(lines, key=lambda line: line.ms)


def _journal(world: Told, station: Station) -> Iterator[Line]:
    several = len(world.stations) > 1
    labels = {pool.uuid: f"{pool.name}: " if len(world.pools) > 1 else "" for pool in world.pools.values()}
    for commit in station.ledger.commits:
        label = (f"{station.node}: " if several else "") + labels.get(commit.pool, "")
        for entry in commit.entries:
            by = "" if entry.actor == "poolwarden" else f" ({entry.actor})"
            yield Line(commit.ms, entry.kind.value, f"{label}{entry.text}{by}")
        for alert in commit.alerts:
            if isinstance(alert, AlertRaised):
                yield Line(commit.ms, "alert", f"{label}{alert.severity}: {alert.title}")
            elif isinstance(alert, AlertResolved):
                yield Line(commit.ms, "alert over", f"{label}{alert.text}")


def _event(entry: LogEntry) -> Line:
    return Line(entry.ms, _SOURCES.get(entry.event.name, "xapi"), f"{entry.host}: {entry.event}")
