"""The journal: what must not be forgotten, one SQLite file, durable before anything is done.

Rules
-----
* One commit is one transaction: the entries of a step, its alerts and one outbox row for each sink, or nothing of it.
  SQLite's WAL with synchronous=FULL syncs the log at each commit, so a commit that returned survives a power cut, and
  one that raised has left nothing behind. Steps of several pools may share a transaction; one that no journal could
  hold is left out of it alone.
* One collector per journal: a lock on the state directory, held by the process, refuses a second one.
* How alerts wait for their channels: parcels.py, storms.py, reminders.py, silences.py; all in these transactions.
* Which file is opened at all, and how an older one becomes today's: journal_file.py. A damaged one: salvage.py; what
  is lost without any damage: running_mark.py.
* Records are folded from a snapshot and the entries after it: journal_records.py. What is removed: retention.py.
* An entry that this version does not know, or that is damaged, ends the reading: it could be the one that matters
  (journal_rows.py).
* What people ask is read beside the connection that writes, within a time; call these in a thread of their own.
* A pool that writes too much has what only informs folded (journal_quota.py).
* What is not printable in a text or an actor's name is escaped here, but for the line feeds of an alert's body.
* Every error is a ``JournalError`` with one line; whoever gets one may not act on what he wanted to write. What no file
  could hold (``Unwritable``) says nothing about the disk.
* An epoch from beyond the contract, which an older version may have stored at one agent's word, was never obeyed by
  anybody: then the highest one of the entries counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import HIGHEST, LOT_BITS, after, after_fits
from poolwarden_collector.core.model.occasion import Occasion
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.plain_text import printable
from poolwarden_collector.shell.store import enrolment_tables, hook_queue, parcels, reminders, salvage, silences, storms
from poolwarden_collector.shell.store.archive_calls import ArchiveCalls
from poolwarden_collector.shell.store.damage_calls import DamageCalls
from poolwarden_collector.shell.store.hook_calls import HookCalls
from poolwarden_collector.shell.store.journal_file import JournalError as JournalError
from poolwarden_collector.shell.store.journal_file import open_file
from poolwarden_collector.shell.store.journal_questions import Among as Among
from poolwarden_collector.shell.store.journal_questions import Questions
from poolwarden_collector.shell.store.journal_quota import Quota
from poolwarden_collector.shell.store.journal_records import Records
from poolwarden_collector.shell.store.journal_rows import Row as Row
from poolwarden_collector.shell.store.journal_rows import release as release
from poolwarden_collector.shell.store.journal_rows import signed, stored, unsigned
from poolwarden_collector.shell.store.move_calls import MoveCalls
from poolwarden_collector.shell.store.operator_calls import OperatorCalls
from poolwarden_collector.shell.store.parcels import ChannelState, Routes
from poolwarden_collector.shell.store.parcels import Parcel as Parcel
from poolwarden_collector.shell.store.read_only import read_only
from poolwarden_collector.shell.store.running_mark import RunningMark
from poolwarden_collector.shell.store.silence_calls import SilenceCalls
from poolwarden_collector.shell.tally import Tally

Numbers = tuple[int, int]  # of the first and the last entry of a commit, in its pool's journal in etcd
# What ``commit`` is given, with its last argument or without.
_Step = tuple[PoolId, Iterable[Entry], Iterable[AlertRaised | AlertResolved], str, Iterable[Occasion]]
Step = _Step | tuple[*_Step, Numbers]
NO_STORE_HOLDS = (OverflowError, ValueError, TypeError, sqlite3.DataError, sqlite3.InterfaceError)
FILE = "journal.db"
LOCK = "lock"
_TRIALS = 20  # of channels, that are looked at
_PRUNE_EVERY_MS = 3_600_000
ASKED_WITHIN_S = 5.0  # a question for people
MOST_ROWS = 10_000  # that one call of the operator's interface is answered with


class Unwritable(JournalError):
    """What was to be written fits in no journal; the disk is not to blame, and trying again is of no use."""


class TooLong(JournalError):
    """A question for people would take too long; ask for less."""


class Journal(Records, Questions, DamageCalls, OperatorCalls, HookCalls, SilenceCalls, ArchiveCalls, MoveCalls):
    """The journal in ``state_dir``; usable from any thread, one call at a time.

    ``sinks`` names the channels of alerts, ``routes`` tells which of them each alert reaches (without it: all);
    ``docs`` is where its runbook is read. Raises JournalError where the directory cannot be used or another collector
    holds it.
    """

    def __init__(
        self,
        state_dir: Path,
        collector_name: str = "collector",
        sinks: tuple[str, ...] = (),
        docs: str = "",
        routes: Routes | None = None,
    ) -> None:
        self.path = state_dir / FILE
        self.epoch = 0
        self.sinks = sinks
        self._routes = routes
        self._prune_at = 0  # on the clock of silences
        self._quotas: dict[PoolId, Quota] = {}
        self.tally = Tally()
        self._name = collector_name
        self._docs = _docs_of(docs)
        self._guard = threading.Lock()
        self._lock_file = _lock(state_dir)
        try:
            self._db = open_file(self.path)
            self._mark = self._begin_mark()
        except (sqlite3.Error, OSError) as error:
            os.close(self._lock_file)
            raise JournalError(f"{self.path}: {_say(error)}") from error
        except JournalError:
            os.close(self._lock_file)
            raise
        try:
            # safety: below every epoch that agents obey, so that no record with a hole in it is taken for the newest.
            self.damage = self.standing_damage()
            self.epoch = 0 if self.folds_over_a_hole() else self._last_epoch()
        except JournalError:
            self.close()
            raise

    def _begin_mark(self) -> RunningMark:
        """From now on what is lost of this journal is seen at the next start."""
        try:
            # safety: before the mark there is a transaction in the log: one without a log says that it was taken away.
            with self._db.atomic():
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('opened', ?)", [clock.wall_text()])
            return RunningMark(self.path, self._last())
        except BaseException:
            self._db.conn.close()
            raise

    def _last(self) -> int:
        """The number of the newest entry."""
        return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0])

    def _failed(self, error: BaseException) -> str:
        """What it says, in a line's words; where it is damage the next start looks at the whole file."""
        if not salvage.is_damage(error):
            return _say(error)
        salvage.suspect(self.path)
        return f"{_say(error)}: restart the collector, which takes over what is readable"

    def close(self) -> None:
        """Fold the log into the file and let the directory go."""
        with self._guard:
            with contextlib.suppress(sqlite3.Error, OSError):
                busy, log, folded = self._db.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
                # safety: while a part of the log is nowhere else, its loss is to be seen.
                if not busy and log == folded:
                    self._mark.take_away()
            self._db.conn.close()
            self._mark.let_go()
            os.close(self._lock_file)

    @property
    def routes(self) -> Routes:
        """Which channels an alert reaches."""
        return self._routes or parcels.Everything(self.sinks)

    @routes.setter
    def routes(self, routes: Routes) -> None:
        self._routes = routes

    # ------------------------------------------------------------------------------------------------ writing

    def begin_epoch(self, above: int = 0) -> int:
        """A new epoch, higher than every one before and than ``above``; durable when this returns.

        Drawn partly at random (core/model/epoch.py), so that two collectors with copies of one journal differ.
        """
        with self._transaction("a new epoch") as db:
            epoch = after(max(self.epoch, above), secrets.randbits(LOT_BITS))  # OverflowError: Unwritable
            db.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", [str(epoch)])
            db.execute("INSERT INTO epochs VALUES (?, ?, ?)", [signed(epoch), release(), clock.wall_text()])
        self.epoch = epoch
        return epoch

    def commit(
        self,
        pool: PoolId,
        entries: Iterable[Entry],
        alerts: Iterable[AlertRaised | AlertResolved] = (),
        pool_name: str = "",
        occasions: Iterable[Occasion] = (),
        shared: Numbers = (0, 0),
    ) -> list[Row]:
        """One step of one pool, all of it or nothing; the rows as stored, with their numbers.

        ``shared``: its numbers in the pool's journal in etcd, which its alerts and occasions have; 0: it is not there.
        """
        with self._transaction(_of_pool(pool, pool_name)) as db:
            return self._put(db, pool, entries, alerts, pool_name, occasions, shared)

    def commit_together(self, steps: Iterable[Step]) -> list[list[Row] | Unwritable]:
        """One step of each of several pools in one transaction: the rows of each, or why no journal could hold it.

        Raises JournalError: nothing of any of them is durable.
        """
        done: list[list[Row] | Unwritable] = []
        with self._transaction("entries of several pools") as db:
            for step in steps:
                try:
                    with db.atomic():  # a savepoint: what cannot be held takes nobody else's step with it
                        done.append(self._put(db, *step))
                except NO_STORE_HOLDS as error:
                    done.append(self._unwritable(_of_pool(step[0], step[3]), error))
        return done

    def _put(
        self,
        db: Database,
        pool: PoolId,
        entries: Iterable[Entry],
        alerts: Iterable[AlertRaised | AlertResolved],
        pool_name: str,
        occasions: Iterable[Occasion],
        shared: Numbers = (0, 0),
    ) -> list[Row]:
        first, last = shared
        if last:
            self._reached(db, pool, last)
        rows = self._add_entries(db, pool, self._within_quota(pool, list(entries)))
        for alert in alerts:
            self._add_alert(db, pool, pool_name, alert, first)
        hook_queue.add(db, pool, pool_name, self._name, occasions, first)
        return rows

    def reconfigure(
        self,
        entries: Iterable[tuple[PoolId, Iterable[Entry]]],
        sinks: tuple[str, ...],
        docs: str,
        routes: Routes | None = None,
    ) -> list[Row]:
        """Another configuration in one transaction: what it changes, each for a pool or (empty) for the collector.

        From it on alerts go to ``sinks`` by ``routes``; what waits for others will never be delivered, and a channel
        that is new is told what is open.
        """
        with self._transaction("another configuration") as db:
            rows = [row for pool, each in entries for row in self._add_entries(db, pool, list(each))]
            self._abandon_all_but(db, sinks)
            self._meet(db, sinks, routes or parcels.Everything(sinks))
        self.sinks, self._docs, self._routes = sinks, _docs_of(docs), routes
        return rows

    def check(self) -> None:
        """Write something small, to learn whether the journal can be written again."""
        with self._transaction("a test record") as db:
            row = {"key": "checked", "value": clock.wall_text()}
            db["meta"].insert(row, pk="key", replace=True)  # type: ignore[union-attr]

    def _within_quota(self, pool: PoolId, entries: list[Entry]) -> list[Entry]:
        sized = [(entry, len(parcels.dumped(entry.data))) for entry in entries]
        kept, folded = self._quotas.setdefault(pool, Quota()).taken(sized, clock.mono_ms())
        self.tally.entries += folded
        return kept

    def _add_entries(self, db: Database, pool: PoolId, entries: list[Entry]) -> list[Row]:
        if not entries:
            return []
        last = next(db.query("SELECT coalesce(max(seq), 0) AS last FROM entries"))["last"]
        at, mono = clock.wall_text(), clock.mono_ms()
        rows = [
            Row(
                last + n,
                at,
                mono,
                self.epoch,
                e.term,
                pool,
                e.failover,
                e.kind.value,
                printable(e.actor),
                printable(e.text),
                parcels.dumped(e.data),
            )
            for n, e in enumerate(entries, 1)
        ]
        db["entries"].insert_all([stored(row) for row in rows])  # type: ignore[union-attr]
        return rows

    def _add_alert(
        self, db: Database, pool: PoolId, pool_name: str, alert: AlertRaised | AlertResolved, occurrence: int = 0
    ) -> None:
        """``occurrence``: of an alert that is raised, where several collectors have agreed on it; 0: it is counted."""
        alert = replace(alert, key=self.own_key(alert.key))
        # The open one first: occurrences that were counted here may be above those that were agreed on.
        newest = "SELECT * FROM alerts WHERE key = ? ORDER BY resolved_at = '' DESC, occurrence DESC LIMIT 1"
        found = list(db.query(newest, [alert.key]))
        is_open = bool(found) and not found[0]["resolved_at"]
        if isinstance(alert, AlertResolved):
            if is_open:
                self._end_alert(db, found[0], pool_name, alert.text)
        elif not is_open:
            row = {
                "key": alert.key,
                "occurrence": occurrence or (found[0]["occurrence"] + 1 if found else 1),
                "pool": pool,
                "severity": alert.severity,
                "title": printable(alert.title),
                "body": printable(alert.body, "\n"),
                "data": parcels.dumped(alert.data),
                "raised_at": clock.wall_text(),
                "resolved_at": "",
            }
            db["alerts"].insert(row, pk=("key", "occurrence"), replace=bool(occurrence))  # type: ignore[union-attr]
            now = silences.Clock(self.epoch)
            payload = self._payload(row, pool_name, "firing", alert.body)
            held = silences.holds(db, row, now)
            parcels.begin(db, row, payload, self.routes.to(row, pool_name), self.routes, now, held=held)

    def _end_alert(self, db: Database, alert: dict[str, Any], pool_name: str, text: str, at: str = "") -> None:
        """This one is over; ``alert``: its row, ``at``: since when (wall time); now where that is no time."""
        row = alert | {"resolved_at": at if clock.ms_of(at) is not None else clock.wall_text()}
        db["alerts"].update((row["key"], row["occurrence"]), {"resolved_at": row["resolved_at"]})  # type: ignore[union-attr]
        payload = self._payload(row, pool_name, "resolved", printable(text, "\n"))
        now = silences.Clock(self.epoch)
        parcels.end(db, row, payload, self.sinks, self.routes, now)
        storms.over(db, row["key"], row["occurrence"], now, self.routes)

    def _payload(self, alert: dict[str, Any], pool_name: str, state: str, body: str) -> dict[str, Any]:
        """What channels are told of an alert's beginning or end."""
        data = json.loads(alert["data"])
        payload = {
            "key": alert["key"],
            "occurrence": alert["occurrence"],
            "state": state,
            "severity": alert["severity"],
            "title": alert["title"],
            "body": body,
            "pool": {"uuid": alert["pool"], "name": pool_name or str(data.get("pool", ""))},
            "collector": self._name,
            "raised_at": alert["raised_at"],
            "resolved_at": alert["resolved_at"],
            "data": data,
        }
        if "message" in data:
            payload["runbook"] = f"{self._docs}/runbook.md#{data['message']}"
        return payload

    # ------------------------------------------------------------------------------------------------ the outbox

    def parcels(self, limit: int = 64) -> list[Parcel]:
        """For each sink and alert the oldest undelivered parcel, so that an end never overtakes its beginning."""
        with self._reading() as db:
            return [self._parcel(db, row) for row in parcels.oldest(db, limit)]

    def due(self, sinks: Iterable[str], wall_ms: int, gather: bool = True) -> list[Parcel]:
        """What each of these sinks is to be told now, one parcel at most. ``gather``: without what a storm takes in."""
        now, found = silences.Clock(self.epoch), []
        with self._reading() as db:
            for sink in sinks:
                kept_back = gather and storms.gathering(db, sink, "", now).keeps_back
                row = parcels.next_of(db, sink, wall_ms, singles=not kept_back)
                if row is not None:
                    found.append(self._parcel(db, row))
        return found

    def tidy(self, under_way: Mapping[str, str], wall_ms: int) -> bool:
        """Bring what waits up to date: what is over untold, storms, reminders; and remove what was finished long ago.

        Some of it at once, so that commits have their turn between: is there more? ``under_way``: the key of what each
        busy sink is being told.
        """
        now = silences.Clock(self.epoch)
        with self._transaction("what alerts wait for") as db:
            if parcels.merge(db, now, self.routes, under_way):
                return True
            for sink in self.sinks:
                busy = under_way.get(sink, "")
                if storms.gathering(db, sink, busy, now).ripe and storms.fold(db, sink, busy, now, self.routes):
                    return True
            reminders.post(db, reminders.due(db, self.sinks, self.routes, now), now)
            if now.now >= self._prune_at and not parcels.prune(db, wall_ms):
                self._prune_at = now.now + _PRUNE_EVERY_MS
        return False

    def taken(self, sink: str) -> list[Parcel]:
        """The beginnings that this sink has taken, of alerts that are open, oldest first."""
        with self._reading() as db:
            return [parcels.parcel(row) for row in parcels.still_open(db, sink)]

    def channels(self) -> list[ChannelState]:
        """How each channel does; a trial that it took counts, too."""
        now, tried = silences.Clock(self.epoch), {}
        for row in self.newest("", (Kind.ALERTS_TESTED.value,), _TRIALS):
            tried.update({name: row.at for name, taken in json.loads(row.data)["channels"].items() if taken})
        with self._beside() as db:
            found = [parcels.channel_state(db, sink, now) for sink in self.sinks]
        return [replace(state, taken_at=max(state.taken_at, tried.get(state.name, ""))) for state in found]

    def _parcel(self, db: Database, row: dict[str, Any]) -> Parcel:
        return storms.written(db, parcels.parcel(row), self._name)

    def pending(self, pools: frozenset[PoolId] | None = None) -> int:
        """Parcels not delivered yet; ``pools``: of these only."""
        query = "SELECT pool, count(*) AS n FROM outbox WHERE status = 'pending' GROUP BY pool"
        with self._beside() as db:
            return sum(int(row["n"]) for row in db.query(query) if pools is None or row["pool"] in pools)

    def delivered(self, parcel: Parcel, entry: Entry) -> list[Row]:
        """The sink has taken the parcel: both facts in one transaction."""
        changes = {"status": "sent", "attempts": parcel.attempts + 1, "last_error": "", "sent_at": clock.wall_text()}
        with self._transaction("an alert's delivery") as db:
            db["outbox"].update(parcel.id, changes | {"payload": parcels.dumped(parcel.payload)})  # type: ignore[union-attr]
            silences.taken_after_all(db, parcel.key, parcel.occurrence, parcel.sink)
            return self._add_entries(db, parcel.pool, [entry])

    def undelivered(self, parcel: Parcel, error: str, next_try_ms: int) -> None:
        """The sink has not taken the parcel; it is tried again at ``next_try_ms`` (wall time)."""
        changes = {"attempts": parcel.attempts + 1, "last_error": error, "next_try_ms": next_try_ms}
        with self._transaction("an alert's retry") as db:
            db["outbox"].update(parcel.id, changes)  # type: ignore[union-attr]

    def take_up_channels(self) -> None:
        """What waits for channels that are gone will never be delivered; a channel that is new is told what is open."""
        with self._transaction("the channels of alerts") as db:
            self._abandon_all_but(db, self.sinks)
            self._meet(db, self.sinks, self.routes)

    def _abandon_all_but(self, db: Database, sinks: tuple[str, ...]) -> None:
        marks = ", ".join("?" for _ in sinks)
        where = f"status IN ('pending', 'held') AND sink NOT IN ({marks})"
        db.execute(f"UPDATE outbox SET status='failed', last_error='no such sink any more' WHERE {where}", sinks)

    def _meet(self, db: Database, sinks: tuple[str, ...], routes: Routes) -> None:
        """A channel that was not there before is told what is open; a journal that never noted any knows no new one."""
        row = next(db.query("SELECT value FROM meta WHERE key = 'channels'"), None)
        new = set(sinks) - set(json.loads(row["value"])) if row is not None else set()
        now = silences.Clock(self.epoch)
        for alert in list(db.query("SELECT * FROM alerts WHERE resolved_at = '' ORDER BY raised_at")) if new else ():
            payload = self._payload(alert, "", "firing", alert["body"])
            told = parcels.taken_by(db, alert)
            reached = [sink for sink in routes.to(alert, payload["pool"]["name"]) if sink in new and sink not in told]
            parcels.begin(db, alert, payload, reached, routes, now, held=silences.holds(db, alert, now))
        db["meta"].insert({"key": "channels", "value": json.dumps(sinks)}, pk="key", replace=True)  # type: ignore[union-attr]

    # ------------------------------------------------------------------------------------------------ enrolment

    def enrolment(self) -> list[enrolment_tables.Of]:
        """Every token, key, certificate and denial."""
        with self._reading() as db:
            return enrolment_tables.everything(db)

    def enrol(self, change: enrolment_tables.Change) -> list[Row]:
        """What changes in enrolment, with its entries and alerts: all of it or nothing."""
        with self._transaction("what enrolment changes") as db:
            enrolment_tables.put(db, change.put)
            enrolment_tables.drop(db, change.drop)
            for alert in change.alerts:
                self._add_alert(db, change.pool, change.pool_name, alert, change.occurrence)
            return self._add_entries(db, change.pool, list(change.entries))

    def open_alerts(self, message: str) -> list[str]:
        """The keys of the open alerts with this message."""
        with self._reading() as db:
            return list(hook_queue.failing(db, message))

    # ------------------------------------------------------------------------------------------------ reading

    def _last_epoch(self) -> int:
        text = self._meta("epoch")
        epoch = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else HIGHEST + 1
        if after_fits(epoch):
            return epoch
        with self._reading() as db:
            found = [unsigned(row["epoch"]) for row in db.query("SELECT DISTINCT epoch FROM entries")]
        return max((epoch for epoch in found if after_fits(epoch)), default=0)

    def _meta(self, key: str) -> str:
        with self._reading() as db:
            return str(next(db.query("SELECT value FROM meta WHERE key = ?", [key]))["value"])

    @contextmanager
    def _transaction(self, what: str) -> Iterator[Database]:
        with self._guard:
            try:
                with self._db.atomic():
                    yield self._db
            except NO_STORE_HOLDS as error:
                raise self._unwritable(what, error) from error
            except (sqlite3.Error, OSError) as error:
                raise JournalError(f"{self.path}: {what} cannot be written: {self._failed(error)}") from error
            with contextlib.suppress(sqlite3.Error):  # it is durable, whatever becomes of the mark
                self._mark.reached(self._last())

    def _unwritable(self, what: str, error: BaseException) -> Unwritable:
        return Unwritable(f"{self.path}: {what} cannot be held by any journal: {_say(error)}")

    @contextmanager
    def _beside(self) -> Iterator[Database]:
        """For what people ask: a connection of its own, so the one that writes waits for nobody; read-only, bounded."""
        try:
            with read_only(self.path, ASKED_WITHIN_S) as db:
                yield Database(db, execute_plugins=False)
        except sqlite3.OperationalError as error:
            if str(error) != "interrupted":
                raise JournalError(f"{self.path}: cannot be read: {_say(error)}") from error
            raise TooLong(f"ended after {ASKED_WITHIN_S:g} s: the journal holds too much for this question") from error
        except (sqlite3.Error, OSError, OverflowError, ValueError, TypeError) as error:
            raise JournalError(f"{self.path}: cannot be read: {self._failed(error)}") from error

    @contextmanager
    def _reading(self) -> Iterator[Database]:
        with self._guard:
            try:
                yield self._db
            except (sqlite3.Error, OSError, OverflowError, ValueError, TypeError) as error:
                raise JournalError(f"{self.path}: cannot be read: {self._failed(error)}") from error


def _of_pool(pool: PoolId, name: str) -> str:
    return f"an entry of pool {name or pool}"


def _docs_of(url: str) -> str:
    return url.rstrip("/") or "docs"


def _lock(state_dir: Path) -> int:
    """An exclusive lock on the directory; it ends with the process, however that ends."""
    try:
        state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(state_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise JournalError(f"{state_dir}: the state directory cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise JournalError(f"{state_dir}: another collector runs on this journal; stop it first") from error
    return descriptor


def _say(error: BaseException) -> str:
    """In words of one line; SQLite repeats a text that it cannot read, however long."""
    return printable(str(error))[:300] or type(error).__name__
