"""A collector that does not have this host's pool: what is followed, what is stored (nothing), and what is said."""

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import order_kinds
from poolwarden_agent.core.gate_state import EMPTY
from poolwarden_agent.dom0.system.slots import SlotError
from poolwarden_agent.host.elsewhere import Elsewhere
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.process import link_file
from poolwarden_agent.process.link_file import Links
from poolwarden_agent.process.pipe import DOWN, FROM_COLLECTOR, GO, UP, WELCOMED, about, numbered
from poolwarden_agent.process.runner import Runner

from .fake_port import FakePort, order
from .test_runner import FakeLink
from .test_signed import OTHER_PUBLIC, OTHER_SECRET, PUBLIC, pinned, seal  # noqa: F401  (a fixture)
from .tree import HOST, POOL

LISTED = ("10.0.0.1:7443", "[fd00::1]:7443", "Collector.example:7443")


def word(address="10.0.0.1:7443", **more):
    return pb.Elsewhere(address=address, **more)


def hear(side, **body):
    return side.conversation.receive(pb.CollectorMessage(**body))


def signed(port, given, **how):
    content = {"pool_uuid": POOL, "host_uuid": HOST, "boot_id": port.identity().boot_id, "epoch": 77}
    content.update(echo_mono_ms=port.mono_ms(), valid_for_ms=60000)
    return seal(elsewhere=given, **dict(content, **how))


@pytest.fixture
def port():
    made = FakePort()
    made.collectors = lambda: LISTED
    made.able += (order_kinds.ELSEWHERE,)
    return made


@pytest.fixture
def side(port):
    made = HostSide(port, "3.6.8")
    made.conversation.link_up()
    return made


@pytest.mark.parametrize(
    "said, goes",
    [
        ("10.0.0.1:7443", "10.0.0.1:7443"),
        ("[FD00:0::1]:7443", "[fd00::1]:7443"),
        ("collector.EXAMPLE:7443", "Collector.example:7443"),
        ("10.0.0.1:7444", ""),
        ("10.0.0.2:7443", ""),
        ("", ""),
        ("10.0.0.1", ""),
        ("10.0.0.1:7443\n", ""),
        ("unix:/run/x", ""),
    ],
)
def test_of_what_is_not_signed_only_the_list_is_followed(side, said, goes):
    assert hear(side, elsewhere=word(said)) == ([], None)
    assert side.conversation.take_elsewhere() == goes and side.conversation.take_elsewhere() is None
    assert "does not have this host's pool" in side.conversation.take_remark()
    assert not side.conversation.take_welcomed()


@pytest.mark.parametrize("said, goes", [("10.9.9.9:1", "10.9.9.9:1"), ("x.example:1", "x.example:1"), ("x:0", "")])
def test_any_address_is_followed_at_a_signed_word(side, pinned, said, goes):  # noqa: F811
    side.conversation.receive(signed(pinned, word(said)))
    assert side.conversation.take_elsewhere() == goes


@pytest.mark.parametrize(
    "how",
    [
        {"secret": OTHER_SECRET, "public": OTHER_PUBLIC},
        {"host_uuid": "99999999-2222-3333-4444-555555555555"},
        {"boot_id": "another boot"},
        {"valid_for_ms": 0},
    ],
)
def test_where_a_key_is_pinned_no_other_word_counts(side, pinned, how):  # noqa: F811
    side.conversation.receive(signed(pinned, word(), **how))
    assert side.conversation.take_elsewhere() is None and "refused elsewhere" in side.conversation.take_remark()
    hear(side, elsewhere=word())
    assert side.conversation.take_elsewhere() is None and "not signed" in side.conversation.take_remark()
    answers, let_through = hear(side, challenge=pb.Challenge(nonce="n"))
    assert answers and let_through is None, "its stream goes on"


def test_a_word_signed_by_a_key_that_is_not_pinned_here_is_as_good_as_unsigned(side, port):
    side.conversation.receive(signed(port, word("10.9.9.9:1"), secret=OTHER_SECRET, public=OTHER_PUBLIC))
    assert side.conversation.take_elsewhere() == ""


def test_after_it_nothing_is_obeyed_on_that_stream_and_everything_on_the_next(side, port):
    hear(side, elsewhere=word())
    for body in (
        {"welcome": pb.Welcome(epoch=9)},
        {"order": order(port, claim=pb.Claim())},
        {"settings": pb.Settings(report_interval_ms=777)},
        {"challenge": pb.Challenge(nonce="n")},
        {"full_report_request": pb.FullReportRequest()},
    ):
        assert hear(side, **body) == ([], None)
        assert "has sent this host on" in side.conversation.take_remark()
    assert side.executor.state == EMPTY and side.conversation.settings.report_interval_ms == 2000
    side.conversation.link_up()
    [ack], _ = hear(side, welcome=pb.Welcome(epoch=9))
    assert ack.epoch_ack == pb.EpochAck(epoch=9, boot_id="boot-1") and side.conversation.take_welcomed()


def test_the_envelopes_epoch_is_stored_by_nobody(side, pinned):  # noqa: F811
    side.conversation.receive(signed(pinned, word()))
    assert side.executor.state.epoch == 0


def test_an_epoch_is_acknowledged_where_it_is_durable_and_nowhere_else(side, port):
    [ack], _ = hear(side, welcome=pb.Welcome(epoch=5))
    assert ack.epoch_ack.epoch == 5 and HostSide(port).executor.state.epoch == 5
    assert hear(side, welcome=pb.Welcome(epoch=5))[0], "each Welcome of the highest"
    assert hear(side, welcome=pb.Welcome(epoch=4)) == ([], None)
    side.conversation.take_welcomed()
    assert hear(side, welcome=pb.Welcome(epoch=4)) == ([], None) and not side.conversation.take_welcomed()
    assert hear(side, welcome=pb.Welcome(epoch=1 << 50)) == ([], None) and not side.conversation.take_welcomed()

    def full(_payload):
        raise SlotError("no room")

    port.save_state = full
    assert hear(side, welcome=pb.Welcome(epoch=6)) == ([], None), "it would be forgotten by the next start"
    assert side.executor.state.epoch == 5


def test_where_durable_state_cannot_be_read_nothing_is_acknowledged(side):
    hear(side, welcome=pb.Welcome(epoch=5))
    side.executor._keeper.storage = "spoiled"
    assert hear(side, welcome=pb.Welcome(epoch=5)) == ([], None)


def test_the_link_side_is_told_of_a_welcome_and_of_where_to_go(side):
    link = FakeLink()
    runner = Runner(side, link)
    runner._frame(UP, numbered(3))
    link.sent = []
    runner._frame(FROM_COLLECTOR, pb.CollectorMessage(welcome=pb.Welcome(epoch=2)).SerializeToString())
    assert link.sent[0] == (WELCOMED, numbered(3)) and link.messages() == [(3, "epoch_ack")]
    link.sent = []
    runner._frame(FROM_COLLECTOR, pb.CollectorMessage(elsewhere=word()).SerializeToString())
    assert link.sent == [(GO, numbered(3, b"10.0.0.1:7443"))]


def test_what_a_collector_says_is_cut_before_it_is_said():
    said = Elsewhere(LISTED).hear(word("x" * 5000 + ":1", reason="r" * 5000, collector="c" * 5000), False)
    assert len(said) < 1000


def test_streams_that_send_it_on_end_no_absence(side, port):
    """One that is welcomed does: what happened meanwhile is its collector's to hear, not a stray one's."""

    def alone(span_ms):
        for _ in range(0, span_ms, 2000):
            port.now += 2000
            side.conversation.nobody_listens("no collector welcomes it")

    alone(30000)
    for _ in range(3):
        side.conversation.link_up()
        hear(side, elsewhere=word())
        assert side.conversation.late() == []
        alone(4000)
    side.conversation.link_up()
    hear(side, welcome=pb.Welcome(epoch=1))
    told = [message.late.event.text for message in side.conversation.late() if message.late.HasField("event")]
    assert told == ["the collector is out of reach: no collector welcomes it", "the collector is reached again"]


def links(short, listed=LISTED):
    return Links(str(short), "boot-1", listed)


def lines(short, boot="boot-1"):
    return link_file.lines(str(short), boot, 0)


def test_which_collector_is_talked_to_and_why_not_the_others(short):
    kept = links(short)
    kept.begin()
    assert lines(short) == ["talks to no collector"] + [each + ": not tried" for each in LISTED]
    kept.down(LISTED[1], "connection refused")
    kept.up(LISTED[0])
    assert lines(short)[0] == "is connected to %s, which has not welcomed it, since 0 s" % LISTED[0]
    kept.welcomed()
    assert lines(short) == [
        "talks to the collector at 10.0.0.1:7443, since 0 s",
        "[fd00::1]:7443: connection refused",
        "Collector.example:7443: not tried",
    ]
    kept.lost()
    assert lines(short)[0] == "talks to no collector"
    assert lines(short, "boot-2") == [], "of another boot"
    (short / link_file.LINK).write_text('{"boot_id": "boot-1", "pid": 99999999, "connected": "x"}')
    assert lines(short) == [], "of an agent that has ended"
    assert "not known" in link_file.shown(str(short), "boot-1", " ")


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "[[[[", '{"boot_id": "boot-1"}', '{"boot_id": "boot-1", "pid": 1, "connected": "a"}']
)
def test_a_file_that_is_spoiled_says_nothing(short, text):
    (short / link_file.LINK).parent.mkdir(parents=True)
    (short / link_file.LINK).write_text(text)
    assert lines(short) == []


def test_no_collector_is_told_how_an_address_failed_that_another_one_named(short):
    """Else whoever may name addresses reads from the reports which ports answer in this host's networks."""
    kept = links(short)
    kept.down(LISTED[0], "connection refused")
    for why in ("connection refused", "no TLS"):
        kept.down("10.7.7.7:22", why)
        assert kept.why.startswith("10.0.0.1:7443: connection refused; the address to which this host was sent did not")
        assert "10.7.7.7" not in kept.why and why not in kept.why[len("10.0.0.1:7443: connection refused") :]
    assert "10.7.7.7:22: no TLS" in lines(short), "on this host it is"


def test_what_the_link_side_says_moves_no_cursor_of_who_reads_it(short):
    kept = links(short)
    kept.down(LISTED[0], "refused\x1b[2J\x1b]0;x\x07\nnow:  talks to the collector\u202e")
    kept.up("\x1b[1mforeign:1")
    told = lines(short)
    assert len(told) == 1 + len(LISTED) and all(line.isprintable() for line in told), told


def test_strangers_do_not_gather(short):
    kept = links(short)
    for number in range(100):
        kept.down("10.7.7.7:%d" % (number + 1), "no")
    assert len(lines(short)) <= link_file.MOST + len(LISTED) + 1


def test_until_every_address_was_tried_a_collector_may_still_be_found(short):
    kept = links(short)
    assert kept.seeking
    for number, address in enumerate(LISTED):
        assert kept.seeking, number
        kept.down(address, "no answer")
    assert not kept.seeking
    kept.up(LISTED[0])
    kept.down(LISTED[0], "it has sent this host on")
    assert not kept.seeking
    for target in (LISTED[1], "10.7.7.7:1"):
        kept.sent_on(target)
        kept.down(LISTED[0], "it has sent this host on")
        assert kept.seeking, "there it is, somebody has said"
        kept.down(target, "no answer")
        assert not kept.seeking
    one = links(short, LISTED[:1])
    assert not one.seeking
    one.sent_on("10.7.7.7:1")
    assert one.seeking
    one.up("10.7.7.7:1")
    assert not one.seeking


def test_the_boot_gate_waits_for_a_collector_that_may_still_be_found(side, monkeypatch):
    """The members may say that they follow this host while one of them is made its successor."""
    runner, asked = Runner(side, FakeLink(), collectors=LISTED), []
    monkeypatch.setattr(link_file.boot_findings, "put", lambda *_: None)
    monkeypatch.setattr(runner._gate_watch, "turn", lambda connected: asked.append(connected))
    runner._watch_gate()
    for address in LISTED:
        runner._frame(DOWN, about(address, "no answer"))
    runner._watch_gate()
    runner._frame(UP, numbered(1, LISTED[0].encode()))
    runner._watch_gate()
    runner._frame(FROM_COLLECTOR, pb.CollectorMessage(elsewhere=word(LISTED[1])).SerializeToString())
    runner._frame(DOWN, about(LISTED[0], "it has sent this host on"))
    runner._watch_gate()
    runner._frame(DOWN, about(LISTED[1], "no answer"))
    runner._watch_gate()
    assert asked == [True, False, True, True, False]


def test_each_stream_is_asked_about_the_gate_at_once(side):
    runner = Runner(side, FakeLink())
    runner._next_question = 99999999
    runner._frame(UP, numbered(1))
    assert runner._next_question == 0


def test_a_list_of_one_is_said_without_its_address(short):
    kept = links(short, LISTED[:1])
    kept.down(LISTED[0], "connection refused")
    assert kept.why == "connection refused" == kept.said(LISTED[0], "connection refused")
