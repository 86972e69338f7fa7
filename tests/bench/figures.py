"""One measured figure: its samples, its budget, how it is said.

Rules
-----
* A figure keeps every sample and shows their number, median and maximum; never a mean, never a best case.
* It names the command that reproduces it and what the reader must know to believe it (``notes``).
* A budget is compared with the *maximum* too, and nothing is asserted: a benchmark measures, it never passes or fails.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from machine import command_line


@dataclass(frozen=True, slots=True)
class Figure:
    """``budget`` has the unit of the samples; None: design sets none, the figure is there to be compared with."""

    bench: str
    what: str
    unit: str
    samples: tuple[float, ...]
    budget: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def maximum(self) -> float:
        return max(self.samples)

    def ratio(self, value: float) -> str:
        """Value / budget, "-" without a budget; a budget of nothing is kept or it is not."""
        if self.budget is None:
            return "-"
        if self.budget == 0:
            return "kept" if value == 0 else "exceeded"
        return _number(value / self.budget)

    def lines(self) -> list[str]:
        """For the terminal."""
        unit = f" {self.unit}" if self.unit else ""
        budget = "no budget" if self.budget is None else f"budget {_number(self.budget)}{unit}"
        first = f"{self.what}: median {_number(self.median)}{unit}, maximum {_number(self.maximum)}{unit}"
        ratios = f"median/budget {self.ratio(self.median)}, maximum/budget {self.ratio(self.maximum)}"
        second = f"    n {len(self.samples)}, {budget}" + ("" if self.budget is None else f", {ratios}")
        return [first, second, *(f"    {note}" for note in self.notes)]

    def row(self) -> str:
        """For docs/measurements.md."""
        budget = "-" if self.budget is None else f"{_number(self.budget)} {self.unit}".strip()
        cells = [self.what, str(len(self.samples)), _number(self.median), _number(self.maximum), self.unit]
        return "| " + " | ".join([*cells, budget, self.ratio(self.maximum), f"`--only {self.bench}`"]) + " |"

    def as_json(self) -> dict[str, object]:
        values = {"bench": self.bench, "what": self.what, "unit": self.unit, "budget": self.budget}
        return {**values, "notes": list(self.notes), "samples": list(self.samples)}


class Stopped(Exception):
    """A benchmark ended before its last round; what it had measured until then is not lost."""

    def __init__(self, why: BaseException, figures: list[Figure]) -> None:
        super().__init__(f"{type(why).__name__}: {why}")
        self.figures = figures


TABLE_HEAD = (
    "| what | n | median | maximum | unit | budget | maximum / budget | command |\n|---|---|---|---|---|---|---|---|"
)


def reproduce(bench: str, rounds: int) -> str:
    """The command that measures this again."""
    return f"reproduce: {command_line()} --only {bench} --rounds {rounds}"


def _number(value: float) -> str:
    """Three figures, and no exponent where people read."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"
