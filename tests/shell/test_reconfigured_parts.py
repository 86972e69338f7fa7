"""What runs by the configuration when it is another one: fence devices, channels, anchors, open streams."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core.model.effects import AlertRaised, PowerOff, ReadPower
from poolwarden_collector.core.model.events import FenceEnded, PowerRead, Tick
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.shell.agents.sessions import Session, Sessions
from poolwarden_collector.shell.agents.stream import StreamState
from poolwarden_collector.shell.alerts.channels import kept_or_made, make_sink
from poolwarden_collector.shell.alerts.diskless import Diskless
from poolwarden_collector.shell.alerts.outbox import Outbox
from poolwarden_collector.shell.alerts.sinks import Sink
from poolwarden_collector.shell.config.alert_channels import Alerts, Channel, LogFile, Webhook
from poolwarden_collector.shell.loop.prober import Prober
from poolwarden_collector.shell.loop.ready import Ready
from poolwarden_collector.shell.queue import lookout
from poolwarden_collector.shell.store.journal import Journal, Parcel, Row

from .rig import HOSTS, POOL, mono_ms, running, until, write_config
from .test_fencer import Heard, device, script

pytestmark = pytest.mark.asyncio

OFF = PowerOff(HOSTS[0], "dev", "run-2")
READ = ReadPower(HOSTS[0], "dev", "run-1")


def noting(tmp_path: Path, then: str = "exit 2") -> Path:
    """A fence agent that notes what it is given, and does ``then``."""
    return script(tmp_path, f"cat >>{tmp_path}/given\n{then}")


def waiting(tmp_path: Path) -> Path:
    """A fence agent that ends well once there is a file ``go``."""
    return noting(tmp_path, f"while ! test -e {tmp_path}/go; do sleep 0.05; done; exit 0")


def given(tmp_path: Path) -> str:
    return (tmp_path / "given").read_text() if (tmp_path / "given").exists() else ""


# ------------------------------------------------------------------------------------------------ fence devices


async def test_a_reading_of_a_device_that_is_another_one_now_is_dropped(tmp_path: Path) -> None:
    one = device(noting(tmp_path, f"test -e {tmp_path}/go || sleep 60; exit 0"), 60_000, ip="192.0.2.1")
    heard = Heard(one)
    heard.fencer.read_power(POOL, READ)
    await until(lambda: given(tmp_path))
    (tmp_path / "go").touch()
    heard.fencer.replace_devices((replace(one, parameters={"ip": "192.0.2.2"}),))
    heard.fencer.read_power(POOL, replace(READ, run_id="run-3"))
    await until(lambda: heard.events)
    assert [(event.run_id, event.reading.power) for event in heard.events] == [("run-3", Power.ON)]
    assert given(tmp_path).count("192.0.2.2") == 1


async def test_another_password_ends_no_reading_and_is_used_from_the_next_run_on(tmp_path: Path) -> None:
    one = device(waiting(tmp_path), 30_000, password="old-1")
    heard = Heard(one)
    heard.fencer.read_power(POOL, READ)
    heard.fencer.read_power(POOL, replace(READ, run_id="run-3"))  # waits for its turn
    await until(lambda: "old-1" in given(tmp_path))
    heard.fencer.replace_devices((replace(one, parameters={"password": "new-1"}, place="fence 7"),))
    (tmp_path / "go").touch()
    await until(lambda: len(heard.events) == 2)
    assert [event.run_id for event in heard.events if isinstance(event, PowerRead)] == ["run-1", "run-3"]
    assert given(tmp_path).count("old-1") == 1 and given(tmp_path).count("new-1") == 1


@pytest.mark.parametrize("after", ["another", "none"])
async def test_a_power_off_that_waits_is_not_begun_on_another_device(tmp_path: Path, after: str) -> None:
    one = device(waiting(tmp_path), 30_000, ip="192.0.2.1")
    heard = Heard(one)
    heard.fencer.power_off(POOL, OFF)
    await until(lambda: given(tmp_path))
    heard.fencer.power_off(POOL, replace(OFF, run_id="run-3"))
    await asyncio.sleep(0)
    heard.fencer.replace_devices((replace(one, parameters={"ip": "192.0.2.2"}),) if after == "another" else ())
    (tmp_path / "go").touch()
    await until(lambda: len(heard.events) == 2)
    first, second = heard.events
    assert isinstance(first, FenceEnded) and (first.run_id, first.claim, first.certain) == ("run-2", True, True)
    assert isinstance(second, FenceEnded) and (second.run_id, second.begun, second.certain) == ("run-3", False, True)
    assert "configured anew" in second.text and "192.0.2.2" not in given(tmp_path)


async def test_a_power_off_that_waits_is_begun_with_the_password_of_now(tmp_path: Path) -> None:
    one = device(waiting(tmp_path), 30_000, password="old-1")
    heard = Heard(one)
    heard.fencer.read_power(POOL, READ)
    await until(lambda: "status" in given(tmp_path))
    heard.fencer.power_off(POOL, OFF)
    await asyncio.sleep(0)
    heard.fencer.replace_devices((replace(one, parameters={"password": "new-1"}),))
    (tmp_path / "go").touch()
    await until(lambda: len(heard.events) == 2)
    assert heard.events[1].claim and "password=new-1\naction=off" in given(tmp_path)


async def test_a_device_that_is_added_is_read(tmp_path: Path) -> None:
    heard = Heard()
    heard.fencer.replace_devices((device(noting(tmp_path)),))
    assert (await heard.status()).reading.power is Power.OFF


# ------------------------------------------------------------------------------------------------ channels


class Slow:
    """A sink that takes what it is given when it is let."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.let = threading.Event()
        self.got: list[Parcel] = []

    def deliver(self, parcel: Parcel) -> None:
        assert self.let.wait(10)
        self.got.append(parcel)


async def test_a_delivery_to_a_sink_that_is_removed_ends_as_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 0.02)
    old, new = Slow("webhook:old"), Slow("webhook:new")
    new.let.set()
    (tmp_path / "state").mkdir()
    journal = Journal(tmp_path / "state", sinks=(old.name,))
    journal.begin_epoch()
    outbox = Outbox(journal, (old,), asyncio.to_thread, lambda rows: None)
    outbox.start()
    journal.commit(POOL, (), (AlertRaised(f"{POOL}/a", "critical", "a", "b", {}),))
    outbox.nudge()
    await until(lambda: outbox._lookout.busy)
    journal.reconfigure((), (new.name,), "")
    outbox.replace_sinks((new,))
    journal.commit(POOL, (), (AlertRaised(f"{POOL}/b", "critical", "a", "b", {}),))
    outbox.nudge()
    await until(lambda: new.got)
    old.let.set()
    await until(lambda: old.got and not outbox._lookout.busy)
    assert [parcel.key for parcel in old.got] == [f"{POOL}/a"] and [p.key for p in new.got] == [f"{POOL}/b"]
    assert {row["sink"]: row["status"] for alert in journal.alerts() for row in alert["deliveries"]} == {
        "webhook:old": "sent",
        "webhook:new": "sent",
    }
    await outbox.stop()
    journal.close()


async def test_a_channel_that_is_as_it_was_keeps_its_sink() -> None:
    hook, log = Channel(Webhook("a", "http://a/1")), Channel(LogFile("-"))
    before = Alerts((log, hook))

    def make(channel: Channel) -> Sink:
        return make_sink(channel, "c", lambda pool, message: None)

    sinks = tuple(make(channel) for channel in before.channels)
    after = Alerts((log, Channel(Webhook("a", "http://a/2")), Channel(Webhook("b", "http://b/"))))
    made = kept_or_made(after, before, sinks, make)
    assert [sink.name for sink in made] == ["log", "webhook:a", "webhook:b"]
    assert made[0] is sinks[0] and made[1] is not sinks[1]


async def test_a_full_disk_is_told_to_the_new_sinks() -> None:
    told: list[str] = []

    class Told:
        name = "webhook:new"

        def deliver(self, parcel: Parcel) -> None:
            told.append(parcel.state)

    never: tuple[Sink, ...] = (Slow("webhook:old"),)
    diskless = Diskless(never, "c", lambda text: None, after_s=0)
    diskless.replace_sinks((Told(),))
    diskless.stalled("full")
    await until(lambda: told == ["firing"])
    await diskless.stop()


# ------------------------------------------------------------------------------------------------ anchors, streams


@pytest.mark.slow
async def test_other_anchors_are_looked_at_at_once() -> None:
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        prober = Prober(lambda pool: Policy(), lambda pool, event: None, mono_ms)
        prober.start()
        assert prober.anchors() == ()
        prober.replace_anchors((("127.0.0.1", port), ("::1%no-such-link", port)))
        assert prober.anchors() == (True, True)
        await until(lambda: prober.anchors() == (True, False))
        prober.replace_anchors(())
        assert prober.anchors() == ()
        await prober.stop()


async def test_orders_on_open_streams_give_a_probe_the_time_of_the_policy() -> None:
    sessions = Sessions()
    session = Session(HOSTS[0], POOL, StreamState(1, POOL, 1_500))
    sessions.add(session)
    sessions.probe_timeouts({POOL: 900}.__getitem__)
    assert session.state.probe_timeout_ms == 900


# ------------------------------------------------------------------------------------------------ between two events


@pytest.mark.slow
async def test_it_is_taken_between_two_events_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as rig:
        service = rig.parts.service
        take = service.loop.take

        def slow(*args: Any) -> Ready:
            time.sleep(0.005)
            return take(*args)

        monkeypatch.setattr(service.loop, "take", slow)
        pools = [f"aaaaaaaa-0000-4000-8000-{number:012}" for number in range(60)]
        for pool in pools:
            rig.parts.inbox.post(pool, Tick())
        await until(lambda: rig.parts.service.roster.pools)
        write_config(tmp_path, '[policy]\nmode = "ask"')
        done = await rig.parts.reloader.reload("anna")
        assert not done.refused and service.roster.pools.keys() != set(pools)
        await until(lambda: service.roster.pools.keys() == set(pools))
        assert {pool.policy.mode for pool in service.roster.pools.values()} == {"ask"}


async def test_whoever_asked_may_go_away_and_nothing_comes_after_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as rig:
        record, begun, let = rig.parts.journal.reconfigure, threading.Event(), threading.Event()

        def slow(*args: Any) -> list[Row]:
            begun.set()
            assert let.wait(10)
            return record(*args)

        monkeypatch.setattr(rig.parts.journal, "reconfigure", slow)
        rig.parts.inbox.post(POOL, Tick())
        await until(lambda: rig.parts.service.roster.pools)
        write_config(tmp_path, '[policy]\nmode = "ask"')
        asking = asyncio.ensure_future(rig.parts.reloader.reload("anna"))
        await until(begun.is_set)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        rig.parts.inbox.end()
        let.set()
        await rig.loop
        assert rig.parts.service.roster.pools[POOL].policy.mode == "ask"
        write_config(tmp_path)
        assert "being stopped" in (await rig.parts.reloader.reload("anna")).refused
