"""Which host an operator means: a UUID, `pool/host`, or a name that only one host has.

A name that fits several hosts is never guessed: it is refused with the candidates. Pools are resolved by the collector,
which knows more of them than one reply shows.
"""

from typing import TYPE_CHECKING

from poolwarden_collector.cli.errors import BadInput
from poolwarden_collector.cli.pages.hosts import candidates

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api
    from poolwarden_collector.cli.collector import Collector


def find_host(collector: "Collector", wanted: str) -> tuple["api.PoolStatus", "api.HostStatus"]:
    """The one host that `wanted` names, with its pool. Raises BadInput if there is none or more than one."""
    pool_name, slash, host_name = wanted.partition("/")
    if slash and host_name:
        return the_host(collector.status(pool_name), host_name)
    return the_host(collector.status(), wanted)


def the_host(reply: "api.StatusReply", wanted: str) -> tuple["api.PoolStatus", "api.HostStatus"]:
    """The one host of a reply with that name or UUID, with its pool. Raises BadInput otherwise."""
    everywhere = [(pool, host) for pool in reply.pools for host in pool.hosts]
    found = [(pool, host) for pool, host in everywhere if wanted in (host.name, host.host_uuid)]
    if len(found) == 1:
        return found[0]
    if not found:
        known = ", ".join(sorted({host.name for _, host in everywhere if host.name})[:8])
        raise BadInput(f"no host is called {wanted!r}", f"known hosts: {known}" if known else "no host is known yet")
    listed = candidates(host for _, host in found)
    raise BadInput(f"{wanted!r} is ambiguous: {listed}", "use pool/host or the UUID")


def the_pool(reply: "api.StatusReply", wanted: str) -> "api.PoolStatus":
    """The one pool of a reply that was asked for one. Raises BadInput otherwise."""
    if len(reply.pools) == 1:
        return reply.pools[0]
    if not reply.pools:
        raise BadInput(f"no pool is called {wanted!r}", "names: poolwarden status")
    listed = ", ".join(f"{pool.name} ({pool.pool_uuid})" for pool in reply.pools)
    raise BadInput(f"{wanted!r} is ambiguous: {listed}", "use the UUID")
