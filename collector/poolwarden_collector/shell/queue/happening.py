"""What the queue holds: one event of one pool, and when it arrived."""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.model.events import Event
from poolwarden_collector.core.model.values import Ms, PoolId


@dataclass(frozen=True, slots=True)
class Happening:
    """An event of one pool, and when its place in the queue was taken; ``None``: just now."""

    pool: PoolId
    event: Event
    at: Ms | None = None
