"""Being in charge of one pool: with which epoch, and since when."""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.model.takeover import Takeover
from poolwarden_collector.core.model.values import Ms


@dataclass(frozen=True, slots=True)
class Charge:
    """One collector alone has one for all of its pools; one of several has another for each pool that it owns."""

    epoch: int
    # On its clock. Whatever is from before may be of an earlier run, or of another collector, which may have it still
    # under way.
    started_at: Ms
    clock: str  # names that clock
    raised: tuple[int, ...] = ()  # every epoch of this charge, once a host's word has raised it
    takeover: Takeover | None = None  # of one of several: what the owner before may have left under way
