"""The rules of several collectors in the simulated world: each is missed when what it rests on is taken away."""

from __future__ import annotations

import pytest

from poolwarden_collector.shell.cluster.membership import Membership, Right
from poolwarden_collector.shell.fencing.leave import ALWAYS, Leave
from poolwarden_lab.story import play
from poolwarden_lab.story.text import read_text

SLEEPS = """
collectors 3
pool 3
policy auto_fence_running yes
start
stall h1
before effect PowerOff: suspend c1 for 40s
run 4m
"""
CUT = """
collectors 3
pool 3
start
cut c1 - etcd for 1m
run 30s
"""


def test_a_power_off_that_slept_is_missed_where_nothing_asks_for_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leave, "begin_by", lambda *_: ALWAYS)
    monkeypatch.setattr(Leave, "why_no_switch", lambda *_: "")
    monkeypatch.setattr("poolwarden_lab.virtual.collector.fencing.too_late", lambda *_: "")
    played = play.play(read_text("sleeps", SLEEPS))
    assert played.code == play.BROKEN and "E4" in played.problems[0], played.problems


def test_two_that_may_act_at_once_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Membership, "right", lambda *_: Right(ALWAYS))
    played = play.play(read_text("cut", CUT))
    assert played.code == play.BROKEN and "E1" in played.problems[0], played.problems
