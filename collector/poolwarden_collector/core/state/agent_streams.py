"""What each agent was last heard to say: the one place where an agent's state is put, touched and forgotten."""

from __future__ import annotations

from collections.abc import Collection

from poolwarden_collector.core.model.changed import changed
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.live import AgentState, PoolLive
from poolwarden_collector.core.state.transaction import Transaction


def put(tx: Transaction, state: AgentState) -> None:
    """This is what is known of that host's agent now."""
    tx.change(PoolLive, agents={**tx.live.agents, state.hello.host: state})


def touch(tx: Transaction, agent: AgentState) -> None:
    """Something of it has just arrived that is no report: it lives."""
    put(tx, changed(agent, last_heard=max(agent.last_heard, tx.asof)))


def forget(tx: Transaction, hosts: Collection[HostId]) -> None:
    """These are no hosts of the pool any more."""
    tx.change(PoolLive, agents={host: agent for host, agent in tx.live.agents.items() if host not in hosts})
