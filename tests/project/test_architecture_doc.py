"""The map names every package, and each file that it names is there."""

import re

import pytest
from tests.project.tree import ROOT, files, name_of

TEXT = (ROOT / "docs/architecture.md").read_text()
AREAS = (
    "collector/poolwarden_collector/core",
    "collector/poolwarden_collector/shell",
    "agent/poolwarden_agent",
    "lab/poolwarden_lab",
)


@pytest.mark.parametrize("area", AREAS)
def test_every_package_is_on_the_map(area: str) -> None:
    there = {path.parent.name for path in (ROOT / area).glob("*/__init__.py")}
    named = set(re.findall(r"`([a-z0-9_]+)`", TEXT))
    assert there - named == set()


def test_every_file_that_is_named_is_there() -> None:
    every = [f"/{name_of(path)}" for path in files()]
    named = {name.rpartition(".../")[2] for name in re.findall(r"`([\w./]+\.(?:py|proto|md))`", TEXT)}
    assert len(named) > 50
    assert sorted(name for name in named if not any(path.endswith(f"/{name}") for path in every)) == []
