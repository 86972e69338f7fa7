"""The journals of the pools that this collector owns, in etcd: there a step is durable, or nothing of it is done.

Rules
-----
* Only what must be shared is in it (consensus.py); a step of which nothing is needs none of this.
* One call at a time of a pool; pools do not wait for each other. To be used in the event loop.
* Whatever goes wrong with an attempt, also here, leaves it undecided: only etcd's answer says that a step is durable.
* A fold is tried once an hour or after ``FOLD_EVERY`` entries, and not again for a while where it was not done.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.occasion import Occasion
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.cluster.commit_text import PoolTail, TooBig, Unreadable
from poolwarden_collector.shell.cluster.commits import Deposed, NotDone, Outcome, PoolJournal, Undecided
from poolwarden_collector.shell.cluster.consensus import shared
from poolwarden_collector.shell.cluster.etcd import Etcd, EtcdError, carry_out
from poolwarden_collector.shell.cluster.handover import Handover, NotReleased, Released, ReleaseUndecided
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import Ownership
from poolwarden_collector.shell.cluster.telling import Told

FOLD_AGAIN_MS: Ms = 60_000  # after a fold that was not done

_log = logging.getLogger(__name__)
_NOT_OWNED = "this collector does not own the pool"


class EtcdStore:
    """What is written there. ``now``: any clock that runs while this process does."""

    def __init__(self, etcd: Etcd, names: Names, now: Callable[[], Ms] = clock.mono_ms) -> None:
        self._etcd, self._names, self._now = etcd, names, now
        self._journals: dict[PoolId, PoolJournal] = {}
        self._folded_at: dict[PoolId, Ms] = {}  # or tried to
        self._fold_again: dict[PoolId, Ms] = {}  # not before

    def journal(self, pool: PoolId) -> PoolJournal | None:
        """Of a pool that is owned."""
        return self._journals.get(pool)

    def take_over(self, owned: Ownership, tail: PoolTail) -> None:
        """From now on it writes for this pool, as of this tail."""
        self._journals[owned.pool] = PoolJournal(self._names, owned, tail)
        self._folded_at[owned.pool] = self._now()

    def forget(self, pool: PoolId) -> None:
        """Nothing is written for this pool any more; what is open stays open, and whoever owns it next reads it."""
        for kept in (self._journals, self._folded_at, self._fold_again):
            kept.pop(pool, None)

    def begin(
        self,
        pool: PoolId,
        entries: Iterable[Entry],
        alerts: Iterable[AlertRaised | AlertResolved],
        occasions: Iterable[Occasion] = (),
    ) -> bool | Deposed | NotDone:
        """Take a step; True: attempt it, False: nothing of it has to be there. Raises TooBig."""
        journal = self._journals.get(pool)
        if journal is None:
            return Deposed(_NOT_OWNED)
        needed, alerts = [entry for entry in entries if shared(entry)], tuple(alerts)
        if not needed and not alerts:
            return False
        if journal.closed:
            return NotDone(journal.closed)
        journal.prepare(needed, alerts, secrets.token_hex(16), clock.wall_text(), occasions)
        return True

    async def attempt(self, pool: PoolId) -> Outcome:
        """Send it; where that is ``Undecided`` call it again, as often as it takes."""
        journal = self._journals.get(pool)
        if journal is None:
            return Deposed(_NOT_OWNED)
        try:
            return await carry_out(self._etcd, journal.attempt())
        except Exception as error:
            # safety: neither yes nor no.
            _log.exception("pool %s: a record's end is not known", pool)
            return Undecided(f"internal error: {type(error).__name__}: {error}")

    def give_up(self, pool: PoolId, to: str) -> Handover | NotReleased:
        """Close the pool's journal, to give the pool to ``to`` (empty: to whoever is advised to claim it)."""
        journal = self._journals.get(pool)
        if journal is None:
            return NotReleased(_NOT_OWNED, lost=True)
        if journal.shots:
            return NotReleased("a power-off without a result may still land")
        if journal.closed:
            return NotReleased(journal.closed)
        return Handover(self._names, journal, to)

    async def release(self, handover: Handover) -> Released | NotReleased | ReleaseUndecided:
        """Send that it is given up; where it is undecided call it again."""
        try:
            return await carry_out(self._etcd, handover.release())
        except Exception as error:
            # safety: neither yes nor no.
            _log.exception("whether a pool was given up is not known")
            return ReleaseUndecided(f"internal error: {type(error).__name__}: {error}")

    def to_tell(self, pool: PoolId) -> bool:
        """Has anything been written since the last mark of what is told?"""
        journal = self._journals.get(pool)
        if journal is None or journal.closed:
            return False
        telling = journal.telling
        newest = max((alert.occurrence for alert in journal.alerts.values()), default=0)
        return bool(telling.ended or telling.happened) or newest > telling.told.alerts

    async def mark_told(self, pool: PoolId, told: Told) -> None:
        """Up to there all is told; where that cannot be written it is told again at worst."""
        journal = self._journals.get(pool)
        if journal is None or journal.closed:
            return
        try:
            await carry_out(self._etcd, journal.mark(told))
        except EtcdError as error:
            _log.info("pool %s: what is told is not noted: %s", pool, error)

    def fold_due(self, pool: PoolId) -> bool:
        """Is it time to fold this pool's entries? While nothing of it is under way."""
        journal, now = self._journals.get(pool), self._now()
        if journal is None or now < self._fold_again.get(pool, 0):
            return False
        return journal.fold_due(now - self._folded_at.get(pool, now))

    async def fold(self, pool: PoolId, record: PoolRecord) -> Outcome:
        """Fold them to this record, which is what they say."""
        journal = self._journals.get(pool)
        if journal is None:
            return Deposed(_NOT_OWNED)
        self._fold_again[pool] = self._now() + FOLD_AGAIN_MS
        try:
            done = await carry_out(self._etcd, journal.fold(record))
        except (TooBig, Unreadable) as error:
            return NotDone(str(error))
        except Exception as error:
            _log.exception("pool %s: its entries were not folded", pool)
            return NotDone(f"internal error: {type(error).__name__}: {error}")
        if not journal.fold_due(0):
            self._folded_at[pool] = self._now()
            self._fold_again.pop(pool)
        return done
