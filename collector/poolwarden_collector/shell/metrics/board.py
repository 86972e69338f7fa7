"""The metrics' values on their way to be written out: a family of the Prometheus client for each of the catalogue.

The package ``prometheus_client`` is imported by this module and by exposition.py, and so while metrics are on alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    StateSetMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family

from poolwarden_collector.shell.metrics.catalogue import METRICS, Kind, Metric
from poolwarden_collector.shell.metrics.histogram import Histogram

LONGEST_LABEL = 128


def label(value: object) -> str:
    """A label's value: what came from elsewhere is cut."""
    text = str(value)
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 3]}..."


class Board:
    """One exposition in the making. A series is put once; ``labels`` are values in the metric's order."""

    def __init__(self) -> None:
        self._families: dict[str, Any] = {metric.name: _family(metric) for metric in METRICS}

    def put(self, metric: Metric, labels: Sequence[str], value: float) -> None:
        """A gauge's or counter's value."""
        self._families[metric.name].add_metric(labels, float(value))

    def put_info(self, metric: Metric, labels: Sequence[str]) -> None:
        """That these go together."""
        self._families[metric.name].add_metric((), dict(zip(metric.labels, labels, strict=True)))

    def put_state(self, metric: Metric, labels: Sequence[str], states: Sequence[str], now: str) -> None:
        """1 for the state that is, 0 for the others; a word that is none of them counts as the last."""
        now = now if now in states else states[-1]
        self._families[metric.name].add_metric(labels, {state: state == now for state in states})

    def put_histogram(self, metric: Metric, labels: Sequence[str], value: Histogram) -> None:
        """Every bucket, count and sum."""
        self._families[metric.name].add_metric(labels, list(value.buckets()), value.total)

    def families(self) -> Iterator[Family]:
        """Those that have a series."""
        return (family for family in self._families.values() if family.samples)


_OF = {
    Kind.GAUGE: GaugeMetricFamily,
    Kind.COUNTER: CounterMetricFamily,
    Kind.INFO: InfoMetricFamily,
    Kind.STATES: StateSetMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


def _family(metric: Metric) -> Any:
    if metric.kind is Kind.INFO:
        return InfoMetricFamily(metric.name.removesuffix("_info"), metric.says, labels=())
    return _OF[metric.kind](metric.name, metric.says, labels=metric.labels)
