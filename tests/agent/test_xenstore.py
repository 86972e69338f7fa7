"""Running domains from xenstored's socket: what it says, what it does not say, and how long we listen."""

import os
import socket
import struct
import threading
import time

import pytest

from poolwarden_agent.dom0.system import xenstore

HEAD = struct.Struct("=IIII")
DIRECTORY, READ, ERROR = 1, 2, 16


class FakeXenstored(object):
    """Answers DIRECTORY and READ from ``nodes``; ``speak`` may be replaced."""

    def __init__(self, path):
        self.nodes = {"/local/domain": "0\0", "/local/domain/0/vm": "/vm/dom0"}
        self.refuses = {}
        self.speak = self.answer
        self.release = threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(8)
        thread = threading.Thread(target=self._accept)
        thread.daemon = True
        thread.start()

    def close(self):
        self.release.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.daemon = True
            thread.start()

    def _serve(self, connection):
        with connection:
            try:
                while True:
                    kind, _, _, length = HEAD.unpack(connection.recv(HEAD.size, socket.MSG_WAITALL))
                    path = connection.recv(length, socket.MSG_WAITALL).rstrip(b"\0").decode()
                    self.speak(connection, kind, path)
            except (OSError, struct.error):
                pass

    def answer(self, connection, kind, path):
        value = self.nodes.get(path)
        if value is None or path in self.refuses:
            word = self.refuses.get(path, "ENOENT").encode() + b"\0"
            connection.sendall(HEAD.pack(ERROR, 0, 0, len(word)) + word)
        else:
            connection.sendall(HEAD.pack(kind, 0, 0, len(value)) + value.encode())


@pytest.fixture
def path(short):
    return str(short / "xenstored")


@pytest.fixture
def daemon(path):
    running = FakeXenstored(path)
    yield running
    running.close()


def test_domain_0_is_no_guest(daemon, path):
    assert xenstore.running(path) == []


def test_guests_by_their_uuid(daemon, path):
    daemon.nodes.update(
        {
            "/local/domain": "0\0" + "7\0" + "12\0" + "13\0" + "14\0",
            "/local/domain/7/vm": "/vm/b",
            "/local/domain/12/vm": "/vm/a\0",
            "/local/domain/13/vm": "nonsense",
        }
    )
    assert xenstore.running(path) == ["a", "b"], "13 has no UUID, 14 has just gone"


@pytest.mark.parametrize("listed", [None, "", "7\0"], ids=["nothing", "empty", "no domain 0"])
def test_a_list_without_domain_0_is_not_known(daemon, path, listed):
    """A xenstored that was started anew knows no guest, and they all run on."""
    daemon.nodes.pop("/local/domain")
    daemon.nodes["/local/domain/7/vm"] = "/vm/b"
    if listed is not None:
        daemon.nodes["/local/domain"] = listed
    look = xenstore.look(path)
    assert look.domains is None and look.contrary and "domain 0" in look.trouble


@pytest.mark.parametrize("where", ["/local/domain", "/local/domain/7/vm"])
@pytest.mark.parametrize("word", ["E2BIG", "EACCES", "EIO"])
def test_a_refusal_to_tell_is_not_known(daemon, path, where, word):
    """4096 bytes is the longest answer that xenstored gives: the list of very many domains is E2BIG."""
    daemon.nodes.update({"/local/domain": "0\0" + "7\0", "/local/domain/7/vm": "/vm/b"})
    assert xenstore.running(path) == ["b"]
    daemon.refuses = {where: word}
    look = xenstore.look(path)
    assert look.domains is None and look.contrary and look.answered and word in look.trouble


def test_many_guests(daemon, path):
    daemon.nodes["/local/domain"] = "".join("%d\0" % n for n in range(500))
    daemon.nodes.update({"/local/domain/%d/vm" % n: "/vm/%04d" % n for n in range(500)})
    assert len(xenstore.running(path, 5.0)) == 499


def test_no_xenstored_is_not_known(path, short):
    assert xenstore.running(path) is None
    (short / "xenstored").write_text("")
    assert xenstore.running(path) is None


def hangs(daemon):
    return lambda *_: daemon.release.wait(10)


def dribbles(daemon):
    def speak(connection, kind, _path):
        for byte in HEAD.pack(kind, 0, 0, 4000) + b"0" * 4000:
            connection.sendall(bytes([byte]))
            if daemon.release.wait(0.05):
                return

    return speak


def closes(_daemon):
    return lambda connection, *_: connection.close()


def lies(length):
    return lambda _daemon: lambda connection, kind, _path: connection.sendall(HEAD.pack(kind, 0, 0, length) + b"x")


@pytest.mark.slow
@pytest.mark.parametrize("make", [hangs, dribbles, closes, lies(0xFFFFFFFF), lies(65537), lies(100)], ids=range(6))
def test_a_broken_or_hung_xenstored_is_not_known_within_the_limit(daemon, path, make):
    daemon.speak = make(daemon)
    started, before = time.monotonic(), len(os.listdir("/proc/self/fd"))
    assert xenstore.running(path, 0.3) is None
    assert time.monotonic() - started < 8
    assert len(os.listdir("/proc/self/fd")) <= before + 1


@pytest.mark.parametrize("length", [xenstore.BIGGEST + 1, 0xFFFFFFFF])
def test_an_answer_beyond_the_bound_is_not_waited_for(daemon, path, length):
    daemon.speak = lies(length)(daemon)
    started = time.monotonic()
    assert xenstore.running(path, 60.0) is None
    assert time.monotonic() - started < 30


def test_the_same_answers_are_not_taken_apart_again(daemon, path, monkeypatch):
    daemon.nodes["/local/domain"] = "".join("%d\0" % n for n in range(40))
    daemon.nodes.update({"/local/domain/%d/vm" % n: "/vm/%04d" % n for n in range(40)})
    first = xenstore.running(path)
    taken = []
    real = xenstore._Talk._answer
    monkeypatch.setattr(xenstore._Talk, "_answer", lambda self, kind: taken.append(kind) or real(self, kind))
    assert xenstore.running(path) == first and len(first) == 39
    assert taken == [xenstore.DIRECTORY]


@pytest.mark.parametrize("change", ["renamed", "longer", "gone", "shorter"])
def test_another_answer_to_the_same_question_is_heard(daemon, path, change):
    daemon.nodes["/local/domain"] = "".join("%d\0" % n for n in range(40))
    daemon.nodes.update({"/local/domain/%d/vm" % n: "/vm/%04d" % n for n in range(40)})
    assert "0007" in xenstore.running(path)
    name = "/local/domain/7/vm"
    if change == "gone":
        del daemon.nodes[name]
    else:
        daemon.nodes[name] = {"renamed": "/vm/aaaa", "longer": "/vm/0007-and-more", "shorter": "/vm/"}[change]
    found = xenstore.running(path)
    assert "0007" not in found and len(found) == (38 if change == "gone" else 39)
    assert xenstore.running(path) == found
