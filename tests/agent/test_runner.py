"""The host side's loop with a link side that says what it likes; no processes, no waiting."""

import threading

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import host_now, orders
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.host_port import Act
from poolwarden_agent.process import runner as module
from poolwarden_agent.process.link_process import LinkLost
from poolwarden_agent.process.pipe import DOWN, FROM_COLLECTOR, MESSAGE, RENEW, UP, numbered, unnumbered
from poolwarden_agent.process.probers import MOST, Probers
from poolwarden_agent.process.runner import Runner

from .fake_port import FakePort, order
from .tree import HOST, POOL, until


class FakeLink(object):
    """Gives the frames it was told to give, keeps what it was sent."""

    socket = None
    wants_to_write = False

    def __init__(self):
        self.sent = []
        self.lost = False

    def ensure(self):
        if self.lost:
            self.lost = False
            raise LinkLost("the link side has ended; another one is started")

    def send(self, verb, payload=b""):
        self.sent.append((verb, payload))

    def flush(self):
        pass

    def stop(self, limit_s):
        self.sent.append(("stop", limit_s))

    def messages(self):
        """(stream, body's name) of what was sent."""
        split = [unnumbered(payload) for verb, payload in self.sent if verb == MESSAGE]
        return [(stream, pb.AgentMessage.FromString(data).WhichOneof("body")) for stream, data in split]


@pytest.fixture
def link():
    return FakeLink()


@pytest.fixture
def runner(port, link, monkeypatch):
    monkeypatch.setattr(module, "LONGEST_SLEEP_S", 0.01)
    made = Runner(HostSide(port, "3.6.8", background=True), link)
    made._look_at_host()
    return made


def collector(**body):
    return pb.CollectorMessage(**body).SerializeToString()


def test_a_stream_opens_with_hello_and_a_report(runner, link, port):
    runner._turn()
    assert link.sent == []
    runner._frame(UP, numbered(1))
    assert link.messages() == [(1, "hello"), (1, "report")]
    runner._turn()
    assert len(link.sent) == 2
    port.now += 2000
    runner._turn()
    assert link.messages()[2:] == [(1, "report")]
    runner._frame(DOWN, b"why")
    port.now += 2000
    runner._turn()
    assert len(link.sent) == 3, "nothing is kept for a link that is down"
    runner._frame(UP, numbered(2))
    assert link.messages()[3:] == [(2, "hello"), (2, "report")]


@pytest.mark.parametrize(
    "verb, payload",
    [
        (b"X", b""),
        (MESSAGE, b"x"),
        (b"\xff", b"\xff" * 100),
        (UP, b""),
        (UP, b"abc"),
        (DOWN, b"\xff\xfe"),
        (FROM_COLLECTOR, b"\xff\xff\xff"),
        (FROM_COLLECTOR, b""),
        (FROM_COLLECTOR, b"\x0a\xff"),
        (FROM_COLLECTOR, pb.AgentMessage(sequence=5).SerializeToString()),
    ],
)
def test_a_malformed_frame_is_survived(runner, link, verb, payload):
    runner._frame(UP, numbered(1))
    runner._frame(verb, payload)
    runner._frame(UP, numbered(2))
    runner._frame(FROM_COLLECTOR, collector(challenge=pb.Challenge(nonce="n")))
    assert link.messages()[-1] == (2, "challenge_answer")


def test_a_frame_that_breaks_us_is_not_the_last(runner, link, capsys):
    runner._conversation.link_up = None
    runner._take(UP, numbered(1))
    assert "failed: TypeError" in capsys.readouterr().err
    runner._take(FROM_COLLECTOR, collector(challenge=pb.Challenge(nonce="n")))
    assert link.messages()[-1] == (1, "challenge_answer")

    def lost(*_arguments):
        raise LinkLost("gone")

    link.send = lost
    with pytest.raises(LinkLost):
        runner._take(FROM_COLLECTOR, collector(challenge=pb.Challenge(nonce="n")))


def test_noise_of_every_kind_is_survived(runner, link):
    import random

    chance = random.Random(11)
    real = collector(
        order=pb.Order(order_id="o", pool_uuid=POOL, host_uuid=HOST, claim=pb.Claim(old_master=pb.ProbeTarget()))
    )
    runner._frame(UP, numbered(1))
    for _ in range(500):
        noise = bytearray(real)
        for _ in range(chance.randint(1, 6)):
            noise[chance.randrange(len(noise))] = chance.randrange(256)
        runner._frame(chance.choice([FROM_COLLECTOR, UP, DOWN, b"?"]), bytes(noise))
    runner._frame(UP, numbered(2))
    runner._frame(FROM_COLLECTOR, collector(challenge=pb.Challenge(nonce="n")))
    assert link.messages()[-1] == (2, "challenge_answer")


def test_a_lost_link_side_ends_the_stream(runner, link, port):
    runner._frame(UP, numbered(1))
    link.lost = True
    runner._turn()
    port.now += 9000
    runner._turn()
    assert len(link.sent) == 2


def test_a_report_that_cannot_be_made_stops_neither_challenges_nor_orders(runner, link, port, capsys):
    runner._frame(UP, numbered(1))
    runner._conversation.report = None
    port.now += 9000
    runner._turn()
    assert "could not be made" in capsys.readouterr().err
    runner._frame(FROM_COLLECTOR, collector(challenge=pb.Challenge(nonce="n")))
    assert link.messages()[-1] == (1, "challenge_answer")


def test_another_pool_asks_for_a_new_stream(runner, link, port):
    runner._frame(UP, numbered(1))
    port.pool, port.source = "pool-2", ("x", 1)
    port.new_process()
    runner._look_at_host()
    port.now += 2000
    runner._turn()
    assert link.sent[-1] == (RENEW, b"")


def obeying(runner):
    thread = threading.Thread(target=runner._obey)
    thread.daemon = True
    thread.start()


def an_order(port, **kind):
    return collector(
        order=pb.Order(
            order_id="o1", epoch=1, term=1, pool_uuid=POOL, host_uuid=HOST, boot_id="boot-1", echo_mono_ms=port.now,
            valid_for_ms=5000, **kind
        )
    )  # fmt: skip


def test_a_result_and_what_it_changed_are_told_at_once(runner, link, port):
    obeying(runner)
    runner._frame(UP, numbered(1))
    runner._frame(FROM_COLLECTOR, an_order(port, promote=pb.Promote()))

    def told():
        runner._turn()
        return len(link.sent) >= 4

    until(told)
    assert link.messages()[2:4] == [(1, "order_result"), (1, "report")]
    reported = pb.AgentMessage.FromString(unnumbered(link.sent[3][1])[1]).report
    assert reported.role.pool_conf == pb.RoleFacts.MASTER


def test_an_order_that_breaks_is_not_answered_and_the_next_one_is(runner, link, port, capsys):
    obeying(runner)
    runner._frame(UP, numbered(1))
    port.act_result = None
    runner._frame(FROM_COLLECTOR, an_order(port, promote=pb.Promote()))
    runner._frame(FROM_COLLECTOR, an_order(port, claim=pb.Claim()))

    def told():
        runner._turn()
        return (1, "order_result") in link.messages()

    until(told)
    assert "order promote failed" in capsys.readouterr().err
    assert runner._unanswered == 0


def test_a_result_for_a_link_that_is_down_waits_in_the_slots(runner, link, port):
    obeying(runner)
    runner._frame(UP, numbered(1))
    runner._frame(FROM_COLLECTOR, an_order(port, promote=pb.Promote()))
    runner._frame(DOWN, b"")

    def ended():
        runner._turn()
        return not runner._unanswered

    until(ended)
    runner._frame(UP, numbered(2))
    hello = pb.AgentMessage.FromString(unnumbered(link.sent[-2][1])[1]).hello
    assert [(r.order_id, r.outcome) for r in hello.last_results] == [("o1", pb.OrderResult.DONE)]


def test_a_stop_lets_the_order_in_hand_end_and_says_goodbye(runner, link, port):
    go = threading.Event()
    port.promote = lambda limit_ms: (go.wait(10), FakePort.promote(port, limit_ms))[1]
    obeying(runner)
    runner._frame(UP, numbered(1))
    runner._frame(FROM_COLLECTOR, an_order(port, promote=pb.Promote()))
    threading.Timer(0.2, go.set).start()
    runner._stop(15, None)
    runner._last_turns()
    names = [name for _, name in link.messages()]
    assert names.index("order_result") < names.index("goodbye") and link.sent[-1][0] == "stop"


def test_a_stop_does_not_wait_for_ever_for_an_order(runner, link, port, monkeypatch):
    monkeypatch.setattr(module, "LAST_ORDER_S", 0.1)
    go = threading.Event()
    port.promote = lambda limit_ms: go.wait(10)
    obeying(runner)
    runner._frame(UP, numbered(1))
    runner._frame(FROM_COLLECTOR, an_order(port, promote=pb.Promote()))
    runner._last_turns()
    go.set()
    assert link.messages()[-1] == (1, "goodbye")


# ---------------------------------------------------------------------------------------------- probers


def test_no_two_probes_of_one_target_and_no_target_waits_for_a_silent_one():
    go, begun = threading.Event(), []

    def probe(host, address):
        begun.append(host)
        if host == "silent":
            go.wait(10)

    probers = Probers(probe)
    targets = {"silent": "10.0.0.1", "other": "10.0.0.2"}
    for now in range(0, 5000, 500):
        due = probers.start_due(targets, now, 1000)
        assert due > now, "the loop never spins"
        until(lambda: probers._busy <= {"silent"})
    assert begun.count("silent") == 1 and begun.count("other") == 5
    go.set()
    until(lambda: not probers._busy)
    probers.start_due(targets, 9000, 1000)
    until(lambda: begun.count("silent") == 2)


def test_a_probe_that_breaks_is_said_and_repeated(capsys):
    def breaks(host, address):
        raise ValueError("odd")

    probers = Probers(breaks)
    for now in (0, 1000):
        probers.start_due({"h": "10.0.0.1"}, now, 1000)
        until(lambda: not probers._busy)
    assert "ValueError" in capsys.readouterr().err and probers._threads == 1


def test_threads_are_bounded():
    go, begun = threading.Event(), []

    def probe(host, address):
        begun.append(host)
        go.wait(10)

    probers = Probers(probe)
    probers.start_due({"h%d" % n: "x" for n in range(50)}, 0, 1000)
    until(lambda: len(begun) == MOST)
    assert probers._threads == MOST
    go.set()
    until(lambda: len(begun) == 50)


def test_targets_that_are_gone_are_forgotten():
    probers = Probers(lambda host, address: None)
    probers.start_due({"a": "x"}, 0, 1000)
    assert probers.start_due({}, 10, 1000) == 1010
    assert probers._due_ms == {}


# ---------------------------------------------------------------------------------------------- slow orders


def test_no_order_waits_for_a_slow_one(runner, link, port, monkeypatch):
    go = threading.Event()
    port.conf = (host_now.MASTER, "")
    monkeypatch.setattr(port, "serve", lambda order, limit_ms, late: (go.wait(10), Act(orders.DONE, "synced"))[1])
    obeying = threading.Thread(target=runner._obey, daemon=True)
    obeying.start()
    runner._frame(UP, numbered(1))
    runner._hear(collector(order=order(port, "slow", sync_database=pb.SyncDatabase())))
    runner._hear(collector(order=order(port, "quick", collect_evidence=pb.CollectEvidence())))

    def results():
        runner._turn()
        sent = [unnumbered(payload)[1] for verb, payload in link.sent if verb == MESSAGE]
        messages = [pb.AgentMessage.FromString(data) for data in sent]
        return [m.order_result.order_id for m in messages if m.HasField("order_result")]

    until(lambda: results() == ["quick"])
    assert runner._unanswered == 1 and list(runner._slow._waiting) == ["sync_database"]
    go.set()
    until(lambda: results() == ["quick", "slow"])
    until(lambda: not runner._slow._waiting, what="no idle thread is left")
    assert runner._unanswered == 0
