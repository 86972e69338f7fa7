"""A message from a collector over mutual TLS through both processes of the agent to xapi, and a xapi that hangs."""

import os

import pytest

from poolwarden.v1 import agent_link_pb2 as pb

from .fake_xapi import EMERGENCY, LOGIN, FakeXapi
from .test_two_processes import order
from .tree import POOL, until

pytestmark = [pytest.mark.needs("openssl"), pytest.mark.slow]
KEY = "0123456789abcdef"


@pytest.fixture
def xapi(tree):
    """The xapi of a serving master."""
    made = FakeXapi(tree.path("var/lib/xcp/xapi"))
    made.logs_in()
    made.logs_in(LOGIN)
    made.asks_session(EMERGENCY, False)
    made.asks_session("message.create", "OpaqueRef:m1")
    made.asks_session("message.get", {})
    tree.put("etc/xensource/pool.conf", "master")
    tree.put("var/run/xapi_startup.cookie", "")
    tree.xapi_runs(os.getpid())
    yield made
    made.close()


def message(number=0, **said):
    given = {"key": "%s%04x" % (KEY, number), "name": "POOLWARDEN_HOST_DOWN", "priority": 3, "body": "lab: ä\nDied: h2"}
    return pb.ShowMessage(**dict(given, **said))


def made(xapi):
    return [params[1:] for method, params in list(xapi.calls) if method == "message.create"]


def ready(collector):
    """A stream of an agent whose xapi has answered."""
    stream = collector.stream()
    stream.wait("report", lambda report: report.xapi.socket_liveness == pb.XapiFacts.ANSWERS)
    return stream


def test_it_is_shown_once_and_what_may_not_be_is_refused(agent, collector, xapi):
    agent.start()
    stream = ready(collector)
    assert "show_message" in stream.messages[0].hello.capabilities
    for _ in range(2):
        collector.send(stream, order=order(agent, stream, show_message=message()))
    until(lambda: len(stream.of("order_result")) == 2)
    assert [result.outcome for result in stream.of("order_result")] == [pb.OrderResult.DONE] * 2
    body = "lab: ä\nDied: h2\n\nPoolwarden %s0000" % KEY
    assert made(xapi) == [["POOLWARDEN_HOST_DOWN", "3", "Pool", POOL, body]]
    foreign = order(agent, stream, show_message=message(1))
    foreign.pool_uuid = POOL[:-1] + "f"
    wrong = [message(2, body="x" * 5000), message(3, body="a\x1b[2J"), message(4, name="HA_HOST_FAILED")]
    for sent in [foreign] + [order(agent, stream, show_message=each) for each in wrong]:
        collector.send(stream, order=sent)
    until(lambda: len(stream.of("order_result")) == 6)
    refused = stream.of("order_result")[2:]
    assert [result.outcome for result in refused] == [pb.OrderResult.REFUSED] * 4
    assert sorted(result.reason for result in refused) == ["precondition"] * 3 + ["wrong-pool"]
    assert len(made(xapi)) == 1
    # Another agent's life: nothing is remembered, so xapi's list is asked where the collector says that it may be so.
    agent.kill()
    xapi.asks_session("message.get", {"OpaqueRef:m1": {"body": body}})
    agent.start()
    collector.stream(1)
    again = collector.streams[1]
    again.wait("report", lambda report: report.xapi.socket_liveness == pb.XapiFacts.ANSWERS)
    collector.send(again, order=order(agent, again, show_message=message(repeated=True)))
    assert again.wait("order_result").outcome == pb.OrderResult.DONE and len(made(xapi)) == 1


def test_a_xapi_that_hangs_over_messages_holds_up_no_order_and_gets_one_call(agent, collector, xapi):
    xapi.behaviours["message.create"] = xapi.hangs
    agent.start()
    stream = ready(collector)
    collector.send(stream, order=order(agent, stream, show_message=message()))
    until(lambda: made(xapi))
    for number in range(1, 100):
        collector.send(stream, order=order(agent, stream, show_message=message(number)))
    collector.send(stream, order=order(agent, stream, claim=pb.Claim()))
    stream.wait("order_result", lambda result: result.kind == "claim")
    assert not [r for r in stream.of("order_result") if r.outcome == pb.OrderResult.UNKNOWN], "the call still hangs"
    busy = until(lambda: [r for r in stream.of("order_result") if r.kind == "show_message"])
    assert {(r.outcome, r.reason) for r in busy} == {(pb.OrderResult.REFUSED, "busy")}
    collector.send(stream, challenge=pb.Challenge(nonce="n"))
    stream.wait("challenge_answer")
    unknown = stream.wait("order_result", lambda result: result.outcome == pb.OrderResult.UNKNOWN)
    assert unknown.reason == "timeout"
    # What was waiting in its lane is refused now, and xapi is given no second thread to lose.
    until(lambda: len([r for r in stream.of("order_result") if r.kind == "show_message"]) == 100)
    assert len(made(xapi)) == 1
