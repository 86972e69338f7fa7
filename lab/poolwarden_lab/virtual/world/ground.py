"""What every fault of the world stands on: the clock, the network, the pools, the collectors, and finding a host.

A host is named as in stories: ``h1`` where there is one pool, ``A/h1`` where there are several; a number is the n-th
host of the first pool. A pool is named by its name; none means the first.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_lab.virtual.collector.station import Station
from poolwarden_lab.virtual.world.guarded import GuardedPool
from poolwarden_lab.virtual.world.network import Network
from poolwarden_lab.virtual.world.streams import Stream
from poolwarden_lab.virtual.world.tapped import WatchedClock

HostName = str | int


class NoSuchThing(LookupError):
    """A host, VM, pool or device of this name does not exist here, or cannot do now what was asked of it."""


@dataclass(frozen=True)
class Place:
    """A host in its pool; ``name`` is its node's."""

    pool: GuardedPool
    name: str

    @property
    def uuid(self) -> str:
        return self.pool.pool.hosts[self.name].uuid


class Ground:
    """See the module's words."""

    clock: WatchedClock
    random: random.Random
    network: Network
    pools: dict[str, GuardedPool]
    stations: dict[str, Station]
    happenings: list[tuple[int, str, str]]

    @property
    def now(self) -> int:
        return self.clock.now

    def at(self, ms: int, act: Callable[[], None]) -> None:
        self.clock.at(ms, act)

    def later(self, delay: int, act: Callable[[], None]) -> None:
        self.clock.at(self.clock.now + delay, act)

    def of(self, pool: str = "") -> GuardedPool:
        """A pool by its name, the first one for none. Raises NoSuchThing."""
        if not pool:
            return next(iter(self.pools.values()))
        if pool not in self.pools:
            raise NoSuchThing(f"there is no pool {pool}")
        return self.pools[pool]

    def find(self, host: HostName) -> Place:
        """A host and its pool. Raises NoSuchThing."""
        if isinstance(host, int):
            first = self.of()
            return Place(first, first.names[host - 1])
        for pool in self.pools.values():
            if host in pool.pool.hosts:
                return Place(pool, host)
        raise NoSuchThing(f"there is no host {host}")

    def hosts(self) -> list[str]:
        """All hosts' nodes, pool by pool."""
        return [name for pool in self.pools.values() for name in pool.names]

    def happened(self, source: str, text: str) -> None:
        """Something for the log that no journal and no xapi tells."""
        self.happenings.append((self.now, source, text))

    def streams(self) -> list[Stream]:
        """Every open stream."""
        return [stream for station in self.stations.values() for stream in station.streams if stream.open]

    def watch(self, name: str) -> None:
        """Something has happened to this node: its streams' keepalive will look."""
        for stream in self.streams():
            if name in (stream.ends.host, stream.ends.collector):
                stream.watch()
