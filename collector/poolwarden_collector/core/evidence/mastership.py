"""Who the master is: adopted only when exactly one host has verified by its own login that it serves.

A change of master that Poolwarden did not order (an operator's designate, a promotion by hand) raises the term, so that
no order from before it can be obeyed after it, and is an OperatorTransition for a while (announcements.py).

Where the agent of the one before is silent, and another host is attached to it and reaches it, nobody is adopted: that
is a contradiction (contradictions.py).

A superseded host that serves again is adopted where its successor is proven off, or has become its member: its
tombstone is over then, and cleared at the new term (owed_work.py), so that its next boot finds its gate open. A
successor that is only silent may serve: then nobody is adopted.
"""

from __future__ import annotations

from functools import lru_cache

from poolwarden_collector.core.evidence import announcements, journal_gap
from poolwarden_collector.core.evidence.contradictions import attached_elsewhere
from poolwarden_collector.core.evidence.signs import serving, suspected, unsuperseded_masters
from poolwarden_collector.core.model.effects import ProbeFromCollector, SendSettings
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.orders import Target
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state.drill_record import held_by
from poolwarden_collector.core.state.live_slices import Mastership
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

EVERYONE_UP_TO = 8
MOST_SILENT = 4  # of a larger pool's silent hosts


def observe(tx: Transaction) -> None:
    """Adopt the one serving master if the record names another or none, and no failover is deciding that itself."""
    masters = unsuperseded_masters(tx)
    if not masters and len(serving(tx)) == 1 and tx.failover is None:
        _handed_back(tx, serving(tx)[0])
        return
    if len(masters) != 1 or masters[0] == tx.record.master or tx.failover is not None:
        return
    host = masters[0]
    before = tx.record.master
    again = any(item.host == host and item.what is OwedWork.TOMBSTONE for item in tx.record.owed)
    if before and tx.heard(before) is not None and before in serving(tx):
        return
    if attached_elsewhere(tx, host, before):
        # safety: its own word alone would have the others pointed at it, away from a master that is merely not heard.
        return
    term = tx.record.term + 1
    plan = tx.record.after.designation
    how = f"it succeeded {tx.name(before)} without Poolwarden's order" if before else "first seen"
    if plan is not None and plan.order and plan.host == host:
        how = f"{tx.name(before)} has handed it the role, as {plan.by} ordered"
    text = f"{tx.name(host)} serves as master ({how}); the term is {term}"
    tx.write(Entry(Kind.MASTER_OBSERVED, text, {"host": host, "before": before}, "", term))
    begins(tx)
    announcements.changed(tx, host, before)
    journal_gap.succeeded(tx, host, before)
    if again or (plan is not None and plan.order and plan.host == host):
        _owe_a_tombstone(tx, host, before)


def begins(tx: Transaction) -> None:
    """The host that is master on record now has just taken the role, or was found to have it."""
    tx.change(Mastership, since=tx.now)


def _owe_a_tombstone(tx: Transaction, host: HostId, before: HostId) -> None:
    """A master that handed its role over at our order, or was proven off, and is not seen to follow: its pool.conf may
    still say master.

    Who changes masters by hand has decided himself what the old one is; its boot gate asks all the same.
    """
    agent = tx.heard(before) if before else None
    follows = agent is not None and Role.MASTER not in (agent.facts.role.pool_conf, agent.facts.role.running)
    owed = any(item.host == before and item.what is OwedWork.TOMBSTONE for item in tx.record.owed)
    if before and before in tx.record.hosts and not follows and not owed:
        text = f"{tx.name(before)} is owed its tombstone: it has not been seen to follow {tx.name(host)}"
        tx.note(Kind.OWED, text, host=before, what=OwedWork.TOMBSTONE.value, successor=host)


def _handed_back(tx: Transaction, host: HostId) -> None:
    """An owed old master serves alone, and the master on record is its settled member: the role was handed back."""
    agent = tx.heard(tx.record.master)
    address = tx.record.address_of(host)
    if agent is None or agent.facts.role.pool_conf is not Role.MEMBER or agent.facts.role.master_address != address:
        return
    if agent.facts.role.running is not Role.MEMBER or agent.facts.role.running_master_address != address:
        return
    before, term = tx.record.master, tx.record.term + 1
    text = f"{tx.name(host)} serves as master again and {tx.name(before)} follows it; the term is {term}"
    tx.write(Entry(Kind.MASTER_OBSERVED, text, {"host": host, "before": before}, "", term))
    begins(tx)
    announcements.changed(tx, host, before)
    tx.note(
        Kind.OWED_DONE,
        f"{tx.name(host)} was handed the role back: no tombstone is owed",
        host=host,
        what=OwedWork.TOMBSTONE.value,
    )


def listed(tx: Transaction) -> None:
    """Remember durably which hosts the pool has, by the master on record: without a master nobody else knows them.

    At once where the master was observed by this very report: it may be the last one that it sends.
    """
    agent = tx.heard(tx.record.master)
    seen = agent.facts.pool_view if agent is not None and agent.facts.role.serves_as_master else None
    if seen is None or seen.master != tx.record.master or seen.pool not in ("", tx.record.pool):
        return
    hosts = frozenset(item.host for item in seen.hosts)
    generation = agent.facts.database.generation if agent is not None else 0
    # The count goes with it: it is what a copy is held against when this collector has started anew meanwhile.
    quarter = -(-tx.policy.generation_leap // 4)
    counted = generation and not -quarter < generation - tx.record.generation < quarter
    if tx.record.master in hosts and (
        hosts != tx.record.listed or counted or (generation and not tx.record.generation)
    ):
        names = ", ".join(sorted(tx.name(host) for host in hosts))
        text = f"{tx.name(tx.record.master)} lists the hosts of its pool: {names}; its database is at {generation}"
        tx.note(Kind.POOL_LISTED, text, hosts=sorted(hosts), generation=generation)


def verified(pool: Snapshot) -> HostId:
    """The one host that is known, by fresh evidence, to serve as master; empty if there is not exactly one."""
    masters = serving(pool)
    return masters[0] if len(masters) == 1 and masters[0] == pool.record.master else ""


def settings(tx: Transaction) -> None:
    """Tell each agent what to probe and how often, when that changed or its stream is new; the collector probes the
    master too.
    """
    master = suspected(tx)
    everyone = len(tx.record.hosts) <= EVERYONE_UP_TO
    wanted = sorted(tx.record.hosts) if everyone else _few(tx, master)
    known = tuple(Target(h, address) for h in wanted if (address := tx.record.address_of(h)))
    timing = (tx.policy.report_interval, tx.policy.probe_interval, tx.policy.probe_timeout)
    of_hosts, of_others = _each_ones(known, timing)
    for host, agent in tx.live.agents.items():
        if not agent.connected:
            continue
        targets, fingerprint = of_hosts.get(host, of_others)
        sent = (agent.stream, fingerprint)
        if tx.live.mastership.settings.get(host) != sent:
            tx.change(Mastership, settings={**tx.live.mastership.settings, host: sent})
            tx.do(SendSettings(host, targets))
    aimed = tx.live.mastership.settings.get("own")
    if tx.policy.collector_probe:
        own = (0, f"{master} {tx.record.address_of(master)}")
        if aimed != own:
            tx.change(Mastership, settings={**tx.live.mastership.settings, "own": own})
            tx.do(ProbeFromCollector(tx.record.pool, Target(master, tx.record.address_of(master))))
    elif aimed is not None:
        left = {host: sent for host, sent in tx.live.mastership.settings.items() if host != "own"}
        tx.change(Mastership, settings=left)
        tx.do(ProbeFromCollector(tx.record.pool, Target("", "")))


_Told = tuple[tuple[Target, ...], str]  # whom to probe, and all that is told with it in one text


@lru_cache(maxsize=4096)
def _each_ones(known: tuple[Target, ...], timing: tuple[Ms, ...]) -> tuple[dict[HostId, _Told], _Told]:
    """What each target is told, which does not probe itself, and what everybody else is; the same in most steps."""

    def told(targets: tuple[Target, ...]) -> _Told:
        return targets, repr((targets, *timing))

    return {each.host: told(tuple(target for target in known if target is not each)) for each in known}, told(known)


def _few(pool: Snapshot, master: HostId) -> list[HostId]:
    """In larger pools: the master of record, the hosts of an open failover, and whoever's agent is silent."""
    failover = pool.failover
    wanted = {master, pool.record.master, held_by(pool.record.drill)}
    if failover is not None:
        wanted |= {failover.old_master, failover.candidate}
    silent = [host for host in sorted(pool.record.hosts) if pool.heard(host) is None]
    return sorted({h for h in wanted if h} | set(silent[:MOST_SILENT]))
