"""Witnesses that contradict each other about the master's xapi.

Theory: the master's agent says that its xapi is down (or held and stopped) without a break since an instant; another
host's probe was answered by that xapi well after that instant and not after the agent's last look. Both cannot be true
of one xapi: somebody else answers at its address, or the agent does not see what runs. Neither is believed: a restart
would hit the wrong process, and a toolstack fence has not stopped what it should have stopped.

Two such answers are needed, and a margin for the agents' own rhythm of looking: a xapi that crashes and comes back
between two looks contradicts nobody.
"""

from __future__ import annotations

from poolwarden_collector.core.evidence.signs import answered_by, fresh_probe, suspected
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

MARGIN_MS: Ms = 3_000


def watch_contradictions(d: Transaction) -> None:
    """Remember since when witnesses contradict each other, and how; forget it when they no longer do."""
    master = suspected(d)
    agent = d.heard(master)
    _note_stopped(d, agent)
    how = _how(d, master, agent) if agent is not None else ""
    if not how:
        if d.live.conflict is not None:
            d.change(conflict=None)
    elif d.live.conflict is None:
        d.change(conflict=(d.now, how))


def _note_stopped(d: Transaction, agent: AgentState | None) -> None:
    stopped = agent is not None and agent.facts.hold is not None and agent.facts.hold.stopped
    if not stopped and d.live.stopped_since is not None:
        d.change(stopped_since=None)
    elif stopped and d.live.stopped_since is None:
        d.change(stopped_since=d.now)


def _how(d: Snapshot, master: HostId, agent: AgentState) -> str:
    x, at = agent.facts.xapi, agent.facts.observed.xapi or agent.last_heard
    if d.live.stopped_since is not None:
        said, since = "its toolstack is held and stopped", d.live.stopped_since
    elif x.liveness is Liveness.DOWN and x.liveness_since is not None:
        said, since = "its xapi is down", x.liveness_since
    else:
        return ""
    for host in sorted(d.live.agents):
        probe = fresh_probe(d, host, master) if host != master else None
        if probe is not None and answered_by(d, host, probe) and since + MARGIN_MS <= probe.probed_at <= at:
            return f"{d.name(master)}'s agent says that {said}, and {d.name(host)}'s probe of that xapi is answered"
    return ""
