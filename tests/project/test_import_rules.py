"""Who may import whom. These rules carry the design: a pure core, two programs that share only the package that
both ship (the contract and one program), and no test machinery in what runs in production.

 * core/ packages, of agent and collector alike, import no clock, socket, file, process, thread or randomness. Neither
   does the collector's loop around the engine, nor what of the shell it uses itself: its drivers bring all that.
 * The agent and the collector never import each other; neither imports the lab, and neither imports tests.
 * The agent's core/, dom0/ and host side never import grpc: root code stays clear of the old TLS stack.
 * That package imports nothing of ours.
 * rich is imported inside functions only, so that plain commands start fast.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .tree import ROOT, name_of, parsed, python_files

IMPURE = {
    "asyncio", "datetime", "grpc", "io", "logging", "multiprocessing", "os", "pathlib", "psutil", "random", "secrets",
    "select", "selectors", "shutil", "signal", "socket", "sqlite3", "sqlite_utils", "ssl", "subprocess", "tempfile",
    "threading", "time", "uuid",
}  # fmt: skip
OURS = {"poolwarden_agent", "poolwarden_collector", "poolwarden_lab"}
CORES = ("agent/poolwarden_agent/core", "collector/poolwarden_collector/core")
SHELL = "collector/poolwarden_collector/shell"
PURE = [
    f"{SHELL}/{module}.py"
    for module in (
        "agents/charge", "agents/database_transfer", "agents/roster", "config/config_changes", "loop/behind",
        "loop/effect_table", "loop/engine_loop", "loop/hook_events", "loop/ready", "loop/reconfiguration", "loop/rests",
        "loop/stalls", "queue/backlog", "queue/happening",
    )
]  # fmt: skip
MAY_USE_GRPC = "agent/poolwarden_agent/link"


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted module) for each import statement; relative ones resolved to their full name."""
    nodes = at_import_time(parsed(path)) if top_level_only else ast.walk(parsed(path))
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = package_of(path).split(".")
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            yield node.lineno, base
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def at_import_time(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: not function bodies, not `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from at_import_time(child)


def package_of(path: Path) -> str:
    """Dotted name of the package that holds this file."""
    for source in ("agent", "collector", "lab", "protos"):
        if path.is_relative_to(ROOT / source):
            return ".".join(path.parent.relative_to(ROOT / source).parts)
    return ".".join(path.parent.relative_to(ROOT).parts)


def offences(paths: list[Path], forbidden: set[str], *, top_level_only: bool = False) -> list[str]:
    """`file:line imports module` for each import of a forbidden package or anything in it."""
    return [
        f"{name_of(path)}:{line} imports {module}"
        for path in paths
        for line, module in imports(path, top_level_only=top_level_only)
        if any(module == name or module.startswith(name + ".") for name in forbidden)
    ]


@pytest.mark.parametrize("core", CORES)
def test_core_is_pure(core: str) -> None:
    assert python_files(core)
    assert offences(python_files(core), IMPURE) == []


def test_the_engines_loop_is_pure() -> None:
    modules = [ROOT / each for each in PURE]
    assert offences(modules, IMPURE) == []
    named = {f"{package_of(path)}.{path.stem}" for path in modules}
    used = {module for _, module in imports(ROOT / SHELL / "loop/engine_loop.py") if ".shell." in module}
    assert used and all(any(f"{module}.".startswith(f"{each}.") for each in named) for module in used)


@pytest.mark.parametrize("core", CORES)
def test_core_leans_on_nothing_but_core(core: str) -> None:
    package = core.split("/")[1]
    outer = {
        f"{package}.{part}"
        for part in ("shell", "cli", "dom0", "link", "main", "host", "process", "messages", "commands")
    }
    assert offences(python_files(core), outer) == []


@pytest.mark.parametrize(("side", "package"), [("agent", "poolwarden_agent"), ("collector", "poolwarden_collector")])
def test_programs_share_only_the_package_that_both_ship(side: str, package: str) -> None:
    assert python_files(side)
    assert offences(python_files(side), (OURS | {"tests"}) - {package}) == []


def test_only_the_agents_link_side_imports_grpc() -> None:
    link = ROOT / MAY_USE_GRPC
    host_side = [path for path in python_files("agent") if not path.is_relative_to(link)]
    assert offences(host_side, {"grpc", "poolwarden.v1.agent_link_pb2_grpc"}) == []


def test_contract_imports_nothing_of_ours() -> None:
    generated = sorted((ROOT / "protos/poolwarden").rglob("*.py"))
    assert len(generated) >= 6
    assert offences(generated, OURS) == []


def test_rich_is_imported_lazily() -> None:
    assert offences(python_files("agent"), {"rich"}) == []
    assert offences(python_files("collector", "lab"), {"rich"}, top_level_only=True) == []


def test_operator_commands_do_not_import_the_collectors_inside() -> None:
    inside = {"poolwarden_collector.core", "poolwarden_collector.shell", "sqlite3", "sqlite_utils"}
    assert offences(python_files("collector/poolwarden_collector/cli"), inside) == []


def test_the_walk_sees_each_form_of_import(tmp_path: Path) -> None:
    module = tmp_path / "probe.py"
    module.write_text("def late():\n    import rich.table\nfrom os import path\nimport grpc as g\n")
    assert offences_of(module, {"rich", "os", "grpc"}) == [(2, "rich.table"), (3, "os"), (3, "os.path"), (4, "grpc")]
    assert [line for line, name in imports_of(module, top=True) if name.startswith("rich")] == []


def offences_of(path: Path, forbidden: set[str]) -> list[tuple[int, str]]:
    """As `offences`, for a file outside the repository, in the order of its lines."""
    return [(line, name) for line, name in imports_of(path) if name.split(".")[0] in forbidden]


def imports_of(path: Path, *, top: bool = False) -> list[tuple[int, str]]:
    """All imports of one file, ordered by line."""
    return sorted(imports(path, top_level_only=top))
