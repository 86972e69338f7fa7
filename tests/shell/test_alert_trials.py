"""A sample really goes through each channel, is marked as a test, and who asked is in the journal."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.shell.alerts import trial as module
from poolwarden_collector.shell.alerts.channels.webhook import WebhookSink
from poolwarden_collector.shell.store.journal import Parcel

from .rig import ME
from .test_operator_api import operated, refused
from .test_outbox import Receiver

pytestmark = pytest.mark.asyncio


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def config(receiver: Receiver) -> str:
    return f"""
[alerts]
log = "alerts.log"
[[alerts.webhook]]
name = "duty"
url = "{receiver.url}"
severity = "critical"
[[alerts.webhook]]
name = "begins"
url = "{receiver.url}"
resolved = false
[[alerts.webhook]]
name = "gone"
url = "http://127.0.0.1:9/t0ps3cret"
"""


@pytest.mark.slow
async def test_each_channel_is_tried_and_says_what_came_of_it(tmp_path: Path, receiver: Receiver) -> None:
    async with operated(tmp_path, config(receiver)) as (rig, operator):
        assert list((await operator.Status(pb.StatusRequest())).channels) == [
            "log",
            "webhook:duty",
            "webhook:begins",
            "webhook:gone",
        ]
        reply = await operator.TestAlerts(pb.TestAlertsRequest(actor="anna"))
        log, duty, begins, gone = reply.channels
        assert (log.channel, log.taken, log.text) == ("log", True, "begin and end were taken")
        assert duty.taken and begins.text == "taken; it is told no ends"
        assert not gone.taken and "refused" in gone.text and "t0ps3cret" not in str(reply)

        lines = (tmp_path / "alerts.log").read_text().splitlines()
        told = [json.loads(line.removeprefix("ALERT ")) for line in lines]
        assert [(each["state"], each["test"], each["severity"]) for each in told] == [
            ("firing", True, "info"),
            ("resolved", True, "info"),
        ]
        assert ME in told[0]["body"] and all(each["title"].startswith("TEST: ") for each in told)
        bodies = [body for _, body in receiver.got]
        assert sorted((body["severity"], body["state"]) for body in bodies) == [
            ("critical", "firing"),
            ("critical", "resolved"),
            ("info", "firing"),
        ]
        [row] = [row for row in rig.parts.journal.history() if row.kind == "alerts-tested"]
        assert row.actor == ME and "webhook:gone: NOT taken" in row.text
        assert json.loads(row.data)["channels"] == {
            "log": True,
            "webhook:duty": True,
            "webhook:begins": True,
            "webhook:gone": False,
        }
        assert rig.parts.journal.pending() == 0 and rig.parts.journal.alerts() == []

        receiver.answers = [200, 503]
        [only] = (await operator.TestAlerts(pb.TestAlertsRequest(actor="anna", channel="duty"))).channels
        assert not only.taken
        assert only.text == "the beginning was taken, the end was not: the receiver answered 503"
        keys = [key for key, _ in receiver.got]
        assert not set(keys[-2:]) & set(keys[:-2]), "each trial has a topic of its own"


@pytest.mark.slow
async def test_what_is_no_channel_is_refused_by_name(tmp_path: Path, receiver: Receiver) -> None:
    async with operated(tmp_path, config(receiver)) as (_, operator):
        error = await refused(operator.TestAlerts(pb.TestAlertsRequest(actor="anna", channel="webhook:dut")))
        assert error.code() == grpc.StatusCode.NOT_FOUND
        assert "did you mean" in error.details() and "webhook:gone" in error.details()
    async with operated(tmp_path / "none", '[alerts]\nlog = ""') as (_, operator):
        error = await refused(operator.TestAlerts(pb.TestAlertsRequest(actor="anna")))
        assert "no channel of alerts" in error.details()


@pytest.mark.slow
async def test_one_that_hangs_is_given_up(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    def hang(self: WebhookSink, parcel: Parcel) -> None:
        let_go.wait(20)

    monkeypatch.setattr(WebhookSink, "deliver", hang)
    monkeypatch.setattr(module, "LIMIT_S", 0.2)
    async with operated(tmp_path, config(receiver)) as (_, operator):
        reply = await operator.TestAlerts(pb.TestAlertsRequest(actor="anna"))
        let_go.set()
        assert [each.taken for each in reply.channels] == [True, False, False, False]
        assert "busy with another message" in reply.channels[1].text
