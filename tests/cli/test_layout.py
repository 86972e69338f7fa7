"""Widths in a terminal's cells: names of other scripts neither break a table nor run over its edge."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from poolwarden_collector.cli.layout import Line, Table, as_text

WIDE = "東京データセンター"  # 9 letters, 18 cells
ACCENTED = "Zu\u0308rich"  # 7 letters, 6 cells


@pytest.mark.parametrize("width", [40, 80])
def test_columns_stand_below_each_other_whatever_the_letters(width: int) -> None:
    names = ["plain", WIDE, ACCENTED, "Ärger"]
    lines = as_text([Table(("POOL", "STATE"), [(name, "healthy") for name in names])], width).splitlines()
    assert [line.split()[0] for line in lines[1:]] == names
    begins = [cell_len(line[: line.index(word)]) for line, word in zip(lines, ["STATE", *["healthy"] * 4], strict=True)]
    assert set(begins) == {20}


@pytest.mark.parametrize(
    "text", [" ".join([WIDE] * 9), WIDE * 9, f"{'word ' * 9}{WIDE * 4} {ACCENTED} end"], ids=["words", "one", "mixed"]
)
def test_nothing_runs_over_the_edge_and_nothing_is_lost(text: str) -> None:
    page = [Line(text, label="盤: ", indent=2), Line("x", label=f"{WIDE}: ", right=WIDE)]
    assert max(cell_len(line) for line in as_text(page, 40).splitlines()) <= 40
    assert "".join(as_text(page[:1], 40).split()) == "".join(f"盤:{text}".split())
    table = as_text([Table(("A", "B"), [(text, text)])], 60).splitlines()
    assert max(cell_len(line) for line in table) <= 60


def test_a_right_part_stands_at_the_edge() -> None:
    [line] = as_text([Line(WIDE, right="r")], 80).splitlines()
    assert cell_len(line) == 80 and line.endswith("r")
