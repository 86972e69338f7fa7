"""Storage's garbage collection on a new master: held by the promotion that left an old master's VMs running.

Theory: sm coalesces disks on the host that is master, and asks every other host of the pool to let go of them first. A
host that was held, and is not attached yet, is not asked properly while its VMs go on writing (sm: cleanup.py). So the
promotion of a toolstack failover holds it durably on the candidate before xapi is told anything.

Rules
-----
* It is let go once nothing is owed any more to a host that this one succeeded, or all such hosts are off, by their
  power or an operator's word (fenced_hosts.py): then nobody writes there. One that is not master any more, or was not
  promoted after all, is let go at once.
* A host that an earlier failover left so, and that is not attached yet, counts in every later promotion as well.
* A hold of a promotion that this journal does not know (it was lost) is let go only once every other host of the pool
  follows this one, or reads OFF.
* One that lasts is an alert with its age and what to type: a host that is dead for good, with its BMC, never reads OFF.
* Facts decide: every report says whether it is held, so nothing has to be remembered.
"""

from __future__ import annotations

from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence.left_behind import MAY_STILL_WRITE, is_off, writers
from poolwarden_collector.core.evidence.membership import follows
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.orders import ReleaseGc
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.order_delivery import pursue
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

_READ_EVERY_MS: Ms = 60_000
LONG_MS: Ms = 3_600_000


def release_where_due(d: Transaction) -> None:
    """Let storage's garbage collection go on wherever it is held and need not be."""
    for host in sorted(d.record.hosts, key=d.name):
        agent = d.heard(host)
        if agent is None or not agent.facts.gc_term or waits_for(d, host):
            continue
        base = f"gc/{agent.facts.gc_term}/{host}/{agent.hello.boot_id}"
        pursue(
            d, base, agent, ReleaseGc(), Kind.GC_INTENT, f"garbage collection of storage may go on on {d.name(host)}"
        )


def wants_reading(d: Snapshot, host: HostId) -> bool:
    """Is it worth knowing now whether this silent host is off, because another one waits for it?"""
    if d.heard(host) is not None:
        return False
    held = [each for each in d.record.hosts if (agent := d.heard(each)) is not None and agent.facts.gc_term]
    if not held or view(d, host).power is Power.OFF:
        return False
    states = [d.live.power.get(device.name) for device in d.devices(host)]
    read = max((state.started_at for state in states if state is not None), default=-_READ_EVERY_MS)
    return d.now - read >= _READ_EVERY_MS and any(host in waits_for(d, each) for each in held)


def waits_for(d: Snapshot, host: HostId) -> tuple[HostId, ...]:
    """The hosts whose VMs may still write to disks that this one must not coalesce."""
    failover = d.failover
    if failover is not None and failover.candidate == host and failover.old_master:
        held = (failover.old_master,) if failover.hold_order else ()
        if waits := (*held, *writers(d, (host, failover.old_master))):
            return waits
    if not d.record.master:
        return tuple(sorted(each for each in d.record.hosts if each != host))  # nobody knows yet whose master it is
    if d.record.master != host:
        return ()
    owed = {item.host for item in d.record.owed if item.what in MAY_STILL_WRITE and item.host != host}
    agent, ended = d.heard(host), d.record.failover
    if agent is not None and agent.facts.gc_term and (ended is None or ended.term < agent.facts.gc_term):
        # safety: whose VMs write on is not known here; whoever follows is asked properly by sm itself.
        owed |= {each for each in d.record.hosts if each != host and follows(d, each, host)}
    return tuple(sorted(each for each in owed if not is_off(d, each)))


def alert_waiting(d: Transaction) -> None:
    """Name garbage collection that has been held for long, whom it waits for, and what ends it."""
    if d.quiet:
        return
    held = [h for h in sorted(d.record.hosts, key=d.name) if (agent := d.heard(h)) is not None and agent.facts.gc_term]
    since = {host: d.live.gc_since.get(host, d.now) for host in held}
    # An agent that restarts lets nothing go, and makes no age anew.
    since |= {host: at for host, at in d.live.gc_since.items() if host in d.record.hosts and d.heard(host) is None}
    if since != d.live.gc_since:
        d.change(gc_since=since)
    for topic in d.open_topics:
        host = topic.host
        # One that is silent for a moment has not let go.
        if topic.matter is Matter.GC and host not in held and (host not in d.record.hosts or d.heard(host) is not None):
            d.resolve_alert(topic, f"garbage collection of storage is not held on {d.name(host)} any more")
    for host in held:
        if d.now - since[host] < LONG_MS:
            continue
        name, pool = d.name(host), d.record.name or d.record.pool
        names = ", ".join(d.name(each) for each in waits_for(d, host)) or "its agent"
        hours = (d.now - since[host]) / 3_600_000
        body = (
            f"garbage collection of storage is held on {name} for {hours:.0f} h at least, since the failover that made "
        )
        body += f"it master: it waits for {names}, whose VMs may still write. Where that is known to be off for good: "
        body += f"poolwarden release {name} --gc"
        d.raise_alert(
            AlertTopic(Matter.GC, host), "warning", f"{pool}: garbage collection of storage is held on {name}", body
        )
