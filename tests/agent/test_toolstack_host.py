"""The toolstack stopped and started by systemd, and seen to be so: processes, ports, storage's workers."""

import os
import subprocess
import sys

import pytest

from poolwarden_agent.core import host_now
from poolwarden_agent.dom0.system import boot_findings
from poolwarden_agent.dom0.xapi import toolstack

from . import tree as trees
from .test_dom0 import NEW, dom0


@pytest.fixture
def host(tree):
    """A tree with the drop-in; what runs as xapi is ended afterwards."""
    (tree.root / "var/run").mkdir(parents=True, exist_ok=True)
    (tree.root / "proc").mkdir(exist_ok=True)
    tree.put(boot_findings.DROP_IN, "[Service]\n")
    port = dom0(tree)
    port.load_state()
    yield port
    for link in (tree.root / "proc").glob("[0-9]*"):
        if link.is_symlink() and b"sleep" in (link / "cmdline").read_bytes():
            os.kill(int(link.name), 9)


def test_a_hold_is_promised_only_where_a_start_asks_for_it(tree, host):
    assert {"toolstack_fence", "toolstack_release"} <= set(host.capabilities())
    os.unlink(tree.path(boot_findings.DROP_IN))
    assert not {"toolstack_fence", "toolstack_release"} & set(host.capabilities())


def test_xapi_is_stopped_first_then_what_outlives_it(tree, host):
    tree.systemctl("[ $2 = xapi.service ] && exit 0; echo not loaded >&2; exit 5")
    assert host.stop_toolstack(5000).outcome == "done", "units that are not there are no failure"
    assert tree.calls() == ["stop xapi.service", "stop stunnel@xapi.service", "stop SMGC@*.service"]


def test_a_stop_that_fails_is_no_fence(tree, host):
    tree.systemctl("echo Access denied >&2; exit 4")
    act = host.stop_toolstack(5000)
    assert act.outcome == "failed" and "Access denied" in act.text and len(tree.calls()) == 1


@pytest.mark.slow
def test_a_storage_back_end_is_waited_for_and_never_killed(tree, host, monkeypatch):
    monkeypatch.setattr(toolstack, "WORKERS_S", 0.5)
    tree.systemctl("exit 0")
    code = "import time; time.sleep(30)"
    worker = subprocess.Popen([toolstack.STORAGE + "LVMoISCSISR", "-c", code], executable=sys.executable)
    link = tree.root / "proc" / str(worker.pid)
    link.symlink_to("/proc/%d" % worker.pid)
    try:
        act = host.stop_toolstack(5000)
        assert act.outcome == "failed" and "%d LVMoISCSISR" % worker.pid in act.text
        seen = host.toolstack()
        assert not seen.stopped and "storage is being worked on" in seen.text
        assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()
    link.unlink()
    assert host.stop_toolstack(5000).outcome == "done" and host.toolstack().stopped


def test_processes_that_cannot_be_listed_are_not_none(tree, host):
    os.rename(tree.path("proc"), tree.path("gone"))
    assert toolstack.workers(tree.path("")) == ["?"]
    os.mkdir(tree.path("proc"))
    assert toolstack.workers(tree.path("")) == ["?"], "proc is not mounted"
    os.rmdir(tree.path("proc"))
    os.rename(tree.path("gone"), tree.path("proc"))


def test_a_start_is_believed_when_its_process_is_seen(tree, host, monkeypatch):
    tree.systemctl("[ $3 = xapi.service ] && { %s; }; exit 0" % NEW)
    assert host.start_toolstack(5000).outcome == "done"
    assert host.process() != host_now.NO_PROCESS
    assert tree.calls() == ["start --no-block xapi.service", "start --no-block stunnel@xapi.service"]


def test_a_start_without_a_process_is_uncertain(tree, host, monkeypatch):
    monkeypatch.setattr("poolwarden_agent.dom0.system.systemd.NEW_PROCESS_S", 0.2)
    tree.systemctl("exit 0")
    assert host.start_toolstack(5000).outcome == "unknown"


def test_garbage_collection_is_masked_then_stopped_and_comes_back(tree, host):
    tree.systemctl("exit 0")
    assert host.hold_gc(5000).outcome == "done"
    assert host.release_gc(5000).outcome == "done"
    assert tree.calls() == ["mask --runtime SMGC@.service", "stop SMGC@*.service", "unmask --runtime SMGC@.service"]


@pytest.mark.slow
def test_garbage_collection_that_does_not_end_is_not_held(tree, host):
    tree.systemctl("exit 0")
    code = "import time; time.sleep(30)"
    worker = subprocess.Popen([toolstack.STORAGE + "cleanup.py", "-c", code], executable=sys.executable)
    (tree.root / "proc" / str(worker.pid)).symlink_to("/proc/%d" % worker.pid)
    try:
        act = host.hold_gc(500)
        assert act.outcome == "failed" and "%d cleanup.py" % worker.pid in act.text
    finally:
        worker.kill()
        worker.wait()
    (tree.root / "proc" / str(worker.pid)).unlink()
    tree.systemctl("echo no >&2; exit 1")
    assert host.hold_gc(5000).outcome == "failed"


# ---------------------------------------------------------------------------------------------- how a boot finds it


def test_what_a_boot_finds(tree, host):
    tree.put("etc/xensource/pool.conf", "master")
    tree.put("sys/class/net/lo/carrier", "1\n")
    tree.put("var/lib/xcp/state.db", trees.database().replace(' address="127.0.9.9"', ""))
    found = host.boot_facts()  # its database names a second host without an address
    assert (found.pool_conf, found.started, found.peers_known, found.link_up) == (host_now.MASTER, False, False, True)
    boot_findings.mark_started(tree.path(""), host.identity().boot_id)
    assert host.boot_facts().started
    os.unlink(tree.path(boot_findings.DROP_IN))
    assert host.boot_facts() is None, "no gate"


def test_the_role_is_that_which_the_boot_found_whatever_pool_conf_says_now(tree, host):
    tree.put("etc/xensource/pool.conf", "master")
    boot = host.identity().boot_id
    assert boot_findings.note_found(tree.path(""), boot) == (host_now.MASTER, "")
    tree.put("etc/xensource/pool.conf", "slave:10.0.0.2")
    assert host.boot_facts().pool_conf == host_now.MASTER
    assert boot_findings.note_found(tree.path(""), boot) == (host_now.MASTER, ""), "noted once"
    assert boot_findings.found(tree.path(""), "another boot") is None


def test_what_was_found_is_not_noted_once_xapi_has_started(tree, host):
    """The package was installed amid a boot: what pool.conf said at its begin is not known any more."""
    boot = host.identity().boot_id
    boot_findings.mark_started(tree.path(""), boot)
    boot_findings.note_found(tree.path(""), boot)
    assert boot_findings.found(tree.path(""), boot) is None


def test_peers_are_the_other_hosts_of_the_database(tree):
    peers = boot_findings.Peers(tree.path(""))
    row = '<row ref="%s" uuid="%s" address="%s"/>'
    rows = row % ("a", "u1", "10.0.0.1") + row % ("b", "u2", "10.0.0.2") + row % ("c", "u3", "")
    tree.put("var/lib/xcp/state.db", '<database><table name="host">%s</table></database>' % rows)
    tree.put("var/lib/xcp/state.db.generation", "43\n")
    assert peers.addresses("u1") == (("10.0.0.2",), False), "c is a host as well, wherever it is"
    tree.put("var/lib/xcp/state.db", "<database><table")
    assert peers.addresses("u1") == (("10.0.0.2",), False), "the same generation is not parsed again"
    tree.put("var/lib/xcp/state.db.generation", "44\n")
    assert peers.addresses("u1") == ((), False)
