"""One of several collectors that may act nowhere: its pools stand still for nothing that could not be recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolwarden_collector.core.model import effects as fx

from .rig import POOL
from .shared import PAUSE, quiet, two

pytestmark = pytest.mark.asyncio


async def test_a_command_is_refused_and_its_pool_stands_still_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, cluster):
        await a.owns()
        began = a.time
        cluster.halt()
        a.roster.right = lambda: "its lease was renewed last 7.0 s ago"
        for _ in range(20):
            a.time += 1_000
            await a.take(PAUSE)
        assert set(a.replies()) == {(False, "journal")} and not a.roster.stalls and quiet(a) == began
        text = next(each.text for each in a.begun if isinstance(each, fx.Reply))
        assert text == "nothing can be recorded, so nothing is done: its lease was renewed last 7.0 s ago"


async def test_a_pool_at_rest_is_looked_at_again_when_the_right_goes_and_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for the right has no other deadline."""
    async with two(tmp_path, monkeypatch) as (a, _, __):
        seen = []
        for why in ("", "its lease is over", ""):
            a.roster.right = lambda why=why: why
            seen.append(a.roster.condition())
        assert seen[0] == seen[2] != seen[1]


async def test_who_has_no_pool_is_behind_with_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, __):
        await a.owns()
        a.roster.behind_ms, a.roster.told_behind = 120_000, True
        assert any("BEHIND" in text for text in a.roster.warnings())
        await a.service.release(POOL, "it was handed on")
        assert a.roster.behind_ms == 0 and not any("BEHIND" in text for text in a.roster.warnings())
