"""What documents, docstrings and comments name is there: files by their paths, functions beside their files."""

import ast
import functools
import re
from pathlib import Path

import pytest
from tests.project.tree import ROOT, files, name_of, parsed

# Other projects' files, named as the source of a fact: fence-agents, sm, xapi's installer.
FOREIGN = {"lib/fencing.py", "backend.py", "cleanup.py", "libs/sm/blktap2.py", "resetvdis.py"}
NAMED = re.compile(r"(?<![\w/.<*-])((?:[\w-]+/)*[\w-]+\.py)\b(?!\w)")
# In a table's cell: a file, then functions of it up to the next sign.
INSIDE = re.compile(r"`([\w/]+\.py)` (\w+(?:, \w+)*)(?= *[,;|(])")


def named(path: Path) -> list[str]:
    return [name for line in path.read_text().split("\n") if "://" not in line for name in NAMED.findall(line)]


@functools.cache
def by_name() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in files():
        found.setdefault(path.name, []).append(path)
    return found


def there(name: str) -> list[Path]:
    same = by_name().get(name.rpartition("/")[2], [])
    return [path for path in same if f"/{name_of(path)}".endswith(f"/{name}")]


def test_every_file_that_is_named_is_there() -> None:
    sources = [path for path in files() if path.suffix == ".py" and path.parts[len(ROOT.parts)] in SOURCES]
    papers = [path for path in files() if path.suffix == ".md" and path.name != "CHANGELOG.md"]
    gone = {f"{name_of(path)}: {name}" for path in sources + papers for name in named(path) if not there(name)}
    assert {each for each in gone if each.rpartition(": ")[2] not in FOREIGN} == set()


SOURCES = ("agent", "collector", "lab")


def defined(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(parsed(path)) if isinstance(node, kinds)}


@pytest.mark.parametrize("paper", ["docs/safety.md", "docs/architecture.md", "docs/operating.md", "docs/fencing.md"])
def test_every_function_that_is_named_beside_its_file_is_in_it(paper: str) -> None:
    tables = "\n".join(line for line in (ROOT / paper).read_text().split("\n") if line.startswith("|"))
    found = [(name, word) for name, words in INSIDE.findall(tables) for word in words.split(", ")]
    assert len(found) > 20 or paper != "docs/safety.md"
    assert [f"{name} {word}" for name, word in found if not any(word in defined(path) for path in there(name))] == []
