"""Storage's garbage collection on a new master: held by the promotion that left an old master's VMs running.

Theory: sm coalesces disks on the host that is master, and asks every other host of the pool to let go of them first. A
host that was held, and is not attached yet, is not asked properly while its VMs go on writing (sm: cleanup.py). So the
promotion of a toolstack failover holds it durably on the candidate before xapi is told anything.

Rules
-----
* It is let go once nothing is owed any more to a host that this one succeeded, or all such hosts read OFF: then nobody
  writes there. A held host that is not master any more, or was not promoted after all, is let go at once.
* Facts decide: every report says whether it is held, so nothing has to be remembered.
"""

from __future__ import annotations

from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.facts import HostId, Ms, Power
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.orders import ReleaseGc
from poolwarden_collector.core.power import view
from poolwarden_collector.core.pursuit import pursue

_OWED = ("tombstone", "release")
_READ_EVERY_MS: Ms = 60_000


def let_collect(d: Draft) -> None:
    """Let storage's garbage collection go on wherever it is held and need not be."""
    for host in sorted(d.record.hosts, key=d.name):
        agent = d.heard(host)
        if agent is None or not agent.facts.gc_term or waits_for(d, host):
            continue
        base = f"gc/{agent.facts.gc_term}/{host}/{agent.hello.boot_id}"
        pursue(
            d, base, agent, ReleaseGc(), Kind.GC_INTENT, f"garbage collection of storage may go on on {d.name(host)}"
        )


def wants_reading(d: Draft, host: HostId) -> bool:
    """Is it worth knowing now whether this silent host is off, because another one waits for it?"""
    if d.heard(host) is not None or view(d, host).power is Power.OFF:
        return False
    states = [d.live.power.get(device.name) for device in d.devices(host)]
    read = max((state.started_at for state in states if state is not None), default=-_READ_EVERY_MS)
    held = [each for each in d.record.hosts if (agent := d.heard(each)) is not None and agent.facts.gc_term]
    return d.now - read >= _READ_EVERY_MS and any(host in waits_for(d, each) for each in held)


def waits_for(d: Draft, host: HostId) -> tuple[HostId, ...]:
    """The hosts whose VMs may still write to disks that this one must not coalesce."""
    failover = d.failover
    if failover is not None and failover.candidate == host and failover.old_master and failover.hold_order:
        return (failover.old_master,)
    if d.record.master != host:
        return ()
    owed = {item.host for item in d.record.owed if item.what in _OWED and item.host != host}
    return tuple(sorted(each for each in owed if view(d, each).power is not Power.OFF))
