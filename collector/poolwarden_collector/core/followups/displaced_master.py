"""An old master that somebody else replaced, and whose xapi runs as master still: two masters in the making.

Rules
-----
* Whoever changes the master of a pool by xapi's own switchover leaves an old master that follows the new one
  (xapi: ocaml/xapi/xapi_pool_transition.ml). One whose xapi runs as master ten seconds after the other has taken the
  role, and would start as one again, was replaced without its knowledge: by another tool or by hand, and without a
  fence. One that only has not stopped yet gets a minute. One that does not run waits at its boot gate
  (recovery/boot_gate.py).
* It is told at once as critical, and the host is owed its tombstone: a hanging xapi that wakes, or is restarted, must
  not serve beside the new master. In mode observe it is told, with what a person can do.
* While that change of master holds (announcements.py) it keeps its tombstone also as a member: whoever promotes without
  a fence may do it again.
* One that starts as master though it was marked was given the role back meanwhile: it has a minute to serve. Where it
  is the master on record again, nothing of it is told any more.
* Where both serve nothing is owed: which of them is the master is a person's choice.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.hosts import OLD_MASTER_RUNS
from poolwarden_collector.core.evidence.announcements import announced_hold
from poolwarden_collector.core.evidence.signs import serving
from poolwarden_collector.core.evidence.verdict import AnnouncedHold
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

# By then the report of an old master whose pool.conf was rewritten has come.
TOLD_MS: Ms = 10_000
# xapi's own switchover rewrites pool.conf of the old master first; its process ends when its threads let it.
STOPPED_MS: Ms = 60_000


def watch_displaced(tx: Transaction) -> None:
    """Owe the tombstone, tell of it, and end what was told when it is so no more."""
    if tx.quiet or tx.failover is not None:
        return
    host = displaced(tx)
    for topic in tx.open_topics:
        if topic.matter is not Matter.OLD_MASTER_RUNS:
            continue
        if topic.host == tx.record.master:
            tx.resolve_alert(topic, f"{tx.name(topic.host)} is the master again", final=True)
        elif not _runs_as_master(tx, topic.host):
            tx.resolve_alert(topic, f"the xapi of {tx.name(topic.host)} runs as master no more", final=True)
    if not host:
        return
    name, master = tx.name(host), tx.name(tx.record.master)
    words = {"name": name, "doing": _doing(tx, master), "step": _step(tx, host)}
    tx.raise_alert(AlertTopic(Matter.OLD_MASTER_RUNS, host), OLD_MASTER_RUNS, "", words, host=host)
    # In mode observe nothing is done by itself: it is told, with the command.
    if not _owed(tx, host) and tx.policy.mode != "observe":
        # safety: the master on record is verified to serve, and this host does not: nobody is chosen by this.
        text = f"{name} is owed its tombstone: its xapi runs as master, though {master} has taken the role over"
        tx.note(Kind.OWED, text, host=host, what=OwedWork.TOMBSTONE.value, successor=tx.record.master)


def _doing(pool: Snapshot, master: str) -> str:
    if pool.policy.mode == "observe":
        return "nothing: the pool's mode is observe"
    if pool.record.paused is not None:
        return f"nothing: the pool is paused ({pool.record.paused})"
    return f"keeps it from serving again: marks it as superseded and makes it a member of {master}"


def _step(pool: Snapshot, host: HostId) -> str:
    tool = f"find out what promoted {pool.name(pool.record.master)}, and switch that tool off"
    if pool.policy.mode == "observe":
        address = pool.record.address_of(pool.record.master)
        on = f"on {pool.name(host)}: xe-toolstack-restart once /etc/xensource/pool.conf says slave:{address}"
        return f"{on}; {tool}: poolwarden history {pool.record.display_name}"
    resume = f"poolwarden resume {pool.record.display_name}; " if pool.record.paused is not None else ""
    return f"{resume}{tool}: poolwarden history {pool.record.display_name}"


def keeps_its_mark(pool: Snapshot, host: HostId) -> bool:
    """Is this the old master of a change of master that nobody here ordered, and that holds still?"""
    change = pool.record.transition
    return change is not None and change.before == host and announced_hold(pool) is AnnouncedHold.TRANSITION


def displaced(pool: Snapshot) -> HostId:
    """The old master of a change that nobody here ordered, where it acts as master still; empty: there is none."""
    change, since = pool.record.transition, pool.live.mastership.since
    if change is None or change.host != pool.record.master or serving(pool) != (pool.record.master,):
        return ""
    began = since or pool.site.started_at
    agent = pool.heard(change.before) if _runs_as_master(pool, change.before) else None
    if agent is None or _given_back(pool, agent):
        return ""
    configured = agent.facts.role.pool_conf is Role.MASTER or _owed(pool, change.before)
    return change.before if pool.now - began >= (TOLD_MS if configured else STOPPED_MS) else ""


def _runs_as_master(pool: Snapshot, host: HostId) -> bool:
    """Does its agent say that its xapi runs as master?"""
    agent = pool.heard(host) if host else None
    return agent is not None and agent.facts.role.running is Role.MASTER


def _given_back(pool: Snapshot, agent: AgentState) -> bool:
    """Was it marked, and does its xapi start as master all the same, for less than a minute?"""
    xapi = agent.facts.xapi
    if agent.facts.tombstone is None or xapi.liveness is not Liveness.STARTING or xapi.liveness_since is None:
        return False
    return pool.now - xapi.liveness_since < STOPPED_MS


def _owed(pool: Snapshot, host: HostId) -> bool:
    return any(item.host == host and item.what is OwedWork.TOMBSTONE for item in pool.record.owed)
