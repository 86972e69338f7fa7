"""No ring of modules: whoever reads a module reads what it imports, and never comes back to it; types count too.

What is left of rings is named with what ties it: it may shrink, and nothing new may begin.
"""

from __future__ import annotations

import pytest

from .test_import_rules import imports, package_of
from .tree import python_files

# Modules that know the one which makes them, by its type alone.
LEFT = {
    "agent": [],
    "collector": [
        {
            "core.state." + each
            for each in ("alert_book", "phases", "sent_orders", "snapshot", "told_words", "transaction")
        }
    ],
    "lab": [
        {"processes.faults", "processes.lab"},
        {
            "virtual.collector." + each
            for each in (
                "by_members",
                "collector",
                "fencing",
                "performer",
                "process",
                "sessions",
                "surroundings",
            )
        },
    ],
}
NOT_HERE = ("xapi.",)  # verbs that register themselves: one model, and the calls that change it


def modules(side: str) -> dict[str, set[str]]:
    """Each module of this side and which others it imports, by dotted names below its package."""
    paths = {f"{package_of(path)}.{path.stem}".removesuffix(".__init__"): path for path in python_files(side)}
    whole = {name: {module for _, module in imports(path)} & set(paths) - {name} for name, path in paths.items()}
    short = {name: name.partition(".")[2] for name in whole}
    return {short[name]: {short[other] for other in others} for name, others in whole.items()}


def rings(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules each of which reaches every other."""
    reached = {name: reach(graph, name) for name in graph}
    found = {frozenset(other for other in reached[name] if name in reached[other]) for name in graph}
    return sorted((set(ring) for ring in found if len(ring) > 1), key=sorted)


def reach(graph: dict[str, set[str]], name: str) -> set[str]:
    """What this module imports, and what that does."""
    found: set[str] = set()
    ahead = [name]
    while ahead:
        for other in graph[ahead.pop()] - found:
            found.add(other)
            ahead.append(other)
    return found


@pytest.mark.parametrize("side", LEFT)
def test_no_module_reaches_itself(side: str) -> None:
    found = [ring for ring in rings(modules(side)) if not all(name.startswith(NOT_HERE) for name in ring)]
    assert found == LEFT[side]


def test_a_ring_is_seen() -> None:
    assert rings({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"e"}}) == [{"a", "b", "c"}]
