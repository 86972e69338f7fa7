"""A host that was succeeded: told as long as it is down, and told when it is back.

Rules
-----
* A host counts as down while it is left behind and not heard: it is still to be told that it is no longer the master,
  or is on record as dead in the boot in which it was heard last. The pool's verdict is Healthy all the while: it has a
  master. Of a host that has booted anew since, a later silence is another matter (the verdict MemberVanished).
* It is back when it is heard, was down until then or is still to be told, and is not attached yet. Both are over when
  it is an attached member, or no host any more.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.hosts import HOST_BACK, HOST_DOWN
from poolwarden_collector.core.followups.declare_dead import attached_again
from poolwarden_collector.core.followups.displaced_master import displaced
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state import told_words
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction


def watch_absent(tx: Transaction) -> None:
    """Raise what is so, and end what is so no more."""
    if tx.quiet:
        return
    behind = _left_behind(tx) if tx.failover is None else ()
    down = [host for host in behind if tx.heard(host) is None]
    told = {topic.host for topic in tx.open_topics if topic.matter in (Matter.HOST_DOWN, Matter.HOST_BACK)}
    heard = [host for host in sorted(told | set(behind), key=tx.name) if host in tx.record.hosts and tx.heard(host)]
    # One that was replaced while it was up has not been away (displaced_master.py tells of it).
    away = [host for host in heard if host in told or host != displaced(tx)]
    back = [host for host in away if host != tx.record.master and not attached_again(tx, host)]
    for topic in tx.open_topics:
        host = topic.host
        if topic.matter is Matter.HOST_DOWN and host not in down and (tx.failover is None or tx.heard(host)):
            gone = "is heard again" if tx.heard(host) is not None else "is no host of the pool any more"
            tx.resolve_alert(topic, f"{tx.name(host)} {gone}", final=True)
        elif topic.matter is Matter.HOST_BACK and host not in back and tx.failover is None:
            over = "is an attached member" if tx.heard(host) is not None else "is not heard any more"
            tx.resolve_alert(topic, f"{tx.name(host)} {over}", final=True)
    for host in down:
        _raise_down(tx, host)
    for host in back:
        _raise_back(tx, host)


def _left_behind(pool: Snapshot) -> tuple[HostId, ...]:
    owed = {item.host for item in pool.record.owed if item.what is OwedWork.TOMBSTONE}
    dead = {
        host
        for host, item in pool.record.after.dead.items()
        if (known := pool.record.hosts.get(host)) is not None and known.boot_id == item.boot_id
    }
    behind = (owed | dead) - {pool.record.master}
    return tuple(host for host in sorted(behind, key=pool.name) if host in pool.record.hosts)


def _raise_down(tx: Transaction, host: HostId) -> None:
    name, dead = tx.name(host), tx.record.after.dead.get(host)
    declared = dead is not None and dead.declared
    words = {
        "name": name,
        "uuid": host,
        "host_address": tx.record.address_of(host) or "address not known",
        "why": f"not heard since it was lost; {_its_vms(tx, host)}",
        "did": "told xapi that it is dead" if declared else "keeps it from acting as master when it returns",
    }
    tx.raise_alert(AlertTopic(Matter.HOST_DOWN, host), HOST_DOWN, "", words, host=host)


def _its_vms(pool: Snapshot, host: HostId) -> str:
    """What became of the VMs that ran there: of a host proven off in that boot it is known."""
    known, dead, agent = pool.record.hosts.get(host), pool.record.after.dead.get(host), pool.agent(host)
    proven = known is not None and dead is not None and known.boot_id == dead.boot_id
    count = len(agent.facts.domains or ()) if agent is not None else 0
    if proven and count:
        return f"proven off, {count} VM{'s' if count != 1 else ''} went down with it"
    return told_words.there(pool, host)


def _raise_back(tx: Transaction, host: HostId) -> None:
    name, master = tx.name(host), tx.name(tx.record.master)
    words = {
        "name": name,
        "did": f"tells it that {master} is the master now, and has it follow",
        "open": f"{name} is not attached yet; {told_words.running(tx)}",
    }
    tx.raise_alert(AlertTopic(Matter.HOST_BACK, host), HOST_BACK, "", words, host=host)
