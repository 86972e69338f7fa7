"""From a look to the text that Prometheus reads; runs in a thread of its own, and gives way to others pool by pool.

Rules
-----
* A pool that cannot be shown, whatever the reason, is left out and logged; the other series stand.
* The loop of the collector waits for none of it; between two pools the interpreter is given away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from poolwarden_collector.core.decision.database_age import ages
from poolwarden_collector.core.report.status import status
from poolwarden_collector.core.report.weaknesses import readiness
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.shell.loop.self_check import guards_its_own_host
from poolwarden_collector.shell.metrics import catalogue as of
from poolwarden_collector.shell.metrics.board import Board
from poolwarden_collector.shell.metrics.catalogue import METRICS, Kind, Metric
from poolwarden_collector.shell.metrics.look import Look
from poolwarden_collector.shell.metrics.of_collector import (
    Unreadable,
    put_alerts,
    put_collector,
    put_files,
    put_waiting,
    waiting_by_channel,
)
from poolwarden_collector.shell.metrics.of_hosts import put_copy, put_host, put_latency
from poolwarden_collector.shell.metrics.of_pools import labels_of, put_counts, put_pool
from poolwarden_collector.shell.operators.replies import journal_view
from poolwarden_collector.shell.store.journal import FILE

Written = tuple[bytes | bytearray, str]  # body, content type
_JOINED = 2_000  # lines
_END = b"# EOF\n"  # of OpenMetrics
_TYPES = {
    Kind.GAUGE: "gauge",
    Kind.COUNTER: "counter",
    Kind.INFO: "info",
    Kind.STATES: "stateset",
    Kind.HISTOGRAM: "histogram",
}

_log = logging.getLogger(__name__)


def write_out(look: Look, accept: str) -> Written:
    """The exposition and its content type, in the form that ``accept`` (HTTP's header) asks for."""
    encode, content_type = choose_encoder(accept)
    heads = _heads(encode)
    body = bytearray()
    for metric, lines in put_together(look).written():
        body += heads[metric.name]
        # Piece by piece: whatever is joined or copied at once keeps the interpreter for as long.
        for at in range(0, len(lines), _JOINED):
            body += "".join(lines[at : at + _JOINED]).encode()
            time.sleep(0)
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    body += encode(registry)  # its end is the end of them all
    return body, content_type


def put_together(look: Look) -> Board:
    """Every series."""
    began, board = time.perf_counter(), Board()
    put_collector(board, look)
    put_files(board, look)
    if look.counts is not None:
        put_alerts(board, look, look.counts)
    try:
        put_waiting(board, look, waiting_by_channel(look.config.state_dir / FILE))
    except Unreadable as error:
        _log.warning("metrics: what waits for delivery cannot be read: %s", error)
    for pool, site in look.pools:
        time.sleep(0)
        try:
            _put(board, look, pool, site)
        except Exception:
            _log.exception("metrics: pool %s is left out", pool.record.pool)
    board.put(of.LOOK_TOOK, (), time.perf_counter() - began)
    return board


def _heads(encode: Callable[[CollectorRegistry], bytes]) -> dict[str, bytes]:
    """What stands before each metric's series in this form, as the client writes it of a metric without any."""
    found = {}
    for metric in METRICS:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Empty(metric))
        found[metric.name] = encode(registry).removesuffix(_END)
    return found


class _Empty(Collector):
    """A metric of which there is no series."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Family]:
        name = self._metric.name
        for suffix in ("_total", "_info"):  # the client writes them itself
            name = name.removesuffix(suffix)
        yield Family(name, self._metric.says, _TYPES[self._metric.kind])

    def describe(self) -> Iterator[Family]:
        """Nothing in advance."""
        return iter(())


def _put(board: Board, look: Look, pool: Pool, site: Site) -> None:
    """One pool and its hosts."""
    uuid, seen = pool.record.pool, Snapshot(pool, look.shown_at, site)
    shown = status(pool, look.shown_at, site)
    inside = guards_its_own_host([pool])
    rows = list(look.counts.changes.get(uuid, ())) if look.counts is not None else []
    reasons = readiness(seen, journal_view(rows, look.wall_ms, inside[0] if inside else "", look.config.several))
    at = labels_of(shown)
    put_pool(board, shown, reasons, uuid in look.stood_down)
    if look.counts is not None:
        put_counts(board, shown, look.counts)
    for host in shown.hosts:
        put_host(board, seen, host, at)
    for copy in ages(seen):
        put_copy(board, copy, at)
    master, seconds = look.latencies.get(uuid, ("", 0.0))
    if master in pool.record.hosts:
        put_latency(board, seen, master, seconds, at)
