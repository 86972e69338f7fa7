"""How many agents are silent at a site, over all collectors: what the storm brake is to judge, instead of a share.

Rules
-----
* Each collector counts the pools that it owns, once a second, under its own lease: who is gone counts no longer.
* Only what was heard under this ownership counts: in a pool that was just taken over nobody is silent yet, so neither a
  takeover nor a move is taken for silence. Such pools are counted by themselves (``young``), and while a good part of a
  site is young its sum proves no calm either.
* A sum without a member's fresh count brakes as a storm does: what cannot be counted is not taken for health. So each
  member tells a count of every site that is configured, also where it owns no pool.
* Nobody's clock is read: a count carries a number that grows, and is fresh while whoever reads it sees that change.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.shell.cluster.etcd import Created, Exchange, Found, Get, Put, Txn, behind
from poolwarden_collector.shell.cluster.membership import Standing
from poolwarden_collector.shell.cluster.membership import members as members_of
from poolwarden_collector.shell.cluster.names import Names

EVERY_MS: Ms = 1_000
STALE_AFTER_MS: Ms = 12_000  # longer than a lease: the count of a collector that is gone goes with that


@dataclass(frozen=True, slots=True)
class SiteCount:
    """One collector's pools at one site. ``agents`` and ``silent`` are of pools that are not young."""

    pools: int = 0
    young: int = 0  # pools whose owner is in his quiet time there
    agents: int = 0
    silent: int = 0  # agents that fell silent with the storm
    silent_pools: int = 0  # pools with such agents
    storm_pools: int = 0  # the lowest threshold of these pools; 0: there are none
    storm_percent: int = 0  # the same
    number: int = 0  # grows with every count


@dataclass(frozen=True, slots=True)
class SiteSum:
    """All collectors' counts of one site; ``missing``: who is a member and has said nothing fresh."""

    count: SiteCount
    missing: tuple[str, ...] = ()

    @property
    def silent(self) -> bool:
        """Is it for agents that fell silent, and not for what is not known?"""
        return not self.missing and not self.young

    @property
    def young(self) -> bool:
        """Have too many of its pools a new collector, while nobody's count is missing?"""
        return not self.missing and 2 * self.count.young > self.count.pools

    @property
    def why_blind(self) -> str:
        """Why the collectors together must consider themselves blind towards the site; empty: they need not."""
        count = self.count
        if self.missing:
            return f"of collector {', '.join(self.missing)} no count of its agents there is known"
        if self.young:
            return f"{count.young} of {count.pools} pools there have changed their collector a moment ago"
        if count.silent_pools <= count.storm_pools or count.silent * 100 <= count.storm_percent * count.agents:
            return ""
        return f"{count.silent} of {count.agents} agents in {count.silent_pools} pools there fell silent together"


def tell(names: Names, standing: Standing, counts: Mapping[str, SiteCount]) -> Exchange[None]:
    """Write this collector's counts, by the sites' names. Raises EtcdError, and nothing is to be done about it."""
    writes = tuple(
        Put(names.site(site, standing.collector), _text(count), standing.lease) for site, count in counts.items()
    )
    for at in range(0, len(writes), 64):
        yield Txn((Created(names.member(standing.collector), standing.revision),), writes[at : at + 64])


def read_all(names: Names) -> Exchange[tuple[frozenset[str], dict[str, dict[str, SiteCount]]]]:
    """The members, and their counts as of the same revision. Raises EtcdError."""
    there: Found = yield Get(names.members, behind(names.members))
    members = frozenset(members_of(names, there))
    return members, (yield from read(names, there.revision))


def read(names: Names, revision: int = 0) -> Exchange[dict[str, dict[str, SiteCount]]]:
    """Site -> collector -> its count. Raises EtcdError."""
    found: Found = yield Get(names.sites, behind(names.sites), revision=revision)
    counts: dict[str, dict[str, SiteCount]] = {}
    for kept in found.kept:
        parts = names.parts(kept.key)
        count = _count(kept.value)
        if len(parts) == 3 and count is not None:
            counts.setdefault(parts[1], {})[parts[2]] = count
    return counts


class Sums:
    """The newest counts of all, and when each was seen to change, on this machine's own clock."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[SiteCount, Ms]] = {}

    def take(self, counts: Mapping[str, Mapping[str, SiteCount]], now: Ms) -> None:
        """A look at etcd."""
        there = {(site, name): count for site, each in counts.items() for name, count in each.items()}
        for at, count in there.items():
            if at not in self._seen or self._seen[at][0].number != count.number:
                self._seen[at] = (count, now)
        self._seen = {at: seen for at, seen in self._seen.items() if at in there}

    def who(self, site: str) -> set[str]:
        """Of whom there is a count of the site, fresh or not."""
        return {name for of, name in self._seen if of == site}

    def age(self, name: str, now: Ms) -> Ms | None:
        """How long ago its newest count was seen; None: there is none."""
        return min((now - at for (_, of), (_, at) in self._seen.items() if of == name), default=None)

    def of(self, site: str, members: Iterable[str], now: Ms) -> SiteSum:
        """The site's sum; ``members``: who must have said something of it."""
        total, missing = SiteCount(), []
        for name in sorted(members):
            count, at = self._seen.get((site, name), (None, 0))
            if count is None or now - at > STALE_AFTER_MS:
                missing.append(name)
            else:
                total = _added(total, count)
        return SiteSum(total, tuple(missing))


def _added(one: SiteCount, other: SiteCount) -> SiteCount:
    """Both; of the thresholds the most cautious one."""
    pools = [each for each in (one, other) if each.pools]
    return replace(
        one,
        pools=one.pools + other.pools,
        young=one.young + other.young,
        agents=one.agents + other.agents,
        silent=one.silent + other.silent,
        silent_pools=one.silent_pools + other.silent_pools,
        storm_pools=min((each.storm_pools for each in pools), default=0),
        storm_percent=min((each.storm_percent for each in pools), default=0),
    )


def _text(count: SiteCount) -> bytes:
    return json.dumps({name: getattr(count, name) for name in SiteCount.__slots__}).encode()


def _count(value: bytes) -> SiteCount | None:
    try:
        said = json.loads(value)
        return SiteCount(**{name: int(said[name]) for name in SiteCount.__slots__})
    except (ValueError, TypeError, KeyError):
        return None
