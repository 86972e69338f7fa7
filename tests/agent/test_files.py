"""Small files of dom0: every form they take, half-written and hostile ones included."""

import errno
import os

import pytest

from poolwarden_agent.core import host_now
from poolwarden_agent.dom0.system import files


@pytest.mark.parametrize(
    "text, expected",
    [
        ("master", (host_now.MASTER, "")),
        (" master \n", (host_now.MASTER, "")),
        ("slave:10.0.0.1", (host_now.MEMBER, "10.0.0.1")),
        ("slave: 10.0.0.1\n", (host_now.MEMBER, "10.0.0.1")),
        ("slave:2001:db8::1", (host_now.MEMBER, "2001:db8::1")),
        ("broken", (host_now.BROKEN, "")),
        ("", (host_now.BROKEN, "")),
        ("Master", (host_now.BROKEN, "")),
        ("slave", (host_now.BROKEN, "")),
        (b"\xff\xfe", (host_now.BROKEN, "")),
    ],
)
def test_pool_conf(tree, text, expected):
    tree.put("etc/xensource/pool.conf", text)
    assert files.pool_conf(str(tree.root)) == expected


def test_pool_conf_that_cannot_be_read_is_not_known(tree):
    os.unlink(tree.path("etc/xensource/pool.conf"))
    os.mkdir(tree.path("etc/xensource/pool.conf"))
    assert files.pool_conf(str(tree.root)) == (host_now.UNREADABLE, "")


def test_a_pool_conf_that_is_gone_is_broken_as_it_is_to_xapi(tree):
    os.unlink(tree.path("etc/xensource/pool.conf"))
    assert files.pool_conf(str(tree.root)) == (host_now.BROKEN, "")
    os.rename(tree.path("etc/xensource"), tree.path("etc/elsewhere"))
    assert files.pool_conf(str(tree.root)) == (host_now.UNREADABLE, "")


@pytest.mark.parametrize(
    "text,name", [("h1.example.org\n", "h1"), ("h1", "h1"), ("192.168.1.10\n", "192.168.1.10"), ("fd00::1", "fd00::1")]
)
def test_a_hosts_name(tree, text, name):
    tree.put("etc/hostname", text)
    assert files.host_name(str(tree.root)) == name


def test_a_huge_file_is_not_read(tree):
    tree.put("etc/xensource/pool.conf", b"x" * 70000)
    assert files.pool_conf(str(tree.root)) == (host_now.UNREADABLE, "")


def test_pool_conf_is_replaced_whole(tree):
    tree.put("etc/xensource/pool.conf", "master", 0o640)
    before = os.stat(tree.path("etc/xensource/pool.conf")).st_ino
    files.write_pool_conf(str(tree.root), "10.0.0.2")
    after = os.stat(tree.path("etc/xensource/pool.conf"))
    assert tree.text("etc/xensource/pool.conf") == "slave:10.0.0.2"
    assert after.st_ino != before and after.st_mode & 0o777 == 0o640


def test_what_pool_conf_said_before_is_kept(tree):
    tree.put("etc/xensource/pool.conf", "master")
    tree.put("var/lib/poolwarden/latch", "none")
    files.write_pool_conf(str(tree.root), "10.0.0.2")
    assert tree.text(files.BEFORE) == "master"
    files.write_pool_conf(str(tree.root), "10.0.0.2")
    assert tree.text(files.BEFORE) == "master", "the same word again replaces nothing"
    files.write_pool_conf(str(tree.root), "10.0.0.3")
    assert tree.text(files.BEFORE) == "slave:10.0.0.2"


def test_a_copy_is_kept_where_a_link_cannot_be(tree, monkeypatch):
    """/var may be a file system of its own."""

    def fails(*_arguments):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", fails)
    tree.put("var/lib/poolwarden/latch", "none")
    files.write_pool_conf(str(tree.root), "10.0.0.2")
    assert tree.text(files.BEFORE) == "slave:127.0.9.9"


def test_a_superseded_master_becomes_a_member_even_where_nothing_can_be_kept(tree):
    files.write_pool_conf(str(tree.root), "10.0.0.2")  # there is no directory for it
    assert tree.text("etc/xensource/pool.conf") == "slave:10.0.0.2"


@pytest.mark.parametrize("broken", ["fsync", "rename"])
def test_a_failed_write_leaves_the_old_pool_conf_and_no_litter(tree, monkeypatch, broken):
    def fails(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, fails)
    with pytest.raises(OSError):
        files.write_pool_conf(str(tree.root), "10.0.0.2")
    assert tree.text("etc/xensource/pool.conf") == "slave:127.0.9.9"
    assert sorted(os.listdir(tree.path("etc/xensource"))) == ["pool.conf"]


def test_inventory(tree):
    tree.put("etc/xensource-inventory", "A='1'\n# B='2'\nnonsense\nC=\nD='a=b'\n =x\n")
    found = files.inventory(str(tree.root))
    assert (found["A"], found["C"], found["D"]) == ("1", "", "a=b")
    os.unlink(tree.path("etc/xensource-inventory"))
    assert files.inventory(str(tree.root)) == {}


@pytest.mark.parametrize(
    "text, expected",
    [
        ('<config><row key="ha.armed" value="true"/></config>', True),
        ('<config><row key="ha.armed" value="false"/></config>', False),
        ('<config><row key="ha.armed" value="maybe"/></config>', True),
        ("<config></config>", False),
        ("", None),
        ("<config>", None),
        ('<!DOCTYPE x><config><row key="ha.armed" value="false"/></config>', None),
        (b'<config><row key="ha.armed" value="false"/></config>' + b" " * 1100000, None),
    ],
)
def test_ha_armed_is_yes_no_or_not_known(tree, text, expected):
    tree.put("var/lib/xcp/local.db", text)
    assert files.ha_armed(str(tree.root)) is expected


def test_ha_without_local_db_is_not_known(tree):
    os.unlink(tree.path("var/lib/xcp/local.db"))
    assert files.ha_armed(str(tree.root)) is None


def test_xapis_process_is_pid_and_start(tree):
    assert files.xapi_process(str(tree.root)) == (0, 0)
    tree.xapi_runs(os.getpid())
    pid, ticks = files.xapi_process(str(tree.root))
    assert pid == os.getpid() and ticks > 0


@pytest.mark.parametrize("text", ["", "0", "-1", "abc", "1 2", "\u00b2", "99999999999", "9" * 100, "999999"])
def test_a_pid_file_that_names_no_process(tree, text):
    tree.put("var/run/xapi.pid", text)
    assert files.xapi_process(str(tree.root)) == (0, 0)


@pytest.mark.parametrize(
    "stat",
    ["", "5 (xapi) S", "5 (xa) pi) Z " + "1 " * 30, "5 (xapi) X " + "1 " * 30, "5 (xapi) S " + "x " * 30, "garbage"],
)
def test_a_stat_that_is_no_living_process(tree, stat):
    tree.put("var/run/xapi.pid", "5")
    tree.put("proc/5/stat", stat)
    assert files.xapi_process(str(tree.root)) == (0, 0)


def test_a_stopped_process_and_an_odd_name_count(tree):
    tree.put("var/run/xapi.pid", "5\n")
    tree.put("proc/5/stat", "5 (x (a) b) T " + " ".join(str(n) for n in range(4, 40)))
    assert files.xapi_process(str(tree.root)) == (5, 22)
