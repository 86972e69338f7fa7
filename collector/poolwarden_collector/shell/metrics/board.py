"""The metrics' values on their way to be written out: lines of text for each metric of the catalogue.

A line is written where its value is put, in the form that Prometheus' text and OpenMetrics share
(prometheus.io/docs/instrumenting/exposition_formats): of thousands of pools the client's own values of samples take
longer to make and to write than all that is found out for them. What differs between the forms, each metric's head, is
the client's (exposition.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from prometheus_client.utils import floatToGoString

from poolwarden_collector.shell.metrics.catalogue import METRICS, Metric
from poolwarden_collector.shell.metrics.histogram import Histogram

LONGEST_LABEL = 128
_PLAIN_BELOW = 1e6  # numbers that Python and Go write alike


def label(value: object) -> str:
    """A label's value: what came from elsewhere is cut."""
    text = str(value)
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 3]}..."


class Board:
    """One exposition in the making. A series is put once; ``labels`` are values in the metric's order."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {metric.name: [] for metric in METRICS}
        self._labels: dict[tuple[tuple[str, ...], tuple[str, ...]], str] = {}  # the same host has them in many metrics

    def put(self, metric: Metric, labels: Sequence[str], value: float) -> None:
        """A gauge's or counter's value."""
        self._lines[metric.name].append(f"{metric.name}{self._braced(metric, labels)} {_number(value)}\n")

    def put_info(self, metric: Metric, labels: Sequence[str]) -> None:
        """That these go together."""
        self._lines[metric.name].append(f"{metric.name}{self._braced(metric, labels)} 1.0\n")

    def put_state(self, metric: Metric, labels: Sequence[str], states: Sequence[str], now: str) -> None:
        """1 for the state that is, 0 for the others; a word that is none of them counts as the last."""
        now = now if now in states else states[-1]
        inner = self._inner(metric, labels)
        begin = f"{metric.name}{{{inner}," if inner else f"{metric.name}{{"
        ends = _states(metric.name, tuple(states))
        self._lines[metric.name].append("".join([begin + ends[state][state == now] for state in states]))

    def put_histogram(self, metric: Metric, labels: Sequence[str], value: Histogram) -> None:
        """Every bucket, count and sum."""
        inner, lines, count = self._inner(metric, labels), self._lines[metric.name], 0
        begin = f"{metric.name}_bucket{{{inner}," if inner else f"{metric.name}_bucket{{"
        for bound, count in value.buckets():
            lines.append(f'{begin}le="{bound}"}} {_number(count)}\n')
        braced = self._braced(metric, labels)
        lines.append(f"{metric.name}_count{braced} {_number(count)}\n")
        lines.append(f"{metric.name}_sum{braced} {_number(value.total)}\n")

    def written(self) -> Iterator[tuple[Metric, list[str]]]:
        """The metrics that have a series, each with its lines."""
        return ((metric, lines) for metric in METRICS if (lines := self._lines[metric.name]))

    def _braced(self, metric: Metric, labels: Sequence[str]) -> str:
        inner = self._inner(metric, labels)
        return f"{{{inner}}}" if inner else ""

    def _inner(self, metric: Metric, labels: Sequence[str]) -> str:
        which = (metric.labels, tuple(labels))
        found = self._labels.get(which)
        if found is None:
            pairs = zip(metric.labels, labels, strict=True)
            found = self._labels[which] = ",".join([f'{name}="{_escaped(value)}"' for name, value in pairs])
        return found


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    value = float(value)
    return repr(value) if abs(value) < _PLAIN_BELOW else str(floatToGoString(value))  # type: ignore[no-untyped-call]


@lru_cache(maxsize=64)
def _states(name: str, states: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """How the line of each state ends where it is not so, and where it is."""
    return {state: (f'{name}="{_escaped(state)}"}} 0.0\n', f'{name}="{_escaped(state)}"}} 1.0\n') for state in states}
