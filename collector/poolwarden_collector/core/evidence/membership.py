"""Is a host an attached member of its master? By its own word, by its own probe, and by the master's view.

Rule: each question is answered with the reason why not, in a sentence that alerts and status show as it is.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from poolwarden_collector.core.evidence.signs import answered, fresh_probe
from poolwarden_collector.core.model.host_facts import Liveness, PoolHost, PoolView
from poolwarden_collector.core.model.values import HostId, Ms, Role, Tri
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot

VIEW_FRESH_MS: Ms = 30_000


def follows(pool: Snapshot, host: HostId, master: HostId) -> str:
    """Why this host is not (yet) an attached member of ``master``; empty if it is."""
    agent = pool.heard(host)
    if agent is None:
        return "its agent is not heard"
    f, address = agent.facts, pool.record.address_of(master)
    if f.role.pool_conf is not Role.MEMBER or f.role.master_address != address:
        return f"its pool.conf does not name {address}"
    if f.role.running is not Role.MEMBER or f.role.running_master_address not in ("", address):
        return "its xapi has not restarted yet"
    if f.xapi.liveness is not Liveness.ANSWERS:
        return f"its xapi does not answer ({f.xapi.liveness.value})"
    if f.xapi.emergency is Tri.YES:
        return f"its xapi is in emergency mode: {f.xapi.emergency_text or f.xapi.emergency_code}"
    probe = fresh_probe(pool, host, master)
    if probe is None or not answered(probe):
        return "it does not reach the new master's xapi"
    return ""


def master_view(pool: Snapshot, master: HostId) -> PoolView | None:
    """The pool as this serving master sees it, at most 30 s old; None if that is not known."""
    agent = pool.heard(master)
    seen = agent.facts.pool_view if agent is not None and agent.facts.role.serves_as_master else None
    at = agent.facts.observed.pool_view if agent is not None else None
    # A section that is gone stays in merged deltas: only its age tells.
    if seen is None or seen.master != master or at is None or pool.now - at > VIEW_FRESH_MS:
        return None
    return seen


def moved(pool: Snapshot, host: HostId, master: HostId) -> str:
    """Where this host says it is and ``master`` did not have it, in a clause; empty: there it is, or it is not known.

    ``master``: who served last. Its agent's last words are kept; of a member they say what no member says of itself.
    """
    agent, says = pool.agent(master), pool.record.address_of(host)
    seen = agent.facts.pool_view if agent is not None else None
    hosts = seen.hosts if seen is not None and seen.master == master else ()
    had = next((item.address for item in hosts if item.host == host), "")
    # safety: its members would be pointed at that address, and a witness be sent there: to any other pool's master.
    if not had or not says or _address(had) == _address(says):
        return ""
    return f"it says that it is at {says}, and {pool.name(master)} had it at {had}"


@lru_cache(maxsize=65_536)  # the same few are compared in every step of every pool
def _address(text: str) -> object:
    """One address has several spellings (RFC 5952)."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return text


def entry_of(pool: Snapshot, host: HostId, master: HostId) -> PoolHost | str:
    """How the new master has this host in its database; a sentence why that is not known or it is not there."""
    seen = master_view(pool, master)
    if seen is None:
        return "the new master has not told its view of the pool"
    item = next((entry for entry in seen.hosts if entry.host == host), None)
    return item if item is not None else "the new master's database does not know it"


def listed(pool: Snapshot, host: HostId, master: HostId) -> str:
    """Why the new master does not have this host live and enabled; empty if it has."""
    item = entry_of(pool, host, master)
    if isinstance(item, str):
        return item
    if not item.live:
        return "the new master does not have it live"
    return "" if item.enabled else "the new master has it disabled"


def led_before(pool: Snapshot, master: HostId) -> tuple[HostId, ...]:
    """The hosts that ``master`` took the role over from and that are owed their tombstone: members may follow them."""
    owed = (item for item in pool.record.owed if item.what is OwedWork.TOMBSTONE and item.successor == master)
    return tuple(sorted({item.host for item in owed}))
