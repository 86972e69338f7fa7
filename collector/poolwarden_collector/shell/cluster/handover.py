"""A pool given up by choice: which one may be, and how the next owner knows that nothing of it is under way.

Rules
-----
* Only a pool that is healthy, without a failover, a question, a drill or owed work, and with nothing under way is moved
  (``why_stays``); whatever it is for, a collector that leaves or one that has too much.
* Before anything is sent the journal is closed: from then on nothing is begun for the pool, whatever becomes of it.
  etcd may carry out later what it did not answer, and the next owner takes ``handed`` for a promise.
* Nothing was moved for certain only where etcd said so, and had left nothing unanswered before: then the journal opens
  again. Everything else ends as the pool's end here.
* The key goes, ``handed`` and the advice come in one transaction; who is named in the advice claims the pool.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.shell.cluster.commits import PoolJournal
from poolwarden_collector.shell.cluster.etcd import (
    Delete,
    EtcdError,
    Exchange,
    Get,
    InDoubt,
    Op,
    Present,
    Put,
    Txn,
    TxnDone,
)
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import advice, handed_text, revision_in

ANSWERED_WITHIN_MS: Ms = 20_000  # an order that is not of a failover: longer than it is valid on its host
_BEING_GIVEN_UP = "the pool is being given up"


@dataclass(frozen=True, slots=True)
class Released:
    """It is given up; the journal stays closed."""


@dataclass(frozen=True, slots=True)
class NotReleased:
    """It was not given up, and will not be; this collector goes on, unless ``lost``."""

    why: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseUndecided:
    """It may be given up, now or later; nothing is begun for the pool, and ``release`` is called again."""

    why: str


def why_stays(record: PoolRecord, verdict: Verdict | None, under_way: bool) -> str:
    """Why this pool stays; empty if it may be moved. ``under_way``: an order, a fence run, a gate's answer."""
    checks = (
        (verdict is not Verdict.HEALTHY, "it is not healthy"),
        (record.failover is not None and record.failover.open, "a failover is open"),
        (bool(record.owed), "its hosts are owed work"),
        (record.question is not None, "a question is open"),
        (record.drill is not None, "a drill is open"),
        (record.in_place is not None, "a restart in place is under way"),
        (record.transition is not None or record.planned is not None, "its master is changing"),
        (under_way, "something is under way"),
    )
    return next((why for holds, why in checks if holds), "")


def under_way(pool: Pool, now: Ms) -> bool:
    """Is there an order without an answer, a power switch, a boot gate that asks, or a command that waits?"""
    live = pool.live
    unanswered = any(sent.result is None and now - sent.at < ANSWERED_WITHIN_MS for sent in live.sent.values())
    asked = bool(live.gates.asked or live.gates.waiting or live.pending)
    return unanswered or asked or bool(pool.record.after.switches)


class Handover:
    """One pool on its way to somebody else; ``to``: the member that is to claim it, empty for whoever is assigned."""

    def __init__(self, names: Names, journal: PoolJournal, to: str = "") -> None:
        journal.close(_BEING_GIVEN_UP)
        self._names, self._journal, self._to = names, journal, to
        self._doubted = False

    def release(self) -> Exchange[Released | NotReleased | ReleaseUndecided]:
        """Give it up."""
        names, owned, to = self._names, self._journal.owned, self._to
        handed = names.handed(owned.pool)
        writes: tuple[Op, ...] = (Delete(owned.owner_key), Put(handed, handed_text(owned, to)))
        compare = owned.compare
        if to:
            writes += (Put(names.assigned(owned.pool), advice(to)),)
            compare += (Present(names.member(to)),)
        try:
            done: TxnDone = yield Txn(compare, writes, (Get(owned.owner_key), Get(handed)))
        except InDoubt as doubt:
            self._doubted = True
            return ReleaseUndecided(str(doubt))
        except EtcdError as error:
            return ReleaseUndecided(str(error)) if self._doubted else self._goes_on(str(error))
        if done.succeeded:
            return Released()
        owner, before = done.found[0].one, done.found[1].one
        if before is not None and revision_in(before) == owned.revision:
            return Released()
        if owner is None or owner.created != owned.revision:
            return NotReleased("the pool is this collector's no more", lost=True)
        why = f"{to} is no member" if to else "the generation has been raised"
        # safety: what was sent before may still be carried out, as soon as ``to`` is a member again.
        return ReleaseUndecided(why) if self._doubted else self._goes_on(why)

    def _goes_on(self, why: str) -> NotReleased:
        self._journal.closed = ""
        return NotReleased(why)
