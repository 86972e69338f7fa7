"""The link side's relay over real gRPC and TLS: names, addresses that hang, a Welcome that does not come."""

import asyncio
import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading

import grpc.aio
import pytest

from poolwarden_agent.link import client
from poolwarden_agent.process.pipe import DOWN, GO, UP, WELCOMED, Frames, frame, numbered, read_about, unnumbered

from . import tree as trees
from .collector import Collector
from .conftest import configure
from .tree import HERE, until

pytestmark = pytest.mark.needs("openssl")


class Host(object):
    """The host side's end of the pipe; the relay runs in a child (link_child.py)."""

    def __init__(self, tree, how):
        self._ours, theirs = socket.socketpair()
        self.frames = queue.Queue()
        environment = dict(os.environ, GRPC_VERBOSITY="NONE", GRPC_DNS_RESOLVER="native")
        environment["PYTHONPATH"] = os.pathsep.join(str(HERE / part) for part in ("protos", "agent"))
        child = str(HERE / "tests/agent/link_child.py")
        words = [sys.executable, child, str(theirs.fileno()), str(tree.root), json.dumps(how)]
        self._child = subprocess.Popen(words, env=environment, pass_fds=(theirs.fileno(),))
        theirs.close()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        frames = Frames()
        while True:
            try:
                data = self._ours.recv(65536)
            except OSError:
                return
            if not data:
                return
            for each in frames.feed(data):
                self.frames.put(each)

    def wait(self, verb, limit_s=20):
        """The next frame of this kind; what comes before it is dropped."""
        while True:
            found, payload = self.frames.get(timeout=limit_s)
            if found == verb:
                return payload

    def up(self):
        """Number and address of the next stream."""
        number, address = unnumbered(self.wait(UP))
        return number, address.decode()

    def down(self):
        return read_about(self.wait(DOWN))

    def say(self, verb, stream, text=""):
        self._ours.sendall(frame(verb, numbered(stream, text.encode())))

    def end(self):
        self._ours.shutdown(socket.SHUT_WR)
        try:
            assert self._child.wait(10) == 0
        finally:
            self._child.kill()
            self._child.wait()
            self._reader.join(10)
            self._ours.close()


@pytest.fixture
def host(tree, certificates):
    """A function that starts the relay for these addresses; the first is dialled first."""
    made = []
    trees.give_certificates(tree, certificates)

    def start(*addresses, **how):
        configure(tree, ", ".join(addresses))
        made.append(Host(tree, how))
        return made[-1]

    yield start
    for each in made:
        each.end()


@pytest.fixture
def collectors(certificates):
    made = []

    def start(**how):
        made.append(Collector(certificates, **how).start())
        return made[-1]

    yield start
    for each in made:
        each.stop()


@pytest.fixture
def deaf():
    """An address that takes connections and says nothing on them: no TLS comes about."""
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield "127.0.0.1:%d" % listener.getsockname()[1]


@pytest.mark.slow
def test_one_that_takes_the_hello_and_never_answers_is_left_for_the_next(host, collectors):
    hung, other = collectors(), collectors()
    hung.opening = []
    link = host(hung.address, other.address, welcome_s=0.5)
    assert link.up() == (1, hung.address)
    assert link.down() == (hung.address, "it took the stream and has not welcomed this host within 0 s")
    until(lambda: hung.streams[0].ended)
    assert link.up() == (2, other.address)
    link.say(WELCOMED, 2)
    with pytest.raises(queue.Empty):
        link.wait(DOWN, 0.8)


@pytest.mark.slow
def test_one_address_alone_has_as_long_as_it_likes(host, collectors):
    hung = collectors()
    hung.opening = []
    link = host(hung.address, welcome_s=0.1)
    link.up()
    with pytest.raises(queue.Empty):
        link.wait(DOWN, 0.5)


def test_one_that_never_ends_its_handshake_is_left_for_the_next(host, collectors, deaf):
    other = collectors()
    link = host(deaf, other.address, connect_s=0.5)
    assert link.down()[0] == deaf
    assert link.up() == (1, other.address)


@pytest.mark.slow
def test_a_name_that_has_several_addresses_is_tried_with_each_in_one_turn(host, collectors):
    there = collectors()
    names = {"nowhere.example": [], "collectors.example": ["fd00::dead", "127.0.0.9", "127.0.0.1", "127.0.0.1"]}
    link = host("nowhere.example:1", "collectors.example:%d" % there.port, names=names, connect_s=2.0)
    assert link.down() == ("nowhere.example:1", "the name nowhere.example is not resolved: Name or service not known")
    assert link.up() == (1, "collectors.example:%d" % there.port)


@pytest.mark.slow
def test_a_resolver_that_hangs_is_asked_once_and_keeps_nobody_else_waiting(host, collectors, tree):
    other = collectors()
    link = host("slow.example:1", other.address, names={"slow.example": None}, connect_s=0.5)
    for number in (1, 2):
        until(lambda: link.down()[1] == "the name slow.example is not resolved within 0 s")
        assert link.up() == (number, other.address)
        link.say(GO, number, "slow.example:1")
    assert tree.text("asked") == "slow.example\n"


@pytest.mark.slow
def test_what_the_host_side_says_of_a_stream_that_is_over_counts_for_that_one_alone(host, collectors):
    one, two, three = collectors(), collectors(), collectors()
    link = host(one.address, two.address, three.address)
    number, _ = link.up()
    link.say(GO, number)
    assert link.up() == (2, two.address), "nobody was named: the next of the list"
    link.say(GO, 1, three.address)
    link.say(WELCOMED, 1)
    with pytest.raises(queue.Empty):
        link.wait(UP, 0.3)
    assert not two.streams[0].ended
    link.say(GO, 2, three.address)
    assert link.up() == (3, three.address)
    until(lambda: two.streams[0].ended)


class EndingCall(object):
    """A call whose stream the server ends while its client says that it has said all."""

    async def done_writing(self):
        raise grpc.aio.InternalError("execute_batch")


def test_a_stream_that_ends_while_the_last_words_are_said_ends_nothing_else():
    async def said():
        relay = object.__new__(client.Relay)
        relay._outgoing = asyncio.Queue()
        send = asyncio.ensure_future(relay._outgoing.get())
        await asyncio.wait_for(relay._last_words(EndingCall(), send, None), 10)
        return send.done()

    assert asyncio.new_event_loop().run_until_complete(said())
