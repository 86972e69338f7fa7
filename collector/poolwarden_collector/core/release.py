"""Undoing what a toolstack fence did: the hold is lifted, and a database that was placed for nothing is removed.

Rules
-----
* The old master starts as master again only while it is the master on record and nobody else serves; otherwise it is
  released as a member of whoever does.
* Either start reads a database: it is asked first whether that would kill a running VM, and then a person decides.
* A placed database that no promotion has used would roll the pool back at a later start as master: it is removed
  wherever it may lie.
"""

from __future__ import annotations

from poolwarden_collector.core.candidate import kills_on
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.ends import reason_key
from poolwarden_collector.core.evidence import serving
from poolwarden_collector.core.facts import Role
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.live import AgentState
from poolwarden_collector.core.orders import PlaceDatabase, ToolstackRelease
from poolwarden_collector.core.owed import may_be_pointed, owed_id
from poolwarden_collector.core.placements import placements_of
from poolwarden_collector.core.pursuit import pursue
from poolwarden_collector.core.record import Owed


def owed_releases(d: Draft) -> None:
    """Pay every release and removal that is owed to a host that is heard."""
    for item in d.record.owed:
        agent = d.heard(item.host)
        if agent is None:
            continue
        if item.what == "release":
            _release(d, item, agent)
        elif item.what == "remove-database":
            _remove(d, item, agent)


def _release(d: Draft, item: Owed, agent: AgentState) -> None:
    name = d.name(item.host)
    if agent.facts.hold is None:
        d.note(Kind.RELEASED, f"the toolstack of {name} is held no more", host=item.host)
        d.note(Kind.OWED_DONE, f"{name} is released", host=item.host, what="release")
        return
    failover = d.failover
    if failover is not None and failover.old_master == item.host:
        return  # a new failover of the same master: it decides itself what becomes of the hold
    if d.record.master == item.host:
        if not serving(d) and _own_file_kills_nobody(d, item, agent):
            _order(d, item, agent, ToolstackRelease(as_master=True), "as master")
        return
    master = d.heard(d.record.master)
    if master is not None and master.facts.role.serves_as_master and may_be_pointed(d, item.host):
        address = d.record.address_of(d.record.master)
        kind = ToolstackRelease(as_master=False, master_address=address)
        _order(d, item, agent, kind, f"as a member of {d.name(d.record.master)} at {address}")


def _order(d: Draft, item: Owed, agent: AgentState, kind: ToolstackRelease, how: str) -> None:
    base = owed_id(item, "release", agent)
    pursue(d, base, agent, kind, Kind.RELEASE_INTENT, f"releasing the toolstack of {d.name(item.host)} {how}")


def _own_file_kills_nobody(d: Draft, item: Owed, agent: AgentState) -> bool:
    """Its xapi would start with its own file, as before the hold: is any of its running VMs at stake?"""
    loads = placements_of(d, item.host)
    if loads is None:
        return False
    kills = kills_on(d, item.host, loads) if loads.readable else f"its database cannot be read: {loads.text}"
    if not kills:
        return True
    what = kills if isinstance(kills, str) else ", ".join(f"{kill.name} ({kill.why})" for kill in kills)
    name, pool = d.name(item.host), d.record.name or d.record.pool
    text = f"the toolstack of {name} stays held: its xapi would start with its own database, and {what}"
    d.raise_alert(f"release-{item.host}/{reason_key(what)}", "critical", f"{pool}: {name} is not released", text)
    return False


def _remove(d: Draft, item: Owed, agent: AgentState) -> None:
    """Remove a placed database, unless this host has been promoted since: then its xapi has used it up."""
    name, base = d.name(item.host), owed_id(item, "remove", agent)
    done = any(
        sent.result is not None and sent.result.outcome.value == "done"
        for order_id, sent in d.live.sent.items()
        if order_id.startswith(f"{base}.")
    )
    if done or agent.facts.role.pool_conf is Role.MASTER:
        text = f"{name} holds no database of an ended failover"
        d.note(Kind.OWED_DONE, text, host=item.host, what="remove-database")
        return
    text = f"removing the database that was placed on {name}: its failover ended without its promotion"
    pursue(d, base, agent, PlaceDatabase(remove=True), Kind.REMOVE_INTENT, text)
