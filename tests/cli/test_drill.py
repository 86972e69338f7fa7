"""drill: what is asked, what reaches the collector, what a script must say, and how a result is shown."""

import json
from collections.abc import Callable

import pytest

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli.layout import as_text
from poolwarden_collector.cli.pages.drills import plan_page, result_page

from .conftest import Said
from .fake_collector import FakeCollector

Call = Callable[..., Said]
RESULT = {
    "drill": "c/drill/1.1",
    "by": "anna",
    "outcome": "failed",
    "steps": [
        {
            "part": "fence",
            "host": "u3",
            "name": "h3",
            "state": "failed",
            "phases": [{"phase": "off", "took_ms": 400}, {"phase": "reads-off", "took_ms": 3_200}],
            "why": "it does not read ON: poolwarden fence on h3",
        },
        {
            "part": "restart",
            "host": "u3",
            "name": "h3",
            "state": "passed",
            "phases": [{"phase": "answers", "took_ms": None}, {"phase": "back", "took_ms": 1_000}],
            "why": "",
        },
        {"part": "hold", "host": "u3", "name": "h3", "state": "skipped", "phases": [], "why": "anna had no time"},
    ],
}


def drills(fake: FakeCollector) -> list[api.DrillCommand]:
    return [request.drill for request in fake.asked if isinstance(request, api.CommandRequest)]


def test_what_a_script_must_say(fake: FakeCollector, poolwarden: Call) -> None:
    for words, said in (
        ((), "nobody is at a terminal"),
        (("--yes",), "none is named"),
        (("--yes", "--steps", "dance"), "there is no step 'dance'"),
        (("--plan", "--abandon"), "three commands"),
    ):
        refused = poolwarden("drill", *words)
        assert refused.status == 2 and said in refused.err, refused.err
    assert not drills(fake)


def test_a_refusal_is_told_with_what_helps(fake: FakeCollector, poolwarden: Call) -> None:
    fake.reply = api.CommandReply(text="1 VM (web) runs on h3", code="runs-vms", next_step="xe host-evacuate")
    said = poolwarden("drill", "--yes", "--steps", "fence,restart", "--host", "h3", "--name", "h3")
    assert said.status == 1 and "1 VM (web) runs on h3" in said.err and "xe host-evacuate" in said.err
    assert [(each.action, list(each.steps), each.host) for each in drills(fake)] == [
        ("begin", ["fence", "restart"], "h3")
    ]


def test_a_power_loss_is_walked_after_the_usual_steps_unless_others_are_named(
    fake: FakeCollector, poolwarden: Call
) -> None:
    fake.reply = api.CommandReply(accepted=True)
    poolwarden("drill", "--plan", "--power-loss")
    poolwarden("drill", "--plan", "--power-loss", "--steps", "restart")
    assert [list(each.steps) for each in drills(fake)] == [
        ["fence", "restart", "hold", "switchover", "power-loss"],
        ["restart", "power-loss"],
    ]


def test_abandoning_is_one_command(fake: FakeCollector, poolwarden: Call) -> None:
    fake.reply = api.CommandReply(accepted=True, text="the drill is abandoned")
    said = poolwarden("drill", "--abandon")
    assert said.status == 0 and "abandoned" in said.out
    assert [each.action for each in drills(fake)] == ["abandon"]


def test_the_result_says_what_each_step_took_and_what_was_never_tried() -> None:
    text = as_text(result_page(RESULT, "lab", "2026-05-01T12:00:00.000Z"))
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    assert "lab drill of anna 2026-05-01 12:00: FAILED" in flat
    assert "fence h3 3.6 s failed" in flat and "restart h3 not known passed" in flat and "hold h3 not tried" in flat
    assert "off 0.4 s, reads-off 3.2 s" in flat and "poolwarden fence on h3" in flat
    assert "never tried: hold of h3" in flat


def test_a_plan_says_what_stands_against_a_step() -> None:
    steps = [
        api.DrillStep(number=1, part="fence", host_name="h3", does="Off and on.", why="h3 is enabled", next_step="xe")
    ]
    text = as_text(plan_page(api.DrillStatus(steps=steps), "lab"))
    assert "fence of h3" in text and "not now: h3 is enabled" in text and "do: xe" in text


@pytest.mark.parametrize("kind", ["drill-ended", "decided"])
def test_earlier_drills_are_listed(fake: FakeCollector, poolwarden: Call, kind: str) -> None:
    fake.entries = [api.HistoryEntry(kind=kind, pool_name="lab", data=json.dumps(RESULT))]
    said = poolwarden("history", "--drills")
    assert said.status == 0 and ("FAILED" in said.out) == (kind == "drill-ended")
    assert poolwarden("history", "--drills", "--since", "2h").status == 2
