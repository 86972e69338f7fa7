"""Takes conditions away one by one, and finds out which test misses each.

    python -m tests.mutations.take_away [--only TEXT] [--jobs 2] [--again] [--new] [--list] [--budget 60] [TESTS...]

Rules
-----
* A *place* is one condition that refuses or permits. In the modules of WHOLE: every guard (an ``if`` that leaves the
  function or the round), every operand of an ``and`` or ``or`` of a guard, a returned or an assigned value, every
  returned ``x if y else nothing``, every filter of a comprehension. In every other module: the same, and plain
  statements, but only what stands right below a ``# safety:`` comment.
* Which tests come to a place is found out first, in one run of all of them with a mark set in each place: at the
  beginning of a guard's body, where taking it away changes something. Only those are tried, those first that noticed a
  neighbour, then the quick ones. Where no test comes nobody has to be asked.
* A place is taken away in a process of its own, forked from one that has collected every test and run none: the
  function gets the code object that is compiled from the changed source, so every name bound to it has it, too.
* ``places.json`` says of each place which test misses it, or why none can: another rule implies it, it only saves work,
  or it only words what people read. ``unsettled`` are those of which neither is known yet, and what is known: the next
  run looks at them first of all. What is in no list is new.
* A place's name is its module, its function, and the text of its condition: it moves with the code.

``--again`` looks anew for places that have a catcher already. What never ends has been noticed as well.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from _pytest.runner import runtestprotocol

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).with_name("places.json")
CORE, AGENT = "poolwarden_collector.core", "poolwarden_agent"
WHOLE = tuple(
    f"{CORE}.{name}"
    for name in (
        "evidence.proof",
        "evidence.fenced_hosts",
        "failover.last_look",
        "failover.promotion",
        "failover.unserving_candidate",
        "failover.power_off",
        "failover.member_return",
        "followups.hold_release",
        "recovery.boot_gate",
    )
) + tuple(f"{AGENT}.core.{name}" for name in ("order_gate", "kind_rules", "placed_database", "boot_gate"))
FOLDERS = {"collector": "poolwarden_collector", "agent": "poolwarden_agent"}
TESTS = ("tests/core", "tests/agent", "tests/shell", "tests/scenarios", "tests/simulation")
BUDGET_S = 60.0
LEAST_LIMIT_S, WAITING_S = 60.0, 1_800  # of its own time, and in all: what takes longer never ends
AT_ONCE = 10  # tests that are run in one process to see to which places they come
MARK = "__come_to__"
NEVER_ENDS = "it never ends"


@dataclass(frozen=True)
class Way:
    """What is done with the node of this number in the tree of its module."""

    node: int
    what: str
    number: int = 0


@dataclass(frozen=True)
class Place:
    """One condition, how it is taken away, and the statement that a test must reach to miss it."""

    module: str
    function: str
    text: str
    way: Way
    reached: int
    inside: bool  # reached: the beginning of that statement's body

    @property
    def name(self) -> str:
        return f"{self.module}:{self.function}: {self.text}"


# ------------------------------------------------------------------------------------------------ the places


def modules() -> dict[str, Path]:
    """Every module with a place in it, and its file."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT / folder).with_suffix("").parts)
            if name in WHOLE or "# safety:" in path.read_text():
                found[name] = path
    return found


def places() -> list[Place]:
    """All of them, in the order of the source."""
    found: dict[str, Place] = {}
    for module, path in modules().items():
        source = path.read_text()
        tree = ast.parse(source)
        numbers = {id(node): n for n, node in enumerate(ast.walk(tree))}
        marked = _below_a_comment(source)
        for qualname, function in _functions(tree):
            for node in _statements(function):
                is_marked = bool({node.lineno, _first(node)} & marked)
                if module not in WHOLE and not is_marked:
                    continue
                for text, what, changed, number, inside in _of(node, is_marked):
                    way = Way(numbers[id(changed)], what, number)
                    place = Place(module, qualname, text, way, numbers[id(node)], inside)
                    again = 2
                    while place.name in found:
                        place = Place(module, qualname, f"{text} ({again})", way, numbers[id(node)], inside)
                        again += 1
                    found[place.name] = place
    return list(found.values())


def _below_a_comment(source: str) -> set[int]:
    """The lines of the statements that a ``# safety:`` comment is about: its own, or the first below it."""
    lines, found = source.splitlines(), set()
    for n, line in enumerate(lines, 1):
        if "# safety:" not in line:
            continue
        below = n
        while below <= len(lines) and lines[below - 1].strip().startswith("#"):
            below += 1
        found.add(below)
    return found


def _first(node: ast.stmt) -> int:
    """The line of the first statement of an ``if``: a comment there is about the condition."""
    return node.body[0].lineno if isinstance(node, ast.If) else node.lineno


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{item.name}", item


def _statements(function: ast.AST) -> list[ast.stmt]:
    """Every statement in it, in the order of the source, definitions left out."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    found = [node for node in ast.walk(function) if isinstance(node, ast.stmt) and not isinstance(node, kinds)]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


Change = tuple[str, str, ast.AST, int, bool]  # its text, what is done, with which node, which part, reached inside


def _of(node: ast.stmt, marked: bool) -> Iterator[Change]:
    """What can be taken away of this statement."""
    if isinstance(node, ast.If):
        leaves = isinstance(node.body[-1], ast.Return | ast.Continue | ast.Raise | ast.Break)
        if leaves or marked:
            yield f"if {_short(node.test)}", "never", node, 0, True
            yield from _parts(node.test, "if")
    elif isinstance(node, ast.Return | ast.Assign | ast.AugAssign) and node.value is not None:
        word = "return" if isinstance(node, ast.Return) else "="
        yield from _parts(node.value, word)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.IfExp):
            for number, branch in enumerate((node.value.body, node.value.orelse)):
                if isinstance(branch, ast.Constant) and not branch.value:
                    yield f"return {_short(node.value)}", "other", node, number, False
        if isinstance(node, ast.AugAssign) and marked:
            yield _short(node), "nothing", node, 0, False
    elif isinstance(node, ast.Expr) and marked:
        yield _short(node), "nothing", node, 0, False


def _parts(value: ast.expr, word: str) -> Iterator[Change]:
    for inner in _without_words(value):
        if isinstance(inner, ast.BoolOp):
            # Without one operand of an `or` an `if` is entered less often: who does not enter it sees no difference.
            inside = word == "if" and inner is value and isinstance(inner.op, ast.Or)
            for number, operand in enumerate(inner.values):
                yield f"{word} ... {_short(operand)}", "operand", inner, number, inside
        elif isinstance(inner, ast.comprehension):
            for number, condition in enumerate(inner.ifs):
                yield f"{word} ... for {_short(inner.target)} if {_short(condition)}", "filter", inner, number, False


def _without_words(node: ast.AST) -> Iterator[ast.AST]:
    """The node and what is in it, but for texts: what stands in them decides nothing."""
    if not isinstance(node, ast.JoinedStr):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from _without_words(child)


def _short(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:160]


# ------------------------------------------------------------------------------------------------ taking away


def _changed(module: str, path: Path, place: Place) -> types.CodeType:
    tree = ast.parse(path.read_text())
    node, way = list(ast.walk(tree))[place.way.node], place.way
    if way.what == "never" and isinstance(node, ast.If):
        node.test = ast.copy_location(ast.Constant(False), node.test)
    elif way.what == "operand" and isinstance(node, ast.BoolOp):
        del node.values[way.number]
        if len(node.values) == 1:
            _replace(tree, node, node.values[0])
    elif way.what == "filter" and isinstance(node, ast.comprehension):
        del node.ifs[way.number]
    elif way.what == "other" and isinstance(node, ast.Return) and isinstance(node.value, ast.IfExp):
        node.value = (node.value.orelse, node.value.body)[way.number]
    else:
        assert way.what == "nothing", place.name
        _replace(tree, node, ast.copy_location(ast.Pass(), node))
    return _code_in(tree, path, place.function)


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for field, held in ast.iter_fields(parent):
            if held is old:
                setattr(parent, field, new)
            elif isinstance(held, list) and any(item is old for item in held):
                held[:] = [new if item is old else item for item in held]


def _code_in(tree: ast.AST, path: Path, qualname: str) -> types.CodeType:
    code = compile(ast.fix_missing_locations(tree), str(path), "exec", dont_inherit=True)  # type: ignore[call-overload]
    for part in qualname.split("."):
        code = next(c for c in code.co_consts if isinstance(c, types.CodeType) and c.co_name == part)
    assert isinstance(code, types.CodeType)
    return code


def take_away(place: Place) -> None:
    """The function without this condition, for the rest of this process."""
    _function(place).__code__ = _changed(place.module, modules()[place.module], place)


def _function(place: Place) -> types.FunctionType:
    target: object = importlib.import_module(place.module)
    for part in place.function.split("."):
        target = vars(target)[part] if isinstance(target, type) else getattr(target, part)
    target = getattr(target, "fget", None) or getattr(target, "__func__", target)
    target = getattr(target, "__wrapped__", target)
    assert isinstance(target, types.FunctionType), place.name
    return target


def set_marks(due: list[Place]) -> set[int]:
    """Each of these places says from now on that it was come to; the set tells which, by their number in ``due``."""
    come: set[int] = set()
    setattr(builtins, MARK, come.add)
    for module, path in modules().items():
        here = [(n, place) for n, place in enumerate(due) if place.module == module]
        if not here:
            continue
        tree = ast.parse(path.read_text())
        nodes = list(ast.walk(tree))
        for n, place in here:
            call = ast.parse(f"{MARK}({n})").body[0]
            node = nodes[place.reached]
            if place.inside and isinstance(node, ast.If):
                node.body.insert(0, call)
            else:
                _put_before(nodes, node, call)
        for function in {place.function: place for _, place in here}.values():
            _function(function).__code__ = _code_in(tree, path, function.function)
    return come


def _put_before(nodes: list[ast.AST], node: ast.AST, call: ast.stmt) -> None:
    for parent in nodes:
        for _, held in ast.iter_fields(parent):
            if isinstance(held, list) and any(item is node for item in held):
                held.insert(next(n for n, item in enumerate(held) if item is node), call)


# ------------------------------------------------------------------------------------------------ who misses it


@dataclass
class Ran:
    """What one test took, and which places it came to."""

    item: pytest.Item
    seconds: float
    come: frozenset[int]


class Search:
    """A pytest plugin: instead of running the tests once, it runs them for each place, in a fork of this process."""

    def __init__(
        self, due: list[Place], jobs: int, budget: float, known: dict[str, str], tell: Callable[[str, str], None]
    ) -> None:
        self.due, self.jobs, self.budget, self.known, self.tell = due, jobs, budget, known, tell
        self.found: dict[str, str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        ran = self._who_comes(session.items)
        print(f"{len(ran)} tests come to a place", flush=True)
        numbers = list(range(len(self.due)))
        for n, catcher in beside(numbers, self.jobs, lambda n: self._catcher(n, ran)):
            self.found[self.due[n].name] = catcher
            self.tell(self.due[n].name, catcher)
            tried = sum(n in r.come for r in ran)
            print(f"{catcher or f'NOBODY of {tried}':100} {self.due[n].name}", flush=True)
        return True

    def _who_comes(self, items: list[pytest.Item]) -> list[Ran]:
        """Every test run once, in forks, with the marks set."""
        parts = [list(range(n, min(n + AT_ONCE, len(items)))) for n in range(0, len(items), AT_ONCE)]

        def run(part: list[int]) -> str:
            come = set_marks(self.due)
            told = []
            for n in part:
                come.clear()
                began = time.process_time()
                if not fails(items[n]) and come:
                    told.append((n, time.process_time() - began, sorted(come)))
            return json.dumps(told)

        ran = []
        for _, said in beside(parts, self.jobs, run):
            ran += [Ran(items[n], seconds, frozenset(come)) for n, seconds, come in json.loads(said)]
        return sorted(ran, key=lambda r: r.seconds)

    def _catcher(self, number: int, ran: list[Ran]) -> str:
        place = self.due[number]
        beside_it = {
            self.found.get(p.name) for p in self.due if (p.module, p.function) == (place.module, place.function)
        }

        def rank(r: Ran) -> tuple[bool, bool]:
            return r.item.nodeid != self.known.get(place.name), r.item.nodeid not in beside_it

        spent = 0.0
        take_away(place)
        for r in sorted((r for r in ran if number in r.come), key=rank):
            signal.setitimer(signal.ITIMER_PROF, max(LEAST_LIMIT_S, 20 * r.seconds))
            signal.alarm(WAITING_S)
            if fails(r.item):
                return r.item.nodeid
            spent += r.seconds
            if spent > self.budget:
                break
        return ""


def fails(item: pytest.Item) -> bool:
    """Run one collected test with its fixtures; has it failed?"""
    reports = runtestprotocol(item, log=False, nextitem=None)
    return any(report.failed for report in reports)


T = TypeVar("T")


def beside(work: Iterable[T], jobs: int, do: Callable[[T], str]) -> Iterator[tuple[T, str]]:
    """Each piece of work with what came of it, ``jobs`` at once, each in a process of its own."""
    left = list(work)
    running: dict[int, tuple[T, int, list[bytes]]] = {}  # by the pipe's reading end
    while left or running:
        while left and len(running) < jobs:
            piece = left.pop(0)
            reading, writing = os.pipe()
            if (child := os.fork()) == 0:
                _in_the_fork(writing, piece, do)
            os.close(writing)
            running[reading] = (piece, child, [])
        ready, _, _ = select.select(list(running), [], [])
        for reading in ready:
            piece, child, said = running[reading]
            if chunk := os.read(reading, 65536):
                said.append(chunk)
                continue
            del running[reading]
            os.close(reading)
            _, status = os.waitpid(child, 0)
            yield piece, NEVER_ENDS if os.WIFSIGNALED(status) else b"".join(said).decode()


def _in_the_fork(writing: int, piece: T, do: Callable[[T], str]) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1) if os.environ.get("TAKE_AWAY_ERRORS") else (0, 1, 2):
        os.dup2(nowhere, standard)
    try:
        with os.fdopen(writing, "w") as told:
            told.write(do(piece))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def prepare() -> None:
    """The project's own code on the path, whichever folder this was started from."""
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT / part) for part in ("protos", "agent", "collector", "lab", "")]


def read() -> dict[str, dict[str, str]]:
    """By place: the test in ``caught``, why none can miss it in ``explained``, what is known in ``unsettled``."""
    kept: dict[str, dict[str, str]] = json.loads(RECORD.read_text())
    return kept


def main() -> int:
    """Look for catchers of what has none, and write down what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", default="", help="places whose name contains this text, or one of several, with | between"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="CPU seconds of tests for one place")
    parser.add_argument("--tier", default="full", help="how many tests are asked (tests/README.md)")
    parser.add_argument("--again", action="store_true", help="also places that have a catcher or an explanation")
    parser.add_argument("--new", action="store_true", help="only places that are in no list yet")
    parser.add_argument("--list", action="store_true", help="print the places, look for nothing")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("tests", nargs="*", default=list(TESTS), help="where catchers are looked for")
    wanted = parser.parse_args()
    prepare()
    every = places()
    kept = json.loads(wanted.record.read_text()) if wanted.record.exists() else {}
    kept = {what: kept.get(what, {}) for what in ("caught", "explained", "unsettled")}
    names = {place.name for place in every}
    for what in kept.values():
        for gone in [name for name in what if name not in names]:
            del what[gone]
    settled = {} if wanted.again else {**kept["caught"], **kept["explained"]}
    due = [p for p in every if any(w in p.name for w in wanted.only.split("|")) and p.name not in settled]
    if wanted.new:
        due = [p for p in due if p.name not in kept["unsettled"]]
    if wanted.list:
        print("\n".join(place.name for place in due))
        return 0

    def tell(name: str, catcher: str) -> None:
        for what in ("caught", "unsettled"):
            kept[what].pop(name, None)
        if catcher:
            kept["caught"][name] = catcher
            kept["explained"].pop(name, None)
        elif name not in kept["explained"]:
            kept["unsettled"][name] = f"no test missed it within {wanted.budget:.0f} s of {' '.join(wanted.tests)}"
        text = json.dumps({k: dict(sorted(v.items())) for k, v in kept.items()}, indent=1)
        wanted.record.write_text(f"{text}\n")

    search = Search(due, wanted.jobs, wanted.budget, dict(kept["caught"]), tell)
    if due:
        words = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", f"--tier={wanted.tier}", *wanted.tests]
        pytest.main(words, plugins=[search])
    alone = sorted(name for name in search.found if name in kept["unsettled"])
    print(f"{len(every)} places: " + ", ".join(f"{len(places)} {what}" for what, places in kept.items()))
    print("".join(f"nobody misses: {name}\n" for name in alone), end="")
    return 1 if alone else 0


if __name__ == "__main__":
    sys.exit(main())
