"""The collector's own series: does it decide, how far behind is it, its journal, its disk, its alerts on their way."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from poolwarden_collector.core.model.effects import Urgency
from poolwarden_collector.core.report.open_alerts import SEVERITIES
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.agents.budgets import WORDS
from poolwarden_collector.shell.metrics import catalogue as of
from poolwarden_collector.shell.metrics.board import Board, label
from poolwarden_collector.shell.metrics.ledger import Counts
from poolwarden_collector.shell.metrics.look import Among, Look
from poolwarden_collector.shell.store.journal import FILE
from poolwarden_collector.shell.store.journal import release as version
from poolwarden_collector.shell.store.read_only import read_only

# Of each channel: how many wait, the most attempts, and when the oldest of them began to wait: an alert when it was
# raised, its end when it was over; when anything else did is not known.
_WAITING = """SELECT o.sink, count(*), max(o.attempts),
              min(CASE o.state WHEN 'firing' THEN a.raised_at WHEN 'resolved' THEN nullif(a.resolved_at, '') END)
              FROM outbox o LEFT JOIN alerts a ON a.key = o.key AND a.occurrence = o.occurrence
              WHERE o.status = 'pending' GROUP BY o.sink"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a channel has not taken yet; ``since`` is wall time, "": not known."""

    count: int = 0
    tries: int = 0
    since: str = ""


def put_collector(board: Board, look: Look) -> None:
    """Its own condition."""
    board.put_info(of.BUILD, (label(look.config.name), version()))
    board.put(of.STARTED, (), (look.wall_ms - (look.now - look.started_at)) / 1000)
    board.put(of.DECIDES, (), look.decides)
    board.put(of.QUIET, (), look.quiet_ms / 1000)
    board.put(of.BLIND, (), look.blind)
    board.put(of.STALLED, (), look.stalled)
    board.put(of.SHOWN_AGE, (), max(0, look.now - look.shown_at) / 1000)
    board.put(of.WARNINGS, (), look.warnings)
    board.put(of.LAG, (), look.behind_ms / 1000)
    board.put(of.INBOX_AGE, (), look.inbox_age_ms / 1000)
    board.put(of.INBOX_EVENTS, (), look.inbox_events)
    board.put(of.AT_ENTRANCE, (), look.agents_waiting)
    board.put(of.LOOP_LAG, (), look.loop_lag)
    for urgency in Urgency:
        waiting, longest = look.fence_waits.get(urgency, (0, 0))
        board.put(of.FENCE_WAITING, (urgency.name.lower(),), waiting)
        board.put(of.FENCE_WAIT, (urgency.name.lower(),), longest / 1000)
    board.put_histogram(of.COMMITS, (), look.commits)
    board.put(of.OWNS, (), len(look.pools))
    if look.among is not None:
        _put_among(board, look.among)
    for word in WORDS:
        board.put(of.OVER_BUDGET, (word,), look.tally.refused[word])
    board.put(of.CUT, (), look.tally.cut)
    board.put(of.MUTE, (), look.tally.mute)
    board.put(of.FOLDED, (), look.tally.entries)
    board.put(of.TELEMETRY_FOLDED, (), look.tally.telemetry)


def _put_among(board: Board, among: Among) -> None:
    """What one of several is among the others."""
    board.put(of.MEMBERS, (), among.members)
    board.put(of.OWNERLESS, (), among.ownerless)
    board.put(of.RIGHT, (), among.right_ms / 1000)
    board.put(of.LEASE, (), among.lease)
    board.put_histogram(of.ETCD_ASKED, (), among.asked)
    board.put(of.ETCD_FAILED, (), among.failed)


def put_files(board: Board, look: Look) -> None:
    """Its files; what cannot be read has no series."""
    journal = look.config.state_dir / FILE
    with suppress(OSError):
        log = journal.with_name(f"{FILE}-wal")
        board.put(of.JOURNAL_SIZE, (), journal.stat().st_size + (log.stat().st_size if log.exists() else 0))
    with suppress(OSError):
        room = os.statvfs(look.config.state_dir)
        board.put(of.STATE_FREE, (), room.f_bavail * room.f_frsize)
    for name, path in (("collector", look.config.tls.cert), ("authority", look.config.tls.ca)):
        with suppress(OSError, ValueError):
            ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
            board.put(of.OWN_CERTIFICATE, (name,), ends.timestamp())


def put_alerts(board: Board, look: Look, counts: Counts) -> None:
    """Alerts that were raised, and those that channels have taken."""
    for severity in SEVERITIES:
        board.put(of.RAISED, (severity,), counts.raised[severity])
    for channel in _channels(look, counts.delivered):
        board.put(of.DELIVERED, (label(channel),), counts.delivered[channel])


def put_waiting(board: Board, look: Look, waiting: dict[str, Waiting]) -> None:
    """Alerts that wait for a channel to take them."""
    for channel in _channels(look, waiting):
        found = waiting.get(channel, Waiting())
        since = clock.ms_of(found.since) if found.since else None
        age = max(0, look.wall_ms - since) / 1000 if since is not None else 0.0
        board.put(of.PENDING, (label(channel),), found.count)
        board.put(of.PENDING_AGE, (label(channel),), age)
        board.put(of.PENDING_TRIES, (label(channel),), found.tries)


def waiting_by_channel(journal: Path) -> dict[str, Waiting]:
    """What waits, read beside the connection that writes. Raises sqlite3.Error or OSError."""
    with read_only(journal) as db:
        return {sink: Waiting(count, tries, since or "") for sink, count, tries, since in db.execute(_WAITING)}


def _channels(look: Look, others: dict[str, object] | dict[str, int] | dict[str, Waiting]) -> list[str]:
    """Those that are configured, and former ones that something is known of."""
    return sorted({*look.config.alerts.names, *others})


Unreadable = (sqlite3.Error, OSError)
