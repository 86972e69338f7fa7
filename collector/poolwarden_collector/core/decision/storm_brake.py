"""The collector's own condition: is it the pools that are silent, or is it the collector that hears nothing?

Theory: when many pools of a site fall silent within a minute, the common cause is nearer to the collector than to any
of them. Fractions alone would stop every two-host pool, so both a number of pools and a share of agents are needed.

Rules
-----
* Each site (``Policy.site``) is judged by itself, with the most cautious thresholds among its pools: one dead uplink
  must not stop the pools of another site. The network anchors are the collector's own and concern all of them.
* An agent counts for a storm only if it fell silent with the storm: a host that has been switched off for days must not
  tip the scales.
* A storm lasts as long as those that fell silent in it stay silent in such numbers. That a minute has passed proves
  nothing; a site that will not come back is released by a person (``storm_pools``, ``storm_percent``).
* After it the shell gives the site's pools their quiet time again, and each is judged anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter

from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.core.state.live import Pool

STORM_WINDOW_MS: Ms = 60_000
_last_heard = attrgetter("last_heard")


@dataclass(frozen=True, slots=True)
class Blind:
    """Why the collector considers itself blind towards a site, and since when (its clock, ms)."""

    why: str
    began: Ms


def judge_sites(
    pools: Mapping[PoolId, Pool], anchors: tuple[bool, ...], now: Ms, before: Mapping[str, Blind]
) -> dict[str, Blind]:
    """The sites towards which the collector must consider itself blind; ``before`` is this function's last answer.

    ``anchors`` says for each configured network anchor whether it answered; without anchors only the storm brake
    counts.
    """
    sites: dict[str, list[Pool]] = {}
    for pool in pools.values():
        sites.setdefault(pool.policy.site, []).append(pool)
    if anchors and not any(anchors):
        why = f"none of its {len(anchors)} network anchors answers"
        return {site: Blind(why, before[site].began if site in before else now) for site in sites}
    found = {}
    for site, members in sites.items():
        began = before[site].began if site in before else now
        if why := _storm(site, members, now, began):
            found[site] = Blind(why, began)
    return found


def _storm(site: str, pools: list[Pool], now: Ms, began: Ms) -> str:
    """Why this is a storm, if it is one that began at ``began``; empty otherwise."""
    silent = [count for pool in pools if (count := _fell_silent(pool, now, began - STORM_WINDOW_MS))]
    if not silent:
        return ""
    agents = sum(len(pool.live.agents) for pool in pools)
    most = min(pool.policy.storm_pools for pool in pools)
    percent = min(pool.policy.storm_percent for pool in pools)
    if len(silent) <= most or sum(silent) * 100 <= percent * agents:
        return ""
    where = f" at site {site}" if site else ""
    minute = f"within {STORM_WINDOW_MS // 1000} s"
    return f"{sum(silent)} of {agents} agents in {len(silent)} pools{where} fell silent {minute}"


def _fell_silent(pool: Pool, now: Ms, since: Ms) -> int:
    """How many agents of this pool are silent, and became so not before ``since``. A goodbye is no silence."""
    after, agents = pool.policy.suspect_after, pool.live.agents
    # Several times a second of all pools, of most of which everybody is heard.
    if not agents or now - min(map(_last_heard, agents.values())) < after:
        return 0
    return sum(
        1
        for agent in agents.values()
        if now - agent.last_heard >= after and agent.last_heard + after >= since and not agent.goodbye
    )
