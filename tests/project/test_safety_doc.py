"""docs/safety.md is true: its diagram is the table's, its mutations and files exist."""

import re
from pathlib import Path

from poolwarden_collector.core.evidence.assumptions import NOT_BY_ITSELF
from poolwarden_collector.core.state.failover_transitions import diagram

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs/safety.md").read_text()


def test_the_diagram_is_the_table_that_runs() -> None:
    assert f"```mermaid\n{diagram()}\n```" in DOC


def test_every_invariant_is_there_and_every_mutation_that_is_named_exists() -> None:
    assert [number for number in range(1, 18) if f"| I{number} |" not in DOC] == []
    named = {word for cell in re.findall(r"mutations? ([^;|]*)", DOC) for word in re.findall(r"`([a-z0-9-]+)`", cell)}
    existing = {path.stem for path in (ROOT / "tests/mutations").glob("*.patch")}
    assert named and named <= existing


def test_what_is_not_done_where_an_assumption_failed_is_the_table_that_runs() -> None:
    told = DOC.partition("## Assumptions that fail")[2].partition("\n## ")[0]
    assert re.findall(r"^\| ([a-z -]+) \| ([^|]+) \|$", told, re.M)[1:] == list(NOT_BY_ITSELF.items())


def test_every_file_that_is_named_exists() -> None:
    for name in set(re.findall(r"`(tests/[\w/.]+|lab/[\w/.]+)`", DOC)):
        assert (ROOT / name).exists(), name
