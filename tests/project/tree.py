"""The source files of this repository as the rules' tests see them: tracked or about to be, parsed once."""

import ast
import functools
import gc
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file that is tracked or would be by `git add`; in an unpacked archive without git, every file."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        names = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
        return tuple(path for path in sorted(set(names)) if path.is_file())
    hidden = (".venv", ".git", ".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__", ".hypothesis")
    return tuple(
        path for path in sorted(ROOT.rglob("*")) if path.is_file() and not any(p.startswith(hidden) for p in path.parts)
    )


def python_files(*folders: str) -> list[Path]:
    """Hand-written Python below these folders (relative to the root; none: everywhere)."""
    below = [ROOT / folder for folder in folders] or [ROOT]
    return [
        path
        for path in files()
        if path.suffix == ".py" and "_pb2" not in path.name and any(path.is_relative_to(folder) for folder in below)
    ]


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The file's syntax tree. It is kept to the end, so Python's search for garbage is spared its nodes: that would
    cost three times what the parsing does."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_text(), filename=str(path))
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Its statements, and theirs: what ``ast.walk`` gives without the expressions, in a tenth of the time."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for node in getattr(tree, field, ()):
            yield node
            yield from statements(node)


def name_of(path: Path) -> str:
    """Its path relative to the root, for messages."""
    return str(path.relative_to(ROOT))
