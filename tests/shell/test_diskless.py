"""Nothing can be recorded: people are told all the same, once by each channel, and when it is over."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.shell.alerts.channels.log import LogSink
from poolwarden_collector.shell.alerts.diskless import KEY, Diskless
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.loop.engine_loop import RETRY_MS
from poolwarden_collector.shell.store.journal import Parcel

from .rig import until
from .test_service import CONNECTED, World

pytestmark = pytest.mark.asyncio


class Channel:
    """Takes what it is told, after so many refusals."""

    def __init__(self, name: str, refusals: int = 0) -> None:
        self.name, self.refusals = name, refusals
        self.taken: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def deliver(self, parcel: Parcel) -> None:
        with self._lock:
            if self.refusals:
                self.refusals -= 1
                raise SinkError("not now")
            self.taken.append(parcel.payload)

    def states(self) -> list[str]:
        return [payload["state"] for payload in self.taken]


@pytest.mark.slow
async def test_each_channel_is_told_once_and_of_the_end(tmp_path: Path) -> None:
    """By the service itself: a commit fails on a full disk, ticks go by, there is room again."""
    world, said = World(tmp_path), list[str]()
    channels = (Channel("webhook:a"), Channel("webhook:b", refusals=1))
    told = Diskless((*channels, LogSink(str(tmp_path / "alerts.log"))), "test", said.append, after_s=0.0)
    world.service.on_stall(told.stalled, told.over)
    await world.take(ev.Tick())
    world.told.full = True
    await world.take(CONNECTED)
    for _ in range(5):
        world.time += RETRY_MS
        await world.take(ev.Tick())
    await until(lambda: all(channel.states() == ["firing"] for channel in channels))
    assert len(said) == 1 and "disk is full" in said[0]
    body = channels[0].taken[0]
    assert body["key"] == KEY and body["severity"] == "critical" and "Make room" in body["body"]
    world.told.full = False
    world.time += RETRY_MS
    await world.take(ev.Tick())
    await until(lambda: all(channel.states() == ["firing", "resolved"] for channel in channels))
    assert "NOTHING IS DECIDED" in (tmp_path / "alerts.log").read_text() and len(said) == 2
    await told.stop()


async def test_what_passes_at_once_is_told_to_syslog_alone() -> None:
    channel, said = Channel("webhook:a"), list[str]()
    told = Diskless((channel,), "test", said.append, after_s=3600.0)
    told.stalled("the disk is full")
    told.stalled("the disk is full")
    told.over()
    await asyncio.sleep(0)
    assert channel.taken == [] and len(said) == 2
    await told.stop()


async def test_a_channel_that_has_not_taken_the_beginning_is_not_told_the_end() -> None:
    refuses, takes = Channel("webhook:a", refusals=1000), Channel("webhook:b")
    told = Diskless((refuses, takes), "test", lambda _: None, after_s=0.0)
    told.stalled("the disk is full")
    await until(lambda: takes.states() == ["firing"] and refuses.refusals < 1000)
    told.over()
    await until(lambda: takes.states() == ["firing", "resolved"])
    assert refuses.taken == []
    told.stalled("the disk is full again")
    await until(lambda: takes.states() == ["firing", "resolved", "firing"])
    assert takes.taken[0]["occurrence"] <= takes.taken[2]["occurrence"]
    await told.stop()


async def test_an_end_that_comes_while_the_beginning_is_on_its_way_is_told_after_it() -> None:
    on_its_way, go_on = threading.Event(), threading.Event()

    class Slow(Channel):
        def deliver(self, parcel: Parcel) -> None:
            on_its_way.set()
            go_on.wait(30)
            super().deliver(parcel)

    slow = Slow("webhook:slow")
    told = Diskless((slow,), "test", lambda _: None, after_s=0.0)
    told.stalled("the disk is full")
    await until(on_its_way.is_set)
    told.over()
    go_on.set()
    await until(lambda: slow.states() == ["firing", "resolved"])
    await told.stop()
