"""Python's look for garbage: in small portions, and set before the first agent is heard."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from poolwarden_collector.shell import garbage, main


def test_what_is_there_at_the_start_is_never_looked_through_again_and_portions_are_small() -> None:
    told = "import gc; from poolwarden_collector.shell import garbage; garbage.seldom(); "
    told += "print(*gc.get_threshold(), gc.get_freeze_count() > 1_000)"
    said = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout
    assert tuple(map(int, said.split()[:3])) == garbage.THRESHOLDS and said.split()[3] == "True"
    assert garbage.THRESHOLDS[0] * garbage.THRESHOLDS[1] <= 15_000


def test_it_is_set_before_the_collector_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    async def serve(*_: Any) -> None:
        done.append("serve")

    monkeypatch.setattr(garbage, "seldom", lambda: done.append("seldom"))
    monkeypatch.setattr(main, "serve", serve)
    nothing: Any = None
    asyncio.run(main._until_signalled(nothing))
    assert done == ["seldom", "serve"]
