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
* Who waits to be let in, or whose call waits, is not silent: its pool is judged as of when all of it had been heard.
* After it the shell gives the site's pools their quiet time again, and each is judged anew.
* One of several collectors owns a share of a site's pools: it counts these (``silence_of``), and the sum of all counts
  is judged beside them. The site is blind if either says so. Where the sum only cannot be told, or much of the site has
  changed its collector, nobody was silent: no quiet time follows.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType

from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.core.state.live import Pool

STORM_WINDOW_MS: Ms = 60_000
_last_heard = attrgetter("last_heard")


@dataclass(frozen=True, slots=True)
class Blind:
    """Why the collector considers itself blind towards a site, and since when (its clock, ms)."""

    why: str
    began: Ms
    silent: bool = True  # agents may have been heard by nobody meanwhile
    young: bool = False  # for pools that have changed their collector: nothing of its own view is broken


@dataclass(frozen=True, slots=True)
class Braked:
    """Why all collectors together are blind towards a site; ``silent``: because of agents that fell silent.

    ``young``: because too many of its pools have a new collector, so that nobody can be known to be silent there yet.
    """

    why: str
    silent: bool
    young: bool = False


@dataclass(frozen=True, slots=True)
class Silence:
    """What one collector counts at a site. ``agents`` and ``silent`` are of pools that are not young."""

    pools: int = 0
    young: int = 0  # pools that this collector has taken over a moment ago: nobody is known to be silent there
    agents: int = 0
    silent: int = 0  # agents that fell silent with the storm
    silent_pools: int = 0
    storm_pools: int = 0  # the most cautious thresholds of these pools; 0: there are none
    storm_percent: int = 0


class Heard:
    """Until when every agent of each pool counts as heard, by its newest messages: nobody of it is asked before that.

    The newest message of an agent only gets newer; others are asked anew with another policy or number of agents.
    """

    def __init__(self) -> None:
        self._until: dict[PoolId, tuple[Policy, int, Ms]] = {}

    def some_silent(self, uuid: PoolId, pool: Pool, now: Ms) -> bool:
        """Is one of this pool's agents silent?"""
        agents, known = pool.live.agents, self._until.get(uuid)
        if known is not None and now < known[2] and known[0] is pool.policy and known[1] == len(agents):
            return False
        if not agents:
            return False
        until: Ms = min(map(_last_heard, agents.values())) + pool.policy.suspect_after
        self._until[uuid] = pool.policy, len(agents), until
        return now >= until


def judge_sites(
    pools: Mapping[PoolId, Pool],
    anchors: tuple[bool, ...],
    now: Ms,
    before: Mapping[str, Blind],
    of_pools: Mapping[PoolId, Ms] = MappingProxyType({}),
    heard: Heard | None = None,
    sums: Mapping[str, Braked] | None = None,
) -> dict[str, Blind]:
    """The sites towards which the collector must consider itself blind; ``before`` is this function's last answer.

    ``anchors`` says for each configured network anchor whether it answered; without anchors only the storm brake
    counts. ``of_pools``: of which less has been heard than all that came before ``now``. ``heard``: the same one each
    time, where there are many pools. ``sums``: what all collectors together say of a site.
    """
    if anchors and not any(anchors):
        why = f"none of its {len(anchors)} network anchors answers"
        sites = {pool.policy.site for pool in pools.values()}
        return {site: Blind(why, before[site].began if site in before else now) for site in sites}
    heard = heard or Heard()
    silent: dict[str, list[tuple[Pool, Ms]]] = {}
    for uuid, pool in pools.items():
        asof = min(now, of_pools.get(uuid, now)) if of_pools else now
        if heard.some_silent(uuid, pool, asof):
            silent.setdefault(pool.policy.site, []).append((pool, asof))
    sites = {pool.policy.site for pool in pools.values()} if sums else set(silent)
    found = {}
    for site in sites:
        began = before[site].began if site in before else now
        those = silent.get(site, [])
        counts = [count for pool, asof in those if (count := _fell_silent(pool, asof, began - STORM_WINDOW_MS))]
        if counts and (why := _storm(site, [pool for pool in pools.values() if pool.policy.site == site], counts)):
            found[site] = Blind(why, began)
        # safety: a share of a site's pools may be too small to show what the whole site shows.
        elif sums is not None and (braked := sums.get(site)) is not None:
            was_silent = braked.silent or (site in before and before[site].silent)
            found[site] = Blind(braked.why, began, was_silent, braked.young and not was_silent)
    return found


def silence_of(
    pools: Iterable[Pool],
    young: Container[PoolId],
    now: Ms,
    before: Mapping[str, Blind],
    of_pools: Mapping[PoolId, Ms] = MappingProxyType({}),
) -> dict[str, Silence]:
    """What this collector counts of each site where it has pools; ``before``, ``of_pools``: as in ``judge_sites``."""
    found: dict[str, Silence] = {}
    for pool in pools:
        site, policy = pool.policy.site, pool.policy
        began = before[site].began if site in before else now
        heard = pool.record.pool not in young
        asof = min(now, of_pools.get(pool.record.pool, now))
        silent = _fell_silent(pool, asof, began - STORM_WINDOW_MS) if heard else 0
        so_far = found.get(site, Silence(storm_pools=policy.storm_pools, storm_percent=policy.storm_percent))
        found[site] = Silence(
            so_far.pools + 1,
            so_far.young + (not heard),
            so_far.agents + (len(pool.live.agents) if heard else 0),
            so_far.silent + silent,
            so_far.silent_pools + bool(silent),
            min(so_far.storm_pools, policy.storm_pools),
            min(so_far.storm_percent, policy.storm_percent),
        )
    return found


def _storm(site: str, pools: list[Pool], silent: list[int]) -> str:
    """Why this is a storm, with so many silent agents in each of some pools, if it is one; empty otherwise."""
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
