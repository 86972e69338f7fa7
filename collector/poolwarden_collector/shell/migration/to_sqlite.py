"""The pools in etcd into one collector's file, with every collector stopped; run again after whatever has cut it off.

Rules
-----
* In this order: the mark in etcd together with the end of its generation, so that nobody owns a pool there any more;
  all pools are read; the file takes all of them in one transaction; they are read from it and compared field by field.
* Where the file is an archive it goes on: its history stays, each record begins anew behind it (store/move_calls.py).
* The file's next epoch is above every one that any collector on this etcd had.
* What stands in etcd stays there, as of that instant: a move to etcd puts newer records in its place.
* An archive that knows more of a pool than etcd shows that etcd was restored; that is said before anything is changed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, fields

from poolwarden_collector.core.model import epoch
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.cluster import commits
from poolwarden_collector.shell.cluster.commit_text import PoolTail
from poolwarden_collector.shell.cluster.etcd import Delete, Etcd, Put, Txn, carry_out
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.loop.handing import handed_of
from poolwarden_collector.shell.migration.enrolled import into_journal
from poolwarden_collector.shell.migration.place import Mark, Place, Refused, Way, look, no_restore, nobody_lives, sure
from poolwarden_collector.shell.store.journal import Journal
from poolwarden_collector.shell.store.move_calls import Coming

_HIGHEST_LOT = (1 << epoch.LOT_BITS) - 1


@dataclass(frozen=True, slots=True)
class Back:
    """What the move has done, or would do; ``already``: before this run. ``epoch``: none of etcd's was higher."""

    already: bool
    names: dict[PoolId, str]
    alerts: int
    epoch: int


async def to_sqlite(
    etcd: Etcd, names: Names, journal: Journal, collector: str, dry: bool = False, older: bool = False
) -> Back:
    """Move, or say what would be moved. ``older``: also what is older than this archive knows.

    Raises Refused, EtcdError, JournalError, Unreadable.
    """
    place = await carry_out(etcd, look(names))
    nobody_lives(place)
    no_restore(place)
    if _is_here(place, journal):
        return Back(True, {}, 0, journal.epoch)
    tails = [await _tail(etcd, names, pool) for pool in sorted(place.pools)]
    _nothing_newer(journal, tails, older)
    if not dry:
        place = await _close(etcd, place, journal, collector)
        # Nobody owns a pool from here on: this is the last state of each.
        tails = [await _tail(etcd, names, pool) for pool in sorted(place.pools)]
    # Of a move to etcd that was cut off before its end there may have been none yet.
    generation = max(1, place.generation, place.mark.generation if place.mark is not None else 0)
    highest = epoch.of_ownership(generation, place.revision, _HIGHEST_LOT)
    alerts = sum(len(tail.alerts) for tail in tails)
    done = Back(False, {tail.record.pool: tail.record.display_name for tail in tails}, alerts, highest)
    if not dry:
        await into_journal(etcd, names, journal)
        came = {"generation": generation, "revision": place.revision}
        journal.come_back([Coming(tail.record, handed_of(tail)) for tail in tails], highest, came)
        for tail in tails:
            _compare(journal, tail)
    return done


async def _close(etcd: Etcd, place: Place, journal: Journal, collector: str) -> Place:
    """Nobody owns a pool in etcd any more; what is there then."""
    names, before = place.names, place.generation
    if place.mark is not None:
        before = max(before, place.mark.generation)
    mark = Mark(Way.TO_SQLITE, journal.journal_id(), collector, secrets.token_hex(8), before)
    gone = (Delete(names.generation),) if place.generation_kept is not None else ()
    # safety: who claims a pool between the look and this compares a generation that is gone.
    await sure(etcd, Txn(place.unchanged, (Put(names.moved, mark.text()), *gone)))
    return await carry_out(etcd, look(names))


def _is_here(place: Place, journal: Journal) -> bool:
    """Are the pools in this file already? Raises Refused where they are to be had by nobody from here."""
    here, mark = journal.in_etcd(), place.mark
    if mark is not None and mark.journal != journal.journal_id():
        raise Refused(
            f"the pools of this etcd are with collector {mark.collector}, or on their way",
            f"run it there: poolwarden-collector store {mark.way.value}",
        )
    if mark is not None and not here:
        # Of a move to etcd that was cut off before this file became an archive nothing counts there. One from etcd has
        # ended where the file has pools: it takes all of them at once.
        return mark.way is Way.TO_ETCD or bool(journal.pools())
    if mark is None and not place.generation:
        raise Refused("etcd has no pools of collectors below this prefix", "look at [store]: endpoints and prefix")
    if not here and journal.pools():
        raise Refused(
            "this state directory has pools of its own, which did not come from this etcd",
            "use an empty state directory, or that of a collector on this etcd",
        )
    return False


def _nothing_newer(journal: Journal, tails: list[PoolTail], older: bool) -> None:
    known, there = journal.in_etcd(), {tail.record.pool: tail.last for tail in tails}
    for pool, number in sorted(known.items()):
        if pool not in there:
            raise Refused(
                f"etcd has nothing of pool {pool}, of which this archive knows entries up to {number}",
                "restore the last copy of etcd: poolwarden-collector store restore FILE",
            )
        if there[pool] < number and not older:
            raise Refused(
                f"pool {pool} ends in etcd at entry {there[pool]}, and this archive knows entries up to {number}: "
                "etcd was restored",
                "with --older its record is taken as of then, and the collector asks its hosts what came after",
            )


async def _tail(etcd: Etcd, names: Names, pool: PoolId) -> PoolTail:
    tail = await carry_out(etcd, commits.read(names, pool))
    if not isinstance(tail, PoolTail):
        raise AssertionError("without an ownership nobody is deposed")
    return tail


def _compare(journal: Journal, tail: PoolTail) -> None:
    """Raises Refused where the file does not say in every field what etcd does."""
    pool, step = (
        tail.record.display_name,
        "report this; no collector runs, and etcd has the pools as they were",
    )
    found = journal.leaving(tail.record.pool)
    for item in fields(tail.record):
        if getattr(found.record, item.name) != getattr(tail.record, item.name):
            raise Refused(f"pool {pool}: {item.name} is not the same in the journal", step)
    here = {(alert.key, alert.occurrence) for alert in found.handed.opened}
    if here != {(alert.key, alert.occurrence) for alert in tail.alerts.values()}:
        raise Refused(f"pool {pool}: its open alerts are not the same in the journal", step)
