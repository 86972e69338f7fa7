"""Who holds the collector's certificate, or the link side, commands nothing: over real TLS, with real processes."""

import os
import sys
import uuid

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.dom0.system import order_key
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.host_port import PinnedKey, PinnedKeys
from poolwarden_agent.process.link_process import LinkProcess
from poolwarden_agent.process.pipe import MESSAGE, Frames, unnumbered
from poolwarden_agent.process.runner import Runner

from .fake_port import FakePort, order
from .fake_xapi import FakeXapi, answers
from .test_signed import OTHER_PUBLIC, OTHER_SECRET, PUBLIC, sealed_order
from .tree import HOST, OTHER, POOL, until

pytestmark = [pytest.mark.needs("openssl"), pytest.mark.slow]

SETTINGS = pb.Settings(report_interval_ms=500, probe_interval_ms=500, probe_timeout_ms=300)


def made(agent, stream, **kind):
    """An order that every gate lets pass: whoever sends it knows all that there is to know."""
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


def result_of(stream, given):
    return stream.wait("order_result", lambda r: r.order_id == given.order_id)


@pytest.fixture
def pinned(agent, collector):
    """The running agent has pinned a key; its stream. The collector has the real certificate."""
    order_key.pin(str(agent.tree.root), [PUBLIC])
    agent.tree.systemctl("exit 0")
    agent.start()
    stream = collector.stream()
    assert stream.messages[0].hello.order_key_id == order_key.key_id(PUBLIC)
    assert "signed_orders" in stream.messages[0].hello.capabilities
    return stream


def test_a_stolen_collectors_certificate_without_its_order_key_can_do_nothing(agent, collector, pinned):
    stream, before = pinned, agent.tree.text("etc/xensource/pool.conf")
    kinds = [
        {"claim": pb.Claim()},
        {"restart_xapi": pb.RestartXapi(as_master_ok=True)},
        {"repoint": pb.Repoint(master_address="127.0.9.9")},
        {"set_tombstone": pb.SetTombstone(successor_uuid=OTHER, successor_address="127.0.9.9")},
        {"toolstack_fence": pb.ToolstackFence()},
        {"probe_now": pb.ProbeNow(targets=[pb.ProbeTarget(host_uuid=OTHER, address="127.0.9.9")])},
        {"read_database": pb.ReadDatabase()},
    ]
    for kind in kinds:
        unsigned = made(agent, stream, **kind)
        collector.send(stream, order=unsigned)
        assert result_of(stream, unsigned).reason == "unsigned"
        own_key = made(agent, stream, **kind)
        collector.send(stream, signed=sealed_order(own_key, secret=OTHER_SECRET, public=OTHER_PUBLIC).signed)
        assert result_of(stream, own_key).reason == "bad-signature"
        under_its_name = made(agent, stream, **kind)
        collector.send(stream, signed=sealed_order(under_its_name, secret=OTHER_SECRET).signed)
        assert result_of(stream, under_its_name).reason == "bad-signature"
    collector.send(stream, welcome=pb.Welcome(epoch=9, settings=SETTINGS))
    collector.send(stream, challenge=pb.Challenge(nonce="after"))
    stream.wait("challenge_answer", lambda a: a.nonce == "after")
    assert agent.tree.text("etc/xensource/pool.conf") == before and agent.tree.calls() == []
    agent.kill()
    agent.start()
    hello = collector.stream(1).messages[0].hello
    assert (hello.highest_epoch, hello.highest_term, list(hello.last_results)) == (0, 0, [])
    assert "refused order: " in agent.said() and "refused welcome: " in agent.said()


def test_what_was_signed_for_something_else_or_was_tampered_with_is_refused(agent, collector, pinned):
    stream = pinned
    for change in (
        {"host_uuid": OTHER},
        {"pool_uuid": OTHER},
        {"boot_id": "the one before"},
        {"valid_for_ms": 1, "echo_mono_ms": 1},
        {"epoch": 2},
    ):
        given = made(agent, stream, claim=pb.Claim())
        collector.send(stream, signed=sealed_order(given, **change).signed)
        assert result_of(stream, given).reason == "bad-signature", change
    given = made(agent, stream, claim=pb.Claim())
    tampered = sealed_order(given).signed
    tampered.payload = tampered.payload.replace(given.order_id.encode(), str(uuid.uuid4()).encode())
    collector.send(stream, signed=tampered)
    stream.result(lambda r: r.reason == "bad-signature")
    for field, reason in (("boot_id", "wrong-boot"), ("valid_for_ms", "expired")):
        replayed = made(agent, stream, claim=pb.Claim())
        setattr(replayed, field, "the one before" if field == "boot_id" else 1)
        if field == "valid_for_ms":
            replayed.echo_mono_ms = 1
        collector.send(stream, signed=sealed_order(replayed).signed)
        assert result_of(stream, replayed).reason == reason
    good = made(agent, stream, claim=pb.Claim())
    collector.send(stream, signed=sealed_order(good).signed)
    assert result_of(stream, good).outcome == pb.OrderResult.DONE


def test_with_the_key_three_hundred_orders_are_ten_changes(agent, collector, pinned):
    agent.tree.put("etc/xensource/pool.conf", "slave:127.0.9.8")
    stream, xapi = pinned, FakeXapi(agent.tree.path("var/lib/xcp/xapi"))
    xapi.logs_in()
    xapi.behaviours["pool.emergency_reset_master"] = answers("")
    try:
        agent.tree.xapi_runs(os.getpid())
        for _ in range(10):
            batch = [made(agent, stream, repoint=pb.Repoint(master_address="127.0.9.9")) for _ in range(30)]
            for given in batch:
                collector.send(stream, signed=sealed_order(given).signed)
            result_of(stream, batch[-1])
        until(lambda: len(stream.of("order_result")) >= 300, 60, "an answer to each")
        reasons = [result.reason for result in stream.of("order_result")]
        assert reasons.count("too-many") == 290
        assert xapi.methods().count("pool.emergency_reset_master") == 10
        claim = made(agent, stream, claim=pb.Claim())
        collector.send(stream, signed=sealed_order(claim).signed)
        assert result_of(stream, claim).outcome == pb.OrderResult.DONE, "a claim is never limited"
    finally:
        xapi.close()


FORGER = """
import socket, struct, sys
pipe = socket.socket(fileno=int(sys.argv[-1]))
frame = lambda verb, payload: struct.pack("!cI", verb, len(payload)) + payload
pipe.sendall(frame(b"U", struct.pack("!I", 1)))
for data in open(%r).read().split():
    pipe.sendall(frame(b"C", bytes.fromhex(data)))
while True:
    data = pipe.recv(65536)
    if not data:
        break
    with open(%r, "ab") as said:
        said.write(data)
"""


def told(path):
    """What the host side has said on the pipe so far."""
    found = Frames().feed(path.read_bytes()) if path.exists() else []
    return [pb.AgentMessage.FromString(unnumbered(payload)[1]) for verb, payload in found if verb == MESSAGE]


def test_a_compromised_link_side_forges_no_order(short):
    """It owns the pipe and may say whatever it likes on it: the host side, root's, verifies by itself."""
    port = FakePort()
    port.order_keys = lambda: PinnedKeys((PinnedKey(PUBLIC, order_key.key_id(PUBLIC)),), "")
    port.signature_fits = order_key.fits
    given = order(port, "forged", promote=pb.Promote())
    forged = [
        pb.CollectorMessage(order=given),
        sealed_order(given, secret=OTHER_SECRET),
        sealed_order(given, secret=OTHER_SECRET, public=OTHER_PUBLIC),
        pb.CollectorMessage(welcome=pb.Welcome(epoch=99)),
        pb.CollectorMessage(gate_answer=pb.GateAnswer(boot_id="boot-1", decision=pb.GateAnswer.OPEN, epoch=99)),
        pb.CollectorMessage(challenge=pb.Challenge(nonce="last")),
    ]
    (short / "frames").write_text("\n".join(bytes(m.SerializeToString()).hex() for m in forged))
    (short / "forger.py").write_text(FORGER % (str(short / "frames"), str(short / "said")))
    side, link = HostSide(port, "3.6.8"), LinkProcess([sys.executable, str(short / "forger.py")])
    runner = Runner(side, link)
    try:

        def answered():
            runner._turn()
            return [m for m in told(short / "said") if m.challenge_answer.nonce == "last"]

        until(answered, what="the answer to the last of what was forged")
    finally:
        link.stop(1.0)
    reasons = [m.order_result.reason for m in told(short / "said") if m.WhichOneof("body") == "order_result"]
    assert reasons == ["unsigned", "bad-signature", "bad-signature"]
    assert runner._orders.empty() and port.acts == []
    assert (side.executor.state.epoch, side.executor.state.term) == (0, 0)
