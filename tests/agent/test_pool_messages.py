"""Messages shown in the pool: what the gate lets through, that each is shown once, and that a xapi is not worn out."""

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import host_now, order_kinds, orders, probe_rules
from poolwarden_agent.core.pool_message import ANOTHER_EACH_MS, AT_ONCE, LONGEST_BODY
from poolwarden_agent.dom0.xapi import session_calls
from poolwarden_agent.dom0.xapi.errors import XapiFault, XapiRefused, XapiTimeout
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.host.pool_messages import LIMIT_MS
from poolwarden_agent.host_port import Act

from .fake_port import FakePort, obey, order
from .test_gate import NOW, an, but, reason
from .test_serving import SERVING_NOW, outcome
from .tree import OTHER, POOL

KEY = "0123456789abcdef"
SHOW = an(
    "show_message", key=KEY, name="POOLWARDEN_HOST_DOWN", priority=3, body="lab: h1 is down\nDied: h1 (10.0.0.1) ä"
)


def serving():
    """A host that serves as master and has looked at its xapi once."""
    port = FakePort()
    port.conf = (host_now.MASTER, "")
    side = HostSide(port)
    side.observer.look_at_xapi(False, 5000)
    return port, side


def show(port, side, key=KEY, order_id="", **said):
    given = dict({"name": "POOLWARDEN_X", "priority": 3, "body": "b"}, key=key, **said)
    return obey(side, order(port, order_id or key, show_message=pb.ShowMessage(**given)))


# ---------------------------------------------------------------------------------------------- the gate


def test_a_sound_one_is_let_through_on_a_serving_master_alone():
    assert reason(SHOW, now=SERVING_NOW) == "Obey"
    assert reason(SHOW, now=SERVING_NOW._replace(ha_armed=True)) == "Obey", "it changes no role"
    for now in (NOW, SERVING_NOW._replace(settled=False), SERVING_NOW._replace(pool_conf=host_now.BROKEN)):
        assert reason(SHOW, now=now) == "precondition"
    assert reason(SHOW._replace(pool="pool-2"), now=SERVING_NOW) == "wrong-pool"
    assert reason(SHOW._replace(epoch=2), now=SERVING_NOW) == "stale-epoch"
    assert reason(SHOW._replace(term=6), now=SERVING_NOW) == "stale-term"


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "POOL_MASTER_TRANSITION"},
        {"name": "POOLWARDEN_"},
        {"name": "POOLWARDEN_X\n"},
        {"name": "POOLWARDEN_x"},
        {"name": "POOLWARDEN_" + "X" * 49},
        {"key": ""},
        {"key": "0123456789ABCDEF"},
        {"key": KEY + "\n"},
        {"key": "a" * 65},
        {"priority": 0},
        {"priority": 6},
        {"body": ""},
        {"body": "x" * (LONGEST_BODY + 1)},
        {"body": "ä" * (LONGEST_BODY // 2) + "x"},
        {"body": "x" * (1 << 20)},
        {"body": "a\x00b"},
        {"body": "a\x1b[2Jb"},
        {"body": "a\tb"},
        {"body": "a\rb"},
        {"body": "a\x7fb"},
        {"body": "a\x9bb"},
        {"body": "a\u202eb"},
        {"body": "a\ud800b"},
        {"body": "a\uffffb"},
    ],
)
def test_what_is_not_shown(change):
    assert reason(but(SHOW, **change), now=SERVING_NOW) == "precondition"


@pytest.mark.parametrize(
    "change",
    [{"name": "POOLWARDEN_" + "Z_9" * 16}, {"body": "ä" * (LONGEST_BODY // 2)}, {"priority": 1}, {"priority": 5}],
)
def test_what_is_just_allowed(change):
    assert reason(but(SHOW, **change), now=SERVING_NOW) == "Obey"


# ---------------------------------------------------------------------------------------------- once, and not too often


def test_it_is_shown_once_however_often_it_comes():
    port, side = serving()
    assert outcome(show(port, side)) == ("DONE", "")
    again = show(port, side, order_id="another")
    assert outcome(again) == ("DONE", "") and "already" in again.text
    assert port.shown == [("POOLWARDEN_X", KEY, False)]
    assert outcome(show(port, side, "f" * 16)) == ("DONE", "") and len(port.shown) == 2


def test_after_another_agents_life_xapis_list_is_looked_at():
    port, side = serving()
    assert outcome(show(port, side, repeated=True)) == ("DONE", "")
    assert port.shown == [("POOLWARDEN_X", KEY, True)]


def test_a_hundred_in_a_second_are_twenty_and_then_one_each_half_minute():
    port, side = serving()
    answers = []
    for number in range(100):
        answers.append(outcome(show(port, side, "%016x" % number)))
        port.now += 10
    assert answers[:AT_ONCE] == [("DONE", "")] * AT_ONCE and set(answers[AT_ONCE:]) == {("REFUSED", "busy")}
    assert len(port.shown) == AT_ONCE
    port.now += ANOTHER_EACH_MS
    assert outcome(show(port, side, "a" * 16)) == ("DONE", "")
    assert outcome(show(port, side, "b" * 16)) == ("REFUSED", "busy")
    assert outcome(show(port, side, "%016x" % 3)) == ("DONE", ""), "what is shown already costs nothing"
    port.now += AT_ONCE * ANOTHER_EACH_MS
    for number in range(AT_ONCE + 1):
        last = outcome(show(port, side, "%016x" % (1000 + number)))
        assert last == (("REFUSED", "busy") if number == AT_ONCE else ("DONE", ""))


def test_a_xapi_that_does_not_answer_is_not_asked():
    port, side = serving()
    port.flag = port.flag._replace(outcome=probe_rules.NO_ANSWER, flag=None)
    side.observer.look_at_xapi(False, 5000)
    assert outcome(show(port, side)) == ("REFUSED", "busy") and port.shown == []
    port.xapi = host_now.NO_PROCESS
    assert outcome(show(port, side)) == ("REFUSED", "precondition") and port.shown == []


def test_a_call_that_hangs_is_given_no_second_thread_for_a_minute_then_two():
    port, side = serving()
    port.act_result, port.show_takes_ms = Act(orders.UNKNOWN, "xapi did not answer in time"), LIMIT_MS
    assert outcome(show(port, side)) == ("UNKNOWN", "timeout") and len(port.shown) == 1
    tried = []
    for _ in range(60):  # ten minutes of a collector that tries each ten seconds
        if outcome(show(port, side, "f" * 16)) == ("UNKNOWN", "timeout"):
            tried.append(port.now)
        else:
            port.now += 10000
    assert len(tried) == 3 and [entry[2] for entry in port.shown] == [False, False, True, True]
    assert all(b - a >= a - c for c, a, b in zip(tried, tried[1:], tried[2:])), "each time twice as long"
    port.new_process()
    port.act_result, port.show_takes_ms = Act(orders.DONE, ""), 0
    assert outcome(show(port, side)) == ("DONE", ""), "another xapi owes nothing"
    assert port.shown[-1] == ("POOLWARDEN_X", KEY, True), "the first one may have shown it after all"


def test_an_answered_refusal_is_tried_again_at_once():
    port, side = serving()
    for act, expected in (
        (Act(orders.FAILED, "xapi refused it: UUID_INVALID"), ("FAILED", "xapi-error")),
        (Act(orders.REFUSED, "xapi could not be asked"), ("REFUSED", "busy")),
        (Act(orders.DONE, ""), ("DONE", "")),
    ):
        port.act_result = act
        assert outcome(show(port, side)) == expected
    assert len(port.shown) == 3


def test_nothing_of_it_is_durable_but_the_numbers_and_an_older_agent_refuses_it():
    port, side = serving()
    show(port, side)
    saved = port.saved
    show(port, side, "f" * 16)
    assert port.saved == saved and KEY.encode() not in saved
    assert "show_message" not in order_kinds.MUTATING and "show_message" in order_kinds.SLOW
    assert "show_message" in side.conversation.link_up()[0].hello.capabilities
    port.able = tuple(kind for kind in port.able if kind != "show_message")
    assert outcome(show(port, side, "e" * 16)) == ("REFUSED", "unknown-order")


# ---------------------------------------------------------------------------------------------- what xapi is asked


class Asked(object):
    """xapi's answers by method, and what was asked."""

    def __init__(self, **answers):
        self.answers = {"message_create": "OpaqueRef:1", "message_get": {}}
        self.answers.update(answers)
        self.calls = []

    def __call__(self, method, *params):
        self.calls.append((method,) + tuple(str(param) for param in params))
        answer = self.answers[method.replace(".", "_")]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_one_call_about_the_own_pool():
    ask = Asked()
    assert session_calls.show(ask, SHOW, 0) == Act(orders.DONE, "xapi shows it")
    body = SHOW.body.body + "\n\nPoolwarden " + KEY
    assert ask.calls == [("message.create", "POOLWARDEN_HOST_DOWN", "3", "Pool", "pool-1", body)]


def test_what_the_last_day_has_already_is_not_shown_again():
    told = {"OpaqueRef:7": {"body": "x\n\nPoolwarden " + KEY}, "OpaqueRef:8": {}}
    ask = Asked(message_get=told)
    assert session_calls.show(ask, SHOW, 1767312000000).outcome == orders.DONE
    assert ask.calls == [("message.get", "Pool", "pool-1", "20260101T00:00:00Z")]
    ask = Asked(message_get={"OpaqueRef:7": {"body": "x\n\nPoolwarden " + "f" * 16}})
    assert session_calls.show(ask, SHOW, 1767312000000).outcome == orders.DONE and len(ask.calls) == 2


def test_how_a_call_can_end():
    def act(**answers):
        return session_calls.show(Asked(**answers), SHOW, 1767312000000)

    assert act(message_create="OpaqueRef:NULL").outcome == orders.FAILED
    assert "disk" in act(message_create="OpaqueRef:NULL").text
    assert act(message_create=XapiFault("UUID_INVALID", ["Pool", POOL])).outcome == orders.FAILED
    assert act(message_create=XapiTimeout("late")).outcome == orders.UNKNOWN
    assert act(message_create=XapiRefused("no xapi")).outcome == orders.REFUSED
    assert act(message_get=XapiTimeout("late")).outcome == orders.REFUSED, "nothing was begun"
    assert act(message_get=["not", "a", "map"]).outcome == orders.FAILED
    assert act(message_get={OTHER: "no record"}).outcome == orders.FAILED
