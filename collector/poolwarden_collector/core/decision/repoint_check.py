"""May a host be pointed at the master now by itself? Else a person is asked, once per reason."""

from __future__ import annotations

from poolwarden.assumptions import FORECAST, REPOINT
from poolwarden_collector.core.catalogue.hosts import NOT_REPOINTED
from poolwarden_collector.core.decision.database_contents import WAITING, at_stake, killing
from poolwarden_collector.core.evidence import assumptions
from poolwarden_collector.core.model.reasons import Reason
from poolwarden_collector.core.model.values import HostId, Role
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction


def repoint_refusal(tx: Transaction, host: HostId) -> Reason | None:
    """Why this host, whose VMs were in no forecast, must not be pointed at the master now; None if it may."""
    kills = at_stake(tx, host)
    if kills is None or isinstance(kills, Reason):
        return WAITING if kills is None else kills
    names = ", ".join(f"{kill.name} ({kill.why})" for kill in kills)
    return killing(kills, f"its xapi would kill {len(kills)} running VMs there: {names}") if kills else None


def rests_on_failed(pool: Snapshot, agent: AgentState) -> Reason | None:
    """What failed on this host of what pointing it at a master rests on; None where that is done by itself.

    It is asked about then, as a repair (member_repair.py). A host that is or may become a second master is never asked
    about: what makes it a member keeps the disks whole.
    """
    if Role.MASTER in (agent.facts.role.pool_conf, agent.facts.role.running) or agent.facts.tombstone is not None:
        return None
    return assumptions.refusal(pool, agent.hello.host, REPOINT, FORECAST)


def may_be_pointed(tx: Transaction, host: HostId) -> bool:
    """A host whose VMs were in no forecast: is any of them at stake? Then a person is asked, once per reason."""
    why = repoint_refusal(tx, host)
    topic = AlertTopic(Matter.REPOINT, host, why.key) if why else None
    tx.resolve_alerts(Matter.REPOINT, host, "the reason is gone" if not why else "the reason has changed", but=topic)
    if why is not None and topic is not None and why != WAITING:
        name = tx.name(host)
        tx.raise_alert(topic, NOT_REPOINTED, f"{name}: {why}", {"name": name, "why": why.text})
    return why is None
