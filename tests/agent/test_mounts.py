"""Which file systems are asked how full they are: never one that may hang, by the mount table alone."""

import os

import pytest

from poolwarden_agent.dom0.system import mounts, procfs


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
    assert procfs.mount_points() == {} and read == ["/proc/%d/mounts" % os.getpid()]


def test_the_kernels_own_table_names_the_file_system_of_this_directory(tmp_path):
    table = procfs.mount_points()
    point = mounts._mount_point(os.path.realpath(str(tmp_path)), table)
    assert point in table and os.stat(point).st_dev == os.stat(str(tmp_path)).st_dev
