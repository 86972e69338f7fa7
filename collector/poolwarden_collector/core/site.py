"""The collector's own condition: is it the pools that are silent, or is it the collector that hears nothing?

Theory: when many pools of a site fall silent within a minute, the common cause is nearer to the collector than to any
of them. Fractions alone would stop every two-host pool, so both a number of pools and a share of agents are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from poolwarden_collector.core.facts import Ms

STORM_WINDOW_MS: Ms = 60_000
STORM_POOLS = 3
STORM_SHARE = 0.20


@dataclass(frozen=True, slots=True)
class Silence:
    """How many of a pool's agents are silent, and since when the first of them is (collector's clock, ms)."""

    silent: int
    agents: int
    since: Ms | None = None


def judge_site(silences: Mapping[str, Silence], anchors: tuple[bool, ...], now: Ms) -> str:
    """Why the collector must consider itself blind; empty if it need not.

    ``anchors`` says for each configured network anchor whether it answered; without anchors only the storm brake
    counts.
    """
    if anchors and not any(anchors):
        return f"none of its {len(anchors)} network anchors answers"
    recent = [s for s in silences.values() if s.silent and s.since is not None and now - s.since <= STORM_WINDOW_MS]
    agents = sum(s.agents for s in silences.values())
    silent = sum(s.silent for s in recent)
    if len(recent) > STORM_POOLS and agents and silent > STORM_SHARE * agents:
        return f"{silent} of {agents} agents in {len(recent)} pools fell silent within {STORM_WINDOW_MS // 1000} s"
    return ""
