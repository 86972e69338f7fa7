"""Witnesses that contradict each other about the master's xapi.

Theory: the master's agent says that its xapi is down (or held and stopped) without a break since an instant; another
host's probe was answered by that xapi well after that instant and not after the agent's last look. Both cannot be true
of one xapi: somebody else answers at its address, or the agent does not see what runs. Neither is believed: a restart
would hit the wrong process, and a toolstack fence has not stopped what it should have stopped.

The other kind: a host says that it serves as master while the agent of the one on record is silent, and a third one is
attached to that one and reaches its xapi. One host's word makes no master where another host's stands against it.

Two such answers are needed, and a margin for the agents' own rhythm of looking: a xapi that crashes and comes back
between two looks contradicts nobody.
"""

from __future__ import annotations

from poolwarden_collector.core.evidence.signs import answered_by, fresh_probe, serving, settled, suspected
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.live_slices import Contradictions
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

MARGIN_MS: Ms = 3_000


def watch_contradictions(tx: Transaction) -> None:
    """Remember since when witnesses contradict each other, and how; forget it when they no longer do."""
    master = suspected(tx)
    agent = tx.heard(master)
    _note_stopped(tx, agent)
    how = _how(tx, master, agent) if agent is not None else _claimed(tx, master)
    if not how:
        if tx.live.contradictions.conflict is not None:
            tx.change(Contradictions, conflict=None)
    elif tx.live.contradictions.conflict is None:
        tx.change(Contradictions, conflict=(tx.now, how))


def attached_elsewhere(pool: Snapshot, claims: HostId, master: HostId) -> str:
    """Who speaks against it that ``claims`` is master in place of ``master``, whose agent is silent; empty: nobody."""
    if not master or master == claims or pool.heard(master) is not None:
        return ""
    for host in sorted(pool.record.hosts, key=pool.name):
        agent, probe = pool.heard(host), fresh_probe(pool, host, master)
        if agent is None or host in (claims, master) or probe is None or not answered_by(pool, host, probe):
            continue
        x = agent.facts.xapi
        if settled(pool, agent, master) and x.liveness is Liveness.ANSWERS and not x.orphaned:
            return pool.name(host)
    return ""


def _claimed(pool: Snapshot, master: HostId) -> str:
    for host in serving(pool):
        if against := attached_elsewhere(pool, host, master):
            name = pool.name(master)
            return (
                f"{pool.name(host)} says that it serves as master, and {against} is a member of {name} and reaches it"
            )
    return ""


def _note_stopped(tx: Transaction, agent: AgentState | None) -> None:
    stopped = agent is not None and agent.facts.hold is not None and agent.facts.hold.stopped
    if not stopped and tx.live.contradictions.stopped_since is not None:
        tx.change(Contradictions, stopped_since=None)
    elif stopped and tx.live.contradictions.stopped_since is None:
        tx.change(Contradictions, stopped_since=tx.now)


def _how(pool: Snapshot, master: HostId, agent: AgentState) -> str:
    x, at = agent.facts.xapi, agent.facts.observed.xapi or agent.last_heard
    if pool.live.contradictions.stopped_since is not None:
        said, since = "its toolstack is held and stopped", pool.live.contradictions.stopped_since
    elif x.liveness is Liveness.DOWN and x.liveness_since is not None:
        said, since = "its xapi is down", x.liveness_since
    else:
        return ""
    for host in sorted(pool.live.agents):
        probe = fresh_probe(pool, host, master) if host != master else None
        if probe is not None and answered_by(pool, host, probe) and since + MARGIN_MS <= probe.probed_at <= at:
            return (
                f"{pool.name(master)}'s agent says that {said}, and {pool.name(host)}'s probe of that xapi is answered"
            )
    return ""
