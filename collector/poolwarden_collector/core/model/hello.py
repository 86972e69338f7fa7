"""How an agent's stream opens: which machine it speaks for, in which boot, with which abilities."""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.model.host_facts import BootGate, Machine, Tombstone, ToolstackHold
from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.values import HostId, PoolId


@dataclass(frozen=True, slots=True)
class Hello:
    """How an agent opened its stream."""

    host: HostId
    pool: PoolId
    boot_id: str
    name: str
    address: str
    agent_version: str
    capabilities: frozenset[str]
    machine: Machine = Machine()
    highest_epoch: int = 0
    highest_term: int = 0
    tombstone: Tombstone | None = None
    last_results: tuple[OrderOutcome, ...] = ()
    python_version: str = ""
    hold: ToolstackHold | None = None
    boot_gate: BootGate | None = None
    fence_agents: frozenset[str] = frozenset()  # names of the fence agents that it may run for others
