"""A master that nobody has seen serve: the one silent host that every heard host follows by its pool.conf.

Theory
------
The collector knows a master by its own word (mastership.py). One that was made master and died before its agent could
say so leaves a pool whose members all follow it, and whose record still names its predecessor. Then not the host on
record is to be succeeded, but the one that is followed: its silence blocks, its power or a person's word ends that.

Rules
-----
* Named is a host of this pool that is silent for ``vanished_after``, when every heard host is a member that follows its
  address, by pool.conf and by whatever process runs there, and nobody serves or is set to be master.
* The host on record must be one of those that follow it, or be excused (fenced_hosts.py): a predecessor that may still
  act as master is not forgotten for what a copied pool.conf says.
* A host that is owed a tombstone was succeeded already: who still follows it has only not been repointed yet.
* Adopting it proves nothing. It raises the term, and from there its absence is judged as any master's: promotion needs
  the proof of its own power, or a person's word about it.
"""

from __future__ import annotations

from poolwarden_collector.core.evidence.fenced_hosts import excused
from poolwarden_collector.core.evidence.signs import configured_masters, serving, silence_of
from poolwarden_collector.core.model.values import HostId, Role
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot


def named(pool: Snapshot) -> HostId:
    """The silent host that every heard host follows; empty if there is none."""
    if serving(pool) or configured_masters(pool):
        return ""
    followed = {_followed(pool, host) for host in pool.record.hosts if pool.heard(host)}
    address = followed.pop() if len(followed) == 1 else ""
    hosts = [host for host in pool.record.hosts if address and pool.record.address_of(host) == address]
    if len(hosts) != 1 or silence_of(pool, hosts[0]) < pool.policy.vanished_after or pool.heard(hosts[0]):
        return ""
    superseded = any(item.host == hosts[0] and item.what is OwedWork.TOMBSTONE for item in pool.record.owed)
    before = pool.record.master
    # safety: the host on record may be the master still, unless it says itself whom it follows, or is off.
    known = not before or before == hosts[0] or pool.heard(before) is not None or bool(excused(pool, before))
    return hosts[0] if known and not superseded else ""


def _followed(pool: Snapshot, host: HostId) -> str:
    """Whom a heard host follows, by pool.conf and by its process; empty: nobody, or that is not certain."""
    agent = pool.heard(host)
    assert agent is not None
    role = agent.facts.role
    if role.pool_conf is not Role.MEMBER:
        return ""
    other = role.running is Role.MEMBER and role.running_master_address != role.master_address
    return "" if other else role.master_address


def is_known(pool: Snapshot, host: HostId) -> bool:
    """Was this host, a member when it was last heard, made master since? So say all that are heard, and whom it
    followed then is one of them.
    """
    agent = pool.agent(host)
    if agent is None or named(pool) != host:
        return False
    then = [other for other in pool.record.hosts if pool.record.address_of(other) == agent.facts.role.master_address]
    return all(pool.heard(other) is not None or bool(excused(pool, other)) for other in then)
