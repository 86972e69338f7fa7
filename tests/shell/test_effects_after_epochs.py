"""What a step has to do after a higher epoch, whose write takes long or fails."""

from __future__ import annotations

import pytest

from poolwarden_collector.core.model import effects
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.engine_loop import LATE_MS

from .test_engine_loop import CONNECTED, HIGHER, OFF, ORDER, READ, Played, of


def test_what_waits_for_a_higher_epoch_grows_old_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch)
    played.through(CONNECTED)
    played.gives(effects.RaiseEpoch(HIGHER), OFF)
    played.take(CONNECTED)
    assert isinstance(played.committed().write, on.BeginEpoch)
    played.now += LATE_MS + 1
    acts = played.committed(HIGHER + 1).acts
    assert not of(on.Begin, acts) and [each.effect for each in of(on.Drop, acts)] == [OFF]


def test_nothing_is_begun_once_the_disk_has_failed_over_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch)
    played.through(CONNECTED)
    played.gives(effects.RaiseEpoch(HIGHER), ORDER, OFF, READ)
    played.take(CONNECTED)
    assert isinstance(played.committed().write, on.BeginEpoch)
    acts = played.failed().acts
    assert [each.effect for each in of(on.Begin, acts)] == [READ]
    assert [each.effect for each in of(on.Drop, acts)] == [ORDER, OFF]
    (post,) = of(on.Post, acts)
    assert post.event.certain and not post.event.begun
