"""Which host and which pool an operator means.

A host is a UUID, `pool/host`, or a name that only one host has. A name that fits several hosts is never guessed: it is
refused with the candidates. Pools are resolved by the collector, which knows more of them than one reply shows; one
that is not named is the only one that there is.
"""

from collections import Counter
from typing import TYPE_CHECKING

from poolwarden_collector.cli.errors import BadInput
from poolwarden_collector.cli.pages.hosts import candidates
from poolwarden_collector.nearest import did_you_mean

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api
    from poolwarden_collector.cli.collector import Collector

LISTED = 8
POOLS_LISTED = 20
NEAR_POOLS = 50  # among so many a name is looked for that may be meant


def pool_or_only(collector: "Collector", wanted: str | None, command: str) -> str:
    """The pool as it was typed; where none was typed the only one that there is. Raises BadInput if there are several.

    An empty name is no missing one (`"$POOL"` of a script that forgot to set it): the collector refuses it.
    """
    if wanted is not None:
        return wanted
    pools = list(collector.overview().overview.lines)
    names = [pool.name or pool.pool_uuid for pool in pools]
    if len(pools) == 1:
        return names[0]
    if not pools:
        raise BadInput("no pool is known yet", "no agent has reported to this collector")
    counts = Counter(names)
    told = [name if counts[name] == 1 else pool.pool_uuid for pool, name in zip(pools, names, strict=True)]
    raise BadInput(f"which pool? There are {len(pools)}: {_some(sorted(told))}", f"poolwarden {command}")


def _some(names: list[str]) -> str:
    """All of them, or the first twenty."""
    more = len(names) - POOLS_LISTED
    return ", ".join(names[:POOLS_LISTED]) + (f" and {more} more" if more > 0 else "")


def find_host(collector: "Collector", wanted: str) -> tuple["api.PoolStatus", "api.HostStatus"]:
    """The one host that `wanted` names, with its pool. Raises BadInput if there is none or more than one."""
    pool_name, slash, host_name = wanted.partition("/")
    if slash and host_name:
        return the_host(collector.status(pool_name), host_name)
    return the_host(hosted(collector, wanted), wanted)


def hosted(collector: "Collector", host: str, limit_s: float | None = None) -> "api.StatusReply":
    """The pools that have a host of this UUID or name; where there is none a few others, of which one may be meant."""
    from poolwarden.v1 import operator_pb2

    reply = collector.status_of(operator_pb2.StatusRequest(host=host, limit=POOLS_LISTED + 1), limit_s)
    return reply if reply.pools else collector.overview(few=NEAR_POOLS, limit=1, limit_s=limit_s)


def the_host(reply: "api.StatusReply", wanted: str) -> tuple["api.PoolStatus", "api.HostStatus"]:
    """The one host of a reply with that name or UUID, with its pool. Raises BadInput otherwise."""
    everywhere = [(pool, host) for pool in reply.pools for host in pool.hosts]
    found = [(pool, host) for pool, host in everywhere if wanted in (host.name, host.host_uuid)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise _no_host(wanted, sorted({host.name for _, host in everywhere if host.name}))
    more = " and others" if len(found) > POOLS_LISTED else ""
    listed = candidates(host for _, host in found[:POOLS_LISTED]) + more
    raise BadInput(f"{wanted!r} is ambiguous: {listed}", "use pool/host or the UUID")


def _no_host(wanted: str, known: list[str]) -> BadInput:
    """With what may have been meant, and what there is."""
    said = f"no host is called {wanted!r}{did_you_mean(wanted, known)}"
    return BadInput(said, f"known hosts: {', '.join(known[:LISTED])}" if known else "no host is known yet")


def the_pool(reply: "api.StatusReply", wanted: str) -> "api.PoolStatus":
    """The one pool of a reply that was asked for one. Raises BadInput otherwise."""
    if len(reply.pools) == 1:
        return reply.pools[0]
    if not reply.pools:
        raise BadInput(f"no pool is called {wanted!r}", "names: poolwarden status")
    listed = ", ".join(f"{pool.name} ({pool.pool_uuid})" for pool in reply.pools)
    raise BadInput(f"{wanted!r} is ambiguous: {listed}", "use the UUID")
