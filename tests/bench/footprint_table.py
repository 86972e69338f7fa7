"""The table of docs/footprint.md, made of one run: a column for each Python and number of domains, a row per figure.

Each cell is the median of its windows, with the lowest and the highest of them where they differ: a share of a core is
a matter of luck too, and whoever reads one number should see how far the next would be from it. The last rows say how
many windows there were and how busy the machine was before and after them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent_cost import Sample

ROWS: tuple[tuple[str, Callable[[Sample], float], int], ...] = (
    ("PSS, MB", lambda sample: sample.pss_mb, 1),
    ("share of one core, %", lambda sample: sample.cpu_percent, 3),
    ("context switches per s", lambda sample: sample.switches_per_s, 1),
    ("forks per min", lambda sample: sample.forks_per_minute, 0),
    ("threads", lambda sample: sample.threads, 0),
)


@dataclass(frozen=True, slots=True)
class Column:
    """One Python with one number of domains. ``load``: of the machine, over one minute, before and after."""

    title: str
    agents: tuple[Sample, ...]
    beside: tuple[Sample, ...]
    seldom: tuple[Sample, ...]  # the exporter that is fetched each 15 s
    load: tuple[float, float]


def table(columns: Sequence[Column]) -> str:
    """Markdown, without an end of line."""
    lines = ["| median (lowest to highest) | " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|" + "---|" * (len(columns) + 1))
    of_agents = [column.agents for column in columns]
    of_exporter = [column.beside for column in columns]
    lines += _rows("agent, both processes", of_agents)
    if all(of_exporter):
        lines += _rows("node_exporter each 2 s", of_exporter)
        lines += _rows("node_exporter each 15 s", [column.seldom for column in columns])[1:2]
        lines.append(_line("agent's share of a core / node_exporter's each 2 s", [ratio(column) for column in columns]))
    lines.append(_line("windows: agents, exporter", [f"{len(c.agents)}, {len(c.beside)}" for c in columns]))
    lines.append(_line("load before, after", [", ".join(f"{load:.1f}" for load in c.load) for c in columns]))
    return "\n".join(lines)


def _rows(what: str, samples: Sequence[tuple[Sample, ...]]) -> list[str]:
    return [
        _line(f"{what}: {name}", [cell([value(sample) for sample in each], digits) for each in samples])
        for name, value, digits in ROWS
    ]


def _line(name: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join([name, *cells]) + " |"


def ratio(column: Column) -> str:
    """Of the medians: 1.00 is as much as the exporter takes."""
    shares = [statistics.median(each.cpu_percent for each in samples) for samples in (column.agents, column.beside)]
    return f"{shares[0] / shares[1]:.2f}"


def cell(values: Sequence[float], digits: int) -> str:
    """E.g. ``0.440 (0.391 to 0.504)``; only the median where all are the same to so many digits."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"
