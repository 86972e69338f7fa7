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

from poolwarden_collector.core.evidence.membership import master_view
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

DISABLED_FOR_MS: Ms = 1_800_000
DIFFERS_FOR_MS: Ms = 120_000


def watch_disabled(d: Transaction) -> None:
    """Follow who is disabled, by the view of the master on record, and tell."""
    seen = master_view(d, d.record.master) if d.record.master else None
    if seen is None or seen.pool not in ("", d.record.pool):
        return
    lying = {item.host for item in seen.hosts if item.live and not item.enabled and item.host in d.record.hosts}
    pool = d.record.name or d.record.pool
    for host, at in _since(d, Matter.DISABLED, lying).items():
        if d.now - at >= DISABLED_FOR_MS:
            name = d.name(host)
            body = (
                f"{name} has been disabled for {(d.now - at) / 60_000:.0f} min: no VM can start there, and it would be "
                f"ranked lower as a successor. If nobody works there: xe host-enable host={name}"
            )
            d.raise_alert(AlertTopic(Matter.DISABLED, host), "warning", f"{pool}: {name} is disabled", body, host=host)
    _over(d, Matter.DISABLED, lying, "is enabled, or no host of the pool any more")


def watch_next_start(d: Transaction) -> None:
    """Follow whose pool.conf is not what its xapi runs as, and tell what its next start would be."""
    held = d.failover is not None or d.record.transition is not None or d.record.restarts
    said = {host: why for host in d.record.hosts if (why := _next_start(d, host))} if not held else {}
    pool = d.record.name or d.record.pool
    for host, at in _since(d, Matter.NEXT_START, set(said)).items():
        if d.now - at >= DIFFERS_FOR_MS:
            name, master = d.name(host), d.record.address_of(d.record.master)
            word = "master" if host == d.record.master else f"slave:{master}"
            body = f"{said[host]}. If that was not meant: put {word} into /etc/xensource/pool.conf on {name} by hand."
            d.raise_alert(
                AlertTopic(Matter.NEXT_START, host),
                "critical",
                f"{pool}: pool.conf of {name} is another",
                body,
                host=host,
            )
    if not held:
        gone = {host for host in d.record.hosts if d.heard(host) is None}
        _over(d, Matter.NEXT_START, set(said) | gone, "what its pool.conf says is what its xapi is")


def _next_start(d: Snapshot, host: HostId) -> str:
    """What its next xapi would be and this one is not, in a sentence without a full stop; empty: the same."""
    agent, name = d.heard(host), d.name(host)
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


def _since(d: Transaction, matter: Matter, hosts: set[HostId]) -> dict[HostId, Ms]:
    """Since when each of these hosts has been so, and nobody else."""
    before, what = d.live.lingering, matter.word
    mine = {host: before.get((what, host), d.now) for host in hosts}
    others = {key: at for key, at in before.items() if key[0] != what}
    after = {**others, **{(what, host): at for host, at in mine.items()}}
    if after != before:
        d.change(lingering=after)
    return mine


def _over(d: Transaction, matter: Matter, still: set[HostId], text: str) -> None:
    for topic in d.open_topics:
        if topic.matter is matter and topic.host not in still:
            d.resolve_alert(topic, f"{d.name(topic.host)}: {text}")
