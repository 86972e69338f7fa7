"""Several collectors at the command line: one after the other is tried, who is missing is said, none obeys twice."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli import settings
from poolwarden_collector.cli.pages.overview import ROWS

from .conftest import Said
from .fake_collector import POOL, FakeCollector, socket_of

Call = Callable[..., Said]
SILENT = api.Asked(collector="hall-c", address="192.0.2.12:7444", pools=2, why_not="nobody answers at 192.0.2.12:7444")
SAID = "collector hall-c does not answer: 2 pools"


def three() -> api.CollectorsReply:
    reply = api.CollectorsReply(
        several=True,
        collector="hall-a",
        assigner="hall-a",
        looked_age_ms=400,
        text="nobody is in charge of 1 pool: copper",
        next_step="In 20 s another collector takes them; if none does: poolwarden doctor",
    )
    a = reply.collectors.add(agents=48, right_left_ms=6_100, lag_ms=2, machine="collector-a.example.com")
    a.asked.CopyFrom(api.Asked(collector="hall-a", answered=True, pools=2))
    a.pools.add(pool_uuid=POOL, name="gold")
    a.pools.add(pool_uuid=POOL, name="silver", advised="hall-b", stays="a failover is open")
    b = reply.collectors.add(agents=3, draining=True, right_left_ms=5_000, machine="collector-b.example.com")
    b.asked.CopyFrom(api.Asked(collector="hall-b", answered=True, pools=0))
    c = reply.collectors.add(agents=16, told_age_ms=4_200)
    c.asked.CopyFrom(SILENT)
    reply.unowned.add(pool_uuid=POOL, name="copper", advised="hall-b")
    reply.etcd.add(endpoint="https://192.0.2.21:2379", healthy=True, version="3.4.23", leader=True, bytes=2_097_152)
    reply.etcd.add(text="https://192.0.2.22:2379: no answer within 1 s")
    return reply


def test_who_is_there_and_what_each_owns(fake: FakeCollector, poolwarden: Call) -> None:
    fake.collectors = three()
    said = poolwarden("collectors")
    assert said == (
        0,
        """nobody is in charge of 1 pool: copper
  do: In 20 s another collector takes them; if none does: poolwarden doctor

COLLECTOR             POOLS  AGENTS  LAG    RIGHT  MACHINE
hall-a     assigns    2      48      0.0 s  6.1 s  collector-a.example.com
hall-b     draining   0      3       0.0 s  5.0 s  collector-b.example.com
hall-c     no answer  0      16      -      -      -

  hall-a: silver is to go to hall-b, and stays for now: a failover is open
  hall-c: pools and agents as of 4.2 s ago, from etcd
  hall-c: nobody answers at 192.0.2.12:7444
  nobody is in charge of: copper (for hall-b)
  etcd https://192.0.2.21:2379: 3.4.23, 2.0 MiB, leads
  etcd endpoint: https://192.0.2.22:2379: no answer within 1 s
etcd was looked at 0.4 s ago; hall-a was asked
""",
        "",
    )
    assert poolwarden("collectors", "--check").status == 1
    said = poolwarden("collectors", "--json").json["collectors"]
    assert said[1]["draining"] is True and [each["told_age_ms"] for each in said] == [0, 0, 4_200]


def test_one_collector_says_so_in_one_line(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("collectors") == (0, "hall-a is the only collector\n", "")
    assert poolwarden("collectors", "--check").status == 0


def test_move_and_drain_are_commands(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("move", "gold", "hall-b", "--reason", "racks").status == 0
    assert poolwarden("drain", "hall-b").status == poolwarden("drain", "hall-b", "--end").status == 0
    asked = [(each.WhichOneof("command"), each.reason) for each in fake.asked]
    assert asked == [("move", "racks"), ("drain", ""), ("drain", "")]
    assert fake.asked[0].move == api.Move(pool="gold", collector="hall-b")
    assert [each.drain.end for each in fake.asked[1:]] == [False, True]
    assert all(uuid.UUID(each) for each in fake.ids) and len(set(fake.ids)) == 3


def test_a_page_says_who_is_missing_from_it(fake: FakeCollector, poolwarden: Call) -> None:
    fake.status.asked.add(collector="hall-a", answered=True, pools=1)
    fake.status.asked.append(SILENT)
    for command in ("status", "hosts", "disks"):
        assert SAID in poolwarden(command).out.partition("\n")[0], command
    fake.status.overview.pools = 40
    assert SAID in poolwarden("status", "--overview", "--limit", str(ROWS)).out
    said = poolwarden("status", "--check")
    assert said.status == 1 and "collector hall-c does not answer: nobody answers at 192.0.2.12:7444" in said.err
    fake.readiness.pools.add(name="gold", ready=True)
    fake.readiness.asked.append(SILENT)
    said = poolwarden("readiness")
    assert said.status == 1 and SAID in said.out and "not ready: collector hall-c does not answer" in said.err
    fake.condition.asked.append(SILENT)
    assert poolwarden("doctor").status == 1
    assert json.loads(poolwarden("hosts", "--json").out)["asked"][1]["why_not"] == SILENT.why_not
    assert "WARNING - collector hall-c does not answer:" in poolwarden("check", "collector").out


@pytest.mark.slow
def test_the_first_collector_that_answers_is_asked(
    fake: FakeCollector, poolwarden: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = socket_of(tmp_path)
    assert poolwarden("collectors", "--collector", f"unix:{tmp_path}/none, {own}").status == 0
    said = poolwarden("collectors", "--collector", f"unix:{tmp_path}/none,unix:{tmp_path}/neither")
    assert said.status == 3 and said.err.startswith("poolwarden: none of 2 collectors can be asked: no collector")
    monkeypatch.delenv("POOLWARDEN_COLLECTOR")
    addresses = tmp_path / "collectors"
    addresses.write_text(f"# ours\nunix:{tmp_path}/none  # hall-a\n{own}\n")
    monkeypatch.setattr(settings, "DEFAULT_ADDRESSES", addresses)
    assert poolwarden("collectors").status == 0


def test_what_came_of_a_command_is_asked_for_when_its_answer_was_lost(
    fake: FakeCollector, poolwarden: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.failure = (grpc.StatusCode.UNAVAILABLE, "Socket closed")
    fake.outcome = api.OutcomeReply(state="done", reply=api.CommandReply(accepted=True, text="paused"))
    said = poolwarden("pause", "gold")
    assert said[:2] == (0, "paused\n") and fake.outcomes_asked == fake.ids and len(fake.ids) == 1
    fake.outcome = api.OutcomeReply(state="unknown", remembers_ms=3_600_000)
    said = poolwarden("pause", "gold")
    assert said.status == 3 and said.err.startswith("poolwarden: nothing was done: no collector answers")
    fake.outcome = api.OutcomeReply(state="unknown")  # it was started again meanwhile
    assert "nothing was done" not in poolwarden("pause", "gold").err
    fake.outcome = None
    assert poolwarden("pause", "gold").status == 3 and len(fake.ids) == 4


def test_a_collector_that_matters_and_does_not_answer(fake: FakeCollector, poolwarden: Call) -> None:
    fake.outcome = api.OutcomeReply(state="done", reply=api.CommandReply(accepted=True))  # is not asked for
    fake.failure = (grpc.StatusCode.ABORTED, "nothing was done: collector hall-c does not answer\n\nname it by: x")
    said = poolwarden("pause", "gold")
    assert (said.status, said.err) == (
        3, "poolwarden: nothing was done: collector hall-c does not answer\n  name it by: x\n",
    )  # fmt: skip
