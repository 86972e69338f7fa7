"""Owed work that has been owed for long: told once per host and work, with what it waits for and what ends it.

Rules
-----
* Ages are counted from this run's start at the earliest: nothing here is durable but the alert itself.
* What has an alert of its own (a release that is refused, garbage collection) is not told twice.
"""

from __future__ import annotations

from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.pool_record import Owed, OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

LONG_MS: Ms = 3_600_000
_WORDS: dict[OwedWork, str] = {
    OwedWork.TOMBSTONE: "its tombstone: it must not act as master when it returns",
    OwedWork.REPOINT: "to be pointed at the master",
    OwedWork.RELEASE: "the release of its toolstack",
    OwedWork.REMOVE_DATABASE: "the removal of the database that was placed there",
    OwedWork.WAKE: "to be powered on again",
    OwedWork.DECLARE_DEAD: "to be declared dead in xapi",
}


def say(d: Transaction) -> None:
    """Raise what is overdue, resolve what is owed no more."""
    if d.quiet:
        return
    since = {(item.host, item.what): d.live.owed_since.get((item.host, item.what), d.now) for item in d.record.owed}
    if since != d.live.owed_since:
        d.change(owed_since=since)
    for topic in d.open_topics:
        if topic.matter is Matter.OVERDUE and (topic.host, topic.detail) not in since:
            d.resolve_alert(topic, f"{d.name(topic.host)} is owed that no more")
    for item in d.record.owed:
        if d.now - since[item.host, item.what] >= LONG_MS:
            _tell(d, item)


def age(d: Snapshot, item: Owed) -> Ms:
    """For how long at least this has been owed, ms."""
    return d.now - d.live.owed_since.get((item.host, item.what), d.now)


def _tell(d: Transaction, item: Owed) -> None:
    name, pool = d.name(item.host), d.record.name or d.record.pool
    if item.what is OwedWork.RELEASE and any(t.matter is Matter.RELEASE and t.host == item.host for t in d.open_topics):
        return
    body = f"{name} has been owed {_WORDS[item.what]} for an hour. {_ends(d, item, name)}"
    d.raise_alert(
        AlertTopic(Matter.OVERDUE, item.host, item.what.value),
        "warning",
        f"{pool}: {name} is still owed something",
        body,
    )


def _ends(d: Snapshot, item: Owed, name: str) -> str:
    if item.what is OwedWork.WAKE:
        return f"Its devices were asked and could not do it so far. poolwarden fence on {name}"
    heard, pool = d.heard(item.host) is not None, d.record.name or d.record.pool
    wait = (
        f"It is heard; look at poolwarden explain {pool}" if heard else "Its agent is not heard: it is done when it is"
    )
    if item.what is OwedWork.DECLARE_DEAD:
        return f"{wait}; or by hand: poolwarden declare-dead {name}"
    if item.what is OwedWork.REPOINT and not heard:
        address = d.record.address_of(d.record.master)
        wait += ". If it runs: start its agent, or on it, after a look at its VMs: xe pool-emergency-reset-master "
        wait += f"master-address={address}"
    gone = f"If {name} never comes back: xe host-forget (the master no longer lists it then, and nothing is owed to it)"
    return f"{wait}. {gone}"
