"""A pool's series: its verdict, its master, what it is ready for, what is open, and what was counted of it."""

from __future__ import annotations

from collections import Counter

from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.report.journal_view import SPANS
from poolwarden_collector.core.report.open_alerts import SEVERITIES
from poolwarden_collector.core.report.readiness import CRITICAL, Unready
from poolwarden_collector.core.report.status import PoolStatus
from poolwarden_collector.shell.metrics import catalogue as of
from poolwarden_collector.shell.metrics.board import Board, label
from poolwarden_collector.shell.metrics.ledger import ENDS, Counts

VERDICTS = tuple(verdict.word for verdict in Verdict)
LEVELS = ("good", "info", "warning", "critical")
MODES = ("observe", "ask", "auto")
_GONE = ("running", "started")  # of a lost VM: it is lost no more

Labels = tuple[str, ...]


def labels_of(pool: PoolStatus) -> Labels:
    """The values of ``catalogue.POOL``."""
    return (pool.pool_uuid, label(pool.name))


def put_pool(board: Board, pool: PoolStatus, reasons: tuple[Unready, ...], stood_down: bool) -> None:
    """How it stands now."""
    at = labels_of(pool)
    board.put_state(of.VERDICT, at, VERDICTS, pool.verdict)
    board.put_state(of.LEVEL, at, LEVELS, pool.situation.level)
    board.put_state(of.MODE, at, MODES, pool.mode)
    board.put(of.VERDICT_AGE, at, pool.verdict_age_ms / 1000)
    board.put(of.MASTER_KNOWN, at, bool(pool.master_uuid))
    if pool.master_uuid:
        board.put_info(of.MASTER, (*at, pool.master_uuid, label(pool.master_name), label(pool.master_address)))
    board.put(of.TERM, at, pool.term)
    board.put(of.HOSTS, at, len(pool.hosts))
    board.put(of.PAUSED, at, pool.paused)
    board.put(of.STOOD_DOWN, at, stood_down)
    _readiness(board, at, reasons)
    _open(board, at, pool)


def _readiness(board: Board, at: Labels, reasons: tuple[Unready, ...]) -> None:
    board.put(of.READY, at, all(reason.severity != CRITICAL for reason in reasons))
    for (severity, code), count in Counter((reason.severity, reason.code) for reason in reasons).items():
        board.put(of.UNREADY, (*at, severity, code), count)


def _open(board: Board, at: Labels, pool: PoolStatus) -> None:
    """What waits for somebody."""
    board.put(of.OWED, at, len(pool.owed))
    board.put(of.QUESTION, at, pool.question is not None)
    board.put(of.LOST_VMS, at, sum(vm.state not in _GONE for vm in pool.lost_vms))
    board.put(of.COOL_DOWN, at, pool.cooldown_ms / 1000)
    severities = Counter(alert.severity for alert in pool.alerts)
    for severity in SEVERITIES:
        board.put(of.ALERTS_OPEN, (*at, severity), severities[severity])
    failover = pool.failover
    board.put(of.FAILOVER_OPEN, at, failover is not None)
    board.put(of.FAILOVER_BLOCKED, at, failover is not None and bool(failover.blocked))
    if failover is not None:
        board.put(of.FAILOVER_AGE, at, failover.age_ms / 1000)


def put_counts(board: Board, pool: PoolStatus, counts: Counts) -> None:
    """What was counted of it. Zeros too: without them a rate would miss the first failover."""
    at, uuid = labels_of(pool), pool.pool_uuid
    for outcome in ENDS.values():
        board.put(of.FAILOVERS, (*at, outcome), counts.ended[uuid, outcome])
    if (lasted := counts.lasted.get(uuid)) is not None:
        board.put_histogram(of.FAILOVER_TOOK, at, lasted)
    for phase in SPANS:
        if (took := counts.phases.get((uuid, phase))) is not None:
            board.put_histogram(of.PHASE_TOOK, (*at, phase), took)
