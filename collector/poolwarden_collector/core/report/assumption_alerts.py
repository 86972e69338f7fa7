"""Alerts of what failed on a host, one per host and capability that rests on it, for as long as it stands."""

from __future__ import annotations

from poolwarden.assumptions import CAPABILITIES
from poolwarden_collector.core.catalogue.hosts import ASSUMPTION_FAILS, ASSUMPTION_FAILS_SHOWN
from poolwarden_collector.core.evidence.assumptions import NOT_BY_ITSELF, failed
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.transaction import Transaction


def watch(tx: Transaction) -> None:
    """Tell of each capability on each host of which something failed; end what is over. In every pass."""
    standing = {
        AlertTopic(Matter.ASSUMPTION, host, capability.replace(" ", "-")): (host, capability)
        for host in tx.record.assumptions
        for capability in CAPABILITIES
        if failed(tx, host, capability)
    }
    for topic, (host, capability) in standing.items():
        _tell(tx, topic, host, capability)
    for topic in tx.open_topics:
        if topic.matter is Matter.ASSUMPTION and topic not in standing:
            tx.resolve_alert(topic, f"it holds on {tx.name(topic.host)} again, or is to be seen under another release")


def _tell(tx: Transaction, topic: AlertTopic, host: HostId, capability: str) -> None:
    found, name = failed(tx, host, capability), tx.name(host)
    restricted = NOT_BY_ITSELF.get(capability, "")
    what = "; ".join(f"{each.id} fails ({each.evidence or 'no evidence was told'})" for each in found)
    body = f"On {name} {what}." + (f" Not done by itself there: {restricted}." if restricted else "")
    words = {"name": name, "capability": capability, "what": what, "restricted": restricted}
    message = ASSUMPTION_FAILS if restricted else ASSUMPTION_FAILS_SHOWN
    tx.raise_alert(topic, message, body, words, host=host, assumptions=[each.id for each in found])
