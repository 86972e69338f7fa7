"""Takes safety conditions away one by one, and finds out which test misses them.

    python -m tests.mutations.take_away [--only TEXT] [--jobs 2] [--again]

Rules
-----
* A *place* is one condition that refuses or permits: in the modules of WHOLE every guard (an ``if`` that leaves the
  function or the round), every operand of a guard's ``or``, every operand of a returned ``and`` or ``or``, every
  returned ``x if y else nothing``; in every other module the statement below a ``# safety:`` comment.
* A place is taken away in a process of its own, forked from one that has collected every test: the function gets the
  code object that is compiled from the changed source, so that every name that is bound to it already has it, too.
* ``places.json`` says of each place which test misses it, or why none can (another rule implies it, or it only saves
  work). A place that is in neither list is a failure of ``test_places.py``; so is a catcher that misses it no longer.
* A place's name is its module, its function, and the text of its condition: it moves with the code.

``--again`` looks anew for places that have a catcher already. A run that never ends has noticed as well.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).with_name("places.json")
CORE, AGENT = "poolwarden_collector.core", "poolwarden_agent"
WHOLE = tuple(
    f"{CORE}.{name}" for name in ("proof", "look", "promotion", "shot", "gatekeeper", "release", "members", "silenced")
) + (f"{AGENT}.core.gate", f"{AGENT}.core.boot_gate")
FOLDERS = {"collector": "poolwarden_collector", "agent": "poolwarden_agent"}
TESTS = ("tests/core", "tests/shell", "tests/agent", "tests/scenarios", "tests/simulation")
BUDGET_S, LIMIT_S = 120, 900


@dataclass(frozen=True)
class Place:
    """One condition, and how the function reads without it."""

    module: str
    function: str
    text: str
    changed: types.CodeType

    @property
    def name(self) -> str:
        return f"{self.module}:{self.function}: {self.text}"


def modules() -> list[tuple[str, Path]]:
    """Every module with a place in it, and its file."""
    found = []
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT / folder).with_suffix("").parts)
            if name in WHOLE or "# safety:" in path.read_text():
                found.append((name, path))
    return found


def places() -> list[Place]:
    """All of them, in the order of the source."""
    found: dict[str, Place] = {}
    for module, path in modules():
        source = path.read_text()
        marked = {n for n, line in enumerate(source.splitlines(), 1) if "# safety:" in line}
        for qualname, function in _functions(ast.parse(source)):
            for text, change in _changes(function, module in WHOLE, marked):
                place = Place(module, qualname, text, _compiled(source, str(path), qualname, change))
                found.setdefault(place.name, place)
    return list(found.values())


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{item.name}", item


Way = tuple[int, int, str, int]  # line and column of the node, what is done with it, and which operand


def _changes(function: ast.AST, whole: bool, marked: set[int]) -> Iterator[tuple[str, Way]]:
    """What can be taken away in this function."""
    for node in ast.walk(function):
        if not isinstance(node, ast.stmt) or node is function:
            continue
        if not whole and not _is_marked(node, marked):
            continue
        yield from _of(node, whole)


def _is_marked(node: ast.stmt, marked: set[int]) -> bool:
    """Does a ``# safety:`` comment stand right above it (a comment has up to three lines)?"""
    return any(line in marked for line in range(node.lineno - 3, node.lineno + 1)) and not isinstance(
        node, ast.FunctionDef | ast.AsyncFunctionDef
    )


def _of(node: ast.stmt, whole: bool) -> Iterator[tuple[str, Way]]:
    if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Return | ast.Continue | ast.Raise | ast.Break):
        yield f"if {_short(node.test)}", (node.lineno, node.col_offset, "never", 0)
        yield from _operands(node, node.test, ast.Or, "if")
    elif isinstance(node, ast.If) and not whole:
        yield f"if {_short(node.test)}", (node.lineno, node.col_offset, "never", 0)
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.BoolOp):
        yield from _operands(node, node.value, type(node.value.op), "return")
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.IfExp):
        for which, branch in (("body", node.value.body), ("orelse", node.value.orelse)):
            if isinstance(branch, ast.Constant) and not branch.value:
                yield f"return {_short(node.value)}", (node.lineno, node.col_offset, which, 0)
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.BoolOp) and not whole:
        yield from _operands(node, node.value, type(node.value.op), "=")


def _operands(node: ast.stmt, value: ast.expr, kind: type[ast.boolop], word: str) -> Iterator[tuple[str, Way]]:
    if isinstance(value, ast.BoolOp) and isinstance(value.op, kind):
        for number, operand in enumerate(value.values):
            yield f"{word} ... {_short(operand)}", (node.lineno, node.col_offset, "operand", number)


def _short(node: ast.expr) -> str:
    return " ".join(ast.unparse(node).split())[:160]


class _Without(ast.NodeTransformer):
    def __init__(self, way: Way) -> None:
        self.line, self.column, self.what, self.number = way

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if not isinstance(node, ast.stmt) or (node.lineno, node.col_offset) != (self.line, self.column):
            return node
        if self.what == "never" and isinstance(node, ast.If):
            node.test = ast.copy_location(ast.Constant(False), node.test)
        elif self.what == "operand":
            field = "test" if isinstance(node, ast.If) else "value"
            held = getattr(node, field)
            if isinstance(held, ast.BoolOp):
                del held.values[self.number]
                setattr(node, field, held if len(held.values) > 1 else held.values[0])
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.IfExp):
            node.value = getattr(node.value, self.what)
        return node


def _compiled(source: str, path: str, qualname: str, way: Way) -> types.CodeType:
    tree = ast.fix_missing_locations(_Without(way).visit(ast.parse(source)))
    code = compile(tree, path, "exec", dont_inherit=True)
    for part in qualname.split("."):
        code = next(c for c in code.co_consts if isinstance(c, types.CodeType) and c.co_name == part)
    return code


def swap(place: Place) -> None:
    """The function without this condition, for the rest of this process."""
    _function(place).__code__ = place.changed


def _function(place: Place) -> types.FunctionType:
    target: object = importlib.import_module(place.module)
    for part in place.function.split("."):
        target = vars(target)[part] if isinstance(target, type) else getattr(target, part)
    target = getattr(target, "fget", None) or getattr(target, "__func__", target)
    target = getattr(target, "__wrapped__", target)
    assert isinstance(target, types.FunctionType), place.name
    return target


# ------------------------------------------------------------------------------------------------ who misses it


@dataclass
class Ran:
    """What one test took, and which functions with places in them it called."""

    item: pytest.Item
    seconds: float = 0.0
    called: frozenset[types.CodeType] = frozenset()


class Search:
    """A pytest plugin: instead of running the tests once, it runs them for each place, in a fork of this process.

    First every test is run as it is, and what it calls is noted; a place is then tried with the tests that call its
    function, the quick ones first, for at most ``BUDGET_S``.
    """

    def __init__(self, due: list[Place], jobs: int, known: dict[str, str]) -> None:
        self.due, self.jobs, self.known = due, jobs, known
        self.found: dict[str, str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        ran = [Ran(item) for item in session.items]
        wanted = {id(p): code_of(p) for p in self.due}
        hooked = [p for p in self.due if not self._directly(p, ran)]
        if hooked:
            self._note(ran, frozenset(wanted[id(p)] for p in hooked))
        for place, catcher in beside(self.due, self.jobs, lambda p: self._catcher(p, ran, wanted[id(p)])):
            self.found[place.name] = catcher
            print(f"{catcher or 'NOBODY':100} {place.name}", flush=True)
        return True

    def _directly(self, place: Place, ran: list[Ran]) -> bool:
        return any(r.item.nodeid == self.known.get(place.name) for r in ran)

    def _note(self, ran: list[Ran], wanted: frozenset[types.CodeType]) -> None:
        for r in ran:
            called: set[types.CodeType] = set()

            def see(frame: types.FrameType, event: str, _: object, called: set[types.CodeType] = called) -> None:
                if event == "call" and frame.f_code in wanted:
                    called.add(frame.f_code)

            began = time.process_time()
            sys.setprofile(see)
            run_one(r.item)
            sys.setprofile(None)
            r.seconds, r.called = time.process_time() - began, frozenset(called)

    def _catcher(self, place: Place, ran: list[Ran], code: types.CodeType) -> str:
        first = [r for r in ran if r.item.nodeid == self.known.get(place.name)]
        rest = sorted((r for r in ran if code in r.called), key=lambda r: r.seconds)
        swap(place)
        signal.alarm(LIMIT_S)
        spent = 0.0
        for r in [*first, *rest]:
            if run_one(r.item):
                return r.item.nodeid
            spent += r.seconds
            if spent > BUDGET_S:
                break
        return ""


def run_one(item: pytest.Item) -> bool:
    """Run one collected test with its fixtures; has it failed?"""
    reports = runtestprotocol(item, log=False, nextitem=None)
    return any(report.failed for report in reports)


def code_of(place: Place) -> types.CodeType:
    """The code object of the place's function as it is."""
    code: types.CodeType = _function(place).__code__
    return code


def beside(due: list[Place], jobs: int, look: Callable[[Place], str]) -> Iterator[tuple[Place, str]]:
    """Each place with its catcher, ``jobs`` of them looked for at once, each in a process of its own."""
    running: dict[int, tuple[Place, int]] = {}
    left = list(due)
    while left or running:
        while left and len(running) < jobs:
            place = left.pop(0)
            reading, writing = os.pipe()
            if (child := os.fork()) == 0:
                nowhere = os.open(os.devnull, os.O_RDWR)
                for standard in (0, 1, 2):
                    os.dup2(nowhere, standard)
                try:
                    os.write(writing, look(place).encode())
                finally:
                    os._exit(0)
            os.close(writing)
            running[child] = (place, reading)
        child, status = os.wait()
        if child not in running:
            continue
        place, reading = running.pop(child)
        with os.fdopen(reading) as said:
            found = said.read()
        yield place, "it never ends" if os.WIFSIGNALED(status) else found


def search(due: list[Place], tests: list[str], jobs: int, known: dict[str, str], tier: str = "full") -> dict[str, str]:
    """Who misses each of these places among these tests; "" where nobody does."""
    plugin = Search(due, jobs, known)
    words = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", f"--tier={tier}", *tests]
    pytest.main(words, plugins=[plugin])
    return plugin.found


def prepare() -> None:
    """The project's own code on the path, whichever folder this was started from."""
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT / part) for part in ("protos", "agent", "collector", "lab", "")]


def read() -> dict[str, dict[str, str]]:
    """``caught``: place -> test; ``explained``: place -> why no test can miss it."""
    kept: dict[str, dict[str, str]] = json.loads(RECORD.read_text())
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="places whose name contains this text")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="also places that have a catcher already")
    parser.add_argument("--list", action="store_true", help="print the places, look for nothing")
    parser.add_argument("tests", nargs="*", default=list(TESTS), help="where catchers are looked for")
    wanted = parser.parse_args()
    prepare()
    every = places()
    kept = read() if RECORD.exists() else {"caught": {}, "explained": {}}
    names = {place.name for place in every}
    for what in kept.values():
        for gone in [name for name in what if name not in names]:
            del what[gone]
    due = [p for p in every if wanted.only in p.name and (wanted.again or not any(p.name in k for k in kept.values()))]
    if wanted.list:
        print("\n".join(place.name for place in due))
        return 0
    found = search(due, wanted.tests, wanted.jobs, dict(kept["caught"])) if due else {}
    for name, catcher in found.items():
        kept["caught"].pop(name, None)
        if catcher:
            kept["caught"][name] = catcher
            kept["explained"].pop(name, None)
    RECORD.write_text(json.dumps({k: dict(sorted(v.items())) for k, v in kept.items()}, indent=1) + "\n")
    alone = [name for name in names if not any(name in what for what in kept.values())]
    print(f"{len(every)} places, {len(kept['caught'])} missed by a test, {len(kept['explained'])} explained")
    print("".join(f"nobody misses: {name}\n" for name in sorted(alone)), end="")
    return 1 if alone else 0


if __name__ == "__main__":
    sys.exit(main())
