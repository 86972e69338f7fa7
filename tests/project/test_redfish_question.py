"""The Redfish question is one program: the agent and the collector each ship it, and no copy changes alone."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "agent/poolwarden_agent/dom0/fencing/redfish.py"
COLLECTOR = ROOT / "collector/poolwarden_collector/shell/fencing/redfish_identity.py"


def test_both_packages_ship_the_same_bytes() -> None:
    assert COLLECTOR.read_bytes() == AGENT.read_bytes(), f"copy {AGENT.name} over {COLLECTOR.name}, or the other way"
