"""One UUID, two machines; one host, two pools: whose word is whose is not known, so nothing is done there.

Rules
-----
* A boot id is random and never comes back. A host whose earlier boot is heard after a later one is two machines that
  push each other off the stream: at once if their DMI identities differ, at the second return if these are not known
  (one Hello may have been under way for long).
* A host on record here that says it is of another pool is refused when it arrives. If this pool still sees it, it is in
  two pools and this one is frozen; if not, it was moved, and only the registration is told to a person.
* A message that claims what cannot be (a number out of all bounds), or that is one too many, was refused when it
  arrived. It is a sign of life of that host all the same, and it is told once; nobody else is concerned. So is an order
  that a host's own rules refuse.
* The freeze is durable and ends by itself when no sign of the conflict has come for ``boot_grace``: a clone that was
  switched off says nothing more. A restarted collector counts that anew.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.hosts import ORDER_REFUSED, REFUSED, WRONG_POOL
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import HostElsewhere, HostRefused
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.order_results import OWN_RULES, OrderOutcome, Outcome
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state import agent_streams
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.live_slices import Identity
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

BOOTS_KEPT = 8
RETURNS = 2
VIEW_FRESH_MS: Ms = 30_000


def conflict(pool: Snapshot) -> bool:
    """Is any host's identity in conflict?"""
    return bool(pool.record.identity)


def conflict_sentence(pool: Snapshot) -> str:
    """Every conflict in one sentence; empty if there is none."""
    return "; ".join(why for _, why in sorted(pool.record.identity.items()))


def watch_boots(tx: Transaction, hello: Hello) -> None:
    """Hold a Hello against the boots of this host that were heard before; to be called before it is taken in."""
    host, known = hello.host, tx.record.hosts.get(hello.host)
    boots = tx.live.identity.boots.get(host) or ((known.boot_id,) if known is not None and known.boot_id else ())
    if hello.boot_id in boots[:-1]:
        _returned(tx, hello, known.system_uuid if known is not None else "")
    others = tuple(boot for boot in boots if boot != hello.boot_id)
    tx.change(Identity, boots={**tx.live.identity.boots, host: (*others, hello.boot_id)[-BOOTS_KEPT:]})


def _returned(tx: Transaction, hello: Hello, machine: str) -> None:
    host, here = hello.host, hello.machine.system_uuid
    count = tx.live.identity.returned.get(host, 0) + 1
    tx.change(Identity, returned={**tx.live.identity.returned, host: count})
    differ = bool(machine) and bool(here) and machine != here
    if not differ and count < RETURNS:
        return
    machines = f"machines {machine} and {here}" if differ else "two machines"
    _freeze(tx, host, f"{machines} both say that they are {tx.name(host)} ({host}): a cloned host?")


def elsewhere(tx: Transaction, event: HostElsewhere) -> None:
    """A host on record here was refused because it says that it is of another pool."""
    host = event.host
    if host not in tx.record.hosts:
        return
    text = f"{tx.name(host)} ({host}) is of this pool and now says that it is of pool {event.claims}"
    if _seen_here(tx, host):
        _freeze(tx, host, f"{text}; this pool still sees it")
        return
    tx.change(Identity, seen_at={**tx.live.identity.seen_at, host: tx.now})
    topic = AlertTopic(Matter.REGISTRATION, host)
    if topic not in tx.open_topics:
        tx.note(Kind.IDENTITY, f"{text}; it was refused", host=host, why=text, frozen=False)
        body = (
            f"{text}. Eject it here first (xe pool-eject), or correct its agent's pool; it is heard nowhere until then."
        )
        words = {"name": tx.name(host), "why": text, "uuid": host}
        tx.raise_alert(topic, WRONG_POOL, body, words, host=host, claims=event.claims)


_UNTRUE = (
    "If the number is true (this collector's journal is lost), set epoch_above (or term_above) in its configuration "
    "and restart it."
)
_UNTRUE_OF_SEVERAL = (
    "If the number is true (the collectors' etcd was restored, or built anew): of an epoch: "
    "poolwarden-collector generation raise; of a term: set term_above in the configuration and restart."
)
_TOO_MUCH = (
    "It is heard again about once a second and counts as alive. No agent of Poolwarden sends so much: look who has its "
    "key."
)


def refused(tx: Transaction, event: HostRefused) -> None:
    """A message of a host on record was refused for what it claims: told once, and that host lives."""
    host = event.host
    if host not in tx.record.hosts:
        return
    agent = tx.agent(host)
    if agent is not None:
        agent_streams.touch(tx, agent)
    tx.change(Identity, seen_at={**tx.live.identity.seen_at, host: tx.now})
    topic = AlertTopic(Matter.REFUSED, host)
    if topic in tx.open_topics:
        return
    tx.note(Kind.HOST_REFUSED, f"a message of {tx.name(host)} was refused: {event.why}", host=host, why=event.why)
    untrue = _UNTRUE if tx.site.takeover is None else _UNTRUE_OF_SEVERAL
    body = (
        f"{event.why}. Nothing of that message was taken, and no other host is concerned. On {tx.name(host)}: "
        f"systemctl status poolwarden-agent. {_TOO_MUCH if event.over_budget else untrue} "
        "It is over when nothing was refused for ten minutes."
    )
    tx.raise_alert(topic, REFUSED, body, {"name": tx.name(host), "why": event.why}, host=host, why=event.why)


def own_rules(tx: Transaction, host: HostId, result: OrderOutcome) -> None:
    """An order was refused by its host's own rules: told once, for as long as that goes on."""
    if result.outcome is not Outcome.REFUSED or result.reason not in OWN_RULES or host not in tx.record.hosts:
        return
    tx.change(Identity, seen_at={**tx.live.identity.seen_at, host: tx.now})
    topic, name, why = AlertTopic(Matter.OWN_RULES, host), tx.name(host), result.text or result.reason
    if topic in tx.open_topics:
        return
    tx.note(Kind.HOST_REFUSED, f"{name} refused {result.kind} by its own rules: {why}", host=host, why=why)
    body = (
        f"{name} refused {result.kind} by its own rules ({result.reason}): {why}. Nothing was done there; it is sent "
        "again a minute after each refusal, for as long as it is due. It ends when nothing was refused for ten minutes."
    )
    words = {"name": name, "kind": result.kind, "why": why}
    tx.raise_alert(topic, ORDER_REFUSED, body, words, host=host, why=why)


def _seen_here(pool: Snapshot, host: HostId) -> bool:
    """Is its agent heard in this pool, or does the serving master have it live?"""
    if pool.heard(host) is not None:
        return True
    master = pool.heard(pool.record.master)
    seen = master.facts.pool_view if master is not None and master.facts.role.serves_as_master else None
    at = master.facts.observed.pool_view if master is not None else None
    if seen is None or at is None or pool.now - at > VIEW_FRESH_MS:
        return False
    return any(item.host == host and item.live for item in seen.hosts)


def _freeze(tx: Transaction, host: HostId, why: str) -> None:
    tx.change(Identity, seen_at={**tx.live.identity.seen_at, host: tx.now})
    if host not in tx.record.identity:
        tx.note(Kind.IDENTITY, f"identity conflict: {why}; the pool is frozen", host=host, why=why, frozen=True)


def expire(tx: Transaction) -> None:
    """End what has shown no sign for ``boot_grace``."""
    for host in sorted(tx.record.identity):
        if _quiet_for(tx, host) >= tx.policy.boot_grace:
            text = f"no sign any more of a second {tx.name(host)}: the pool is not frozen any more"
            tx.note(Kind.IDENTITY, text, host=host, why="", frozen=False)
            tx.change(Identity, returned={name: n for name, n in tx.live.identity.returned.items() if name != host})
    nothing = "nothing more was refused"
    over = {
        Matter.REGISTRATION: "it has not asked any more", Matter.REFUSED: nothing, Matter.OWN_RULES: nothing
    }  # fmt: skip
    for topic in tx.open_topics:
        if topic.matter in over and _quiet_for(tx, topic.host) >= tx.policy.boot_grace:
            tx.resolve_alert(topic, over[topic.matter])


def _quiet_for(pool: Snapshot, host: HostId) -> Ms:
    return pool.now - pool.live.identity.seen_at.get(host, pool.site.started_at)
