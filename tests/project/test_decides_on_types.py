"""No sentence and no id decides in the collector's core: what is compared there is a type.

What looks into a string (``startswith``, ``endswith``, ``removeprefix``, ``removesuffix``, the splitting methods, a
regular expression, or ``in`` a text put together on the spot) stands in the two modules that read ids and topics, or in
the list below with its reason.
"""

import ast
from collections.abc import Iterator

import pytest

from .tree import name_of, parsed, python_files

CORE = "collector/poolwarden_collector/core"
READERS = (f"{CORE}/model/order_id.py", f"{CORE}/state/alert_topic.py")
LOOKS_INTO = {
    "startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "split", "rsplit",
    "find", "index", "count", "match", "fullmatch", "search",
}  # fmt: skip
# Module and function: why it may look into a string.
ALLOWED = {
    "decision/candidate_ranking.py:_dotted": "the numbers of a version",
    "devices/device_runner.py:runner": "counts in a list",
    "failover/promotion.py:_outlived": "the place of a host in a ranking",
    "intake.py:_challenge_time": "the time that a challenge carries to its own answer",
    "recovery/member_repair.py:_rung": "counts in a list",
    "replay.py:_compared": "the kind before an entry's sentence, as it was stored",
    "report/rebuild_advice.py:_licence": "the brand of a release, for people",
    "report/timeline.py:_replay": "the number of a stored decision, for people",
    "report/host_environment.py:_services": "unit names of systemd, for people",
    "report/memory_alerts.py:help_for": "names of programs, for what is said to people",
    "report/host_environment.py:watch_environment": "the name of a line, for people",
}


def looking(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(function, line) of each place that looks into a string."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            yield from ((function.name, node.lineno) for node in ast.walk(function) if _looks(node))


def _looks(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr in LOOKS_INTO
    # A text that is put together, looked for in something.
    looked_for = isinstance(node, ast.Compare) and any(isinstance(op, ast.In | ast.NotIn) for op in node.ops)
    return looked_for and isinstance(node, ast.Compare) and isinstance(node.left, ast.JoinedStr)


def found() -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for path in python_files(CORE):
        if name_of(path) not in READERS:
            for function, line in looking(parsed(path)):
                places.setdefault(f"{name_of(path).removeprefix(f'{CORE}/')}:{function}", []).append(line)
    return places


def test_no_sentence_and_no_id_is_looked_into_elsewhere() -> None:
    places = found()
    assert {place: lines for place, lines in places.items() if place not in ALLOWED} == {}
    assert set(ALLOWED) - set(places) == set(), "nothing there looks into a string any more: take it off the list"


@pytest.mark.parametrize(
    "code", ['key.startswith("owed-")', 'key.removeprefix("x")', 'f"/off/{epoch}." in run', "PATTERN.match(order_id)"]
)
def test_each_way_of_looking_into_a_string_is_seen(code: str) -> None:
    assert list(looking(ast.parse(f"def rule():\n    return {code}"))) == [("rule", 2)]
