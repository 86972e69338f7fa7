"""Taking a master that nobody has seen serve for the one on record (configured_master.py says which host that is)."""

from __future__ import annotations

from poolwarden_collector.core.evidence import fenced_hosts, mastership
from poolwarden_collector.core.evidence.configured_master import named
from poolwarden_collector.core.evidence.signs import suspected
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover.ending import abort
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.state.failover_record import REVERSIBLE
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.transaction import Transaction


def adopt(tx: Transaction, verdict: Verdict) -> bool:
    """Take the named master for the one on record where nobody serves, and end a failover that is about another; True
    if that was done.
    """
    failover = tx.failover
    if tx.quiet or not verdict.entails.master_is_lost or (failover is not None and failover.step not in REVERSIBLE):
        return False
    host = named(tx)
    if not host or host == suspected(tx):
        return False
    before = tx.record.master
    followers = ", ".join(tx.name(other) for other in sorted(tx.record.hosts, key=tx.name) if tx.heard(other))
    what = f"{tx.name(host)} is the master of {followers} by their pool.conf, and was never seen serving"
    if failover is not None:
        abort(tx, what)
    term = tx.record.term + 1
    data = {"host": host, "before": before}
    tx.write(Entry(Kind.MASTER_NAMED, f"{what}: its loss is judged now; the term is {term}", data, "", term))
    mastership.begins(tx)
    fenced_hosts.drop_used_word(tx)
    if before and tx.heard(before) is None:
        text = f"{tx.name(before)} is owed a tombstone: it was the master before {tx.name(host)}, and may not know it"
        tx.note(Kind.OWED, text, host=before, what=OwedWork.TOMBSTONE.value, successor=host)
    return True
