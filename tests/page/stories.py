"""Pools that have a past: played by the engine, with what it has written and told in the collector's journal."""

from __future__ import annotations

import functools
from dataclasses import replace

from tests.core.pool import POOL, Guarded

from poolwarden_collector.core.engine import StepResult
from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import Event
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.shell.parts import Parts

# Markup, a template's own marks, an override of the reading direction, a bell; 256 bytes in all.
HOSTILE = "<script>alert(1)</script><b id=\"x\" onload='y'>&amp;{{ 7 * 191 }}{% raw %}\u202egnp\u0007"
HOSTILE += "w" * (256 - len(HOSTILE.encode()))


class Told(Guarded):
    """Keeps its alerts as well."""

    def __init__(self) -> None:
        self.alerts: list[AlertRaised] = []
        super().__init__()

    def feed(self, event: Event) -> StepResult:
        outcome = super().feed(event)
        self.alerts += [each for each in outcome.alerts if isinstance(each, AlertRaised)]
        return outcome


@functools.cache
def healed() -> Told:
    """Its master lost power, was proven off, and a member succeeded it."""
    pool = Told()
    pool.cut_power()
    pool.run(120_000)
    assert pool.promoted and pool.has(Kind.CLOSED)
    return pool


def renamed(pool: Pool, name: str = HOSTILE) -> Pool:
    """The pool and each of its hosts under this name."""
    hosts = {uuid: replace(host, name=name, address=name) for uuid, host in pool.record.hosts.items()}
    return replace(pool, record=replace(pool.record, name=name, hosts=hosts))


def write(parts: Parts, pool: Told, uuid: str = POOL, name: str = "") -> None:
    """What it has written and told, as this pool's; ``name``: what every sentence says besides."""
    entries = [replace(entry, text=f"{entry.text} {name}".strip()) for entry in pool.journal]
    alerts = pool.alerts
    if name:
        alerts = [replace(each, title=f"{each.title} {name}", body=f"{each.body}\n{name}") for each in alerts]
    parts.journal.commit(uuid, entries, alerts, name)


def failover_of(pool: Guarded) -> str:
    """The number of its failover."""
    return next(entry.failover for entry in pool.journal if entry.failover)
