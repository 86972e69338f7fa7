"""`poolwarden test-alerts`: a sample through each channel, told in a table."""

from collections.abc import Callable

import grpc

from .conftest import Said
from .fake_collector import FakeCollector

Call = Callable[..., Said]


def test_what_each_channel_said_is_a_table_and_a_refusal_is_exit_status_1(
    fake: FakeCollector, poolwarden: Call
) -> None:
    fake.trial.channels.add(channel="log", taken=True, text="begin and end were taken", took_ms=3)
    said = poolwarden("test-alerts")
    assert said == (
        0,
        "CHANNEL  RESULT  TOOK   WHAT CAME OF IT\nlog      taken   0.0 s  begin and end were taken\n",
        "",
    )
    why = "no answer: [Errno 111] Connection refused, and a reason so long that it has to wrap"
    fake.trial.channels.add(channel="webhook:duty", text=why, took_ms=5_040)
    said = poolwarden("test-alerts", "--channel", "webhook:duty")
    assert said.status == 1 and "not taken by webhook:duty" in said.err and "docs/alerts.md" in said.err
    assert "webhook:duty  NOT TAKEN  5.0 s  no answer: [Errno 111]" in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines())
    asked = fake.asked[-1]
    assert asked.channel == "webhook:duty" and asked.actor
    shown = poolwarden("test-alerts", "--json")
    assert shown.status == 1 and shown.json["channels"][0] == {
        "channel": "log",
        "taken": True,
        "text": "begin and end were taken",
        "took_ms": 3,
    }


def test_what_is_no_channel_is_a_mistake(fake: FakeCollector, poolwarden: Call) -> None:
    fake.failure = (grpc.StatusCode.NOT_FOUND, "no channel of alerts is called 'x'; there is: log")
    said = poolwarden("test-alerts", "--channel", "x")
    assert (said.status, said.out) == (2, "") and "there is: log" in said.err
