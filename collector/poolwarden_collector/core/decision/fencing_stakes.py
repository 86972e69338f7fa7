"""What is at stake when a master that reads ON is to be powered off: its VMs, their storage, what a successor lacks.

Rule: only what was heard is said, with the word "last"; what is not known is said to be not known.
"""

from __future__ import annotations

from poolwarden_collector.core.decision import database_age
from poolwarden_collector.core.decision.candidate_ranking import rank
from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.snapshot import Snapshot

NAMED = 12


def shot(pool: Snapshot, host: HostId) -> str:
    """The question's sentence: what its power reads, and what ran there."""
    return f"{view(pool, host).why}; {running_vms(pool, host)}; it is not powered off without an operator's word"


def running_vms(pool: Snapshot, host: HostId, where: str = "there") -> str:
    """How many VMs were last seen running there, in words."""
    agent = pool.agent(host)
    if agent is None or agent.facts.domains is None:
        return "how many VMs run there is not known"
    count = len(agent.facts.domains)
    return f"{count} VM{'s' if count != 1 else ''} {'were' if count != 1 else 'was'} last seen running {where}"


def vms(pool: Snapshot, host: HostId) -> tuple[str, ...]:
    """The VMs that a shot would kill, by uuid, as far as they are known."""
    agent = pool.agent(host)
    return agent.facts.domains or () if agent is not None else ()


def of_shot(pool: Snapshot, host: HostId) -> tuple[str, ...]:
    """What is at stake, a sentence each."""
    found = [
        f"{pool.name(host)}: {running_vms(pool, host)}{named(pool, host)}; powering it off kills whatever runs there"
    ]
    found.append("their storage: " + _storage(pool))
    best = next((r for r in rank(pool, host, None) if not r.limitation), None)
    if best is None:
        return (*found, f"nobody could be promoted now: poolwarden explain {pool.record.display_name} shows why")
    found.append(f"{best.name} would be promoted; its copy of the database: {database_age.age(pool, best.host).text}")
    return tuple(found)


def stale_need(pool: Snapshot, host: HostId) -> Ms:
    """What a yes must accept of the copy that would be promoted, ms; 0: it is young enough."""
    best = next((r for r in rank(pool, host, None) if not r.limitation), None)
    old = database_age.too_old(pool, best.host) if best is not None else None
    return database_age.needed(old) if old is not None else 0


def named(pool: Snapshot, host: HostId) -> str:
    """The VMs by name, as far as any database that was read in this run has them."""
    running = vms(pool, host)
    names = _names(pool, running)
    if not names:
        return ""
    more = len(running) - min(len(names), NAMED)
    return f" ({', '.join(names[:NAMED])}{f' and {more} more' if more else ''})"


def names_all(pool: Snapshot, host: HostId) -> bool:
    """Does ``named`` call each VM that was last seen there by its name?"""
    running = vms(pool, host)
    return 0 < len(running) <= NAMED and len(_names(pool, running)) == len(running)


def _names(pool: Snapshot, running: tuple[str, ...]) -> list[str]:
    known = vm_names(pool)
    return sorted(known[vm] for vm in running if vm in known)


def vm_names(pool: Snapshot) -> dict[str, str]:
    """The names of VMs by their uuid, as far as any database that was read in this run has them."""
    known: dict[str, str] = {}
    for sent in pool.live.sent.values():
        result = sent.result
        placements = (
            result.placements or (result.claim.placements if result.claim is not None else None) if result else None
        )
        known.update({item.vm: item.name for item in placements.placements if item.name} if placements else {})
    return known


def _storage(pool: Snapshot) -> str:
    """Which SRs they use no agent reports; what is known is which SRs a member had unplugged."""
    views = [agent.facts.pool_view for agent in pool.live.agents.values() if agent.facts.pool_view is not None]
    lacking = [
        f"{item.name} had {', '.join(item.unplugged_srs)} unplugged"
        for seen in views[:1]
        for item in seen.hosts
        if item.unplugged_srs
    ]
    said = "; ".join(lacking) if lacking else "every SR was plugged on every member"
    known = "as the last serving master saw it, " + said if views else "which SRs are plugged where is not known"
    return f"{known}; which VM uses which SR is not known to the collector"
