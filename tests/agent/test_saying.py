"""What the host side says: Hello, full and delta reports, challenges; and how it learns which pool it is in."""

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import host_now
from poolwarden_agent.host.conversation import DEFAULTS, Conversation
from poolwarden_agent.host.host_side import HostSide

from .fake_port import KINDS, FakePort, obey, order
from .tree import POOL


def test_hello_says_what_is_durable(port, side):
    obey(side, order(port, fields={"epoch": 4, "term": 7}, **KINDS["tombstone"]))
    hello = HostSide(port, "3.6.8").conversation.link_up()[0].hello
    assert (hello.highest_epoch, hello.highest_term, hello.tombstone.term) == (4, 7, 7)
    assert [r.order_id for r in hello.last_results] == ["o1"]
    assert hello.protocol_version == 1 and hello.python_version == "3.6.8"
    assert "promote" in hello.capabilities and hello.management_address == "10.0.0.5"


def test_a_stream_begins_with_hello_and_a_full_report(port, side):
    hello, full = side.conversation.link_up()
    assert (hello.sequence, full.sequence) == (1, 2) and full.report.full
    assert full.report.HasField("tombstone") and full.report.tombstone.term == 0
    side.conversation.report()
    assert [m.sequence for m in side.conversation.link_up()] == [1, 2], "each stream counts from 1"


def test_each_conversation_is_told_everything_once(port, side):
    """A second one has its own sequence and its own news; executor, observer and boot gate are the same."""
    one = side.conversation
    other = Conversation(port, side.observer, side.executor, side.boot, one._sections, lambda: None)
    one.link_up()
    one.report()
    hello, full = other.link_up()
    assert (hello.sequence, full.sequence) == (1, 2) and full.report.full
    port.free = 5
    for conversation in (one, other):
        assert conversation.report().report.HasField("disks")
        assert not conversation.report().report.HasField("disks")
    one.receive(pb.CollectorMessage(settings=pb.Settings(report_interval_ms=9000)))
    assert (one.settings.report_interval_ms, other.settings) == (9000, DEFAULTS)
    other.receive(pb.CollectorMessage(welcome=pb.Welcome(epoch=6)))
    assert one.link_up()[0].hello.highest_epoch == 6, "what is durable is the host's"


def test_later_reports_hold_what_changed(port, side):
    side.conversation.link_up()
    quiet = side.conversation.report().report
    assert [f.name for f, _ in quiet.ListFields()] == ["freshness"]
    port.free, port.address = 5, "10.0.0.6"
    changed = side.conversation.report().report
    assert [f.name for f, _ in changed.ListFields()] == ["freshness", "disks", "management_address", "marks"]
    assert side.conversation.receive(pb.CollectorMessage(full_report_request=pb.FullReportRequest()))[0][0].report.full


def test_growing_older_is_no_news(port, side):
    side.observer.look_at_xapi(True, 5000)
    side.conversation.link_up()
    port.now += 2000
    side.observer.look_at_xapi(True, 5000)
    report = side.conversation.report().report
    assert not report.HasField("xapi") and report.freshness.xapi_mono_ms == port.now


def test_a_lost_address_is_reported(port, side):
    side.conversation.link_up()
    port.address = ""
    assert side.conversation.report().report.management_address == ""
    port.address = "10.0.0.7"
    assert side.conversation.report().report.management_address == "10.0.0.7"


def test_a_challenge_is_answered_at_once(port, side):
    answers, work = side.conversation.receive(pb.CollectorMessage(challenge=pb.Challenge(nonce="n")))
    assert work is None and answers[0].challenge_answer == pb.ChallengeAnswer(nonce="n", boot_id="boot-1")


def test_an_empty_message_is_ignored(side):
    assert side.conversation.receive(pb.CollectorMessage()) == ([], None)


@pytest.mark.parametrize(
    "given, expected",
    [
        (pb.Settings(), DEFAULTS._replace(view_wanted=False)),
        (
            pb.Settings(report_interval_ms=1, probe_interval_ms=1, probe_timeout_ms=1, pool_view_interval_ms=1),
            (500, 500, 200, False, 2000),
        ),
        (
            pb.Settings(
                report_interval_ms=2**31, probe_interval_ms=2**31, probe_timeout_ms=2**31, pool_view_interval_ms=2**31
            ),
            (60000, 60000, 10000, False, 600000),
        ),
    ],
)
def test_settings_keep_within_their_ranges(side, given, expected):
    side.conversation.receive(pb.CollectorMessage(settings=given))
    assert tuple(side.conversation.settings) == tuple(expected)


# ---------------------------------------------------------------------------------------------- the pool


def test_the_pool_is_remembered_for_a_day_without_a_database(port, side):
    side.executor.remember()
    again = FakePort()
    again.saved, again.pool = port.saved, ""
    assert HostSide(again).conversation.link_up()[0].hello.pool_uuid == POOL
    points = list(port.points)
    side.executor.remember()
    assert port.points == points, "nothing is written when nothing changed"


def test_a_host_that_moves_to_another_pool_is_noticed(port, side):
    side.conversation.link_up()
    port.pool, port.source = "pool-2", ("var/lib/xcp/state.db", 7)
    side.conversation.report()
    assert side.executor.pool() == POOL, "the file is not parsed each time it changes"
    port.new_process()
    side.conversation.report()
    assert side.executor.pool() == "pool-2" != side.conversation.pool_said


def test_a_database_is_parsed_seldom(port, side):
    side.conversation.link_up()
    for number in range(200):
        port.now += 2000
        port.source = (port.source[0], 43 + number)
        side.conversation.report()
    assert port.parses == 2
    assert side.conversation.report(True).report.database.changed_mono_ms == port.now


def test_an_unknown_pool_is_looked_for_again(port, side):
    port.pool = ""
    assert side.conversation.link_up()[0].hello.pool_uuid == ""
    port.now += 30000
    side.conversation.report()
    port.pool = POOL
    side.conversation.report()
    assert side.executor.pool() == ""
    port.now += 30000
    side.conversation.report()
    assert side.executor.pool() == POOL


# ---------------------------------------------------------------------------------------------- domains, background


def test_an_unreadable_xenstore_is_not_an_empty_one(port, side):
    port.domain_list = None
    assert not side.conversation.report(True).report.domains.readable
    port.domain_list = []
    report = side.conversation.report().report
    assert report.domains.readable and not report.domains.vm_uuids


def test_in_the_background_nothing_is_read_for_a_report(port):
    side = HostSide(port, "3.6.8", background=True)
    side.conversation.link_up()
    seen_at = port.now
    port.now += 9000
    port.conf = (host_now.MASTER, "")

    def forbidden(*_arguments):
        raise AssertionError("a report must not wait for this")

    for name in ("role", "domains", "disks", "memory", "database", "generation", "ha_armed", "management_address"):
        setattr(port, name, forbidden)
    stale = side.conversation.report(True).report
    assert stale.role.pool_conf == pb.RoleFacts.MEMBER and stale.freshness.host_mono_ms == seen_at
    assert side.conversation.receive(pb.CollectorMessage(challenge=pb.Challenge(nonce="n")))[0]


def test_the_next_hello_tells_the_highest_epoch_that_has_welcomed_it(port, side):
    side.conversation.receive(pb.CollectorMessage(welcome=pb.Welcome(epoch=9)))
    side.conversation.receive(pb.CollectorMessage(welcome=pb.Welcome(epoch=5)))
    assert HostSide(port, "3.6.8").conversation.link_up()[0].hello.highest_epoch == 9, "durable, and never lowered"


def test_an_epoch_that_cannot_be_stored_is_not_told(port, side):
    port.no_room = True
    side.conversation.receive(pb.CollectorMessage(welcome=pb.Welcome(epoch=9)))
    assert side.conversation.link_up()[0].hello.highest_epoch == 0
