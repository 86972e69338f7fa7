"""The heartbeat comes while the collector does its work and stops with it; what must be told again and again is."""

from __future__ import annotations

import asyncio
import http.server
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.shell.alerts.heartbeat import Heartbeat
from poolwarden_collector.shell.alerts.outbox import Outbox
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.loop import service as service_module
from poolwarden_collector.shell.queue import lookout
from poolwarden_collector.shell.store.journal import Journal, JournalError, Parcel

from .rig import HOSTS, POOL, hosts_of, running, until

pytestmark = pytest.mark.asyncio


class Monitor:
    """Counts the requests of one path, and answers as it is told."""

    def __init__(self) -> None:
        self.count, self.status = 0, 200
        monitor = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802
                monitor.count += self.path == "/t0ps3cret"
                self.send_response(monitor.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/t0ps3cret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    async def beats(self, more: int) -> None:
        before = self.count
        await until(lambda: self.count >= before + more)

    async def silent(self) -> None:
        """It has stopped: what was under way is over, and nothing comes for many periods."""
        await asyncio.sleep(0.2)
        before = self.count
        await asyncio.sleep(0.4)
        assert self.count == before


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    monitor = Monitor()
    yield monitor
    monitor.server.shutdown()
    monitor.server.server_close()


@pytest.mark.slow
async def test_it_beats_only_while_the_collector_does_its_work(
    tmp_path: Path, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "STEP_WITHIN_MS", 500)
    extra = f'[alerts]\nlog = "alerts.log"\nheartbeat_url = "{monitor.url}"\nheartbeat_every = "10s"\n'
    async with running(tmp_path, extra) as rig:
        service = rig.parts.service
        heartbeat = Heartbeat(monitor.url, 0.05, service.alive)
        heartbeat.start()
        await monitor.beats(2)
        await rig.agent(HOSTS[0])
        await until(lambda: hosts_of(service.roster, POOL))
        await monitor.beats(2)

        service.roster.stood_down[POOL] = "another collector"
        await monitor.silent()
        service.roster.stood_down.clear()
        await monitor.beats(2)

        go_on = asyncio.Event()
        take = service.take
        monkeypatch.setattr(service, "take", lambda happening: go_on.wait())
        await until(lambda: not service.alive())
        await monitor.silent()
        monkeypatch.setattr(service, "take", take)
        go_on.set()
        await monitor.beats(2)

        commit = rig.parts.journal.commit

        def full(*_: object) -> None:
            raise JournalError("the disk is full")

        monkeypatch.setattr(rig.parts.journal, "commit", full)
        monkeypatch.setattr(rig.parts.journal, "check", full)
        await rig.agent(HOSTS[1])
        await until(lambda: service.roster.stalled)
        await monitor.silent()
        monkeypatch.setattr(rig.parts.journal, "commit", commit)
        monkeypatch.setattr(rig.parts.journal, "check", lambda: None)
        await monitor.beats(2)
        await heartbeat.stop()


@pytest.mark.slow
async def test_a_collector_sends_it_by_itself_and_never_shows_its_address(
    tmp_path: Path, monitor: Monitor, caplog: pytest.LogCaptureFixture
) -> None:
    extra = f'[alerts]\nlog = "alerts.log"\nheartbeat_url = "{monitor.url}"\n'
    async with running(tmp_path, extra) as rig:
        rig.parts.heartbeat.start()
        await until(lambda: monitor.count == 1)
        assert "t0ps3cret" not in repr(rig.config)
        await rig.parts.heartbeat.stop()
    for url, said in ((f"{monitor.url}?", "answered 503"), ("http://127.0.0.1:9/t0ps3cret", "no answer")):
        monitor.status = 503
        caplog.clear()
        heartbeat = Heartbeat(url, 0.02, lambda: True)
        with caplog.at_level(logging.WARNING):
            heartbeat.start()
            await until(lambda: caplog.records)
            await asyncio.sleep(0.1)
        await heartbeat.stop()
        assert len(caplog.records) == 1 and said in caplog.text and "t0ps3cret" not in caplog.text


class Forgets:
    """A receiver that has to be told again and again."""

    name = "forgets"
    refresh_every_s = 0.05

    def __init__(self) -> None:
        self.delivered: list[str] = []
        self.refreshed: list[tuple[list[str], bool]] = []
        self.fails = False

    def deliver(self, parcel: Parcel) -> None:
        self.delivered.append(parcel.state)

    def refresh(self, open_alerts: Sequence[Parcel], alive: bool) -> None:
        self.refreshed.append(([parcel.delivery_key for parcel in open_alerts], alive))
        if self.fails:
            raise SinkError("gone")


@pytest.mark.slow
async def test_who_forgets_is_told_what_is_open_until_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 0.02)
    sink, alive = Forgets(), [True]
    journal = Journal(tmp_path, "c", (sink.name,))

    async def write(call: object, *args: object) -> object:
        return call(*args)  # type: ignore[operator]

    outbox = Outbox(journal, (sink,), write, lambda rows: None, lambda: alive[0])
    outbox.start()
    try:
        await until(lambda: sink.refreshed)
        assert sink.refreshed[0] == ([], True), "also while nothing is open"
        journal.commit(POOL, [], [AlertRaised("k", "warning", "t", "b")])
        await until(lambda: sink.refreshed[-1] == (["k/1/firing"], True))
        alive[0] = False
        await until(lambda: sink.refreshed[-1] == (["k/1/firing"], False))
        sink.fails = True
        before = len(sink.refreshed)
        await until(lambda: len(sink.refreshed) > before + 3)
        assert caplog.text.count("gone") == 1
        journal.commit(POOL, [], [AlertResolved("k", "over")])
        await until(lambda: sink.refreshed[-1][0] == [])
        await until(lambda: sink.delivered == ["firing", "resolved"])
    finally:
        await outbox.stop()
        journal.close()
