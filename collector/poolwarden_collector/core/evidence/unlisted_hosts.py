"""Hosts that say they are of this pool that its master does not list: what they report is kept apart.

Theory: a certificate says which host an agent speaks for, not of which pool that host is; that is its own claim. Who is
of a pool says the pool's serving master, whose database has a row for each host (xapi: ocaml/idl/datamodel_host.ml).

Rules
-----
* ``PoolRecord.listed`` are the hosts that the master on record listed while it was verified as serving it; durable, so
  that it is known when that master has vanished. The list of any other host, or of another pool, changes nothing.
* A host that is neither on it nor on record has no voice: its facts are kept aside, it is no member, no witness, no
  survivor and no candidate, nobody asks it and it can neither hold the pool nor block it.
* It is let in when the master lists it (it has just joined), or when a host of the list follows it as its master: a
  role that was handed to a new host while nobody looked.
* A candidate must be on the list, whatever else speaks for it.
* A master on record whose view is another pool's has loaded that pool's database: what it lists is nobody's word here,
  and an operator is told at once.
* Where no list is known (a journal from before there were lists, a lost one) everybody who says so is of the pool, and
  nothing is done by itself: an operator is asked. A candidate must then be among the hosts of every member's own
  database that has been read for this failover: a host that has only its own word is in none but its own.
"""

from __future__ import annotations

from dataclasses import replace

from poolwarden_collector.core.catalogue.hosts import OTHER_DATABASE, STRANGER
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import AgentConnected, AgentGone, AgentReported
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.live import AgentState, PoolLive
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

TOLD_AFTER_MS: Ms = 120_000  # a host that joins is listed within a few views


def is_stranger(pool: Snapshot, host: HostId) -> bool:
    """Does this host belong to the pool by nobody's word but its own?"""
    listed = pool.record.listed
    return bool(listed) and host not in listed and host not in pool.record.hosts


def unlisted(pool: Snapshot, host: HostId) -> str:
    """Why this host may not succeed as far as the master's list goes; empty if it is on it, or none is known."""
    listed = pool.record.listed
    return "" if not listed or host in listed else "it was never listed by this pool's master"


def in_no_copy(pool: Snapshot, host: HostId) -> str:
    """Where no list is known: whose database, as told with its claim, does not have this host; empty: every one has.

    A database that cannot be read, or whose agent does not tell its hosts, speaks neither for nor against anybody.
    """
    if pool.record.listed:
        return ""
    told = {other: claim.placements for other, claim in sorted(pool.live.claims.answers.items())}
    # safety: no master's list stands behind it; one member's database that does not know it is enough.
    without = [other for other, file in told.items() if file is not None and file.hosts and host not in file.hosts]
    names = " and ".join(pool.name(other) for other in without)
    return f"no master's list is known, and the database of {names} does not have it" if without else ""


def no_list(pool: Snapshot) -> str:
    """Why nothing is done by itself where nobody has said who is of the pool; empty if somebody has."""
    return "no master has listed this pool's hosts to this collector yet" if not pool.record.listed else ""


def connected(tx: Transaction, event: AgentConnected) -> None:
    """A stranger has opened a stream."""
    before = tx.live.strangers.get(event.hello.host)
    since = before.connected_at if before is not None else tx.now
    state = AgentState(event.hello, event.stream, True, tx.now, connected_at=since)
    tx.change(PoolLive, strangers={**tx.live.strangers, event.hello.host: state})


def reported(tx: Transaction, event: AgentReported) -> None:
    """A stranger's facts are kept, so that they are there when it is let in."""
    state = tx.live.strangers.get(event.host)
    if state is not None and state.stream == event.stream:
        heard = replace(state, facts=event.facts, reported=True, last_heard=tx.now)
        tx.change(PoolLive, strangers={**tx.live.strangers, event.host: heard})


def gone(tx: Transaction, event: AgentGone) -> None:
    """A stranger's stream has ended."""
    state = tx.live.strangers.get(event.host)
    if state is not None and state.stream == event.stream:
        tx.change(PoolLive, strangers={**tx.live.strangers, event.host: replace(state, connected=False)})


def let_in(tx: Transaction) -> list[AgentState]:
    """Who is no stranger any more: taken out of those kept aside, for the caller to take in as a host of the pool."""
    found = [state for host, state in tx.live.strangers.items() if not is_stranger(tx, host) or _followed(tx, state)]
    if found:
        hosts = {state.hello.host for state in found}
        tx.change(PoolLive, strangers={host: state for host, state in tx.live.strangers.items() if host not in hosts})
        for host in sorted(hosts):
            _resolve(tx, host, "it is of this pool now")
    return found


def _followed(pool: Snapshot, state: AgentState) -> bool:
    """Does a heard host of the list follow this one as its master, by pool.conf and by its running process?"""
    address = state.facts.address or state.hello.address
    for host in pool.record.listed:
        agent = pool.heard(host)
        if not address or agent is None or agent.facts.role.pool_conf is not Role.MEMBER:
            continue
        role = agent.facts.role
        if role.master_address == address == role.running_master_address and role.running is Role.MEMBER:
            return state.facts.role.serves_as_master
    return False


def watch_unlisted(tx: Transaction) -> None:
    """Tell a person of a stranger that stays one; it is over when it has not been heard for as long."""
    for host, state in tx.live.strangers.items():
        topic = AlertTopic(Matter.STRANGER, host)
        silent = tx.now - state.last_heard
        if topic in tx.open_topics:
            if silent >= TOLD_AFTER_MS and not state.connected:
                _resolve(tx, host, "it is not heard any more")
        elif tx.now - state.connected_at >= TOLD_AFTER_MS and silent < tx.policy.suspect_after and tx.record.master:
            name = state.hello.name or host
            why = f"{name} ({host}) says that it is of this pool, and {tx.name(tx.record.master)} does not list it"
            tx.note(Kind.STRANGER, f"{why}: it has no voice here", host=host)
            body = (
                f"{why}. It is no member and no candidate here. Look at pool and agent on {name}; if it is to be of "
                "this pool: xe pool-join. It is over when it is listed, or not heard for two minutes."
            )
            tx.raise_alert(topic, STRANGER, body, {"name": name, "uuid": host}, host=host)


def other_pools_database(pool: Snapshot) -> str:
    """Does the master on record serve another pool's database? In one sentence without a full stop; empty: no."""
    agent = pool.heard(pool.record.master)
    seen = agent.facts.pool_view if agent is not None and agent.facts.role.serves_as_master else None
    if seen is None or seen.master != pool.record.master or seen.pool in ("", pool.record.pool):
        return ""
    other = f"{seen.name} ({seen.pool})" if seen.name else seen.pool
    name = pool.name(pool.record.master)
    return f"{name} serves the database of another pool, {other}: xapi has loaded it from its disk"


def watch_database(tx: Transaction) -> None:
    """Tell of a master that serves another pool's database; over when a master on record serves this pool's again."""
    topic = AlertTopic(Matter.OTHER_DATABASE)
    why = other_pools_database(tx)
    if why:
        name = tx.name(tx.record.master)
        body = (
            f"{why}. This pool's hosts and VMs are not in it: nothing can be started, and each start of a xapi kills "
            f"VMs that it does not know. The pool's own database is on its members (/var/lib/xcp/state.db and "
            f"state.db.generation there). On {name}: systemctl stop xapi, put both files of the member with the "
            f"highest generation in place of its own, systemctl start xapi."
        )
        tx.raise_alert(topic, OTHER_DATABASE, body, {"name": name, "why": why}, host=tx.record.master)
    elif topic in tx.open_topics and tx.heard(tx.record.master) is not None and _serves_own(tx):
        tx.resolve_alert(topic, f"{tx.name(tx.record.master)} serves this pool's database")


def _serves_own(pool: Snapshot) -> bool:
    agent = pool.heard(pool.record.master)
    seen = agent.facts.pool_view if agent is not None and agent.facts.role.serves_as_master else None
    return seen is not None and seen.master == pool.record.master and seen.pool == pool.record.pool


def _resolve(tx: Transaction, host: HostId, text: str) -> None:
    tx.resolve_alerts(Matter.STRANGER, host, text)
