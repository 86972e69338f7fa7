"""Every code of a refusal and of a reason has its meaning in the runbook, and no meaning is of a code that is gone."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.project.tree import parsed, python_files

from poolwarden_collector.core.catalogue.message import LINE_LIMIT
from poolwarden_collector.core.catalogue.refusals import COMMANDS, REASONS
from poolwarden_collector.core.model.reasons import Cause


def nodes() -> Iterator[ast.AST]:
    for path in python_files("collector/poolwarden_collector/core"):
        if path.parent.name != "catalogue":
            yield from ast.walk(parsed(path))


def test_each_code_of_a_refused_command_is_explained_and_each_explained_one_is_used() -> None:
    calls = [node for node in nodes() if isinstance(node, ast.Call) and ast.unparse(node.func) == "Refused"]
    given = [call.args[0] for call in calls]
    assert [ast.unparse(code) for code in given if not isinstance(code, ast.Constant)] == [], "a code is a literal"
    assert {code.value for code in given if isinstance(code, ast.Constant)} == set(COMMANDS)


def test_each_code_of_a_reason_is_explained_and_used() -> None:
    used = {node.attr for node in nodes() if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Cause"}
    assert set(REASONS) == set(Cause)
    assert {cause.name for cause in Cause} == used


def test_what_is_explained_fits_a_row_of_the_table() -> None:
    every = [*COMMANDS.values(), *REASONS.values()]
    assert [text for each in every for text in (each.means, each.step) if not text or len(text) > LINE_LIMIT // 2] == []
    assert [each for each in every if "|" in each.means + each.step] == []
