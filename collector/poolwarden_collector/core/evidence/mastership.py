"""Who the master is: adopted only when exactly one host has verified by its own login that it serves.

A change of master that Poolwarden did not order (an operator's designate, a promotion by hand) raises the term, so that
no order from before it can be obeyed after it, and is an OperatorTransition for a while (announcements.py).

A superseded host that serves again is adopted where its successor is proven off, or has become its member: its
tombstone is over then, and cleared at the new term (owed_work.py), so that its next boot finds its gate open. A
successor that is only silent may serve: then nobody is adopted.
"""

from __future__ import annotations

from poolwarden_collector.core.evidence import announcements, journal_gap
from poolwarden_collector.core.evidence.signs import serving, suspected, unsuperseded_masters
from poolwarden_collector.core.model.effects import ProbeFromCollector, SendSettings
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.orders import Target
from poolwarden_collector.core.model.values import HostId, Role
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

EVERYONE_UP_TO = 8
MOST_SILENT = 4  # of a larger pool's silent hosts


def observe(d: Transaction) -> None:
    """Adopt the one serving master if the record names another or none, and no failover is deciding that itself."""
    masters = unsuperseded_masters(d)
    if not masters and len(serving(d)) == 1 and d.failover is None:
        _handed_back(d, serving(d)[0])
        return
    if len(masters) != 1 or masters[0] == d.record.master or d.failover is not None:
        return
    host = masters[0]
    before = d.record.master
    again = any(item.host == host and item.what is OwedWork.TOMBSTONE for item in d.record.owed)
    if before and d.heard(before) is not None and before in serving(d):
        return
    term = d.record.term + 1
    plan = d.record.after.designation
    how = f"it succeeded {d.name(before)} without Poolwarden's order" if before else "first seen"
    if plan is not None and plan.order and plan.host == host:
        how = f"{d.name(before)} has handed it the role, as {plan.by} ordered"
    text = f"{d.name(host)} serves as master ({how}); the term is {term}"
    d.write(Entry(Kind.MASTER_OBSERVED, text, {"host": host, "before": before}, "", term))
    d.change(master_since=d.now)
    announcements.changed(d, host, before)
    journal_gap.succeeded(d, host, before)
    if again or (plan is not None and plan.order and plan.host == host):
        _owe_a_tombstone(d, host, before)


def _owe_a_tombstone(d: Transaction, host: HostId, before: HostId) -> None:
    """A master that handed its role over at our order, or was proven off, and is not seen to follow: its pool.conf may
    still say master.

    Who changes masters by hand has decided himself what the old one is; its boot gate asks all the same.
    """
    agent = d.heard(before) if before else None
    follows = agent is not None and Role.MASTER not in (agent.facts.role.pool_conf, agent.facts.role.running)
    owed = any(item.host == before and item.what is OwedWork.TOMBSTONE for item in d.record.owed)
    if before and before in d.record.hosts and not follows and not owed:
        text = f"{d.name(before)} is owed its tombstone: it has not been seen to follow {d.name(host)}"
        d.note(Kind.OWED, text, host=before, what=OwedWork.TOMBSTONE.value, successor=host)


def _handed_back(d: Transaction, host: HostId) -> None:
    """An owed old master serves alone, and the master on record is its settled member: the role was handed back."""
    agent = d.heard(d.record.master)
    address = d.record.address_of(host)
    if agent is None or agent.facts.role.pool_conf is not Role.MEMBER or agent.facts.role.master_address != address:
        return
    if agent.facts.role.running is not Role.MEMBER or agent.facts.role.running_master_address != address:
        return
    before, term = d.record.master, d.record.term + 1
    text = f"{d.name(host)} serves as master again and {d.name(before)} follows it; the term is {term}"
    d.write(Entry(Kind.MASTER_OBSERVED, text, {"host": host, "before": before}, "", term))
    d.change(master_since=d.now)
    announcements.changed(d, host, before)
    d.note(
        Kind.OWED_DONE,
        f"{d.name(host)} was handed the role back: no tombstone is owed",
        host=host,
        what=OwedWork.TOMBSTONE.value,
    )


def listed(d: Transaction) -> None:
    """Remember durably which hosts the pool has, by the master on record: without a master nobody else knows them.

    At once where the master was observed by this very report: it may be the last one that it sends.
    """
    agent = d.heard(d.record.master)
    seen = agent.facts.pool_view if agent is not None and agent.facts.role.serves_as_master else None
    if seen is None or seen.master != d.record.master or seen.pool not in ("", d.record.pool):
        return
    hosts = frozenset(item.host for item in seen.hosts)
    generation = agent.facts.database.generation if agent is not None else 0
    # The count goes with it: it is what a copy is held against when this collector has started anew meanwhile.
    counted = generation and abs(generation - d.record.generation) * 4 >= d.policy.generation_leap
    if d.record.master in hosts and (hosts != d.record.listed or counted or (generation and not d.record.generation)):
        names = ", ".join(sorted(d.name(host) for host in hosts))
        text = f"{d.name(d.record.master)} lists the hosts of its pool: {names}; its database is at {generation}"
        d.note(Kind.POOL_LISTED, text, hosts=sorted(hosts), generation=generation)


def verified(d: Snapshot) -> HostId:
    """The one host that is known, by fresh evidence, to serve as master; empty if there is not exactly one."""
    masters = serving(d)
    return masters[0] if len(masters) == 1 and masters[0] == d.record.master else ""


def settings(d: Transaction) -> None:
    """Tell each agent what to probe, when that changed or its stream is new; the collector probes the master too."""
    master = suspected(d)
    everyone = len(d.record.hosts) <= EVERYONE_UP_TO
    wanted = sorted(d.record.hosts) if everyone else _few(d, master)
    for host, agent in d.live.agents.items():
        if not agent.connected:
            continue
        targets = _targets(d, host, wanted)
        sent = (agent.stream, repr(targets))
        if d.live.settings.get(host) != sent:
            d.change(settings={**d.live.settings, host: sent})
            d.do(SendSettings(host, targets))
    if d.policy.collector_probe:
        own = ("own", (0, f"{master} {d.record.address_of(master)}"))
        if d.live.settings.get(own[0]) != own[1]:
            d.change(settings={**d.live.settings, own[0]: own[1]})
            d.do(ProbeFromCollector(d.record.pool, Target(master, d.record.address_of(master))))


def _targets(d: Snapshot, host: HostId, wanted: list[HostId]) -> tuple[Target, ...]:
    return tuple(Target(h, d.record.address_of(h)) for h in wanted if h != host and d.record.address_of(h))


def _few(d: Snapshot, master: HostId) -> list[HostId]:
    """In larger pools: the master of record, the hosts of an open failover, and whoever's agent is silent."""
    failover = d.failover
    wanted = {master, d.record.master}
    if failover is not None:
        wanted |= {failover.old_master, failover.candidate}
    silent = [host for host in sorted(d.record.hosts) if d.heard(host) is None]
    return sorted({h for h in wanted if h} | set(silent[:MOST_SILENT]))
