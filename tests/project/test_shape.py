"""Sizes, words and promises: modules and functions stay readable, nothing of one machine gets in, papers agree."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from .tree import ROOT, files, name_of, parsed, python_files, statements

MODULE_LINES = 600
FUNCTION_LINES = 60
# One-letter classes keep this file from offending against itself.
FORBIDDEN = re.compile(
    r"(^|[^\w.])/(wor[k]|roo[t]|far[m]|hom[e]/\w+)/[a-z.]"
    r"|\.\./share[d]"
    r"|https?://\S*(/simpl[e]\b|/package[s]/|registr[y]\.)"
    r"|--(extra-)?index-ur[l]|--find-link[s]"
    r"|language mode[l]|coding assistan[t]",
    re.IGNORECASE,
)
NOT_TEXT = {".png", ".gif", ".ico"}
LEFT_OVER = {".orig", ".rej", ".bak", ".swp", ".tmp"}


def functions(path: Path) -> list[tuple[str, int]]:
    """(name, lines) of every function in a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (f"{name_of(path)}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in statements(parsed(path))
        if isinstance(node, kinds)
    ]


def test_modules_are_short() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in python_files()}
    assert {name: length for name, length in lengths.items() if length > MODULE_LINES} == {}


def test_functions_are_short() -> None:
    lengths = [found for path in python_files() for found in functions(path)]
    assert [found for found in lengths if found[1] > FUNCTION_LINES] == []


def test_modules_open_with_their_rules() -> None:
    code = python_files("agent", "collector", "lab", "tests")
    assert [name_of(path) for path in code if path.read_text().strip() and not ast.get_docstring(parsed(path))] == []


def test_nothing_is_left_of_a_patch_or_an_editor() -> None:
    assert [name_of(path) for path in files() if path.suffix in LEFT_OVER or path.name.endswith("~")] == []


def test_nothing_of_one_machine() -> None:
    texts = [path for path in files() if path.suffix not in NOT_TEXT]
    found = [
        f"{name_of(path)}:{number}: {line.strip()[:100]}"
        for path in texts
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "bad", [("cd ", "root", "x"), ("..", "shared", "design.md"), ("https:", "", "pypi.org", "simple", "")]
)
def test_the_search_finds(bad: tuple[str, ...]) -> None:
    assert FORBIDDEN.search("/".join(bad))


def test_changelog_names_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    for package in ("agent/poolwarden_agent", "collector/poolwarden_collector"):
        text = (ROOT / package / "__init__.py").read_text()
        assert "__version__" not in text or f'__version__ = "{version}"' in text, package


@pytest.mark.parametrize("paper", ["README.md", "CONTRIBUTING.md"])
def test_papers_promise_what_there_is(paper: str) -> None:
    readme = (ROOT / paper).read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(
        re.findall(
            r"\bmake (?:[A-Z]+=\S+ )?([a-z][a-z0-9-]*)\b", "\n".join(re.findall(r"`[^`]+`|^    .*$", readme, re.M))
        )
    )
    assert {"test"} < named <= targets
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / link).exists(), link
    for named_path in re.findall(r"`((?:tests|docs|packaging|collector|agent|lab)/[\w./-]+)`", readme):
        assert (ROOT / named_path).exists(), named_path


def test_what_runs_before_a_commit_is_what_lint_runs() -> None:
    """Each line of ``make lint`` has its hook, by the tools of .venv."""
    recipe = (ROOT / "Makefile").read_text().split("\nlint: venv\n")[1].split("\n\n")[0]
    tools = {
        " ".join(words)
        for words in re.findall(r"-m (ruff) (check|format)|-m (mypy|pytest) ", recipe)
        for words in [[w for w in words if w]]
    }
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert tools == {"ruff check", "ruff format", "mypy", "pytest"}
    assert [tool for tool in tools if f".venv/bin/python -m {tool}" not in hooks] == []


def test_readme_says_its_purpose_first() -> None:
    head = "\n".join((ROOT / "README.md").read_text().splitlines()[:10])
    assert "master" in head
    assert "XenServer" in head
    assert "XCP-ng" in head


def test_the_guide_explains_every_verdict() -> None:
    from poolwarden_collector.core.evidence.verdict import Verdict

    guide = (ROOT / "docs/operating.md").read_text()
    assert [verdict.word for verdict in Verdict if not re.search(rf"^\| [^|]*\b{verdict.word}\b", guide, re.M)] == []


def test_the_guide_lists_what_every_action_requires() -> None:
    from poolwarden_collector.core.evidence.verdict import Verdict

    guide = (ROOT / "docs/operating.md").read_text()
    facts = {fact.text for verdict in Verdict for fact in verdict.requires}
    assert facts and [text for text in facts if f"- {text}\n" not in guide] == []


def test_the_guide_lists_every_command() -> None:
    from poolwarden_collector.cli.main import poolwarden

    guide = (ROOT / "docs/operating.md").read_text()
    assert [name for name in poolwarden.commands if not re.search(rf"`{name}\b", guide)] == []


def test_ci_is_make_test() -> None:
    lines = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines == ["set -e", 'cd "$(dirname "$0")/.."', "export LONG=1", "exec make test"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
