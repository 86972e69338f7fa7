"""A pool's journal in etcd: one step is one transaction, and its success is what "durable" means.

Rules
-----
* A commit is one key, written only where the owner's key still is the one of this ownership and where nothing has its
  number yet. So it is there once or never, whoever sends it how often.
* An error of the transaction is neither yes nor no, and a read that does not find it is no No: it may be on its way.
  Such a commit stays open and is *sent again* until etcd says which; no other commit of the pool is begun meanwhile.
  ``NotDone`` is said of a commit alone that was never sent.
* Who is deposed may have written his last commit or not; he does nothing in either case, and the next owner reads it.
* Folded is what the commits say up to a number: in one transaction the record is replaced and every commit up to that
  number removed. It compares the record that it replaces, so a fold that arrives late replaces no newer one. Commits
  compare it as well: by a fold a number becomes free again, and a second sending could arrive then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.occasion import Occasion
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.shell.cluster.commit_text import (
    PoolTail,
    Shot,
    TooBig,
    commit_text,
    id_of,
    last_in,
    record_text,
    tail_of,
    take_shots,
    with_commits,
)
from poolwarden_collector.shell.cluster.etcd import (
    Created,
    Delete,
    EtcdError,
    Exchange,
    Found,
    Get,
    Holds,
    InDoubt,
    Kept,
    Present,
    Put,
    Txn,
    TxnDone,
    Unchanged,
    behind,
    unfit,
)
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import Ownership, held
from poolwarden_collector.shell.cluster.telling import Told, after, take_alerts, told_of, told_text

FOLD_EVERY = 256  # entries
FOLD_AFTER_MS: Ms = 3_600_000
_AT_ONCE = 64  # commits of one read
_RESTORED = "etcd lacks what this collector has recorded: it was restored"


@dataclass(frozen=True, slots=True)
class Durable:
    """It is in etcd; effects may begin."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Deposed:
    """This ownership is over; whatever it wanted to do is not done."""

    why: str


@dataclass(frozen=True, slots=True)
class Undecided:
    """It may be in etcd or come there yet: the pool's journal stands still, and the same commit is sent again."""

    why: str


@dataclass(frozen=True, slots=True)
class NotDone:
    """It was never sent: nothing of it is durable."""

    why: str


Outcome = Durable | Deposed | Undecided | NotDone


@dataclass(frozen=True, slots=True)
class Commit:
    """One step on its way. ``first`` to ``last`` are its entries' numbers."""

    first: int
    last: int
    id: str
    txn: Txn
    value: bytes
    entries: tuple[Entry, ...]
    alerts: tuple[AlertRaised | AlertResolved, ...]
    at: str
    occasions: tuple[Occasion, ...] = ()


# ------------------------------------------------------------------------------------------------ the owner's side


class PoolJournal:
    """The journal of one pool for as long as one ownership lasts; one exchange at a time."""

    def __init__(self, names: Names, owned: Ownership, tail: PoolTail) -> None:
        self.owned = owned
        self.last = tail.last
        self.since_fold = len(tail.entries)
        self.alerts = dict(tail.alerts)
        self.shots = tail.shots
        self.telling = tail.telling
        self.closed = ""  # why nothing is written any more
        self._names = names
        self._record_revision = tail.record_revision
        self._newest = tail.newest
        self._fold_in_doubt = False
        self._open: Commit | None = None
        self._sent = False

    @property
    def open(self) -> Commit | None:
        """The commit whose end is not known yet."""
        return self._open

    def waited_out(self, shots: frozenset[Shot]) -> None:
        """Nothing of these can land any more (takeover.py)."""
        self.shots -= shots

    def close(self, why: str) -> None:
        """Begin nothing here any more. Raises RuntimeError while the end of a commit is not known."""
        self._must_rest()
        self.closed = why

    def prepare(
        self,
        entries: Iterable[Entry],
        alerts: Iterable[AlertRaised | AlertResolved],
        commit_id: str,
        at: str,
        occasions: Iterable[Occasion] = (),
    ) -> Commit:
        """The next commit. ``commit_id`` is drawn and never used twice, ``at`` is wall time. Raises TooBig."""
        self._must_rest()
        entries, alerts, hooks = tuple(entries), tuple(alerts), tuple(occasions)
        first, last = self.last + 1, self.last + max(1, len(entries), len(hooks))
        value = commit_text(entries, alerts, commit_id, self.owned.epoch, last, at, hooks)
        txn = self._txn(first, value)
        if why := unfit(txn):
            raise TooBig(f"a step of {len(entries)} entries and {len(alerts)} alerts: {why}")
        self._open, self._sent = Commit(first, last, commit_id, txn, value, entries, alerts, at, hooks), False
        return self._open

    def _txn(self, first: int, value: bytes) -> Txn:
        key, record = self._names.commit(self.owned.pool, first), self._names.record(self.owned.pool)
        # safety: as long as nothing has this number or had it before a fold, and never after another is the owner.
        compare = (*self.owned.compare, Created(key, 0), Unchanged(record, self._record_revision))
        # safety: an etcd that was restored lacks what came before; a hole in the numbers is read by nobody.
        compare += (Present(self._names.commit(self.owned.pool, self._newest)),) if self._newest else ()
        return Txn(compare, (Put(key, value),), (*self._who(), Get(key), Get(record)))

    def attempt(self) -> Exchange[Outcome]:
        """Send the open commit; where that is ``Undecided`` call it again, as often as it takes."""
        commit = self._open
        if commit is None:
            raise RuntimeError("there is no open commit")
        try:
            done: TxnDone = yield commit.txn
        except InDoubt as doubt:
            self._sent = True
            return (yield from self._look(commit, str(doubt)))
        except EtcdError as error:
            # safety: what was sent once may still come, whatever is said of the second time.
            if self._sent:
                return Undecided(str(error))
            self._open = None
            return NotDone(str(error))
        if done.succeeded:
            return self._durable(commit)
        owner, generation, there, record = (each.one for each in done.found)
        if why := self._lost(owner, generation):
            return self._over(why)
        if there is not None and id_of(there) == commit.id:
            return self._durable(commit)  # an earlier sending had arrived
        revision = record.modified if record is not None else 0
        if there is None and revision != self._record_revision and self._fold_in_doubt:
            # A fold, whose answer was lost, has arrived: it ends before this number, and no sending before it can come.
            self._record_revision, self._newest, self._fold_in_doubt = revision, 0, False
            self._open = replace(commit, txn=self._txn(commit.first, commit.value))
            return (yield from self.attempt())
        taken = f"number {commit.first} is taken by a commit of somebody else"
        return self._over(taken if there is not None else _RESTORED)

    def _look(self, commit: Commit, why: str) -> Exchange[Outcome]:
        """Is it there already, and the pool still this collector's? Not to find it proves nothing."""
        key = self._names.commit(self.owned.pool, commit.first)
        try:
            done: TxnDone = yield Txn(self.owned.compare, (Get(key),), self._who())
        except EtcdError:
            return Undecided(why)
        if not done.succeeded:
            return self._over(self._lost(done.found[0].one, done.found[1].one))
        there = done.found[0].one
        return self._durable(commit) if there is not None and id_of(there) == commit.id else Undecided(why)

    # -------------------------------------------------------------------------------------------- folding

    def fold_due(self, since_ms: Ms) -> bool:
        """Is it time to fold? ``since_ms``: since the last time."""
        rests = self._open is None and not self.closed
        return rests and (self.since_fold >= FOLD_EVERY or (since_ms >= FOLD_AFTER_MS and self.since_fold > 0))

    def fold(self, record: PoolRecord) -> Exchange[Outcome]:
        """Put the record as of ``last`` in the place of the commits. Raises TooBig, Unreadable; may be called again."""
        self._must_rest()
        if record.pool != self.owned.pool:
            raise ValueError("a record of another pool")
        pool, key = self.owned.pool, self._names.record(self.owned.pool)
        first, end = self._names.journal(pool), self._names.commit(pool, self.last + 1)
        compare = (*self.owned.compare, Unchanged(key, self._record_revision))
        writes = (
            Put(key, record_text(record, self.last, self.alerts.values(), self.shots, self.telling)),
            Delete(first, end),
        )
        txn = Txn(compare, writes, (*self._who(), Get(key)))
        if why := unfit(txn):
            raise TooBig(f"the record of {record.display_name}: {why}")
        try:
            done: TxnDone = yield txn
        except InDoubt as doubt:
            self._fold_in_doubt = True
            return Undecided(str(doubt))  # nothing waits for it
        except EtcdError as error:
            return NotDone(str(error))
        if done.succeeded:
            self._record_revision, self.since_fold, self._newest, self._fold_in_doubt = done.revision, 0, 0, False
            return Durable(self.last, self.last)
        owner, generation, there = (each.one for each in done.found)
        if why := self._lost(owner, generation):
            return self._over(why)
        if not self._fold_in_doubt:
            return self._over(_RESTORED)
        # A fold before, whose answer was lost, has arrived: the next one is on top of that.
        self._record_revision, self._newest = there.modified if there is not None else 0, 0
        self.since_fold = self.last - (last_in(there) if there is not None else 0)
        return Undecided("an earlier fold has arrived")

    # -------------------------------------------------------------------------------------------- what is told

    def mark(self, told: Told) -> Exchange[bool]:
        """Write up to where all is told; false: it is not written, and is told again at worst. Raises EtcdError."""
        key = self._names.told(self.owned.pool)
        done: TxnDone = yield Txn(self.owned.compare, (Put(key, told_text(told)),), self._who())
        if done.succeeded:
            self.telling = self.telling.without(told)
        return done.succeeded

    # -------------------------------------------------------------------------------------------- what they share

    def _must_rest(self) -> None:
        if self._open is not None:
            raise RuntimeError(f"the end of commit {self._open.first} is not known yet")
        if self.closed:
            raise RuntimeError(f"nothing is written any more: {self.closed}")

    def _who(self) -> tuple[Get, ...]:
        return Get(self.owned.owner_key), Get(self.owned.generation_key)

    def _durable(self, commit: Commit) -> Durable:
        self._open = None
        self.last, self._newest = commit.last, commit.first
        self.since_fold += len(commit.entries)
        self.shots = take_shots(self.shots, commit.entries)
        ended = take_alerts(self.alerts, commit.alerts, commit.at, commit.first)
        self.telling = after(self.telling, commit.entries, ended, commit.occasions, commit.at, commit.first)
        return Durable(commit.first, commit.last)

    def _over(self, why: str) -> Deposed:
        self._open, self.closed = None, why
        return Deposed(why)

    def _lost(self, owner: Kept | None, generation: Kept | None) -> str:
        """Why this ownership stands no more; empty if it does."""
        if owner is None or owner.created != self.owned.revision:
            by = f"{held(owner).by} owns it" if owner is not None else "nobody owns it"
            return f"the pool is this collector's no more: {by}"
        current = generation is not None and Holds(self.owned.generation_key, generation.value) in self.owned.compare
        return "" if current else "the generation has been raised: pools are claimed anew"


# ------------------------------------------------------------------------------------------------ a taker's side


def read(names: Names, pool: PoolId, owned: Ownership | None = None) -> Exchange[PoolTail | Deposed]:
    """All that etcd holds of a pool, as of one revision. With ``owned``: and proof that it still is this owner's.

    Raises EtcdError, and Unreadable.
    """
    start, end = names.journal(pool), behind(names.journal(pool))
    compare = owned.compare if owned is not None else ()
    done: TxnDone = yield Txn(compare, (Get(names.record(pool)), Get(start, end, _AT_ONCE), Get(names.told(pool))))
    if not done.succeeded:
        return Deposed("the pool is this collector's no more")
    record, page = done.found[0].one, done.found[1]
    kept = list(page.kept)
    while page.more:
        page = yield Get(kept[-1].key + "\0", end, _AT_ONCE, done.revision)
        kept += page.kept
    tail = with_commits(names, tail_of(record, pool) if record is not None else PoolTail(PoolRecord(pool)), kept)
    return replace(tail, telling=tail.telling.without(told_of(done.found[2].one)))


def known_pools(names: Names) -> Exchange[frozenset[PoolId]]:
    """Every pool of which etcd holds anything durable."""
    found: set[PoolId] = set()
    key, end = names.pools, behind(names.pools)
    while True:
        page: Found = yield Get(key, end, 1)
        if page.one is None:
            return frozenset(found)
        pool = names.parts(page.one.key)[1]
        found.add(pool)
        key = behind(names.of_pool(pool))


def still_owned(owned: Ownership) -> Exchange[bool]:
    """Does this ownership stand?"""
    done: TxnDone = yield Txn(owned.compare, (Get(owned.owner_key),))
    return done.succeeded
