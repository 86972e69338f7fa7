"""Points at which a collector can be killed: right before and right after each commit and each effect.

A *saboteur* is asked at every point, in the order in which they are reached, and answers whether the collector dies
there. Before a commit: it is lost, as if nothing had happened. After it: durable, none of its effects performed. Before
and after an effect likewise. Nothing else of a collector is worth killing: between two steps it only waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_collector.core.model import effects


@dataclass(frozen=True, slots=True)
class Point:
    """One place in a run; ``number`` counts commits or effects of all collectors of the run, from 1."""

    what: str  # "commit" or "effect"
    when: str  # "before" or "after"
    number: int
    names: str  # the kinds of the entries, or the effect's type and order

    def __str__(self) -> str:
        return f"{self.when} {self.what} {self.number} ({self.names})"


Saboteur = Callable[[Point], bool]


class CollectorKilled(Exception):
    """The simulated collector died at a point; nothing of it runs on."""


def nobody(_point: Point) -> bool:
    return False


def name_of(effect: effects.Effect) -> str:
    """An effect in a word or two."""
    if isinstance(effect, effects.SendOrder):
        return f"order {effect.order.kind_name} to {effect.order.host[:8]}"
    return type(effect).__name__
