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

from poolwarden_collector.core.catalogue.hosts import GC_HELD
from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence.left_behind import MAY_STILL_WRITE, is_off, writers
from poolwarden_collector.core.evidence.membership import follows
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.orders import ReleaseGc
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.live import PoolLive
from poolwarden_collector.core.state.order_delivery import pursue
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

_READ_EVERY_MS: Ms = 60_000
LONG_MS: Ms = 3_600_000


def release_where_due(tx: Transaction) -> None:
    """Let storage's garbage collection go on wherever it is held and need not be."""
    for host in sorted(tx.record.hosts, key=tx.name):
        agent = tx.heard(host)
        if agent is None or not agent.facts.gc_term or waits_for(tx, host):
            continue
        base = f"gc/{agent.facts.gc_term}/{host}/{agent.hello.boot_id}"
        pursue(
            tx, base, agent, ReleaseGc(), Kind.GC_INTENT, f"garbage collection of storage may go on on {tx.name(host)}"
        )


def wants_reading(pool: Snapshot, host: HostId) -> bool:
    """Is it worth knowing now whether this silent host is off, because another one waits for it?"""
    if pool.heard(host) is not None:
        return False
    held = [each for each in pool.record.hosts if (agent := pool.heard(each)) is not None and agent.facts.gc_term]
    if not held or view(pool, host).power is Power.OFF:
        return False
    states = [pool.live.power.get(device.name) for device in pool.devices(host)]
    read = max((state.started_at for state in states if state is not None), default=-_READ_EVERY_MS)
    return pool.now - read >= _READ_EVERY_MS and any(host in waits_for(pool, each) for each in held)


def waits_for(pool: Snapshot, host: HostId) -> tuple[HostId, ...]:
    """The hosts whose VMs may still write to disks that this one must not coalesce."""
    failover = pool.failover
    if failover is not None and failover.candidate == host and failover.old_master:
        held = (failover.old_master,) if failover.hold.order else ()
        if waits := (*held, *writers(pool, (host, failover.old_master))):
            return waits
    if not pool.record.master:
        return tuple(sorted(each for each in pool.record.hosts if each != host))  # nobody knows yet whose master it is
    if pool.record.master != host:
        return ()
    owed = {item.host for item in pool.record.owed if item.what in MAY_STILL_WRITE and item.host != host}
    agent, ended = pool.heard(host), pool.record.failover
    if agent is not None and agent.facts.gc_term and (ended is None or ended.term < agent.facts.gc_term):
        # safety: whose VMs write on is not known here; whoever follows is asked properly by sm itself.
        owed |= {each for each in pool.record.hosts if each != host and follows(pool, each, host)}
    return tuple(sorted(each for each in owed if not is_off(pool, each)))


def alert_waiting(tx: Transaction) -> None:
    """Name garbage collection that has been held for long, whom it waits for, and what ends it."""
    if tx.quiet:
        return
    held = [
        h for h in sorted(tx.record.hosts, key=tx.name) if (agent := tx.heard(h)) is not None and agent.facts.gc_term
    ]
    since = {host: tx.live.gc_since.get(host, tx.now) for host in held}
    # An agent that restarts lets nothing go, and makes no age anew.
    since |= {host: at for host, at in tx.live.gc_since.items() if host in tx.record.hosts and tx.heard(host) is None}
    if since != tx.live.gc_since:
        tx.change(PoolLive, gc_since=since)
    for topic in tx.open_topics:
        host = topic.host
        # One that is silent for a moment has not let go.
        if (
            topic.matter is Matter.GC
            and host not in held
            and (host not in tx.record.hosts or tx.heard(host) is not None)
        ):
            tx.resolve_alert(topic, f"garbage collection of storage is not held on {tx.name(host)} any more")
    for host in held:
        topic = AlertTopic(Matter.GC, host)
        if tx.now - since[host] < LONG_MS or tx.is_told(topic):
            continue
        name = tx.name(host)
        names = ", ".join(tx.name(each) for each in waits_for(tx, host)) or "its agent"
        hours = (tx.now - since[host]) / 3_600_000
        body = (
            f"garbage collection of storage is held on {name} for {hours:.0f} h at least, since the failover that made "
        )
        body += f"it master: it waits for {names}, whose VMs may still write. Where that is known to be off for good: "
        body += f"poolwarden release {name} --gc"
        words = {"name": name, "hours": f"{hours:.0f}", "names": names}
        tx.raise_alert(topic, GC_HELD, body, words)
