"""The alert that a key of a known host waits for a person: one for each such key."""

from __future__ import annotations

from poolwarden_collector.core.catalogue.hosts import KEY_WAITS
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.shell.store.enrolment_tables import CERTIFIED, DENIED, WAITING, HostKey

MESSAGE = KEY_WAITS.id


def key_of_alert(key: HostKey) -> str:
    """The key of the alert about this one."""
    return f"{key.pool}/second-key-{key.key[:16]}"


def raised(key: HostKey, pool: str) -> AlertRaised:
    """It waits; ``pool``: its name for people."""
    words = {"pool": pool, "name": key.host_name or key.host, "why": key.text, "key": key.key[:16]}
    told = KEY_WAITS.told(words)
    facts: dict[str, object] = {"pool": pool, "message": told.id, "host": key.host, "key": key.key}
    return AlertRaised(key_of_alert(key), told.severity, told.title, told.body(key.text), facts)


def resolved(key: HostKey) -> AlertResolved:
    """It waits no more: by whom that was decided. Raises ValueError for one that waits."""
    if key.state == WAITING:
        raise ValueError("it waits")
    if key.state == DENIED:
        return AlertResolved(key_of_alert(key), "it was denied")
    word = "accepted" if key.state == CERTIFIED else key.state
    return AlertResolved(key_of_alert(key), f"{key.actor} has {word} it")
