"""approve, deny, acknowledge: what reaches the collector, and how a question is shown."""

from collections.abc import Callable

import pytest

from poolwarden.v1 import operator_pb2 as api

from .conftest import Said
from .fake_collector import FakeCollector

Call = Callable[..., Said]


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "anna")


def last(fake: FakeCollector) -> api.CommandRequest:
    return [request for request in fake.asked if isinstance(request, api.CommandRequest)][-1]


def test_approve_sends_every_number(fake: FakeCollector, poolwarden: Call) -> None:
    fake.reply = api.CommandReply(accepted=True, text="approved")
    assert poolwarden("approve", "c130945c-1.2", "--accept-kill", "2", "--accept-stale", "4h", "--shoot").status == 0
    wanted = api.Approve(id="c130945c-1.2", accept_kill=2, accept_stale_ms=4 * 3_600_000, shoot=True)
    assert last(fake).approve == wanted and last(fake).actor == "anna"


@pytest.mark.parametrize(
    ("text", "ms"), [("90s", 90_000), ("30m", 1_800_000), ("30min", 1_800_000), ("1d", 86_400_000)]
)
def test_ages_are_read(fake: FakeCollector, poolwarden: Call, text: str, ms: int) -> None:
    assert poolwarden("approve", "demo", "--accept-stale", text).status == 0
    assert last(fake).approve.accept_stale_ms == ms


@pytest.mark.parametrize("text", ["4", "h4", "-1h", "four hours"])
def test_an_age_that_is_none_is_not_sent(fake: FakeCollector, poolwarden: Call, text: str) -> None:
    said = poolwarden("approve", "demo", f"--accept-stale={text}")
    assert said.status == 2 and "is no duration" in said.err and "4h" in said.err
    assert not [request for request in fake.asked if isinstance(request, api.CommandRequest)]


def test_a_host_is_powered_off_only_by_its_name(fake: FakeCollector, poolwarden: Call) -> None:
    pool = fake.status.pools[0]
    pool.question.id, pool.question.host_uuid = "c130945c-q1", pool.hosts[0].host_uuid
    for words, said in ((), "nobody is at a terminal"), (("--name", "host-9"), "is not the host's name"):
        refused = poolwarden("approve", "c130945c-q1", "--shoot", *words)
        assert refused.status == 2 and said in refused.err
        assert not [request for request in fake.asked if isinstance(request, api.CommandRequest)]
    assert poolwarden("approve", "c130945c-q1", "--shoot", "--name", pool.hosts[0].name).status == 0
    assert last(fake).approve.shoot and last(fake).approve.typed_name == pool.hosts[0].name


def test_the_name_that_is_typed_is_the_old_masters_where_the_question_is_about_the_candidate(
    fake: FakeCollector, poolwarden: Call
) -> None:
    pool = fake.status.pools[0]
    pool.question.id, pool.question.host_uuid = "c130945c-q1", pool.hosts[1].host_uuid
    pool.failover.old_master_uuid = pool.hosts[0].host_uuid
    wrong = poolwarden("approve", "c130945c-q1", "--shoot", "--name", pool.hosts[1].name)
    assert wrong.status == 2 and pool.hosts[0].name in wrong.err
    assert poolwarden("approve", "c130945c-q1", "--shoot", "--name", pool.hosts[0].name).status == 0


def test_deny_and_acknowledge(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("deny", "c130945c-1.2", "--reason", "the host is being repaired").status == 0
    assert last(fake).deny == api.Deny(id="c130945c-1.2", reason="the host is being repaired")
    assert poolwarden("acknowledge", "demo").status == 0
    assert last(fake).acknowledge == api.Acknowledge(pool="demo")


def test_a_refusal_names_the_command_that_would_do(fake: FakeCollector, poolwarden: Call) -> None:
    step = "poolwarden approve demo --accept-kill 3"
    fake.reply = api.CommandReply(accepted=False, text="3 VMs are at stake, 2 were accepted", next_step=step)
    said = poolwarden("approve", "demo", "--accept-kill", "2")
    assert said.status == 1 and "3 VMs are at stake" in said.err and step in said.err


def test_status_shows_the_question_its_stakes_and_both_answers(fake: FakeCollector, poolwarden: Call) -> None:
    question = fake.status.pools[0].question
    question.id, question.kind, question.text = "c130945c-q1", "shoot", "power host-1 off, which reads ON?"
    question.stakes.extend(["3 VMs were last seen running there", "host-2 would be promoted"])
    question.approve, question.deny = "poolwarden approve c130945c-q1 --shoot", "poolwarden deny c130945c-q1"
    question.expires_ms = 3_540_000
    out = poolwarden("status").out
    assert "yes: " in out
    fake.status.pools[0].situation.todo.extend([f"yes: {question.approve}", f"no:  {question.deny}"])
    out = poolwarden("status").out
    assert out.count("yes: ") == 1 and "  YOU: yes: poolwarden approve" in out
    for text in ("QUESTION: power host-1 off", "- 3 VMs were last seen", "yes: poolwarden approve c130945c-q1 --shoot"):
        assert text in out
    assert "no:  poolwarden deny c130945c-q1" in out and "asked anew in 59 min" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_explain_shows_what_a_promotion_would_lose(fake: FakeCollector, poolwarden: Call) -> None:
    fake.explanation.copies.add(name="host-2", generation=90, behind=14, text="2.5 min and 14 generations behind")
    out = poolwarden("explain", "demo").out
    assert "what a promotion would lose now:" in out and "- host-2: 2.5 min and 14 generations behind" in out
