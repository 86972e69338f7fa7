"""One UUID, two machines; one host, two pools: whose word is whose is not known, so nothing is done there.

Rules
-----
* A boot id is random and never comes back. A host whose earlier boot is heard after a later one is two machines that
  push each other off the stream: at once if their DMI identities differ, at the second return if these are not known
  (one Hello may have been under way for long).
* A host on record here that says it is of another pool is refused when it arrives. If this pool still sees it, it is in
  two pools and this one is frozen; if not, it was moved, and only the registration is told to a person.
* A message that claims what cannot be (a number out of all bounds) was refused when it arrived. It is a sign of life of
  that host all the same, and it is told once; nobody else is concerned.
* The freeze is durable and ends by itself when no sign of the conflict has come for ``boot_grace``: a clone that was
  switched off says nothing more. A restarted collector counts that anew.
"""

from __future__ import annotations

from dataclasses import replace

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import HostElsewhere, HostRefused
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

BOOTS_KEPT = 8
RETURNS = 2
VIEW_FRESH_MS: Ms = 30_000


def conflict(d: Snapshot) -> bool:
    """Is any host's identity in conflict?"""
    return bool(d.record.identity)


def conflict_sentence(d: Snapshot) -> str:
    """Every conflict in one sentence; empty if there is none."""
    return "; ".join(why for _, why in sorted(d.record.identity.items()))


def watch_boots(d: Transaction, hello: Hello) -> None:
    """Hold a Hello against the boots of this host that were heard before; to be called before it is taken in."""
    host, known = hello.host, d.record.hosts.get(hello.host)
    boots = d.live.boots.get(host) or ((known.boot_id,) if known is not None and known.boot_id else ())
    if hello.boot_id in boots[:-1]:
        _returned(d, hello, known.system_uuid if known is not None else "")
    others = tuple(boot for boot in boots if boot != hello.boot_id)
    d.change(boots={**d.live.boots, host: (*others, hello.boot_id)[-BOOTS_KEPT:]})


def _returned(d: Transaction, hello: Hello, machine: str) -> None:
    host, here = hello.host, hello.machine.system_uuid
    count = d.live.returned.get(host, 0) + 1
    d.change(returned={**d.live.returned, host: count})
    differ = bool(machine) and bool(here) and machine != here
    if not differ and count < RETURNS:
        return
    machines = f"machines {machine} and {here}" if differ else "two machines"
    _freeze(d, host, f"{machines} both say that they are {d.name(host)} ({host}): a cloned host?")


def elsewhere(d: Transaction, event: HostElsewhere) -> None:
    """A host on record here was refused because it says that it is of another pool."""
    host = event.host
    if host not in d.record.hosts:
        return
    text = f"{d.name(host)} ({host}) is of this pool and now says that it is of pool {event.claims}"
    if _seen_here(d, host):
        _freeze(d, host, f"{text}; this pool still sees it")
        return
    d.change(identity_at={**d.live.identity_at, host: d.now})
    topic = AlertTopic(Matter.REGISTRATION, host)
    if topic not in d.open_topics:
        d.note(Kind.IDENTITY, f"{text}; it was refused", host=host, why=text, frozen=False)
        title = f"{d.record.name or d.record.pool}: {d.name(host)} was refused: it says that it is of another pool"
        body = (
            f"{text}. Eject it here first (xe pool-eject), or correct its agent's pool; it is heard nowhere until then."
        )
        d.raise_alert(topic, "warning", title, body, host=host, claims=event.claims)


def refused(d: Transaction, event: HostRefused) -> None:
    """A message of a host on record was refused for what it claims: told once, and that host lives."""
    host = event.host
    if host not in d.record.hosts:
        return
    agent = d.agent(host)
    if agent is not None:
        d.change(agents={**d.live.agents, host: replace(agent, last_heard=max(agent.last_heard, d.asof))})
    d.change(identity_at={**d.live.identity_at, host: d.now})
    topic = AlertTopic(Matter.REFUSED, host)
    if topic in d.open_topics:
        return
    d.note(Kind.HOST_REFUSED, f"a message of {d.name(host)} was refused: {event.why}", host=host, why=event.why)
    title = f"{d.record.name or d.record.pool}: {d.name(host)}'s agent was refused: it claims what cannot be"
    body = (
        f"{event.why}. Nothing of that message was taken, and no other host is concerned. On {d.name(host)}: "
        "systemctl status poolwarden-agent. If the number is true (this collector's journal is lost), set epoch_above "
        "(or term_above) in its configuration and restart it. It is over when nothing was refused for ten minutes."
    )
    d.raise_alert(topic, "warning", title, body, host=host, why=event.why)


def _seen_here(d: Snapshot, host: HostId) -> bool:
    """Is its agent heard in this pool, or does the serving master have it live?"""
    if d.heard(host) is not None:
        return True
    master = d.heard(d.record.master)
    seen = master.facts.pool_view if master is not None and master.facts.role.serves_as_master else None
    at = master.facts.observed.pool_view if master is not None else None
    if seen is None or at is None or d.now - at > VIEW_FRESH_MS:
        return False
    return any(item.host == host and item.live for item in seen.hosts)


def _freeze(d: Transaction, host: HostId, why: str) -> None:
    d.change(identity_at={**d.live.identity_at, host: d.now})
    if host not in d.record.identity:
        d.note(Kind.IDENTITY, f"identity conflict: {why}; the pool is frozen", host=host, why=why, frozen=True)


def expire(d: Transaction) -> None:
    """End what has shown no sign for ``boot_grace``."""
    for host in sorted(d.record.identity):
        if _quiet_for(d, host) >= d.policy.boot_grace:
            text = f"no sign any more of a second {d.name(host)}: the pool is not frozen any more"
            d.note(Kind.IDENTITY, text, host=host, why="", frozen=False)
            d.change(returned={name: n for name, n in d.live.returned.items() if name != host})
    over = {Matter.REGISTRATION: "it has not asked any more", Matter.REFUSED: "nothing more was refused"}
    for topic in d.open_topics:
        if topic.matter in over and _quiet_for(d, topic.host) >= d.policy.boot_grace:
            d.resolve_alert(topic, over[topic.matter])


def _quiet_for(d: Snapshot, host: HostId) -> Ms:
    return d.now - d.live.identity_at.get(host, d.site.started_at)
