"""The pipe between the two processes under fire: no input of the link side makes the host side crash, block or act
outside the verbs.

Three ways: bytes at the frame cutter, messages made at random from the contract's own descriptors at a host side whose
every call to the host is watched, and real hostile processes as link side. All seeded: what fails, fails again.
"""

import random
import sys
import threading
import time
from types import FunctionType

import pytest
from google.protobuf.descriptor import FieldDescriptor as Field

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import addresses, host_now, order_kinds
from poolwarden_agent.core.probe_rules import MOST_TARGETS
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.process import log
from poolwarden_agent.process import runner as module
from poolwarden_agent.process.link_process import MOST_KEPT, LinkLost, LinkProcess
from poolwarden_agent.process.pipe import (
    FROM_COLLECTOR,
    LONGEST,
    MESSAGE,
    UP,
    Frames,
    PipeError,
    frame,
    numbered,
    unnumbered,
)
from poolwarden_agent.process.runner import MOST_ORDERS, Runner

from .fake_port import FakePort
from .test_runner import FakeLink
from .tree import HOST, OTHER, POOL, until

# What the host side may do to the host at all; everything else of the port is looking.
ACTS = {
    "promote": (int,),
    "repoint": (str, int),
    "restart_xapi": (int,),
    "write_member_conf": (str,),
    "stop_toolstack": (int,),
    "start_toolstack": (int,),
    "place_piece": (object, bytes, str),
    "remove_placed": (),
    "serve": (object, int, FunctionType),
    "save_state": (bytes,),
}
LONGEST_LIMIT_MS = 600000


# ------------------------------------------------------------------------------------------ bytes


def test_bytes_at_the_frame_cutter():
    for seed in range(300):
        drawn = random.Random(seed)
        frames, fed = Frames(), 0
        honest = b"".join(frame(bytes([drawn.randrange(256)]), _bytes(drawn, 200)) for _ in range(5))
        data = bytearray(honest + _bytes(drawn, 400))
        for _ in range(drawn.randrange(6)):
            data[drawn.randrange(len(data))] = drawn.randrange(256)
        try:
            while fed < len(data):
                step = drawn.randint(1, 50)
                for verb, payload in frames.feed(bytes(data[fed : fed + step])):
                    assert len(verb) == 1 and len(payload) <= LONGEST
                fed += step
        except PipeError as error:
            assert str(error)


def _bytes(drawn, most):
    return bytes(drawn.randrange(256) for _ in range(drawn.randrange(most)))


# ------------------------------------------------------------------------------------------ messages


TEXTS = [
    "", "x", HOST, OTHER, POOL, "boot-1", "10.0.0.1", "10.0.0.5", "::1", "127.0.0.1", "0.0.0.0", "localhost",
    "../../etc/passwd", "var/lib/xcp/state.db", "/etc/shadow", "%s%n%x", "a" * 5000, "\0", "\n\x1b[32m", "\u202e",
    "10.0.0.1; reboot", "$(reboot)", "nonce", "o-1", "o-2",
]  # fmt: skip
NUMBERS = [0, 1, 2, 3, 7, 80, 443, 1000, 5000, 2**16, 2**31 - 1, 2**32 - 1]
WIDE = NUMBERS + [100000, 99999, 100001, 2**53, 2**63, 2**64 - 1]


def drawn_message(drawn, message, depth=0):
    """Fill a message at random, with words that look right more often than chance would."""
    for field in message.DESCRIPTOR.fields:
        if drawn.random() < (0.3 if depth else 0.0):
            continue
        if field.containing_oneof is not None:
            continue
        _fill(drawn, message, field, depth)
    for oneof in message.DESCRIPTOR.oneofs:
        if drawn.random() < 0.95:
            _fill(drawn, message, drawn.choice(oneof.fields), depth)
    return message


def _fill(drawn, message, field, depth):
    repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == Field.LABEL_REPEATED
    if repeated:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[drawn.choice(TEXTS)] = drawn.choice(TEXTS)
            return
        target = getattr(message, field.name)
        for _ in range(drawn.choice([0, 1, 2, 5, 40])):
            if field.message_type is not None:
                drawn_message(drawn, target.add(), depth + 1)
            else:
                target.append(_value(drawn, field))
    elif field.message_type is not None:
        part = getattr(message, field.name)
        part.SetInParent()
        if depth < 5:
            drawn_message(drawn, part, depth + 1)
    else:
        setattr(message, field.name, _value(drawn, field))


def _value(drawn, field):
    kind = field.cpp_type
    if kind == Field.CPPTYPE_STRING:
        text = drawn.choice(TEXTS)
        return text.encode() if field.type == Field.TYPE_BYTES else text
    if kind == Field.CPPTYPE_BOOL:
        return drawn.random() < 0.5
    if kind == Field.CPPTYPE_ENUM:
        return drawn.choice([value.number for value in field.enum_type.values] + [99])
    if kind in (Field.CPPTYPE_DOUBLE, Field.CPPTYPE_FLOAT):
        return drawn.choice([0.0, -1.0, 1e300, float("inf"), float("nan")])
    if kind in (Field.CPPTYPE_INT64, Field.CPPTYPE_UINT64):
        number = drawn.choice(WIDE)
        return number - 2**64 if kind == Field.CPPTYPE_INT64 and number >= 2**63 else number
    number = drawn.choice(NUMBERS)
    return number - 2**32 if kind == Field.CPPTYPE_INT32 and number >= 2**31 else number


def plausible(drawn, order, port):
    """Often an order that the gate may let pass: what a link side that is not ours any more would send."""
    if drawn.random() < 0.8:
        order.order_id = "o-%d" % drawn.randrange(10**6)
        order.pool_uuid, order.host_uuid, order.boot_id = POOL, HOST, "boot-1"
        order.epoch = order.term = drawn.randint(1, 3)
        order.echo_mono_ms, order.valid_for_ms = port.now, 5000
        if drawn.random() < 0.8:
            order.ClearField("preconditions")
        body = getattr(order, order.WhichOneof("kind") or "claim")
        for name in ("master_address", "successor_address"):
            if hasattr(body, name) and drawn.random() < 0.7:
                setattr(body, name, drawn.choice(["10.0.0.2", "10.0.0.3", "fe80::1%eth0; reboot"]))
        for name in ("host_uuid", "vm_uuid", "successor_uuid"):
            if hasattr(body, name) and drawn.random() < 0.7:
                setattr(body, name, OTHER)
        if hasattr(body, "as_master_ok"):
            body.as_master_ok = True


class Watched(FakePort):
    """Notes each call that could change the host, and refuses to know any other."""

    def __init__(self):
        super(Watched, self).__init__()
        self.done = []

    def __getattribute__(self, name):
        value = super(Watched, self).__getattribute__(name)
        if name not in ACTS:
            return value

        def noted(*arguments):
            self.done.append((name, arguments))
            return value(*arguments)

        return noted


def check_acts(port):
    """Each act is one of the verbs, with arguments of their kinds, within its limits."""
    for name, arguments in port.done:
        assert len(arguments) == len(ACTS[name])
        for given, kind in zip(arguments, ACTS[name]):
            assert isinstance(given, kind), (name, given)
        limits = [given for given in arguments if isinstance(given, int)]
        assert all(0 < limit <= LONGEST_LIMIT_MS for limit in limits), (name, limits)
        if name in ("repoint", "write_member_conf"):
            assert addresses.is_address(arguments[0]), arguments
        if name == "serve":
            assert arguments[0].kind in order_kinds.SERVING
    names = [name for name, _ in port.done]
    del port.done[:]
    return names


def drained(runner):
    """Carry out every order that is waiting, as the thread for orders does."""
    while not runner._orders.empty():
        runner._one_order(runner._orders.get())
    until(lambda: not runner._slow._waiting, what="slow orders")
    runner._tell_results()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 12))])
def test_messages_at_random(seed, monkeypatch):
    monkeypatch.setattr(module, "LONGEST_SLEEP_S", 0.001)
    drawn, link, failures, acted = random.Random(seed), FakeLink(), [], set()
    say = log.say
    monkeypatch.setattr(log, "say", lambda text, topic="": (failures.append(text), say(text, topic)))
    for number in range(300):
        if number % 20 == 0:  # another host: what one order has done keeps others from passing
            port = Watched()
            port.conf = drawn.choice([(host_now.MASTER, ""), (host_now.MEMBER, "10.0.0.1"), (host_now.BROKEN, "")])
            runner = Runner(HostSide(port, "3.6.8", background=True), link)
            runner._look_at_host()
            runner._take(UP, numbered(1))
        message = drawn_message(drawn, pb.CollectorMessage())
        if drawn.random() < 0.7:
            message = pb.CollectorMessage(order=drawn_message(drawn, pb.Order(), 1))
        if message.WhichOneof("body") == "order":
            plausible(drawn, message.order, port)
        data = bytearray(message.SerializeToString())
        if number % 5 == 4 and data:
            for _ in range(drawn.randint(1, 4)):
                data[drawn.randrange(len(data))] = drawn.randrange(256)
        runner._take(FROM_COLLECTOR, bytes(data))
        drained(runner)
        acted.update(check_acts(port))
        port.now += drawn.choice([0, 1, 500, 3000])
        if number % 10 == 0:
            runner._turn()
    assert len(acted) >= 3, "many orders passed the gate: %s" % acted
    assert len(runner._conversation.targets) <= MOST_TARGETS
    assert runner._conversation.settings.report_interval_ms in range(500, 60001)
    broken = [text for text in failures if "Error:" in text and "SlotError" not in text]
    assert broken == [], broken[:3]
    answered(runner, link)


def answered(runner, link):
    """The host side still lives: it answers a challenge and makes a full report."""
    runner._take(UP, numbered(9))
    runner._take(FROM_COLLECTOR, pb.CollectorMessage(challenge=pb.Challenge(nonce="alive")).SerializeToString())
    stream, data = unnumbered(link.sent[-1][1])
    assert stream == 9 and pb.AgentMessage.FromString(data).challenge_answer.nonce == "alive"


def test_the_generator_reaches_every_kind_of_order():
    drawn, seen = random.Random(1), set()
    for _ in range(3000):
        message = drawn_message(drawn, pb.CollectorMessage())
        seen.add(message.WhichOneof("body"))
        seen.add(message.order.WhichOneof("kind"))
    kinds = {field.name for field in pb.Order.DESCRIPTOR.oneofs[0].fields}
    assert kinds <= seen and {field.name for field in pb.CollectorMessage.DESCRIPTOR.oneofs[0].fields} <= seen


def test_a_flood_of_orders_is_bounded(port):
    link = FakeLink()
    runner = Runner(HostSide(port, "3.6.8", background=True), link)
    runner._look_at_host()
    runner._take(UP, numbered(1))
    order = pb.Order(order_id="o", pool_uuid=POOL, host_uuid=HOST, boot_id="boot-1", epoch=1, term=1, claim=pb.Claim())
    for _ in range(5 * MOST_ORDERS):
        runner._take(FROM_COLLECTOR, pb.CollectorMessage(order=order).SerializeToString())
    assert runner._orders.qsize() == MOST_ORDERS
    runner._tell_results()
    refused = [pb.AgentMessage.FromString(unnumbered(data)[1]) for verb, data in link.sent if verb == MESSAGE]
    assert [m.order_result.reason for m in refused].count("busy") == 4 * MOST_ORDERS
    drained(runner)
    answered(runner, link)


def test_a_flood_of_probes_ends(port):
    side = HostSide(port)
    side.conversation.link_up()
    many = [pb.ProbeTarget(host_uuid=str(n), address="10.0.0.%d" % n) for n in range(100)]
    slow = port.alive_peer
    asked = []

    def waits(address, limit_ms, door=443):
        asked.append(address)
        port.now += limit_ms
        return slow(address, limit_ms, door)

    port.alive_peer = waits
    order = pb.Order(
        order_id="o", pool_uuid=POOL, host_uuid=HOST, boot_id="boot-1", epoch=1, term=1, echo_mono_ms=port.now,
        valid_for_ms=5000, probe_now=pb.ProbeNow(targets=many, probe_timeout_ms=10000, nonce="n"),
    )  # fmt: skip
    _, work = side.conversation.receive(pb.CollectorMessage(order=order))
    result = side.executor.carry_out(work, side.conversation.settings.probe_timeout_ms)
    assert len(asked) == len(result.probes.probes) <= 4 and result.nonce == "n"
    order.probe_now.targets.extend(many)
    _, work = side.conversation.receive(pb.CollectorMessage(order=order))
    assert side.executor.carry_out(work, side.conversation.settings.probe_timeout_ms).outcome == pb.OrderResult.REFUSED


# ------------------------------------------------------------------------------------------ processes


HOSTILE = {
    "random bytes": "r = random.Random(1)\nwhile True: s.send(bytes(r.randrange(256) for _ in range(500)))",
    "a frame that never ends": "s.send(b'C\\x00\\x3f\\xff\\xff')\nwhile True: s.send(b'x' * 1000); time.sleep(0.01)",
    "a length of four gigabytes": "s.send(b'C\\xff\\xff\\xff\\xff')\ntime.sleep(60)",
    "one byte at a time": "while True: s.send(b'U'); time.sleep(0.001)",
    "up and down for ever": "while True:\n    s.send(b'U' + struct.pack('!II', 4, 7))\n    s.send(b'D\\0\\0\\0\\1x')",
    "unknown verbs": "while True: s.send(bytes([random.randrange(256)]) + b'\\0\\0\\0\\0')",
    "challenges that it does not read": "s.send(b'U' + struct.pack('!II', 4, 1))\nwhile True: s.send(C)",
    "an end at once": "",
    "silence": "time.sleep(60)",
    "signals to its parent": "for _ in range(50): os.kill(os.getppid(), signal.SIGCONT)\ntime.sleep(60)",
}


@pytest.mark.slow
@pytest.mark.parametrize("how", sorted(HOSTILE))
def test_a_hostile_process_as_link_side(how, port, short, monkeypatch):
    challenge = pb.CollectorMessage(challenge=pb.Challenge(nonce="n" * 3000)).SerializeToString()
    script = "import os, random, signal, socket, struct, sys, time\ns = socket.socket(fileno=int(sys.argv[2]))\n"
    script += "C = %r\ntry:\n" % frame(FROM_COLLECTOR, challenge)
    script += "".join("    %s\n" % line for line in (HOSTILE[how] or "pass").split("\n")) + "except OSError: pass\n"
    (short / "hostile.py").write_text(script)
    link = LinkProcess([sys.executable, str(short / "hostile.py")])
    runner = Runner(HostSide(port, "3.6.8", background=True), link)
    monkeypatch.setattr(module, "LONGEST_SLEEP_S", 0.02)
    runner._look_at_host()
    threads, longest, began = threading.active_count(), 0.0, time.monotonic()
    while time.monotonic() - began < 0.7:
        turn = time.process_time()
        try:
            runner._turn()
        except LinkLost:
            pytest.fail("the loop itself takes care of a lost link side")
        longest = max(longest, time.process_time() - turn)
        assert len(link._outgoing) <= MOST_KEPT + 2 * LONGEST and len(link._frames._data) <= LONGEST + 70000
        port.now += 10
    assert longest < 0.9, "one turn took %.1f s of processor" % longest
    assert threading.active_count() <= threads + 16
    assert port.acts == [] and port.saved == b""
    link.stop(0.1)
    assert runner._conversation.report(full=True).report.full
