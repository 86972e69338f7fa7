"""Where a pool's VMs run, and which were lost: one sentence for people.

Rule: what a host runs counts as now while its agent is heard; of a silent host its last word is told
as such, but for VMs that run elsewhere by now.
"""

from __future__ import annotations

from poolwarden_collector.core.decision.fencing_stakes import named
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.followup_record import LostVm
from poolwarden_collector.core.state.snapshot import Snapshot

NAMED = 8


def vm_sentence(pool: Snapshot) -> str:
    """``4 run on h2, h3; 2 were on h1 (web, db)``; empty: nothing is known of any host."""
    hosts = sorted(pool.record.hosts, key=pool.name)
    lost = {vm.host for vm in down(pool)}
    parts = [_running(pool, hosts), *(_last_seen(pool, host) for host in hosts if host not in lost)]
    parts += [_down(pool, host) for host in hosts if host in lost]
    return "; ".join(part for part in parts if part)


def down(pool: Snapshot) -> tuple[LostVm, ...]:
    """The VMs on record as lost with a dead host that do not run again, by name."""
    found = (vm for vm in pool.record.after.lost.values() if vm.state not in ("started", "running"))
    return tuple(sorted(found, key=lambda vm: (pool.name(vm.host), vm.name)))


def names_of(vms: tuple[LostVm, ...]) -> str:
    """Their names, the first few where they are many."""
    more = f" and {len(vms) - NAMED} more" if len(vms) > NAMED else ""
    return ", ".join(vm.name for vm in vms[:NAMED]) + more


def _running(pool: Snapshot, hosts: list[HostId]) -> str:
    agents = {host: agent for host in hosts if (agent := pool.heard(host)) is not None}
    known = {host: len(agent.facts.domains) for host, agent in agents.items() if agent.facts.domains is not None}
    if not known:
        return ""
    where = [pool.name(host) for host, count in known.items() if count]
    count = sum(known.values())
    if not where:
        return "none runs on a host that is heard"
    return f"{count} run{'s' if count == 1 else ''} on {', '.join(where)}"


def _last_seen(pool: Snapshot, host: HostId) -> str:
    """What ran on a host whose agent is silent, by its last word."""
    agent = pool.agent(host)
    if pool.heard(host) is not None or agent is None:
        return ""
    if agent.facts.domains is None:
        return f"those of {pool.name(host)} are not known"
    elsewhere = {
        vm for other in pool.live.agents if (a := pool.heard(other)) is not None for vm in a.facts.domains or ()
    }
    count = sum(1 for vm in agent.facts.domains if vm not in elsewhere)
    were = "was" if count == 1 else "were"
    names = named(pool, host) if count == len(agent.facts.domains) else ""
    return f"{count} {were} on {pool.name(host)}{names}" if count else ""


def _down(pool: Snapshot, host: HostId) -> str:
    vms = tuple(vm for vm in down(pool) if vm.host == host)
    return f"{len(vms)} down since {pool.name(host)} died: {names_of(vms)}"
