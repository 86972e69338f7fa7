"""The map of the core names every module of it, and none that is not there."""

import re

from tests.project.tree import ROOT

CORE = ROOT / "collector/poolwarden_collector/core"


def test_the_map_of_the_core_is_whole() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    listed = re.findall(r"\b(\w+)\.py\b", text[text.index("## Reading the core") :])
    there = {path.stem for path in CORE.glob("*.py")} - {"__init__"}
    assert there - set(listed) == set(), "in no line of the map"
    assert set(listed) - there - {"engine"} == set(), "in the map, and not there"
