"""Which entries of the journal must be in etcd before anything is done, and which stay with the one who saw them.

Rules
-----
* ``SHARED`` are all from which a record is folded and all that somebody ordered, did or refused; ``OWN`` is what the
  next owner sees again by himself in his quiet time, or what concerns this one collector alone. Each kind is in one of
  them, with its reason, and a kind that is in none stops the tests.
* An entry of a failover is always shared: it explains what an order rests on.
* A verdict is own unless it changes a record: the end of an incident, and health again (shell/store/retention.py).
* A kind that was shared in any release is never own later: an older collector may still fold it.
* What is shared folds to the same record as everything, in every field, at every commit; stories hold it. So is
  standing shared, although members gain it again: under a master that died together with its collector nobody can, and
  a taker without it could neither count a witness nor tell another's certificate from the master's.
"""

from __future__ import annotations

from enum import Enum

from poolwarden_collector.core.model.entries import Entry, Kind


class Own(Enum):
    """Why the next owner can do without an entry of this kind."""

    SEEN_AGAIN = "agents, devices and probes say it again within the quiet time"
    TOLD_AGAIN = "it is of a delivery; at worst an alert is delivered again under the same key"
    OF_THIS_ONE = "it is of this collector's process, configuration or journal"


OWN: dict[Kind, Own] = {
    Kind.VERDICT: Own.SEEN_AGAIN,
    Kind.AGENT_SILENT: Own.SEEN_AGAIN,
    Kind.AGENT_BACK: Own.SEEN_AGAIN,
    Kind.STRANGER: Own.SEEN_AGAIN,
    Kind.HOST_REFUSED: Own.SEEN_AGAIN,
    Kind.POWER_READING: Own.SEEN_AGAIN,
    Kind.ALERT_DELIVERED: Own.TOLD_AGAIN,
    Kind.ALERTS_TESTED: Own.OF_THIS_ONE,
    Kind.COLLECTOR_STARTED: Own.OF_THIS_ONE,
    Kind.CONFIGURED: Own.OF_THIS_ONE,
    Kind.HOOK_RAN: Own.TOLD_AGAIN,
    Kind.FOLDED: Own.OF_THIS_ONE,
}
SHARED = frozenset(kind for kind in Kind if kind not in OWN)


def shared(entry: Entry) -> bool:
    """Must this entry be in etcd before its step counts as durable?"""
    if entry.kind in SHARED or entry.failover:
        return True
    # What changes a record is shared: the end of an incident forgets its restarts, health forgets what was denied.
    return entry.kind is Kind.VERDICT and (bool(entry.data.get("over")) or entry.data.get("verdict") == "Healthy")
