"""kill -9 at each call that changes a disk, a read-only file system, a full one: slots, latch and pool.conf.

The child that is killed runs the real Dom0 on a tree; what was answered it says on a pipe, one line each.
"""

import errno
import os
import signal
import subprocess
import sys

import pytest

from poolwarden_agent.core import gate_state
from poolwarden_agent.dom0.system import files
from poolwarden_agent.dom0.system.latch import Latch
from poolwarden_agent.dom0.system.slots import Slots

from .test_dom0 import dom0
from .tree import OTHER

pytestmark = pytest.mark.slow  # minutes of virtual or many kills of real time in each

CALLS = ("open", "pwrite", "write", "fsync", "rename", "link", "unlink", "close", "chmod")
# What an agent makes durable over a failover: each line is answered before the next one is begun.
HISTORY = (
    gate_state.EMPTY._replace(epoch=1, term=1),
    gate_state.EMPTY._replace(epoch=1, term=2, hold=gate_state.Hold(2, "b", 5, OTHER)),
    gate_state.EMPTY._replace(epoch=1, term=3, tombstone=gate_state.Tombstone(3, OTHER, "10.0.0.2")),
    gate_state.EMPTY._replace(epoch=1, term=4),
)


class Fault(object):
    """Counts the calls of ``os`` that change a disk below a directory, and does something at one of them."""

    def __init__(self, at, act):
        self.seen = 0
        self._at, self._act = at, act
        self._real = {}

    def __enter__(self):
        for name in CALLS:
            self._real[name] = getattr(os, name)
            setattr(os, name, self._wrapped(name))
        return self

    def __exit__(self, *_):
        for name, real in self._real.items():
            setattr(os, name, real)

    def _wrapped(self, name):
        real = self._real[name]

        def call(*arguments, **named):
            # Before the call and after it: what is on the disk differs.
            self._point()
            result = real(*arguments, **named)
            self._point()
            return result

        return call

    def _point(self):
        self.seen += 1
        if self.seen == self._at:
            self._act()


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_child(work, at):
    """Run this in a child that is killed at its n-th point; the lines that it said, and whether it was killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        real = os.write
        try:
            with Fault(at, kill):
                work(lambda line: real(write, ("%s\n" % line).encode()))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        lines = said.read().split()
    _, status = os.waitpid(child, 0)
    return lines, os.WIFSIGNALED(status)


def killed_everywhere(work):
    """What was answered at each kill, until the work comes to its end alive."""
    for at in range(1, 2000):
        lines, killed = in_a_child(work, at)
        yield lines
        if not killed:
            assert at > 10, "nothing was killed"
            return


def saves(tree):
    def work(say):
        port = dom0(tree)
        port.load_state()
        for number, state in enumerate(HISTORY):
            port.save_state(gate_state.encode(state))
            say(number)

    return work


def restored(tree):
    """What the next start of the agent finds."""
    payload = dom0(tree).load_state()
    return gate_state.decode(payload) if payload else gate_state.EMPTY


def before_anything(tree):
    slots = Slots(tree.path("var/lib/poolwarden"))
    slots.prepare()
    slots.load()
    slots.save(gate_state.encode(gate_state.EMPTY))
    Latch(tree.path("var/lib/poolwarden")).prepare()
    Latch(tree.path("var/lib/poolwarden")).write("none")


def test_an_answered_save_stands_after_a_kill_at_any_point_in_each_slot_alone(tree):
    """Also without one of the slots: neither brings back an older term, hold or tombstone than was answered."""
    found = set()
    before_anything(tree)
    for lines in killed_everywhere(saves(tree)):
        answered = int(lines[-1]) if lines else -1
        allowed = [gate_state.EMPTY] + list(HISTORY)
        allowed = allowed[answered + 1 : answered + 3]  # the one that was answered, or the one that was begun after it
        directory = tree.root / "var/lib/poolwarden"
        latch = Latch(str(directory)).read()
        if latch == "none":
            assert Slots(str(directory)).load() and gate_state.decode(Slots(str(directory)).load()).hold is None
        kept = [(directory / ("state.%d" % number)).read_bytes() for number in (0, 1)]
        whole = restored(tree)
        assert whole in allowed, (lines, whole)
        for number in (0, 1):
            (directory / ("state.%d" % number)).write_bytes(b"")
            (directory / ("state.%d" % (1 - number))).write_bytes(kept[1 - number])
            assert restored(tree) in allowed, "one of the slots is lost after that"
        found.add(whole.term)
        before_anything(tree)
    assert found == {0, 1, 2, 3, 4}, "a kill fell between any two saves"


def test_a_kill_while_the_slots_are_made_leaves_nothing_that_is_not_empty_or_whole(tree):
    def work(say):
        dom0(tree).load_state()
        say("made")

    for _ in killed_everywhere(work):
        assert restored(tree) == gate_state.EMPTY
        for name in os.listdir(tree.path("var/lib/poolwarden")):
            os.unlink(tree.path("var/lib/poolwarden/" + name))


def test_the_latch_is_never_open_while_the_slots_hold(tree):
    before_anything(tree)
    for _ in killed_everywhere(saves(tree)):
        state = gate_state.decode(Slots(tree.path("var/lib/poolwarden")).load())
        word = Latch(tree.path("var/lib/poolwarden")).read()
        assert word != "none" or (state.hold is None and state.tombstone is None), (state, word)
        before_anything(tree)


def test_pool_conf_is_the_old_one_or_the_new_one_after_a_kill_at_any_point(tree):
    path = tree.root / "etc/xensource/pool.conf"
    (tree.root / "var/lib/poolwarden").mkdir(parents=True)

    def work(say):
        files.write_pool_conf(str(tree.root), "10.0.0.2")
        say("written")

    path.write_bytes(b"master")
    seen = set()
    for lines in killed_everywhere(work):
        text = path.read_text()
        assert text == "slave:10.0.0.2" if lines else text in ("master", "slave:10.0.0.2")
        seen.add(text)
        path.write_bytes(b"master")
    assert len(seen) == 2


# ------------------------------------------------------------------------------------------ disks that fail

SCRIPT = """
import os, subprocess, sys
from poolwarden_agent.core import gate_state as gate
from poolwarden_agent.dom0.system.slots import SlotError, Slots
from poolwarden_agent.dom0.system.latch import Latch
where, how = sys.argv[1:]
held = gate.EMPTY._replace(term=7, hold=gate.Hold(7, "b", 0, "o"))
slots = Slots(where); slots.prepare(); slots.load()
slots.save(gate.encode(held))
latch = Latch(where); latch.prepare(); latch.write("hold")
if how == "read-only":
    subprocess.check_call(["mount", "-o", "remount,ro", where])
else:
    with open(where + "/filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 4096)
        except OSError as error:
            print("full", error.errno)
try:
    slots.save(gate.encode(held._replace(term=8)))
    print("saved")
except SlotError as error:
    print("refused:", error)
print("term", gate.decode(Slots(where).load()).term, latch.read())
again = Slots(where); again.prepare(); again.load(); print("mended", repr(again.mend()))
if how == "read-only":
    subprocess.check_call(["mount", "-o", "remount,rw", where])
    slots.load()
    slots.save(gate.encode(held._replace(term=9)))
    print("term", gate.decode(Slots(where).load()).term)
"""


def on_a_small_disk(short, how):
    (short / "disk").mkdir()
    flags = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    enter = 'mount -t tmpfs -o size=1m,mode=700 tmpfs "$1" && exec "$2" -c "$3" "$1" "$4"'
    command = ["unshare"] + flags + ["sh", "-c", enter, "sh", str(short / "disk"), sys.executable, SCRIPT, how]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    return subprocess.check_output(command, env=environment).decode().splitlines()


@pytest.mark.needs("namespaces", "unshare")
def test_a_read_only_remount_refuses_a_save_and_keeps_what_stands(short):
    said = on_a_small_disk(short, "read-only")
    assert said[0].startswith("refused: ") and "Read-only file system" in said[0]
    assert said[1:] == ["term 7 hold", "mended ''", "term 9"]


@pytest.mark.needs("namespaces", "unshare")
def test_a_full_disk_stops_no_save(short):
    said = on_a_small_disk(short, "full")
    assert said == ["full %d" % errno.ENOSPC, "saved", "term 8 hold", "mended ''"]
