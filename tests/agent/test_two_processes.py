"""The real agent, both processes, against a collector over mutual TLS."""

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from poolwarden.v1 import agent_link_pb2 as pb

from . import tree as trees
from .collector import Collector
from .conftest import configure
from .fake_xapi import EMERGENCY, LOGIN, FakeXapi
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
        **kind,
    )


@pytest.mark.slow
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


@pytest.mark.slow
def test_goodbye_on_sigterm(agent, collector):
    agent.start()
    stream = collector.stream()
    link = until(agent.link_pid)
    assert agent.stop() == 0, agent.said()
    assert [g.reason for g in stream.of("goodbye")] == [pb.Goodbye.AGENT_STOP]
    assert not Path("/proc/%d" % link).exists()


@pytest.mark.slow
def test_a_killed_agent_says_no_goodbye_and_leaves_no_link_side(agent, collector):
    agent.start()
    stream = collector.stream()
    link = until(agent.link_pid)
    agent.kill()
    until(lambda: not Path("/proc/%d" % link).exists(), what="the link side's end")
    until(lambda: stream.ended)
    assert stream.of("goodbye") == []


@pytest.mark.slow
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


@pytest.mark.slow
def test_another_link_side_is_started_and_the_host_side_lives_on(agent, collector):
    agent.start()
    collector.stream()
    first = until(agent.link_pid)
    os.kill(first, 9)
    stream = collector.stream(1)
    assert stream.messages[0].WhichOneof("body") == "hello"
    assert agent.link_pid() not in (0, first)
    assert agent.process.poll() is None


@pytest.mark.slow
def test_a_collector_that_refuses_is_not_hammered(agent, collector):
    agent.start()
    for number in range(3):
        collector.send(collector.stream(number))
    until(lambda: "go away" in agent.said())


@pytest.mark.slow
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
    assert "not of the authority in ca.pem" in agent.said() and len(agent.said().splitlines()) == 1
    assert stranger.streams == []
    assert agent.stop() == 0
    stranger.stop()


@pytest.mark.slow
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


@pytest.mark.slow
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


# ---------------------------------------------------------------------------------------------- everything hangs


@pytest.fixture
def hung(tree):
    """A xapi and a xenstored that accept and never answer."""
    import socket

    xapi = FakeXapi(tree.path("var/lib/xcp/xapi"))
    xapi.logs_in()
    xapi.behaviours[EMERGENCY] = xapi.hangs
    web = FakeXapi()
    web.behaviours = dict.fromkeys(["system.isAlive:poolwarden", LOGIN], web.hangs)
    (tree.root / "var/run/xenstored").mkdir(parents=True)
    store = socket.socket(socket.AF_UNIX)
    store.bind(tree.path("var/run/xenstored/socket"))
    store.listen(50)
    tree.xapi_runs(os.getpid())
    tree.put("var/run/xapi_startup.cookie", "")
    yield xapi, web
    for one in (xapi, web, store):
        one.close()


@pytest.mark.slow
def test_challenges_and_reports_go_on_while_xapi_and_xenstored_hang(agent, collector, hung):
    xapi, web = hung
    configure(agent.tree, collector.port, free_port=web.port)
    config = agent.tree.text("etc/poolwarden/agent.conf").replace("127.0.9.1:%d" % web.port, "127.0.0.1:%d" % web.port)
    agent.tree.put("etc/poolwarden/agent.conf", config)
    agent.start()
    stream = collector.stream()
    for number in range(8):
        sent = time.monotonic()
        collector.send(stream, challenge=pb.Challenge(nonce="n%d" % number))
        stream.wait("challenge_answer", lambda a, n=number: a.nonce == "n%d" % n)
        assert time.monotonic() - sent < 8
        time.sleep(0.2)  # over some seconds of hanging calls
    silent = stream.wait("report", lambda r: r.xapi.socket_liveness == pb.XapiFacts.SILENT, 15)
    assert silent.xapi.liveness == pb.XapiFacts.SILENT
    stamps = [m.mono_ms for m in stream.messages if m.WhichOneof("body") == "report"]
    assert max(b - a for a, b in zip(stamps, stamps[1:])) < 1500
    assert not any(r.domains.readable for r in stream.of("report"))
    assert xapi.methods().count(EMERGENCY) == 1, "one call in flight, however long it hangs"
    before = os.listdir("/proc/%d/fd" % agent.pid), os.listdir("/proc/%d/task" % agent.pid)
    time.sleep(3)
    after = os.listdir("/proc/%d/fd" % agent.pid), os.listdir("/proc/%d/task" % agent.pid)
    assert len(after[0]) <= len(before[0]) + 2 and len(after[1]) <= len(before[1])
    assert LOGIN not in xapi.methods(), "never an ordinary login on a member"
    assert agent.stop() == 0


@pytest.mark.slow
def test_a_frozen_link_side_is_replaced_and_the_host_side_stops_in_time(agent, collector):
    agent.start()
    collector.stream()
    agent.freeze(until(agent.link_pid))
    assert agent.stop() == 0, "a link side that does not read does not keep it from stopping"


# ---------------------------------------------------------------------------------------------- restart, once


@pytest.fixture
def xapis(tree):
    """Starts processes that stand for xapi; ended afterwards."""
    started = []

    def start():
        started.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        tree.xapi_runs(started[-1].pid)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_restart_xapi_exactly_once_over_kill_9_and_redelivery(agent, collector, xapis):
    agent.tree.systemctl("while [ ! -e $ROOT/go ]; do sleep 0.02; done")
    xapis()
    agent.start()
    stream = collector.stream()
    sent = order(agent, stream, restart_xapi=pb.RestartXapi())
    collector.send(stream, order=sent)
    until(agent.tree.calls)
    agent.kill()  # systemctl goes on without us
    agent.start()
    again = collector.stream(1)
    collector.send(again, order=sent)
    collector.send(again, challenge=pb.Challenge(nonce="n"))
    again.wait("challenge_answer")
    xapis()
    agent.tree.put("go", "")
    result = again.wait("order_result")
    assert (result.outcome, result.order_id) == (pb.OrderResult.DONE, sent.order_id)
    collector.send(again, order=sent)
    assert again.wait("order_result", lambda r: r.replayed).outcome == pb.OrderResult.DONE
    agent.kill()
    agent.start()
    third = collector.stream(2)
    assert [r.order_id for r in third.messages[0].hello.last_results] == [sent.order_id]
    collector.send(third, order=sent)
    assert third.wait("order_result").replayed
    assert agent.tree.calls() == ["restart xapi.service"]


@pytest.mark.slow
def test_a_restart_that_ended_while_we_were_dead_is_not_repeated(agent, collector, xapis):
    agent.tree.systemctl("while [ ! -e $ROOT/go ]; do sleep 0.02; done")
    xapis()
    agent.start()
    stream = collector.stream()
    sent = order(agent, stream, restart_xapi=pb.RestartXapi())
    collector.send(stream, order=sent)
    until(agent.tree.calls)
    agent.kill()
    xapis()
    agent.tree.put("go", "")
    agent.start()
    again = collector.stream(1)
    collector.send(again, order=sent)
    result = again.wait("order_result")
    assert result.outcome == pb.OrderResult.DONE and "already" in result.text
    assert agent.tree.calls() == ["restart xapi.service"]


# ---------------------------------------------------------------------------------------------- odd surroundings


def test_without_room_for_its_state_it_reports_and_refuses(agent, collector):
    agent.tree.put("var/lib/poolwarden", "in the way")
    agent.start()
    stream = collector.stream()
    collector.send(stream, order=order(agent, stream, claim=pb.Claim()))
    result = stream.wait("order_result")
    assert (result.outcome, result.reason) == (pb.OrderResult.REFUSED, "storage")
    os.unlink(agent.tree.path("var/lib/poolwarden"))
    collector.send(stream, order=order(agent, stream, claim=pb.Claim()))
    assert stream.wait("order_result", lambda r: r.outcome == pb.OrderResult.DONE)


@pytest.mark.slow
def test_without_pool_conf_database_and_pid_it_still_reports(agent, collector):
    for path in ("etc/xensource/pool.conf", "var/lib/xcp/state.db", "var/lib/xcp/local.db", "proc/meminfo"):
        os.unlink(agent.tree.path(path))
    agent.start()
    first = collector.stream().messages[1].report
    assert first.role.pool_conf == pb.RoleFacts.BROKEN  # as to xapi, where the file is gone
    assert first.database.ha_armed == pb.TRISTATE_UNSPECIFIED and first.database.generation == 0


DAMAGED = (
    "Apr 30 20:26:41 h1 xapi: [debug||0 |server_init D:ab|xapi] (Re)starting xapi, pid: %(pid)d\n"
    "Apr 30 20:26:41 h1 xapi: [debug||0 |server_init D:ab|startup] task [starting up database engine]\n"
    "Apr 30 20:26:42 h1 xapi: [error||0 ||backtrace] Xapi.watchdog failed with exception "
    'Xmlm.Error(1:1, "expected root element")\n'
)


@pytest.mark.slow
def test_a_xapi_that_ends_is_reported_with_its_cause_and_an_order_has_it_looked_at_anew(agent, collector):
    tree = agent.tree
    tree.xapi_runs(os.getpid())
    agent.start()
    stream = collector.stream()
    stream.wait("report", lambda r: r.HasField("xapi") and r.xapi.pid == os.getpid())
    tree.put("var/log/xensource.log", DAMAGED % {"pid": os.getpid()})
    os.unlink(str(tree.path("var/run/xapi.pid")))
    told = stream.wait("report", lambda r: r.HasField("xapi_trouble") and r.xapi_trouble.cause).xapi_trouble
    assert told.cause == "database" and told.ended_mono_ms and len(told.lines) == 1
    # What is wrong is another thing now, and somebody asks.
    tree.put("var/log/xensource.log", (DAMAGED % {"pid": 5}).split("\n")[0] + "\n")
    tree.put("etc/xensource/xapi_block_startup", "")
    tree.put("etc/xensource/boot_time_info_updated", "")
    wanted = order(agent, stream, collect_evidence=pb.CollectEvidence(want_xapi_trouble=True))
    collector.send(stream, order=wanted)
    result = stream.wait("order_result", lambda r: r.order_id == wanted.order_id)
    assert result.outcome == pb.OrderResult.DONE and result.xapi_trouble.cause == "start-blocked"
