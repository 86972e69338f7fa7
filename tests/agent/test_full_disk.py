"""The real agent, both processes, on a / and a /var/log that are 100 % full: it reports, it obeys, it forgets nothing.

The two file systems are small tmpfs in a mount namespace of the agent's own; the test reaches them by /proc/PID/root.
"""

import errno
import os
import shutil
from pathlib import Path

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.dom0.system import ballast as module
from poolwarden_agent.dom0.system.ballast import BYTES, Ballast

from . import tree as trees
from .conftest import configure
from .test_two_processes import order
from .tree import until

ENTER = """
cp -a "$1" "$1.seed"
mount -t tmpfs -o size=100m,nr_inodes=400 tmpfs "$1" && cp -a "$1.seed/." "$1"
mount -t tmpfs -o size=1m,nr_inodes=100 tmpfs "$1/var/log"
rm -r "$1.seed"; shift; exec "$@"
"""


@pytest.fixture
def boxed(tree, certificates, collector):
    """The agent on small file systems of its own."""
    trees.give_certificates(tree, certificates)
    configure(tree, collector.port)
    flags = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    within = ["unshare"] + flags + ["sh", "-c", ENTER, "sh", str(tree.root)]
    made = trees.Agent(tree, within=within)
    made.log = tree.root.parent / "agent.log"
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def inside(agent, path):
    """A path of the tree as the agent sees it."""
    return Path("/proc/%d/root%s/%s" % (agent.pid, agent.tree.root, path))


def fill(path):
    """Take every byte and every inode that is left below a directory."""
    blocks = str(path / "filler")
    with open(blocks, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
    number = 0
    try:
        while True:
            number += 1
            os.mkdir(str(path / ("inode%d" % number)))
    except OSError as error:
        assert error.errno == errno.ENOSPC


@pytest.mark.slow
@pytest.mark.needs("namespaces", "unshare", "openssl")
def test_it_works_while_everything_is_full(boxed, collector):
    boxed.start()
    stream = collector.stream()
    until(lambda: inside(boxed, "var/lib/poolwarden/ballast").exists())
    fill(inside(boxed, ""))
    fill(inside(boxed, "var/log"))
    # A look while they are filled sees a part of it: no room for bytes yet, or room for inodes still.
    full = {
        ("/", True, pb.Disk.FULL, 0, 0),
        ("/var/log", True, pb.Disk.FULL, 0, 0),
    }
    shown = ["mount", "own_mount", "level", "free_bytes", "free_inodes"]
    stream.wait("report", lambda r: full <= {tuple(getattr(d, name) for name in shown) for d in r.disks.disks})
    stream.wait("report", lambda r: any(f.path == "var/log" for f in r.disks.fillers))

    boot = inside(boxed, "proc/sys/kernel/random/boot_id").read_text().strip()
    stream = collector.streams[-1]  # a machine that stands still for seconds cuts the first one (keepalive)
    sent = order(boxed, stream, claim=pb.Claim())
    sent.term, sent.boot_id = 7, boot
    collector.send(stream, order=sent)
    assert stream.wait("order_result").outcome == pb.OrderResult.DONE, boxed.said()
    stone = pb.SetTombstone(successor_uuid=trees.OTHER, successor_address="127.0.9.9")
    inside(boxed, "etc/xensource/pool.conf").write_bytes(b"master")  # in place: it needs no room
    sent = order(boxed, stream, set_tombstone=stone)
    sent.term, sent.boot_id = 7, boot
    stream.fresh("report")
    collector.send(stream, order=sent)
    result = stream.result(lambda r: r.kind == "set_tombstone")
    assert "pool.conf names 127.0.9.9 now" in result.text, (result, boxed.said())
    assert inside(boxed, "etc/xensource/pool.conf").read_text() == "slave:127.0.9.9", "the ballast made room"
    assert not inside(boxed, "var/lib/poolwarden/ballast").exists()
    assert boxed.process.poll() is None
    assert boxed.stop() == 0


# ------------------------------------------------------------------------------------------ the ballast


@pytest.fixture
def plenty(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "PLENTY", 0)
    return Ballast(str(tmp_path))


def test_it_is_kept_once_and_given_up_once(plenty, tmp_path):
    plenty.keep()
    plenty.keep()
    assert [p.name for p in tmp_path.iterdir()] == ["ballast"]
    about = (tmp_path / "ballast").stat()
    assert about.st_size == BYTES and about.st_blocks * 512 >= BYTES, "no hole"
    assert plenty.release() and not plenty.release()


def test_a_write_that_lacks_room_is_made_again_without_it(plenty):
    plenty.keep()
    tries = []

    def write():
        tries.append(1)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, "no space")

    plenty.write(write)
    assert len(tries) == 2 and not plenty.release()
    del tries[:]
    with pytest.raises(OSError):
        plenty.write(write)
    assert len(tries) == 1, "there is nothing to give up any more"


def test_another_error_keeps_it(plenty):
    plenty.keep()

    def write():
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError):
        plenty.write(write)
    assert plenty.release()


def test_nothing_is_kept_back_where_there_is_little(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "PLENTY", 1 << 60)
    Ballast(str(tmp_path)).keep()
    assert list(tmp_path.iterdir()) == []
    Ballast(str(tmp_path / "nowhere")).keep()
    Ballast(str(tmp_path / "nowhere")).make_room()


def test_room_is_made_for_another_only_where_there_is_none(plenty, tmp_path, monkeypatch):
    plenty.keep()
    if shutil.disk_usage(str(tmp_path)).free > 2 * BYTES:
        plenty.make_room()
        assert (tmp_path / "ballast").exists()
    monkeypatch.setattr(module, "BYTES", 1 << 62)
    plenty.make_room()
    assert not (tmp_path / "ballast").exists()
