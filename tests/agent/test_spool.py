"""The spool: what happens while no collector listens is bounded, kept in order, and told as what it is: late."""

import random

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import host_now, probe_rules
from poolwarden_agent.core.spool import BATCH, EVENT, Item, Spool
from poolwarden_agent.host.offline_log import AWAY_MS, SAMPLE_EVERY_MS
from poolwarden_agent.host_port import Emergency

COST = Item(0, EVENT, "k", b"0123").cost


def everything(spool):
    """All that is told, batch by batch, on one stream."""
    found = []
    while True:
        batch = spool.batch()
        if not batch:
            return found
        found += batch


def test_in_order_and_once():
    spool = Spool()
    for number in range(3 * BATCH):
        if number % 3:
            spool.sample(number, b"s")
        else:
            spool.event(number, "xapi", "e%d" % number)
    told = everything(spool)
    assert [item.at_ms for item in told] == list(range(3 * BATCH))
    assert len(spool) == 0 and spool.size_bytes == 0 and everything(spool) == []


def test_samples_go_before_events_and_the_oldest_first():
    spool = Spool(10 * COST)
    for number in range(6):
        spool.event(number, "k", "%04d" % number)
        spool.sample(100 + number, b"01234")
    kept = everything(spool)
    assert [i.at_ms for i in kept if i.what == EVENT] == list(range(6)), "no event was lost"
    assert [i.at_ms for i in kept if i.what != EVENT] == [102, 103, 104, 105]
    assert sum(item.dropped for item in kept) == 2


def test_events_go_when_no_sample_is_left():
    spool = Spool(4 * COST)
    for number in range(10):
        spool.event(number, "k", "%04d" % number)
    kept = everything(spool)
    assert [item.at_ms for item in kept] == [6, 7, 8, 9] and kept[0].dropped == 6


def test_the_bound_holds_whatever_comes():
    drawn = random.Random(7)
    spool, given, told = Spool(5000), 0, 0
    for number in range(5000):
        if drawn.random() < 0.5:
            spool.event(number, "k", "x" * drawn.randrange(400))
        else:
            spool.sample(number, b"y" * drawn.randrange(6000))
        given += 1
        assert spool.size_bytes <= 5000
        if drawn.random() < 0.05:
            told += sum(1 + item.dropped for item in spool.batch())
    rest = everything(spool)
    told += sum(1 + item.dropped for item in rest)
    assert given - told <= 1, "each one was told or counted as lost (one loss may still be waiting for a successor)"


def test_a_batch_comes_back_with_its_stream_and_keeps_its_place():
    spool = Spool()
    for number in range(2 * BATCH):
        spool.event(number, "k", "x")
    first = spool.batch()
    spool.again()
    spool.event(999, "k", "x")
    assert spool.batch() == first
    assert [item.at_ms for item in everything(spool)] == list(range(BATCH, 2 * BATCH)) + [999]


# ------------------------------------------------------------------------------------------ the host side


def alone(port, side, ms, step=2000):
    """Nobody listens for so long."""
    end = port.now + ms
    while port.now < end:
        port.now += step
        side.observer.look_at_xapi(False, 5000)
        side.conversation.nobody_listens("the cable")


def told(side):
    """Late messages of all batches."""
    found = []
    while True:
        batch = side.conversation.late()
        if not batch:
            return [message.late for message in found]
        found += batch


def test_a_short_break_is_nothing_to_tell_of(port, side):
    side.conversation.link_up()
    alone(port, side, AWAY_MS)
    side.conversation.link_up()
    assert told(side) == []


def test_what_happened_meanwhile_is_told_in_order_with_its_age(port, side):
    side.conversation.link_up()
    side.observer.look_at_xapi(False, 5000)
    alone(port, side, 60000)
    port.tcp, port.flag = probe_rules.REFUSED, Emergency(probe_rules.REFUSED, None, "")
    port.xapi = host_now.NO_PROCESS
    alone(port, side, 60000)
    port.conf = (host_now.MASTER, "")
    port.free = 4 * 10**8
    alone(port, side, 60000)
    port.now += 5000
    side.conversation.link_up()
    late = told(side)
    events = [(item.event.kind, item.event.text) for item in late if item.WhichOneof("item") == "event"]
    assert events == [
        ("link", "the collector is out of reach: the cable"),
        ("xapi", "xapi: down"),
        ("disk", "/ is critical"),
        ("role", "pool.conf says master"),
        ("link", "the collector is reached again"),
    ]
    assert [item.mono_ms for item in late] == sorted(item.mono_ms for item in late)
    assert all(item.age_ms == port.now - item.mono_ms and item.boot_id == "boot-1" for item in late)
    samples = [item.sample for item in late if item.WhichOneof("item") == "sample"]
    assert 170000 // SAMPLE_EVERY_MS <= len(samples) <= 180000 // SAMPLE_EVERY_MS + 1
    assert samples[0].running_vms == 1 and samples[-1].root_free_bytes == 4 * 10**8 and samples[-1].xapi == "down"


@pytest.mark.slow
def test_days_alone_stay_within_the_bound(port, side):
    side.conversation.link_up()
    for number in range(3000):
        port.free = 10**9 * (1 + number % 9)
        alone(port, side, 60000, step=60000)
    assert side.conversation._offline.spool.size_bytes <= 256 * 1024
    side.conversation.link_up()
    late = told(side)
    assert sum(item.dropped for item in late) > 0 and late[-1].event.text == "the collector is reached again"
    assert sum(item.ByteSize() for item in late) < 400 * 1024


def test_late_messages_are_numbered_as_all_others_and_follow_a_report(port, side):
    side.conversation.link_up()
    alone(port, side, 30000)
    first = side.conversation.link_up()
    messages = first + [side.conversation.report()] + side.conversation.late()
    assert [message.sequence for message in messages] == list(range(1, len(messages) + 1))
    assert messages[-1].WhichOneof("body") == "late" and isinstance(messages[-1], pb.AgentMessage)


def test_a_stream_that_ends_in_the_middle_loses_nothing(port, side):
    side.conversation.link_up()
    for number in range(400):
        port.free = 10**9 * (1 + number % 9)
        alone(port, side, 20000, step=20000)
    side.conversation.link_up()
    before = [message.late.mono_ms for message in side.conversation.late()]
    assert len(before) == BATCH
    side.conversation.link_up()
    assert [message.late.mono_ms for message in side.conversation.late()] == before
