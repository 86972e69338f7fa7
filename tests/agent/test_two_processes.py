"""The real agent, both processes, against a collector over mutual TLS."""

import os
import uuid
from pathlib import Path

import pytest

from poolwarden.v1 import agent_link_pb2 as pb

from . import tree as trees
from .collector import Collector
from .conftest import configure
from .tree import HOST, POOL, until

pytestmark = pytest.mark.needs("openssl")


def order(agent, stream, **kind):
    """An order that the gate lets pass, on the clock of the stream's last message."""
    return pb.Order(
        order_id=str(uuid.uuid4()),
        epoch=1,
        term=1,
        pool_uuid=POOL,
        host_uuid=HOST,
        boot_id=agent.tree.text("proc/sys/kernel/random/boot_id").strip(),
        echo_mono_ms=stream.messages[-1].mono_ms,
        valid_for_ms=60000,
        **kind
    )


def test_it_says_hello_reports_in_full_and_then_what_changed(agent, collector):
    agent.start()
    stream = collector.stream()
    assert stream.messages[0].WhichOneof("body") == "hello"
    assert [m.sequence for m in stream.messages[:2]] == [1, 2]
    hello = stream.messages[0].hello
    assert (hello.host_uuid, hello.pool_uuid, hello.management_address) == (HOST, POOL, "127.0.9.1")
    assert hello.machine.system_uuid == "dmi-1"
    assert b"poolwarden://host/" + HOST.encode() in stream.uris
    first = stream.messages[1].report
    assert first.full and first.role.master_address == "127.0.9.9" and first.database.generation == 42
    assert len(first.disks.disks) == 2 and first.memory.total_bytes == 4000 * 1024
    agent.tree.put("etc/xensource/pool.conf", "master")
    changed = stream.wait("report", lambda r: r.HasField("role") and r.role.pool_conf == pb.RoleFacts.MASTER)
    assert not changed.full and not changed.HasField("software") and not changed.HasField("database")
    assert changed.freshness.host_mono_ms > first.freshness.host_mono_ms


def test_goodbye_on_sigterm(agent, collector):
    agent.start()
    stream = collector.stream()
    link = until(agent.link_pid)
    assert agent.stop() == 0, agent.said()
    assert [g.reason for g in stream.of("goodbye")] == [pb.Goodbye.AGENT_STOP]
    assert not Path("/proc/%d" % link).exists()


def test_a_killed_agent_says_no_goodbye_and_leaves_no_link_side(agent, collector):
    agent.start()
    stream = collector.stream()
    link = until(agent.link_pid)
    agent.kill()
    until(lambda: not Path("/proc/%d" % link).exists(), what="the link side's end")
    until(lambda: stream.ended)
    assert stream.of("goodbye") == []


def test_it_comes_back_when_the_collector_does(agent, collector, certificates):
    agent.start()
    collector.stream()
    collector.stop()
    until(lambda: "not connected" in agent.said())
    again = Collector(certificates, collector.port).start()
    stream = again.stream(limit_s=20)
    assert stream.messages[0].WhichOneof("body") == "hello" and stream.messages[0].sequence == 1
    assert stream.messages[1].report.full
    assert agent.stop() == 0
    again.stop()


def test_another_link_side_is_started_and_the_host_side_lives_on(agent, collector):
    agent.start()
    collector.stream()
    first = until(agent.link_pid)
    os.kill(first, 9)
    stream = collector.stream(1)
    assert stream.messages[0].WhichOneof("body") == "hello"
    assert agent.link_pid() not in (0, first)
    assert agent.process.poll() is None


def test_a_collector_that_refuses_is_not_hammered(agent, collector):
    agent.start()
    for number in range(3):
        collector.send(collector.stream(number))
    until(lambda: "go away" in agent.said())


def test_a_strangers_collector_is_not_believed(tree, certificates, short):
    other = short / "c"
    other.mkdir()
    trees.authority(other)
    trees.certificate(other, "collector", "DNS:collector")
    stranger = Collector(other).start()
    trees.give_certificates(tree, certificates)
    configure(tree, stranger.port)
    agent = trees.Agent(tree).start()
    until(lambda: "not connected" in agent.said())
    assert stranger.streams == []
    assert agent.stop() == 0
    stranger.stop()


def test_the_host_side_has_no_grpc_in_it(agent, collector):
    agent.start()
    collector.stream()
    assert "cygrpc" not in Path("/proc/%d/maps" % agent.pid).read_text()
    assert "cygrpc" in Path("/proc/%d/maps" % agent.link_pid()).read_text()


def test_a_claim_is_answered_over_the_wire(agent, collector):
    agent.start()
    stream = collector.stream()
    claim = pb.Claim(old_master=pb.ProbeTarget(host_uuid="m", address="127.0.9.9"), want_placements=True)
    collector.send(stream, order=order(agent, stream, claim=claim))
    result = stream.wait("order_result")
    assert result.outcome == pb.OrderResult.DONE and result.term == 1, result
    assert result.claim.last_look.outcome == pb.Probe.REFUSED and not result.claim.veto
    assert result.claim.placements.readable


def test_an_epoch_and_term_survive_kill_9(agent, collector):
    agent.start()
    stream = collector.stream()
    sent = order(agent, stream, claim=pb.Claim())
    sent.term = 5
    collector.send(stream, order=sent)
    stream.wait("order_result")
    agent.kill()
    agent.start()
    hello = collector.stream(1).messages[0].hello
    assert (hello.highest_epoch, hello.highest_term) == (1, 5)
    assert [(r.kind, r.order_id) for r in hello.last_results] == [("claim", sent.order_id)]
