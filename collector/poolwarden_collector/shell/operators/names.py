"""HOST and POOL as operators type them: a UUID, ``pool/host``, or a name that is the only one of its kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.nearest import did_you_mean

_LISTED = 20
_LOOKED_AT = 1_000  # hosts, whose places are listed and held against a mistyped one
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LONGER = 2  # letters: of more hosts only such names are


def is_uuid(text: str) -> bool:
    """Is that a pool's or a host's UUID, as they are written?"""
    return _UUID.fullmatch(text) is not None


class Unknown(Exception):
    """Nothing has that name; the text lists what there is."""


class Ambiguous(Exception):
    """Several have that name; the text lists them."""


@dataclass(frozen=True, slots=True)
class Names:
    """The guarded pools with the extra names that the configuration gives them.

    ``granted`` raises for a pool in which the caller may not do what he asks for; every pool that is found goes by it.
    """

    pools: Mapping[PoolId, Pool]
    aliases: Mapping[PoolId, str]
    granted: Callable[[PoolId], None] = lambda _: None

    def pool(self, text: str) -> PoolId:
        """The one pool that ``text`` names. Raises Unknown or Ambiguous, and what ``granted`` raises."""
        found = self._pool(text)
        self.granted(found)
        return found

    def _pool(self, text: str) -> PoolId:
        if text in self.pools:
            return text
        found = [uuid for uuid in self.pools if text and text in (self.pools[uuid].record.name, self.aliases.get(uuid))]
        if len(found) == 1:
            return found[0]
        if found:
            raise Ambiguous(f"{text!r} is the name of {len(found)} pools; use one of: {_list(found)}")
        known = [self._label(uuid) for uuid in self.pools]
        raise Unknown(f"there is no pool {text!r}{did_you_mean(text, known)}; there is: {_list(known)}")

    def pools_called(self, text: str) -> list[PoolId]:
        """Every pool that this may name."""
        return [uuid for uuid in self.pools if text in (uuid, self.pools[uuid].record.name, self.aliases.get(uuid))]

    def hosts_called(self, text: str) -> list[tuple[PoolId, HostId]]:
        """Every host that this may name."""
        listed = [(uuid, text) for uuid, pool in self.pools.items() if text in pool.record.hosts]
        return listed or self._named(text, self.pools)

    def known_pools(self) -> list[str]:
        """The pools, as they are typed."""
        return [self._label(uuid) for uuid in self.pools]

    def known_hosts(self) -> list[str]:
        """The hosts, as they are typed; none where they are very many."""
        if sum(len(pool.record.hosts) for pool in self.pools.values()) > _LOOKED_AT:
            return []
        return self._places([(uuid, host) for uuid, pool in self.pools.items() for host in pool.record.hosts])

    def host(self, text: str) -> tuple[PoolId, HostId]:
        """The one host that ``text`` names, with its pool. Raises Unknown or Ambiguous, and what ``granted`` raises."""
        found = self._host(text)
        self.granted(found[0])
        return found

    def _host(self, text: str) -> tuple[PoolId, HostId]:
        by_uuid = [(uuid, text) for uuid, pool in self.pools.items() if text in pool.record.hosts]
        if by_uuid:
            # safety: any master may list another pool's host; it is of the pool in which its own agent has spoken.
            return next((each for each in by_uuid if self.pools[each[0]].record.hosts[text].boot_id), by_uuid[0])
        found = self._named(text, self.pools)
        if not found and "/" in text:
            pool_text, _, host_text = text.partition("/")
            pool = self._pool(pool_text)
            found = self._named(host_text, [pool]) or [(pool, host_text)] * (host_text in self.pools[pool].record.hosts)
        if len(found) == 1:
            return found[0]
        if found:
            raise Ambiguous(f"{text!r} is the name of {len(found)} hosts; use one of: {_list(self._places(found))}")
        raise Unknown(f"there is no host {text!r}{self._instead(text)}")

    def _instead(self, text: str) -> str:
        """What may have been meant, and what there is; of very many hosts how many."""
        count = sum(len(pool.record.hosts) for pool in self.pools.values())
        if count > _LOOKED_AT:
            alike = {
                known.name
                for pool in self.pools.values()
                for known in pool.record.hosts.values()
                if abs(len(known.name) - len(text)) <= _LONGER
            }
            near = did_you_mean(text, alike)
            return f"{near}; there are {count} hosts in {len(self.pools)} pools: poolwarden hosts POOL"
        everyone = [(uuid, host) for uuid, pool in self.pools.items() for host in pool.record.hosts]
        names = {self.pools[uuid].record.name_of(host) for uuid, host in everyone}
        places = self._places(everyone)
        return f"{did_you_mean(text, places if '/' in text else names)}; there is: {_list(places)}"

    def _named(self, text: str, among: Mapping[PoolId, Pool] | list[PoolId]) -> list[tuple[PoolId, HostId]]:
        hosts = [(uuid, host) for uuid in among for host in self.pools[uuid].record.hosts.values()]
        return [(uuid, host.host) for uuid, host in hosts if text and host.name == text]

    def _label(self, uuid: PoolId) -> str:
        return self.pools[uuid].record.name or self.aliases.get(uuid) or uuid

    def _places(self, found: list[tuple[PoolId, HostId]]) -> list[str]:
        """``pool/host`` where that is unique, else UUIDs."""
        labels = [f"{self._label(pool)}/{self.pools[pool].record.name_of(host)}" for pool, host in found]
        counts = Counter(labels)
        return [label if counts[label] == 1 else host for label, (_, host) in zip(labels, found, strict=True)]


def _list(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:_LISTED]) or "none yet: no agent has come"
    return shown + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
