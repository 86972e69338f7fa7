"""A collector's machine: its disk (the ledger), its configuration, and the process that runs on it or does not."""

from __future__ import annotations

from dataclasses import dataclass, field

from poolwarden_lab.virtual.collector.collector import SimCollector
from poolwarden_lab.virtual.collector.ledger import Ledger
from poolwarden_lab.virtual.collector.points import Saboteur, nobody
from poolwarden_lab.virtual.world.streams import Stream


@dataclass
class Station:
    """``node``: its place in the network; ``restart_after_ms``: how long a killed process stays away (None: always)."""

    node: str
    ledger: Ledger = field(default_factory=Ledger)
    shell: SimCollector | None = None
    saboteur: Saboteur = nobody
    restart_after_ms: int | None = None
    anchors: tuple[bool, ...] = ()
    streams: list[Stream] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        return self.shell is not None and self.shell.alive
