"""Alerts reach their receivers: after refusals, across a restart, once per key in order, and journaled."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.alerts import outbox as module
from poolwarden_collector.shell.alerts.channels import make_sinks
from poolwarden_collector.shell.alerts.channels.log import LogSink
from poolwarden_collector.shell.alerts.channels.webhook import WebhookSink
from poolwarden_collector.shell.alerts.outbox import Outbox
from poolwarden_collector.shell.alerts.sinks import Sink, SinkError
from poolwarden_collector.shell.config.alert_channels import Alerts, Channel, LogFile, Webhook
from poolwarden_collector.shell.queue import lookout
from poolwarden_collector.shell.store.journal import Journal, Parcel, Row

from .rig import POOL, until

pytestmark = pytest.mark.asyncio

KEY = f"{POOL}/f-1/done"
RAISED = AlertRaised(KEY, "critical", "pool-1: new master", "host-2 is the master", {"new_master": "host-2"})
OVER = AlertResolved(KEY, "over")
ENTRY = Entry(Kind.ALERT_DELIVERED, "delivered")


class Receiver:
    """A webhook receiver; ``answers`` are used up first, then it says 200."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[str, dict[str, Any]]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.got.append((self.headers["Idempotency-Key"], body))
                status = receiver.answers.pop(0) if receiver.answers else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:  # noqa: N802
                receiver.got.append(("GET", {}))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?token=t0ps3cret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_MS", 20)
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 0.02)


@contextlib.asynccontextmanager
async def delivering(folder: Path, sinks: tuple[Sink, ...]) -> AsyncIterator[tuple[Journal, list[Row]]]:
    journal = Journal(folder, "c", tuple(sink.name for sink in sinks))
    rows: list[Row] = []

    async def write(call: Any, *args: Any) -> Any:
        return call(*args)

    outbox = Outbox(journal, sinks, write, rows.extend)
    outbox.start()
    try:
        yield journal, rows
    finally:
        await outbox.stop()
        journal.close()


@pytest.mark.slow
async def test_503_twice_across_a_restart_then_one_alert_with_one_key(tmp_path: Path, receiver: Receiver) -> None:
    sink = WebhookSink(Webhook("ops", receiver.url))
    receiver.answers = [503] * 1_000  # it may be tried again before it is stopped
    async with delivering(tmp_path, (sink,)) as (journal, _):
        journal.commit(POOL, [], [RAISED], "pool-1")
        await until(lambda: journal.parcels() and journal.parcels()[0].attempts >= 1)
    receiver.answers = [503]
    async with delivering(tmp_path, (WebhookSink(Webhook("ops", receiver.url)),)) as (journal, rows):
        await until(lambda: rows)
        assert journal.pending() == 0
        [alert] = journal.alerts()
        [delivery] = alert["deliveries"]
        tries = delivery["attempts"]
        assert (delivery["status"], delivery["last_error"]) == ("sent", "") and 3 <= tries <= len(receiver.got)
        assert f"at attempt {tries}" in rows[0].text and rows[0].kind == "alert-delivered" and rows[0].pool == POOL
    assert {key for key, _ in receiver.got} == {f"{KEY}/1/firing"}
    bodies = [body for _, body in receiver.got]
    assert all(body == bodies[0] for body in bodies)
    assert (bodies[0]["key"], bodies[0]["pool"]["name"], bodies[0]["data"]) == (KEY, "pool-1", {"new_master": "host-2"})


@pytest.mark.slow
async def test_the_end_never_comes_before_the_beginning(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [500, 500]
    async with delivering(tmp_path, (WebhookSink(Webhook("ops", receiver.url)),)) as (journal, rows):
        journal.commit(POOL, [], [RAISED, OVER], "pool-1")
        await until(lambda: len(rows) == 2)
    assert [body["state"] for _, body in receiver.got] == ["firing"] * 3 + ["resolved"]


@pytest.mark.slow
async def test_a_redirect_is_not_a_delivery(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [302]
    async with delivering(tmp_path, (WebhookSink(Webhook("ops", receiver.url)),)) as (journal, rows):
        journal.commit(POOL, [], [RAISED])
        await until(lambda: rows)
    assert [key for key, _ in receiver.got] == [f"{KEY}/1/firing"] * 2


async def test_a_stuck_sink_holds_up_nobody_else(tmp_path: Path) -> None:
    release = threading.Event()

    class Stuck:
        name = "stuck"

        def deliver(self, parcel: Parcel) -> None:
            release.wait(10)
            raise SinkError("stuck")

    log = tmp_path / "alerts.log"
    async with delivering(tmp_path / "state", (Stuck(), LogSink(str(log)))) as (journal, rows):
        journal.commit(POOL, [], [RAISED, OVER])
        await until(lambda: len(rows) == 2)
        release.set()
    lines = [json.loads(line.removeprefix("ALERT ")) for line in log.read_text().splitlines()]
    assert [(line["state"], line["title"]) for line in lines] == [(s, RAISED.title) for s in ("firing", "resolved")]


@pytest.mark.slow
async def test_a_delivery_that_cannot_be_noted_comes_again_with_the_same_key(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with delivering(tmp_path, (WebhookSink(Webhook("ops", receiver.url)),)) as (journal, rows):
        journal.commit(POOL, [], [RAISED])
        with journal._reading() as db:
            db.execute("PRAGMA query_only = 1")
        await until(lambda: len(receiver.got) >= 2)
        with journal._reading() as db:
            db.execute("PRAGMA query_only = 0")
        await until(lambda: rows)
    assert {key for key, _ in receiver.got} == {f"{KEY}/1/firing"}


@pytest.mark.slow
async def test_a_wall_clock_set_back_does_not_hold_alerts(tmp_path: Path, receiver: Receiver) -> None:
    async with delivering(tmp_path, (WebhookSink(Webhook("ops", receiver.url)),)) as (journal, rows):
        receiver.answers = [503]
        journal.commit(POOL, [], [RAISED])
        await until(lambda: journal.parcels()[0].attempts == 1)
        with journal._transaction("a test") as db:
            db.execute("UPDATE outbox SET next_try_ms = next_try_ms + 86400000")
        await until(lambda: rows)


@pytest.mark.parametrize(("attempts", "wait"), [(0, 1_000), (1, 2_000), (3, 8_000), (9, 300_000), (500, 300_000)])
async def test_retries_slow_down_to_five_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempts: int, wait: int
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_MS", 1_000)
    monkeypatch.setattr("poolwarden_collector.shell.clock.wall_ms", lambda: 5)
    calls: list[tuple[Any, ...]] = []

    async def write(call: Any, *args: Any) -> None:
        calls.append(args)

    journal: Any = type("NoJournal", (), {"undelivered": None})()
    outbox = Outbox(journal, (), write, lambda rows: None)
    await outbox._postpone(Parcel(1, "k", 1, "firing", "s", POOL, {}, attempts, 0), "refused")
    assert calls[0][1:] == ("refused", 5 + wait)


@pytest.mark.slow
async def test_errors_name_no_address(receiver: Receiver) -> None:
    parcel = Parcel(1, "k", 1, "firing", "s", POOL, {}, 0, 0)
    receiver.answers = [404]
    for url in (receiver.url, "http://127.0.0.1:9/t0ps3cret"):
        with pytest.raises(SinkError) as error:
            await asyncio.to_thread(WebhookSink(Webhook("ops", url)).deliver, parcel)
        assert "t0ps3cret" not in str(error.value)
    with pytest.raises(SinkError, match="Is a directory"):
        LogSink("/").deliver(parcel)


async def test_parcels_of_former_sinks_are_given_up(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "c", ("log", "webhook:old"))
    journal.commit(POOL, [], [RAISED])
    journal.sinks = ("log",)
    journal.take_up_channels()
    assert [p.sink for p in journal.parcels()] == ["log"]
    assert {d["status"] for d in journal.alerts()[0]["deliveries"]} == {"pending", "failed"}
    journal.close()


async def test_a_fault_while_it_looks_ends_no_alerts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, faults = tmp_path / "alerts.log", [KeyError("a fault"), ValueError("another one")]
    due = Journal.due

    def broken(*args: Any, **names: Any) -> list[Parcel]:
        if faults:
            raise faults.pop()
        return due(*args, **names)

    monkeypatch.setattr(Journal, "due", broken)
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 0.01)
    async with delivering(tmp_path / "state", (LogSink(str(log)),)) as (journal, _):
        journal.commit(POOL, [], [RAISED])
        await until(lambda: log.exists() and log.read_text())
    assert not faults


async def test_a_new_channel_is_told_what_is_open_and_no_other_one_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "c", ("log",))
    journal.take_up_channels()
    journal.commit(POOL, [], [RAISED])
    [told] = journal.parcels()
    journal.delivered(told, ENTRY)
    journal.take_up_channels()
    assert journal.parcels() == []
    journal.sinks = ("log", "webhook:new")
    journal.take_up_channels()
    [new] = journal.parcels()
    assert (new.sink, new.state, new.key, new.payload) == ("webhook:new", "firing", told.key, told.payload)
    journal.take_up_channels()
    assert journal.parcels() == [new], "once"
    journal.sinks = ("webhook:new",)
    journal.take_up_channels()
    journal.sinks = ("webhook:new", "log")
    journal.take_up_channels()
    assert journal.parcels() == [new], "who has taken it before has"
    journal.commit(POOL, [], [OVER])
    assert sorted((each.sink, each.state) for each in journal.parcels()) == [
        ("log", "resolved"), ("webhook:new", "firing"),
    ]  # fmt: skip
    journal.close()


async def test_a_journal_of_a_release_that_knew_no_channels_tells_nothing_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "c", ("log",))
    journal.commit(POOL, [], [RAISED])
    [told] = journal.parcels()
    journal.delivered(told, ENTRY)
    journal.sinks = ("log", "webhook:new")
    journal.take_up_channels()
    assert journal.parcels() == []
    journal.close()


async def test_what_is_configured_is_what_is_served(tmp_path: Path) -> None:
    two = tuple(Channel(item) for item in (LogFile("x"), Webhook("a", "http://x")))
    for alerts in (Alerts(), Alerts(()), Alerts(two)):
        assert tuple(sink.name for sink in make_sinks(alerts, "c", lambda pool, message: None)) == alerts.names
    assert Alerts(two).names == ("log", "webhook:a")


async def test_the_log_may_be_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    LogSink("-").deliver(Parcel(1, "k", 1, "firing", "log", POOL, {"title": "ä"}, 0, 0))
    assert capsys.readouterr().err == 'ALERT {"version": 1, "title": "ä"}\n'


def steps_of(journal: Journal, call: Callable[[], Any]) -> int:
    """How many tens of SQLite's instructions a call takes: what it looks at, however fast the machine is."""
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return 0

    journal._db.conn.set_progress_handler(counted, 10)
    try:
        call()
    finally:
        journal._db.conn.set_progress_handler(None, 0)
    return count


def costs_of_a_delivery(journal: Journal) -> tuple[int, int]:
    """Of finding the next one, and of noting it as taken."""
    now = clock.wall_ms()
    [parcel] = journal.due(("log",), now)
    finding = steps_of(journal, lambda: journal.due(("log",), now))
    return finding, steps_of(journal, lambda: journal.delivered(parcel, ENTRY))


async def test_the_next_delivery_costs_the_same_however_many_wait(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "c", ("log",))
    journal.begin_epoch()
    try:
        journal.commit(POOL, [], [replace(RAISED, key=f"{KEY}-{n}") for n in range(10)], "pool-1")
        few = costs_of_a_delivery(journal)
        with journal._db.atomic():  # as many more, of topics of their own
            journal._db.execute(
                """INSERT INTO outbox (key, occurrence, state, sink, pool, payload, posted_ms, clock)
                   WITH RECURSIVE more (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more WHERE n < 9990)
                   SELECT o.key || n, occurrence, state, sink, pool, payload, posted_ms, clock
                   FROM more, (SELECT * FROM outbox LIMIT 1) o"""
            )
        assert journal.pending() == 9_999
        many = costs_of_a_delivery(journal)
        assert many[0] <= few[0] + 20 and many[1] <= few[1] + 20, (few, many)
        now = clock.wall_ms()
        [parcel] = journal.due(("log",), now)
        journal.undelivered(parcel, "refused", now + 60_000)
        [other] = journal.due(("log",), now)
        assert other.key != parcel.key, "one that waits for its retry holds up no other topic"
        assert steps_of(journal, lambda: journal.due(("log",), now)) <= few[0] + 40
    finally:
        journal.close()


async def test_all_that_waits_is_looked_at_once_a_second_and_not_after_each_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 1.0)
    log = tmp_path / "alerts.log"
    tidied = 0
    async with delivering(tmp_path / "state", (LogSink(str(log)),)) as (journal, rows):
        tidy = journal.tidy

        def counted(*given: Any) -> bool:
            nonlocal tidied
            tidied += 1
            return tidy(*given)

        journal.tidy = counted  # type: ignore[method-assign]
        began = time.monotonic()
        journal.commit(POOL, [], [replace(RAISED, key=f"{KEY}-{n}") for n in range(40)], "pool-1")
        await until(lambda: len(rows) == 40)
        assert tidied <= 2 + (time.monotonic() - began) / lookout.LOOK_EVERY_S
