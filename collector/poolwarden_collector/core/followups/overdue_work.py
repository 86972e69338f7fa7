"""Owed work that has been owed for long: told once per host and work, with what it waits for and what ends it.

Rules
-----
* Ages are counted from this run's start at the earliest: nothing here is durable but the alert itself.
* What has an alert of its own (a release that is refused, garbage collection) is not told twice.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.hosts import OVERDUE
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.live import PoolLive
from poolwarden_collector.core.state.pool_record import Owed, OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

LONG_MS: Ms = 3_600_000
_WAITS: dict[OwedWork, str] = {
    OwedWork.TOMBSTONE: "to be told that it is no longer the master",
    OwedWork.REPOINT: "to be pointed at the master",
    OwedWork.RELEASE: "for its xapi to be let start",
    OwedWork.REMOVE_DATABASE: "for a copied database to be removed there",
    OwedWork.WAKE: "to be powered on again",
    OwedWork.DECLARE_DEAD: "to be declared dead in xapi",
}


def say(tx: Transaction) -> None:
    """Raise what is overdue, resolve what is owed no more."""
    if tx.quiet:
        return
    since = {(item.host, item.what): tx.live.owed_since.get((item.host, item.what), tx.now) for item in tx.record.owed}
    if since != tx.live.owed_since:
        tx.change(PoolLive, owed_since=since)
    for topic in tx.open_topics:
        if topic.matter is Matter.OVERDUE and (topic.host, topic.detail) not in since:
            tx.resolve_alert(topic, f"{tx.name(topic.host)} waits for that no more")
    for item in tx.record.owed:
        if tx.now - since[item.host, item.what] >= LONG_MS:
            _tell(tx, item)


def age(pool: Snapshot, item: Owed) -> Ms:
    """For how long at least this has been owed, ms."""
    return pool.now - pool.live.owed_since.get((item.host, item.what), pool.now)


def _tell(tx: Transaction, item: Owed) -> None:
    name = tx.name(item.host)
    if item.what is OwedWork.RELEASE and any(
        t.matter is Matter.RELEASE and t.host == item.host for t in tx.open_topics
    ):
        return
    ends = _ends(tx, item, name)
    body = f"{name} has waited for an hour {_WAITS[item.what]}. {ends}"
    words = {"name": name, "work": _WAITS[item.what], "ends": ends}
    tx.raise_alert(AlertTopic(Matter.OVERDUE, item.host, item.what.value), OVERDUE, body, words)


def _ends(pool: Snapshot, item: Owed, name: str) -> str:
    if item.what is OwedWork.WAKE:
        return f"Its devices were asked and could not do it so far. poolwarden fence on {name}"
    heard = pool.heard(item.host) is not None
    look = f"It is heard; look at poolwarden explain {pool.record.display_name}"
    wait = look if heard else "Its agent is not heard: it is done when it is"
    if item.what is OwedWork.DECLARE_DEAD:
        return f"{wait}; or by hand: poolwarden declare-dead {name}"
    if item.what is OwedWork.REPOINT and not heard:
        address = pool.record.address_of(pool.record.master)
        wait += ". If it runs: start its agent, or on it, after a look at its VMs: xe pool-emergency-reset-master "
        wait += f"master-address={address}"
    gone = f"If {name} never comes back: xe host-forget (the master no longer lists it then, and nothing is owed to it)"
    return f"{wait}. {gone}"
