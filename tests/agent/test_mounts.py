"""Which file systems are asked how full they are: never one that may hang, by the mount table alone."""

import os
import subprocess
import sys
import tempfile

import pytest

from poolwarden_agent.dom0.system import mounts, procfs

from .tree import HERE

PATH = os.pathsep.join([str(HERE / "agent"), str(HERE / "protos")] + [p for p in sys.path if "site-packages" in p])


@pytest.fixture
def table(tree, monkeypatch):
    """A mount table to change: directory -> type. Its first line is the tree's own root."""
    made = {os.path.realpath(str(tree.root)): "ext4", "/": "ext4"}
    monkeypatch.setattr(procfs, "mount_points", lambda: made)
    return made


@pytest.fixture
def asked(monkeypatch):
    """The paths that statvfs and stat were called for."""
    paths = []
    real = os.statvfs

    def statvfs(path):
        paths.append(path)
        return real("/")

    monkeypatch.setattr(os, "statvfs", statvfs)
    return paths


def told(tree):
    return [(disk.mount, disk.own_mount) for disk in mounts.disks(str(tree.root))]


def at(tree, path):
    return os.path.join(os.path.realpath(str(tree.root)), path)


def test_a_mount_of_its_own_is_told_as_one(tree, table, asked):
    assert told(tree) == [("/", True), ("/var/log", False)]
    table[at(tree, "var/log")] = "ext4"
    table[at(tree, "var/crash")] = "xfs"
    assert told(tree) == [("/", True), ("/var/log", True), ("/var/crash", True)]


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "ceph", "fuse.glusterfs", "autofs", "a type of tomorrow"])
def test_a_storage_that_may_hang_is_never_asked(tree, table, asked, monkeypatch, kind):
    monkeypatch.setattr(os, "readlink", lambda path: pytest.fail("asked: %s" % path) if "var" in path else path)
    table[at(tree, "var")] = kind
    table[at(tree, "var/crash")] = kind
    assert told(tree) == [("/", True)]
    assert asked == [at(tree, "")[:-1]]


def test_a_link_into_such_a_storage_is_not_followed(tree, table, asked):
    os.rename(at(tree, "var/log"), at(tree, "var/moved"))
    os.symlink("../share/log", at(tree, "var/log"))
    table[at(tree, "share")] = "nfs4"
    assert told(tree) == [("/", True)]
    table[at(tree, "share")] = "ext4"
    assert told(tree) == [("/", True), ("/var/log", True)]
    assert asked[-1] == at(tree, "share/log")


def test_links_in_a_ring_end(tree, table, asked):
    os.rename(at(tree, "var/log"), at(tree, "var/moved"))
    os.symlink("log", at(tree, "var/log"))
    assert ("/", True) in told(tree)


def test_the_root_is_asked_whatever_it_lies_on(tree, table, asked):
    table[at(tree, "")[:-1]] = "9p"
    table[at(tree, "var/log")] = "9p"
    assert told(tree) == [("/", True)]


def test_without_a_mount_table_nothing_is_asked(tree, monkeypatch, asked):
    def unreadable():
        raise OSError("no proc")

    monkeypatch.setattr(procfs, "mount_points", unreadable)
    assert told(tree) == [] and asked == []


def test_the_kernels_table_is_read_and_not_a_file_that_somebody_wrote(monkeypatch):
    read = []
    monkeypatch.setattr(procfs.psutil._pslinux.cext, "disk_partitions", lambda path: read.append(path) or [])
    assert procfs.Mounts().table() == {} and read == ["/proc/%d/mounts" % os.getpid()]


def test_the_kernels_own_table_names_the_file_system_of_this_directory(tmp_path):
    table = procfs.mount_points()
    point = mounts._mount_point(os.path.realpath(str(tmp_path)), table)
    assert point in table and os.stat(point).st_dev == os.stat(str(tmp_path)).st_dev


def test_the_table_is_read_when_the_kernel_says_that_it_has_changed(monkeypatch):
    lines, read, changed = [{"/": "ext4"}], [], []
    monkeypatch.setattr(procfs, "_mount_points", lambda: read.append(1) or dict(lines[-1]))
    kept = procfs.Mounts()
    monkeypatch.setattr(kept, "_poll", Poll(changed))
    assert [kept.table() for _ in range(5)] == [{"/": "ext4"}] * 5 and len(read) == 1
    lines.append({"/": "ext4", "/run/sr-mount/x": "nfs4"})
    changed.append(1)
    assert kept.table() == lines[-1] and kept.table() == lines[-1] and len(read) == 2


class Poll(object):
    """Says once of each change that there is one."""

    def __init__(self, changed):
        self._changed = changed

    def register(self, _file, _events):
        pass

    def poll(self, _limit):
        found, self._changed[:] = list(self._changed), []
        return found


def test_a_change_that_could_not_be_read_is_read_the_next_time(monkeypatch):
    changed, answers = [], [{"/": "ext4"}, OSError("no memory"), {"/": "xfs"}]

    def read():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(procfs, "_mount_points", read)
    kept = procfs.Mounts()
    monkeypatch.setattr(kept, "_poll", Poll(changed))
    assert kept.table() == {"/": "ext4"}
    changed.append(1)
    with pytest.raises(OSError):
        kept.table()
    assert kept.table() == {"/": "xfs"} and answers == []


def test_a_table_that_cannot_be_polled_is_read_each_time(monkeypatch):
    read = []
    monkeypatch.setattr(procfs, "MOUNT_TABLE", "/nowhere/mounts")
    monkeypatch.setattr(procfs, "_mount_points", lambda: read.append(1) or {})
    kept = procfs.Mounts()
    assert kept.table() == kept.table() == {} and len(read) == 2


@pytest.mark.needs("namespaces", "unshare")
def test_the_kernel_does_say_it():
    """A mount of a namespace of its own, seen by a poll there."""
    script = (
        "import ctypes, os, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "here = (os.getuid(), os.getgid())\n"
        "if libc.unshare(0x10000000 | 0x00020000): sys.exit(3)\n"
        "open('/proc/self/setgroups', 'w').write('deny')\n"
        "open('/proc/self/uid_map', 'w').write('0 %d 1' % here[0])\n"
        "open('/proc/self/gid_map', 'w').write('0 %d 1' % here[1])\n"
        "from poolwarden_agent.dom0.system import procfs\n"
        "kept, where = procfs.Mounts(), sys.argv[1]\n"
        "assert where not in kept.table()\n"
        "first = kept.table()\n"
        "assert kept.table() is first\n"
        "if libc.mount(b'none', where.encode(), b'tmpfs', 0, None): sys.exit(3)\n"
        "assert kept.table()[where] == 'tmpfs'\n"
        "assert libc.umount2(where.encode(), 2) == 0 and where not in kept.table()\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        ended = subprocess.run([sys.executable, "-c", script, directory], env=dict(os.environ, PYTHONPATH=PATH))
    assert ended.returncode == 0


def test_a_link_that_is_changed_is_followed_at_the_next_look(tree, table, asked):
    os.rename(at(tree, "var/log"), at(tree, "var/moved"))
    os.makedirs(at(tree, "var/other"))
    os.symlink("moved", at(tree, "var/log"))
    mounts.disks(str(tree.root))
    os.unlink(at(tree, "var/log"))
    os.symlink("other", at(tree, "var/log"))
    del asked[:]
    mounts.disks(str(tree.root))
    assert at(tree, "var/other") in asked and at(tree, "var/moved") not in asked


def test_a_look_at_the_disks_works_out_nothing_anew(tree, table, asked, monkeypatch):
    mounts.disks(str(tree.root))
    monkeypatch.setattr(mounts, "_made", lambda *_: pytest.fail("nothing has changed"))
    for _ in range(30):
        mounts.disks(str(tree.root))
    assert len(asked) == 2 * 31
