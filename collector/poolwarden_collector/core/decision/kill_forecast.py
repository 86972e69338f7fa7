"""Which running VMs a start of xapi with a given database would terminate."""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.model.order_results import PlacementView
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Kill:
    """A running VM that a start of xapi on ``loads`` would terminate, or whose fate is not known."""

    vm: str
    name: str
    host: HostId
    why: str


def forecast(
    pool: Snapshot, candidate: HostId, spared: HostId, loads: PlacementView | None
) -> tuple[Kill, ...] | Reason:
    """Running VMs that a promotion of ``candidate`` would terminate in the pool, or why that cannot be said.

    ``spared`` is the old master if it is switched off: its VMs are dead already. The VMs of one whose toolstack is held
    run on, and its xapi will start as a member of the new master: it is not spared.
    """
    if loads is None or not loads.readable:
        why = f"the database of {pool.name(candidate)} cannot be read: {loads.text if loads else 'not asked yet'}"
        return Reason(Cause.UNREADABLE, why, (candidate,))
    kills: list[Kill] = []
    for host in sorted(pool.record.hosts, key=pool.name):
        if host == spared:
            continue
        found = kills_on(pool, host, loads)
        if isinstance(found, Reason):
            if pool.heard(host):
                return found
            continue  # never heard in this run: it is asked about again before it is repointed
        if pool.heard(host) or view(pool, host).power is not Power.OFF:
            kills.extend(found)
    return tuple(kills)


def kills_on(pool: Snapshot, host: HostId, loads: PlacementView) -> tuple[Kill, ...] | Reason:
    """Domains running on ``host`` that a xapi with this database would terminate there, or why that is not known.

    xapi terminates a domain that its database does not know, or places on another host that is in it. It adopts one
    that the database places nowhere: as halted, or on a host that does not exist (xapi: ocaml/xapi/xapi_xenops.ml).
    What a heard host runs is told at most 10 s ago, as for a proof; of one that is not heard the last word counts.
    """
    agent = pool.agent(host)
    if agent is None or not agent.reported or agent.facts.domains is None:
        return Reason(Cause.DOMAINS, f"the running VMs of {pool.name(host)} are not known", (host,))
    at = agent.facts.observed.host
    if pool.heard(host) is not None and at is not None and pool.now - at > pool.policy.reading_fresh:
        # safety: a VM that was started since then would be in no forecast.
        old = f"what {pool.name(host)} runs was told {(pool.now - at) / 1000:.0f} s ago"
        return Reason(Cause.OLD_FACTS, old, (host,))
    known = {item.vm: item for item in loads.placements}
    kills = []
    for vm in agent.facts.domains:
        item = known.get(vm)
        if item is None:
            kills.append(Kill(vm, vm, host, "the database does not know it"))
        elif item.host and item.host != host:
            kills.append(Kill(vm, item.name or vm, host, f"the database places it on {pool.name(item.host)}"))
    return tuple(kills)
