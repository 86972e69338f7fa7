"""What is counted over restarts: failovers, their phases, alerts and deliveries, folded from the journal's own entries.

Rules
-----
* The journal is the record: at the start everything is counted from it, then each row as it becomes durable. So a
  counter never falls but at a start where a journal was restored from a backup, or where old deliveries of alerts are
  in it no more (store/retention.py); Prometheus takes either for a reset.
* It is read beside the connection that writes, in a thread: a long journal delays the first figures and nothing else.
* A row is counted once: those that became durable while the past was being read are held back, and counted if the past
  had not come to them yet.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.report.journal_view import SPANS, PastChange, took
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.metrics.histogram import FAILOVER_BOUNDS, Histogram
from poolwarden_collector.shell.store.journal import JournalError, Row
from poolwarden_collector.shell.store.read_only import read_only

ENDS = {Kind.CLOSED.value: "closed", Kind.ABORTED.value: "aborted", Kind.SUPERSEDED.value: "superseded"}
# What ends a change of master, or a drill.
_CHANGES = (Kind.CLOSED.value, Kind.DESIGNATE_RESULT.value, Kind.DRILL_ENDED.value)
_COUNTED = (*ENDS, Kind.DECIDED.value, Kind.DESIGNATE_RESULT.value, Kind.ALERT.value, Kind.ALERT_DELIVERED.value)
_PAST_CHANGES = 10
_AT_ONCE = 500
_STEPS = 100_000  # of SQLite's machine between two looks whether it is to stop
_SINCE = f"""SELECT seq, at, mono_ms, epoch, term, pool, failover, kind, actor, text,
             CASE WHEN kind = '{Kind.DECIDED.value}' THEN '{{}}' ELSE data END FROM entries
             WHERE seq > ? AND kind IN ({", ".join("?" * len(_COUNTED))}) ORDER BY seq"""


@dataclass(slots=True)
class Counts:
    """Everything counted; ``changes``: the newest rows that ended a change of each pool's master."""

    ended: Counter[tuple[PoolId, str]] = field(default_factory=Counter)
    lasted: dict[PoolId, Histogram] = field(default_factory=dict)
    phases: dict[tuple[PoolId, str], Histogram] = field(default_factory=dict)
    raised: Counter[str] = field(default_factory=Counter)
    delivered: Counter[str] = field(default_factory=Counter)
    changes: dict[PoolId, deque[Row]] = field(default_factory=dict)

    def copy(self) -> Counts:
        """As it is now; what is counted later changes the original alone."""
        changes = {pool: deque(rows) for pool, rows in self.changes.items()}
        return Counts(
            Counter(self.ended),
            dict(self.lasted),
            dict(self.phases),
            Counter(self.raised),
            Counter(self.delivered),
            changes,
        )


class Ledger:
    """Counts rows. To be called in one thread at a time; ``ready``: the past is counted."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.ready = False
        self._seq = 0
        self._decided: dict[str, Row] = {}  # of failovers that have not ended
        self._held: list[Row] = []

    def follow(self, rows: list[Row]) -> None:
        """These have become durable."""
        if self.ready:
            self.count(rows)
        else:
            self._held += [_without_input(row) for row in rows if row.kind in _COUNTED]

    def begin(self, past: Ledger) -> None:
        """The past as it was read; what was held back is counted where the past does not have it."""
        self.counts, self._seq, self._decided = past.counts, past._seq, past._decided
        self.ready = True
        self.count(self._held)
        self._held = []

    def count(self, rows: Iterable[Row]) -> None:
        """Rows in their order; what was counted before is passed over."""
        for row in rows:
            if row.seq > self._seq:
                self._seq = row.seq
                self._take(row)

    def _take(self, row: Row) -> None:
        if row.kind == Kind.DECIDED.value:
            self._decided[row.failover] = _without_input(row)
        elif row.kind in ENDS:
            self.counts.ended[row.pool, ENDS[row.kind]] += 1
            begun = self._decided.pop(row.failover, None)
            if row.kind == Kind.CLOSED.value:
                self._closed(row, begun)
        elif row.kind == Kind.ALERT.value:
            self.counts.raised[str(_data(row).get("severity", ""))] += 1
        elif row.kind == Kind.ALERT_DELIVERED.value:
            self.counts.delivered[str(_data(row).get("sink", ""))] += 1
        if row.kind in _CHANGES:
            self.counts.changes.setdefault(row.pool, deque(maxlen=_PAST_CHANGES)).append(row)

    def _closed(self, row: Row, begun: Row | None) -> None:
        if begun is not None and (seconds := _between(begun, row)) is not None:
            before = self.counts.lasted.get(row.pool, Histogram.empty(FAILOVER_BOUNDS))
            self.counts.lasted[row.pool] = before.with_value(seconds)
        durations = _data(row).get("durations_ms")
        change = PastChange(0, False, durations if isinstance(durations, dict) else {})
        for phase in SPANS:
            if (ms := took(change, phase)) is not None:
                phase_before = self.counts.phases.get((row.pool, phase), Histogram.empty(FAILOVER_BOUNDS))
                self.counts.phases[row.pool, phase] = phase_before.with_value(ms / 1000)


def read_past(journal: Path, stopping: Callable[[], bool] = lambda: False) -> Ledger:
    """Count everything that is in the journal's file now. Raises JournalError, also once it is ``stopping``."""
    ledger = Ledger()
    try:
        with read_only(journal) as db:
            db.set_progress_handler(stopping, _STEPS)
            ledger.count(_rows(db))
    except (sqlite3.Error, OSError, ValueError, TypeError) as error:
        raise JournalError(f"{journal}: cannot be read: {error}") from error
    return ledger


def _without_input(row: Row) -> Row:
    """A decision's stored input is long, and nothing of it is counted."""
    return replace(row, data="{}") if row.kind == Kind.DECIDED.value else row


def _rows(db: sqlite3.Connection) -> Iterator[Row]:
    cursor = db.execute(_SINCE, (0, *_COUNTED))
    while found := cursor.fetchmany(_AT_ONCE):
        for seq, at, mono, epoch, *rest in found:
            yield Row(seq, at, mono, epoch % (1 << 64), *rest)  # SQLite's numbers have a sign, epochs have none


def _data(row: Row) -> dict[str, object]:
    try:
        found = json.loads(row.data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _between(begun: Row, ended: Row) -> float | None:
    """Seconds, by the monotonic clock where one run of the collector saw both, else by the wall clock."""
    if begun.epoch == ended.epoch:
        return max(0, ended.mono_ms - begun.mono_ms) / 1000
    first, last = clock.ms_of(begun.at), clock.ms_of(ended.at)
    return max(0, last - first) / 1000 if first is not None and last is not None else None
