"""Is a host an attached member of its master? By its own word, by its own probe, and by the master's view.

Rule: each question is answered with the reason why not, in a sentence that alerts and status show as it is.
"""

from __future__ import annotations

from poolwarden_collector.core.evidence.signs import answered, fresh_probe
from poolwarden_collector.core.model.host_facts import Liveness, PoolHost, PoolView
from poolwarden_collector.core.model.values import HostId, Ms, Role, Tri
from poolwarden_collector.core.state.snapshot import Snapshot

VIEW_FRESH_MS: Ms = 30_000


def follows(d: Snapshot, host: HostId, master: HostId) -> str:
    """Why this host is not (yet) an attached member of ``master``; empty if it is."""
    agent = d.heard(host)
    if agent is None:
        return "its agent is not heard"
    f, address = agent.facts, d.record.address_of(master)
    if f.role.pool_conf is not Role.MEMBER or f.role.master_address != address:
        return f"its pool.conf does not name {address}"
    if f.role.running is not Role.MEMBER or f.role.running_master_address not in ("", address):
        return "its xapi has not restarted yet"
    if f.xapi.liveness is not Liveness.ANSWERS:
        return f"its xapi does not answer ({f.xapi.liveness.value})"
    if f.xapi.emergency is Tri.YES:
        return f"its xapi is in emergency mode: {f.xapi.emergency_text or f.xapi.emergency_code}"
    probe = fresh_probe(d, host, master)
    if probe is None or not answered(probe):
        return "it does not reach the new master's xapi"
    return ""


def master_view(d: Snapshot, master: HostId) -> PoolView | None:
    """The pool as this serving master sees it, at most 30 s old; None if that is not known."""
    agent = d.heard(master)
    seen = agent.facts.pool_view if agent is not None and agent.facts.role.serves_as_master else None
    at = agent.facts.observed.pool_view if agent is not None else None
    # A section that is gone stays in merged deltas: only its age tells.
    if seen is None or seen.master != master or at is None or d.now - at > VIEW_FRESH_MS:
        return None
    return seen


def entry_of(d: Snapshot, host: HostId, master: HostId) -> PoolHost | str:
    """How the new master has this host in its database; a sentence why that is not known or it is not there."""
    seen = master_view(d, master)
    if seen is None:
        return "the new master has not told its view of the pool"
    item = next((entry for entry in seen.hosts if entry.host == host), None)
    return item if item is not None else "the new master's database does not know it"


def listed(d: Snapshot, host: HostId, master: HostId) -> str:
    """Why the new master does not have this host live and enabled; empty if it has."""
    item = entry_of(d, host, master)
    if isinstance(item, str):
        return item
    if not item.live:
        return "the new master does not have it live"
    return "" if item.enabled else "the new master has it disabled"
