"""Each slice and each single field of the live state is changed by one module: the one that ``PoolLive`` names for it.

A change is ``tx.change(Slice, field=...)``, or ``tx.change(PoolLive, field=...)`` for a field that is no slice's. A
failover's slices are folded from the journal, in one module.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.live import SLICES, PoolLive

from .tree import ROOT, parsed, python_files

CORE = "collector/poolwarden_collector/core"
OWNERS = {item.name: item.metadata["owner"] for item in fields(PoolLive)}
PARTS = {part.__name__: name for part, name in SLICES.items()}
FIELDS = {part.__name__: {item.name for item in fields(part)} for part in SLICES} | {
    "PoolLive": {name for name in OWNERS if name not in SLICES.values()}
}


def module_of(path: Path) -> str:
    return str(path.relative_to(ROOT / CORE).with_suffix(""))


def changes(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, part and field of every change; part and field are empty where they cannot be told."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr != "change":
            continue
        part = node.args[0].id if len(node.args) == 1 and isinstance(node.args[0], ast.Name) else ""
        for word in node.keywords or [ast.keyword()]:
            yield node.lineno, part, getattr(word, "arg", None) or ""


def wrong(tree: ast.AST, module: str) -> list[str]:
    """Changes that this module may not make, or that nothing has a name for."""
    found = []
    for line, part, field in changes(tree):
        if field not in FIELDS.get(part, ()):
            found.append(f"{module}:{line}: {part or '?'} has no field {field or '?'}")
        elif (owner := OWNERS[PARTS.get(part, field)]) != module:
            found.append(f"{module}:{line}: {part}.{field} is for {owner} alone to change")
    return found


def test_each_slice_is_changed_by_its_owner_alone() -> None:
    assert [each for path in python_files(CORE) for each in wrong(parsed(path), module_of(path))] == []


def test_each_field_is_changed_by_somebody() -> None:
    made = {(part, field) for path in python_files(CORE) for _, part, field in changes(parsed(path))}
    assert {(part, field) for part, names in FIELDS.items() for field in names} - made == set()


def test_live_state_is_put_by_the_transaction_alone() -> None:
    """Nothing goes around ``change``: no other module makes a pool's live state anew, but one that keeps none of it
    (rest.py: the same facts, with numbers that note what they are compared with).
    """
    found = {
        module_of(path)
        for path in python_files(CORE)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.keyword) and node.arg == "live" and "live" in ast.unparse(node.value)
    }
    assert found == {"rest", "state/transaction"}


def test_a_failover_and_its_slices_are_made_by_their_fold_alone() -> None:
    made = {"Failover", *(type(item.default).__name__ for item in fields(Failover) if is_dataclass(item.default))}
    assert len(made) == 6
    found = {
        module_of(path)
        for path in python_files(CORE)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in made
    }
    assert found == {"state/failover_fold", "state/failover_record"}  # the latter: what each is at first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("tx.change(ClaimRound, since=None)", "ClaimRound.since is for failover/claim_round alone to change"),
        ("tx.change(PoolLive, serial=1)", "PoolLive.serial is for state/transaction alone to change"),
        ("tx.change(ClaimRound, until=1)", "ClaimRound has no field until"),
        ("tx.change(PoolLive, claims=None)", "PoolLive has no field claims"),
        ("tx.change(serial=1)", "? has no field serial"),
        ("tx.change(ClaimRound, **news)", "ClaimRound has no field ?"),
    ],
)
def test_a_change_by_another_module_is_found(change: str, said: str) -> None:
    assert wrong(ast.parse(change), "engine") == [f"engine:1: {said}"]
