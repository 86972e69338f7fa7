"""A collector that has welcomed this host and works no more: asked, and left for the next one, each time later."""

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core.pulse import ASK_AFTER_MS, FIRST_LIMIT_MS, LONGEST_LIMIT_MS, Pulse
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.process import link_file
from poolwarden_agent.process.pipe import FROM_COLLECTOR, GO, UP, numbered
from poolwarden_agent.process.runner import Runner

from .test_runner import FakeLink

LISTED = ("10.0.0.1:7443", "10.0.0.2:7443")


def asked(now_ms, pulse):
    pulse.welcomed(now_ms, True)
    number = pulse.due(now_ms + ASK_AFTER_MS)
    assert number
    return number, now_ms + ASK_AFTER_MS


def test_it_is_asked_when_nothing_was_heard_and_once():
    pulse = Pulse()
    pulse.welcomed(1000, True)
    assert pulse.due(1000 + ASK_AFTER_MS - 1) == 0
    assert pulse.due(1000 + ASK_AFTER_MS) == 1 and pulse.due(1000 + ASK_AFTER_MS) == 0
    pulse.heard(20000)
    assert pulse.due(20000 + ASK_AFTER_MS - 1) == 0 and pulse.due(20000 + ASK_AFTER_MS) == 2


def test_without_an_answer_the_stream_is_given_up_each_time_later():
    pulse, now, limits = Pulse(), 0, []
    for _ in range(7):
        _, at = asked(now, pulse)
        limit = pulse.limit_ms()
        assert not pulse.gone(at + limit - 1) and pulse.gone(at + limit) and not pulse.gone(at + limit)
        assert pulse.due(at + 10 * limit) == 0, "of that stream nothing more is asked"
        limits.append(limit)
        now = at + limit
        pulse.begin()
    assert limits[:3] == [FIRST_LIMIT_MS, 2 * FIRST_LIMIT_MS, 4 * FIRST_LIMIT_MS] and limits[-1] == LONGEST_LIMIT_MS
    asked(now, pulse)
    pulse.heard(now + ASK_AFTER_MS + 1)
    assert pulse.limit_ms() == FIRST_LIMIT_MS


def test_whatever_is_heard_is_an_answer():
    pulse = Pulse()
    _, at = asked(0, pulse)
    pulse.heard(at + FIRST_LIMIT_MS)
    assert not pulse.gone(at + 10 * FIRST_LIMIT_MS)


def test_one_that_does_not_know_the_question_is_never_given_up():
    pulse = Pulse()
    pulse.welcomed(0, False)
    assert pulse.due(10**9) == 0 and not pulse.gone(10**9)


@pytest.fixture
def runner(port, monkeypatch):
    monkeypatch.setattr(link_file.boot_findings, "put", lambda *_: None)

    def made(collectors, pongs=True):
        link = FakeLink()
        found = Runner(HostSide(port, "3.6.8"), link, collectors=collectors)
        found._frame(UP, numbered(1, LISTED[0].encode()))
        welcome = pb.CollectorMessage(welcome=pb.Welcome(epoch=2, pongs=pongs))
        found._frame(FROM_COLLECTOR, welcome.SerializeToString())
        link.sent = []
        return found, link

    return made


def test_a_runner_asks_and_goes_on_to_the_next_address(runner, port, capsys):
    found, link = runner(LISTED)
    port.now += ASK_AFTER_MS
    found._feel_pulse(port.now)
    assert link.messages() == [(1, "ping")]
    pong = pb.CollectorMessage(pong=pb.Pong(number=1))
    found._frame(FROM_COLLECTOR, pong.SerializeToString())
    port.now += ASK_AFTER_MS
    found._feel_pulse(port.now)
    port.now += FIRST_LIMIT_MS
    found._feel_pulse(port.now)
    assert link.messages() == [(1, "ping"), (1, "ping")] and link.sent[-1] == (GO, numbered(1))
    assert "has answered nothing for 30 s" in capsys.readouterr().err


@pytest.mark.parametrize("collectors, pongs", [(LISTED[:1], True), (LISTED, False)])
def test_nobody_is_asked_where_it_would_not_help(runner, port, collectors, pongs):
    found, link = runner(collectors, pongs)
    for _ in range(100):
        port.now += ASK_AFTER_MS
        found._feel_pulse(port.now)
    assert link.sent == []


def test_a_pong_changes_nothing_and_needs_no_signature(side, port):
    from .test_signed import PUBLIC, PinnedKey, PinnedKeys, order_key

    port.order_keys = lambda: PinnedKeys((PinnedKey(PUBLIC, order_key.key_id(PUBLIC)),), "")
    assert side.conversation.receive(pb.CollectorMessage(pong=pb.Pong(number=1))) == ([], None)
    assert side.conversation.take_remark() == ""
