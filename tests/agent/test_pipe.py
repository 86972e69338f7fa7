"""The pipe and what is at its ends: frames cut anywhere, a link side that lies, dies, hangs or cannot be started."""

import os
import pathlib
import random
import select
import socket
import sys
import time

import pytest

from poolwarden_agent.process import link_process, pipe
from poolwarden_agent.process.link_process import LinkLost, LinkProcess, adopt
from poolwarden_agent.process.pipe import LONGEST, MESSAGE, UP, Frames, PipeError, frame

from .tree import until


def test_frames_cut_anywhere_come_out_whole():
    sent = [(MESSAGE, b"x" * n) for n in (0, 1, 5, 300, 70000)] + [(UP, b"")]
    data = b"".join(frame(verb, payload) for verb, payload in sent)
    chance = random.Random(7)
    for size in (1, 3, 4096, len(data)):
        frames, found, at = Frames(), [], 0
        while at < len(data):
            step = chance.randint(1, size)
            found += frames.feed(data[at : at + step])
            at += step
        assert found == sent


def test_a_length_that_nobody_honest_sends():
    with pytest.raises(PipeError):
        frame(MESSAGE, b"x" * (LONGEST + 1))
    with pytest.raises(PipeError):
        Frames().feed(b"M\xff\xff\xff\xff")
    assert Frames().feed(frame(MESSAGE, b"x" * LONGEST)) == [(MESSAGE, b"x" * LONGEST)]


def test_many_frames_are_cut_in_linear_time():
    data = frame(MESSAGE, b"x") * 50000
    started = time.process_time()
    assert len(Frames().feed(data)) == 50000
    assert time.process_time() - started < 2


def test_numbers_of_streams():
    assert pipe.unnumbered(pipe.numbered(7, b"abc")) == (7, b"abc")
    with pytest.raises(PipeError):
        pipe.unnumbered(b"abc")


@pytest.fixture
def child(short):
    """Makes a LinkProcess whose child runs this script, with its end of the pipe as ``s``."""
    made = []

    def make(script, environment=""):
        path = short / ("child%d.py" % len(made))
        path.write_text("import os, socket, sys, time\ns = socket.socket(fileno=int(sys.argv[2]))\n" + script)
        made.append(LinkProcess([sys.executable, str(path)]))
        made[-1].ensure()
        return made[-1]

    yield make
    for link in made:
        link.stop(0.1)


def lost(link, limit_s=5.0):
    """Read until the link is lost; what came before, and why it was lost."""
    frames = []
    deadline = time.monotonic() + limit_s
    while True:
        assert time.monotonic() < deadline
        select.select([link.socket], [], [], 0.1)
        try:
            frames += link.read()
        except LinkLost as error:
            return frames, str(error)


def test_frames_pass_in_both_directions(child):
    link = child("s.sendall(s.recv(100))\ntime.sleep(9)\n")
    link.send(MESSAGE, b"hello")
    select.select([link.socket], [], [], 5)
    assert link.read() == [(MESSAGE, b"hello")] and link.read() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, why",
    [
        ("s.sendall(b'C' + b'\\xff' * 400)\ntime.sleep(9)\n", "a frame of"),
        ("sys.exit(3)\n", "has ended"),
        ("s.sendall(b'C\\0\\0')\nos.kill(os.getpid(), 9)\n", "has ended"),
        ("s.shutdown(socket.SHUT_WR)\ntime.sleep(9)\n", "has ended"),
    ],
    ids=range(4),
)
def test_a_child_that_breaks_the_rules_or_ends_is_replaced(child, script, why):
    link = child(script)
    first = link.pid
    assert why in lost(link)[1]
    assert link.socket is None and link.pid == 0
    with pytest.raises(OSError):
        os.kill(first, 0)
    link.send(MESSAGE, b"nobody there")
    link.flush()
    until(lambda: link.ensure() or link.socket is not None)
    assert link.pid not in (0, first)


def test_children_that_die_young_are_started_ever_more_slowly(child, monkeypatch):
    link = child("")
    pauses = []
    for _ in range(8):
        lost(link)
        pauses.append(link._pause_s)
        link._start_at_s = 0.0
        link.ensure()
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    monkeypatch.setattr(link_process, "GROWN_UP_S", 0.0)
    lost(link)
    assert link._pause_s == link_process.FIRST_PAUSE_S


def test_a_child_that_does_not_read_never_blocks_and_is_replaced(child, monkeypatch):
    link = child("time.sleep(30)\n")
    started = time.monotonic()
    for _ in range(100):
        link.send(MESSAGE, b"x" * 10000)
    assert link.wants_to_write and time.monotonic() - started < 15
    monkeypatch.setattr(link_process, "STUCK_S", 0.0)
    with pytest.raises(LinkLost, match="does not read"):
        link.flush()
    assert link.pid == 0


def test_what_is_kept_for_a_child_is_bounded(child, monkeypatch):
    monkeypatch.setattr(link_process, "MOST_KEPT", 2000000)
    link = child("time.sleep(30)\n")
    with pytest.raises(LinkLost, match="does not read"):
        for _ in range(1000):
            link.send(MESSAGE, b"x" * 10000)


def test_a_message_that_is_too_long_is_dropped_with_a_line(child, capsys):
    link = child("time.sleep(9)\n")
    link.send(MESSAGE, b"x" * (LONGEST + 1))
    assert not link.wants_to_write and "not sent" in capsys.readouterr().err


def test_a_program_that_cannot_be_started_is_said_and_tried_again_later(capsys):
    link = LinkProcess(["/nonexistent/python"])
    link.ensure()
    link.ensure()
    assert link.socket is None and "cannot be started" in capsys.readouterr().err
    link.stop(0.1)


def test_replaced_certificate_files_are_taken_up_by_a_new_child_and_missing_ones_leave_it(short, monkeypatch):
    monkeypatch.setattr(link_process, "LOOK_AT_FILES_S", 0.0)
    files = [str(short / name) for name in ("ca.pem", "cert.pem", "key.pem")]
    for path in files:
        pathlib.Path(path).write_bytes(b"old")
    link = LinkProcess([sys.executable, "-c", "import time; time.sleep(30)"], files)
    try:
        link.ensure()
        os.unlink(files[2])
        for _ in range(3):
            link.ensure()
        first = link.pid
        assert first
        pathlib.Path(files[2]).write_bytes(b"newer")
        link.ensure()
        with pytest.raises(LinkLost, match="certificate files that were replaced"):
            link.ensure()
        assert not link.pid
    finally:
        link.stop(0.1)


def test_a_stop_lets_the_child_read_to_the_end(child, short):
    said = short / "said"
    link = child(
        "data = b''\nwhile True:\n    more = s.recv(65536)\n    if not more: break\n    data += more\n"
        "open(%r, 'wb').write(data)\n" % str(said)
    )
    link.send(MESSAGE, b"x" * 500000)
    link.stop(5)
    assert len(said.read_bytes()) == 500005 and link.pid == 0


@pytest.mark.slow
def test_a_stop_does_not_wait_for_ever(child):
    link = child("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {15})\ntime.sleep(30)\n")
    link.send(MESSAGE, b"x" * 3000000)
    started = time.monotonic()
    link.stop(0.3)
    assert time.monotonic() - started < 15 and link.pid == 0


def test_descriptors_do_not_leak_over_many_children(child):
    link = child("")
    lost(link)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        link._start_at_s = 0.0
        link.ensure()
        lost(link)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_child_does_not_hand_its_end_on():
    ours, theirs = socket.socketpair()
    os.set_inheritable(theirs.fileno(), True)
    adopted = adopt(theirs.detach())
    assert not adopted.get_inheritable()
    adopted.close()
    ours.close()
