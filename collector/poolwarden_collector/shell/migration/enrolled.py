"""Who is enrolled, on a move: tokens, keys of hosts, certificates and denials go with the pools.

Rules
-----
* Into an etcd whose rows came from this journal, or that has none: they become this journal's. Into any other: those
  that it lacks are added, and nothing that is there is changed but by a denial.
* Back: the journal's become etcd's, and what the journal denies stays denied.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from poolwarden_collector.shell.cluster import enrolment_rows
from poolwarden_collector.shell.cluster.enrolment_rows import Changes, Collector, Written, key_of_row, parts
from poolwarden_collector.shell.cluster.etcd import Delete, Etcd, Holds, InDoubt, Txn, behind, carry_out
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.migration.place import AGAIN, Mark, Refused, sure
from poolwarden_collector.shell.store.enrolment_tables import DENIED, Change, Denied, HostKey, Of
from poolwarden_collector.shell.store.journal import Journal


async def into_etcd(etcd: Etcd, names: Names, mark: Mark, rows: Iterable[Of], own: bool) -> None:
    """``own``: what is there came from this journal. Raises Refused, EtcdError, UnreadableRow."""
    if own:
        start = f"{names.prefix}/enrolment/"
        await sure(etcd, Txn((Holds(names.moved, mark.text()),), (Delete(start, behind(start)),)))
    wanted = {key_of_row(names, row): row for row in rows}
    there, changes = await _there(etcd, names)
    put = [row for key, row in wanted.items() if key not in there or (denies(row) and not denies(there[key]))]
    put.sort(key=lambda row: not denies(row))
    for part in parts(names, put, ()):
        write = enrolment_rows.Write(names, changes, secrets.token_hex(8), part)
        outcome = await carry_out(etcd, write.attempt())
        if isinstance(outcome, enrolment_rows.Doubtful):
            raise InDoubt(outcome.why)
        if not isinstance(outcome, Written):
            raise Refused("somebody else changes who is enrolled in etcd", f"stop every collector; {AGAIN}")
        changes = outcome.changes
    there, _ = await _there(etcd, names)
    if any(there.get(key) != row for key, row in wanted.items() if own or key not in there):
        raise Refused("who is enrolled is not the same in etcd", AGAIN)


async def into_journal(etcd: Etcd, names: Names, journal: Journal) -> None:
    """Raises Refused, EtcdError, UnreadableRow, JournalError."""
    there, changes = await _there(etcd, names)
    if not changes.revision:
        return  # no collector on this etcd ever had anybody enrolled
    here = {key_of_row(names, row): row for row in journal.enrolment()}
    kept = {key for key, row in here.items() if denies(row)}
    put = tuple(row for key, row in there.items() if here.get(key) != row and (key not in kept or denies(row)))
    drop = tuple(row for key, row in here.items() if key not in there and key not in kept)
    if put or drop:
        journal.enrol(Change(put, drop))


async def _there(etcd: Etcd, names: Names) -> tuple[dict[str, Of], Changes]:
    found = await carry_out(etcd, enrolment_rows.read(names, Changes()))
    if found is None:
        return {}, Changes()
    # What collectors say of themselves is said again by each that runs.
    return {key: row for key, row in found.put.items() if not isinstance(row, Collector)}, found.changes


def denies(row: Of) -> bool:
    """Nobody may have a stream with this any more."""
    return isinstance(row, Denied) or (isinstance(row, HostKey) and row.state == DENIED)
