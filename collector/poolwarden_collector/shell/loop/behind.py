"""What is told of a collector that does not keep up with what it hears."""

from __future__ import annotations

from poolwarden_collector.core.catalogue.hosts import COLLECTOR_BEHIND
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.values import Ms

KEY = "collector/behind"
CAUGHT_UP = AlertResolved(KEY, "it has kept up with what it hears for 5 s")
_BODY = (
    "Its machine or its disk is too slow. Nobody is taken for silent for that, and nothing is begun "
    "before it has caught up. Look at load and disk of the collector's machine."
)


def stays_behind(collector: str, by: Ms) -> AlertRaised:
    """It is so much behind, and stays so."""
    told = COLLECTOR_BEHIND.told({"pool": collector, "seconds": f"{by / 1000:.1f}"})
    return AlertRaised(KEY, told.severity, told.title, told.body(_BODY), {"message": told.id})
