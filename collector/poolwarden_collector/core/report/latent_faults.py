"""What goes on at a host that looks well, and is found out at its next start or at the next start of a VM.

Theory: a host that was disabled with ``host-disable`` stays so over its boots until somebody enables it (xapi:
local.db, host_auto_enable); after a power cut or a maintenance that is easily forgotten. xapi itself disables every
host at each start of a master, and each enables itself again within minutes. And pool.conf is read at xapi's start
alone: what was written there by hand since decides what the next process will be (xapi: ocaml/xapi/pool_role.ml).

Rules
-----
* A host that the serving master's view shows as live and not enabled for half an hour is told.
* A pool.conf that differs for two minutes from what its running xapi is, is told: a change of role by order takes ten
  seconds until xapi restarts. xapi itself does not write it again (pool.emergency_reset_master to the master that it
  follows already does nothing), so a person has to. Not while a failover or a change of master is under way.
* Nothing is mended by that: somebody may work there. It is over when it is so no more, or the host is not listed.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.hosts import DISABLED, NEXT_START
from poolwarden_collector.core.evidence.membership import master_view
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.live import PoolLive
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

DISABLED_FOR_MS: Ms = 1_800_000
DIFFERS_FOR_MS: Ms = 120_000


def watch_disabled(tx: Transaction) -> None:
    """Follow who is disabled, by the view of the master on record, and tell."""
    seen = master_view(tx, tx.record.master) if tx.record.master else None
    if seen is None or seen.pool not in ("", tx.record.pool):
        return
    lying = {item.host for item in seen.hosts if item.live and not item.enabled and item.host in tx.record.hosts}
    for host, at in _since(tx, Matter.DISABLED, lying).items():
        topic = AlertTopic(Matter.DISABLED, host)
        if tx.now - at >= DISABLED_FOR_MS and not tx.is_told(topic):
            name = tx.name(host)
            body = (
                f"{name} has been disabled for {(tx.now - at) / 60_000:.0f} min: no VM can start there, and it would "
                f"be ranked lower as a successor. If nobody works there: poolwarden host enable {name}, "
                f"or on the master: xe host-enable host={name}"
            )
            words = {"name": name, "minutes": f"{(tx.now - at) / 60_000:.0f}"}
            tx.raise_alert(topic, DISABLED, body, words, host=host)
    _over(tx, Matter.DISABLED, lying, "is enabled, or no host of the pool any more")


def watch_next_start(tx: Transaction) -> None:
    """Follow whose pool.conf is not what its xapi runs as, and tell what its next start would be."""
    held = tx.failover is not None or tx.record.transition is not None or tx.record.restarts
    said = {host: why for host in tx.record.hosts if (why := _next_start(tx, host))} if not held else {}
    for host, at in _since(tx, Matter.NEXT_START, set(said)).items():
        if tx.now - at >= DIFFERS_FOR_MS:
            name, master = tx.name(host), tx.record.address_of(tx.record.master)
            word = "master" if host == tx.record.master else f"slave:{master}"
            body = f"{said[host]}. If that was not meant: put {word} into /etc/xensource/pool.conf on {name} by hand."
            words = {"name": name, "why": said[host], "word": word}
            tx.raise_alert(AlertTopic(Matter.NEXT_START, host), NEXT_START, body, words, host=host)
    if not held:
        gone = {host for host in tx.record.hosts if tx.heard(host) is None}
        _over(tx, Matter.NEXT_START, set(said) | gone, "what its pool.conf says is what its xapi is")


def _next_start(pool: Snapshot, host: HostId) -> str:
    """What its next xapi would be and this one is not, in a sentence without a full stop; empty: the same."""
    agent, name = pool.heard(host), pool.name(host)
    if agent is None or not agent.facts.xapi.process:
        return ""
    role = agent.facts.role
    if role.pool_conf is Role.MEMBER and role.serves_as_master:
        return (
            f"{name} serves as master, and its pool.conf says member of {role.master_address}: so it starts next time"
        )
    if role.running is not Role.MEMBER:
        return ""
    follows = role.running_master_address
    if role.pool_conf is Role.MASTER:
        return f"{name} runs as a member of {follows}, and its pool.conf says master: it would start as a second one"
    if role.pool_conf is Role.MEMBER and follows and role.master_address != follows:
        return (
            f"{name} follows {follows}, and its pool.conf names {role.master_address}: it would follow that next time"
        )
    return ""


def _since(tx: Transaction, matter: Matter, hosts: set[HostId]) -> dict[HostId, Ms]:
    """Since when each of these hosts has been so, and nobody else."""
    before, what = tx.live.lingering, matter.word
    mine = {host: before.get((what, host), tx.now) for host in hosts}
    others = {key: at for key, at in before.items() if key[0] != what}
    after = {**others, **{(what, host): at for host, at in mine.items()}}
    if after != before:
        tx.change(PoolLive, lingering=after)
    return mine


def _over(tx: Transaction, matter: Matter, still: set[HostId], text: str) -> None:
    for topic in tx.open_topics:
        if topic.matter is matter and topic.host not in still:
            tx.resolve_alert(topic, f"{tx.name(topic.host)}: {text}")
