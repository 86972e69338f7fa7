"""The real Dom0 on a tree: identity, roles, sessions, and the one command that it runs."""

import os
import subprocess
import sys
import threading
import time

import pytest

from poolwarden_agent.config import load
from poolwarden_agent.core import gate_state, host_now, orders
from poolwarden_agent.core.probe_rules import ANSWERED, NO_ANSWER, REFUSED
from poolwarden_agent.dom0.dom0 import Dom0
from poolwarden_agent.dom0.system import systemd
from poolwarden_agent.dom0.system.slots import SlotError
from poolwarden_agent.host.host_side import HostSide

from .conftest import configure
from .fake_xapi import EMERGENCY, LOCAL_LOGIN, LOGIN, FakeXapi, answers, fault, says
from .tree import HOST, OTHER, POOL, until


def dom0(tree, extra=""):
    if not os.path.exists(tree.path("etc/poolwarden/agent.conf")):
        configure(tree, 1, extra)
    return Dom0(str(tree.root), load(tree.path("etc/poolwarden/agent.conf"), str(tree.root)))


@pytest.fixture
def xapi(tree):
    running = FakeXapi(tree.path("var/lib/xcp/xapi"))
    running.logs_in()
    running.logs_in(LOGIN)
    running.asks_session(EMERGENCY, False)
    tree.xapi_runs(os.getpid())
    yield running
    running.close()


def conf(tree, text):
    tree.put("etc/poolwarden/agent.conf", "[agent]\ncollector = c:1\n" + text)


# ---------------------------------------------------------------------------------------------- facts


def test_who_it_is(tree):
    conf(tree, "bmc_address = 10.9.0.1\n")
    tree.put("etc/hostname", "h1.example.org\n")
    tree.put("etc/xensource-inventory", "INSTALLATION_UUID='%s'\nPRODUCT_VERSION='8.3.0'\n" % HOST)
    found = dom0(tree).identity()
    assert (found.host, found.name, found.system_uuid, found.bmc_address) == (HOST, "h1", "dmi-1", "10.9.0.1")
    assert found.boot_id == tree.text("proc/sys/kernel/random/boot_id").strip()
    assert found.xapi_version == "8.3.0"


@pytest.mark.parametrize(
    "listed, one",
    [
        ("192.0.2.11:7443", True),
        ("[2001:db8::5]:7443", True),
        ("192.0.2.11:7443, 192.0.2.12:7443", False),
        ("collectors.example:7443", False),  # a name may stand for all of them
    ],
)
def test_that_one_collector_alone_is_listed_is_said(tree, listed, one):
    tree.put("etc/poolwarden/agent.conf", "[agent]\ncollector = %s\n" % listed)
    assert ("one_collector" in dom0(tree).capabilities()) is one


def test_the_management_address_follows_the_inventory(tree):
    conf(tree, "")
    tree.put("etc/xensource-inventory", "INSTALLATION_UUID='%s'\nMANAGEMENT_INTERFACE=''\n" % HOST)
    port = dom0(tree)
    assert port.management_address() == "", "there is none yet"
    lo = "INSTALLATION_UUID='%s'\nMANAGEMENT_INTERFACE='lo'\nPRODUCT_VERSION='8.4'\n" % HOST
    os.utime(str(tree.put("etc/xensource-inventory", lo)), (1, 1))
    assert port.management_address() == "127.0.0.1"
    assert port.identity().product_version == "8.4"


def test_a_half_written_or_foreign_inventory_changes_nothing(tree):
    conf(tree, "")
    port = dom0(tree)
    for text in ("", "INSTALLATION_UUID='%s'\n" % OTHER):
        os.utime(str(tree.put("etc/xensource-inventory", text)), (len(text) + 5, 1))
        assert port.management_address() == "127.0.0.1" and port.identity().host == HOST
    os.unlink(tree.path("etc/xensource-inventory"))
    assert port.management_address() == "127.0.0.1"


def test_an_interface_that_is_gone_has_no_address(tree):
    conf(tree, "")
    tree.put("etc/xensource-inventory", "INSTALLATION_UUID='%s'\nMANAGEMENT_INTERFACE='xenbr7'\n" % HOST)
    assert dom0(tree).management_address() == ""


def test_a_role_is_settled_when_the_process_is_younger_than_pool_conf(tree):
    port = dom0(tree)
    assert not port.role_settled(), "no pid file"
    tree.xapi_runs(os.getpid())
    for written, started, settled in ((100, 99, False), (100, 100, True), (100, 101, True)):
        os.utime(tree.path("etc/xensource/pool.conf"), (written, written))
        os.utime(tree.path("var/run/xapi.pid"), (started, started))
        assert port.role_settled() is settled
    os.unlink(tree.path("etc/xensource/pool.conf"))
    assert not port.role_settled()


def test_processes_and_ages(tree):
    port = dom0(tree)
    assert port.process() == host_now.NO_PROCESS and port.process_age_ms() is None
    tree.xapi_runs(os.getpid())
    assert port.process().pid == os.getpid() and 0 <= port.process_age_ms() < 10 * 3600 * 1000


def test_disks_memory_and_the_startup_cookie(tree):
    port = dom0(tree)
    assert [(d.mount, d.own_mount) for d in port.disks()] == [("/", False), ("/var/log", False)] or port.disks()
    assert all(d.total_bytes >= d.free_bytes > 0 for d in port.disks())
    assert port.memory() == (4000 * 1024, 1000 * 1024)
    for text in ("MemTotal: x kB\nMemFree: 7 kB\n", "MemFree: 7 kB\n", "nonsense\n", ""):
        tree.put("proc/meminfo", text)
        assert port.memory() == (0, 0)
    assert port.startup_cookie() is False
    tree.put("var/run/xapi_startup.cookie", "")
    assert port.startup_cookie() is True
    assert port.domains() is None


def test_the_root_itself_is_gone(tree, monkeypatch):
    port = dom0(tree)
    os.rename(str(tree.root), str(tree.root) + ".gone")
    assert port.disks() == [] and port.memory() == (0, 0) and port.role() == (host_now.UNREADABLE, "")


# ---------------------------------------------------------------------------------------------- durable state


def test_state_is_prepared_when_it_can_be(tree):
    port = dom0(tree)
    where = tree.root / "var/lib/poolwarden"
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text("in the way")
    with pytest.raises(SlotError):
        port.load_state()
    side = HostSide(port)
    assert side.executor.storage and side.conversation.link_up()[0].hello.pool_uuid == POOL
    where.unlink()
    assert port.load_state() == b""
    port.save_state(gate_state.encode(gate_state.EMPTY))
    assert dom0(tree).load_state() == gate_state.encode(gate_state.EMPTY)


# ---------------------------------------------------------------------------------------------- xapi


def test_the_emergency_flag(tree, xapi):
    port = dom0(tree)
    assert tuple(port.emergency(1000))[:3] == (ANSWERED, False, "")
    xapi.asks_session(EMERGENCY, True)
    xapi.behaviours["host.local_assert_healthy"] = fault("HOST_UNKNOWN_TO_MASTER", HOST)
    assert tuple(port.emergency(1000))[:3] == (ANSWERED, True, "HOST_UNKNOWN_TO_MASTER")
    for behave in (answers(""), says(b"x")):
        xapi.behaviours["host.local_assert_healthy"] = behave
        assert tuple(port.emergency(1000))[:3] == (ANSWERED, True, "")
    xapi.asks_session(EMERGENCY, "odd")
    assert tuple(port.emergency(1000))[:3] == (ANSWERED, None, "")
    xapi.behaviours[EMERGENCY] = fault("INTERNAL_ERROR", "x")
    assert tuple(port.emergency(1000))[:3] == (ANSWERED, None, "INTERNAL_ERROR")
    xapi.behaviours[EMERGENCY] = xapi.hangs
    assert tuple(port.emergency(200))[:3] == (NO_ANSWER, None, "")
    assert LOGIN not in xapi.methods()


def test_no_xapi_at_all(tree):
    port = dom0(tree)
    assert tuple(port.emergency(500))[:3] == (REFUSED, None, "")
    assert port.pool_view(500) is None
    assert port.alive_local(500).outcome == REFUSED
    assert port.running_master(500) == ""
    assert port.promote(500).outcome == orders.REFUSED  # nobody was there to be asked: it has not begun
    port.close()


def test_another_process_gets_another_session(tree, xapi):
    port = dom0(tree)
    port.emergency(1000)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        tree.xapi_runs(other.pid)
        port.emergency(1000)
        port.emergency(1000)
        other.communicate(b"\n")
    assert xapi.methods().count(LOCAL_LOGIN) == 2


def view_of(xapi, master="OpaqueRef:h1"):
    xapi.asks_session("pool.get_all", ["OpaqueRef:p"])
    record = {"uuid": POOL, "name_label": "lab", "master": master, "ha_enabled": False, "other_config": {}}
    record["default_SR"] = "OpaqueRef:sr"
    xapi.asks_session("pool.get_record", record)
    host = {"uuid": HOST, "name_label": "h1", "address": "10.0.0.5", "enabled": True, "metrics": "OpaqueRef:m1"}
    xapi.asks_session("host.get_all_records", {"OpaqueRef:h1": host})
    xapi.asks_session("host_metrics.get_all_records", {"OpaqueRef:m1": {"live": True}})
    pbd = {"host": "OpaqueRef:h1", "SR": "OpaqueRef:sr", "currently_attached": False}
    xapi.asks_session("PBD.get_all_records", {"OpaqueRef:pbd": pbd})
    xapi.asks_session("SR.get_name_label", "iscsi-1")
    task = {"name_label": "Async.VM.migrate_send", "status": "pending"}
    xapi.asks_session("task.get_all_records", {"OpaqueRef:t": task})


def test_the_pool_through_one_session(tree, xapi):
    port = dom0(tree)
    view_of(xapi)
    for _ in range(3):
        view = port.pool_view(2000)
        assert (view.pool, view.name, view.master, view.ha_enabled, view.rolling_upgrade) == (
            POOL, "lab", HOST, False, False
        )  # fmt: skip
        assert [tuple(h)[:7] for h in view.hosts] == [(HOST, "h1", "10.0.0.5", True, True, ("iscsi-1",), True)]
        assert view.busy == ("Async.VM.migrate_send",)
    assert xapi.methods().count(LOGIN) == 1
    xapi.behaviours["session.logout"] = answers("")
    port.close()
    assert xapi.methods()[-1] == "session.logout"


@pytest.mark.parametrize(
    "method, value",
    [
        ("pool.get_all", []),
        ("pool.get_all", "x"),
        ("pool.get_record", "x"),
        ("pool.get_record", []),
        ("host.get_all_records", []),
        ("host.get_all_records", {"OpaqueRef:h1": "x"}),
        ("host_metrics.get_all_records", "x"),
        ("host_metrics.get_all_records", {"OpaqueRef:m1": 5}),
        ("PBD.get_all_records", "x"),
        ("PBD.get_all_records", {"OpaqueRef:pbd": 5}),
        ("task.get_all_records", {"OpaqueRef:t": 5}),
        ("task.get_all_records", 5),
    ],
)
def test_a_view_of_another_shape_is_none(tree, xapi, method, value):
    view_of(xapi)
    xapi.asks_session(method, value)
    view = dom0(tree).pool_view(2000)
    assert view is None or method == "pool.get_all" and value == "x"


def test_a_view_that_hangs_ends_at_its_limit(tree, xapi):
    view_of(xapi)
    xapi.behaviours["host.get_all_records"] = xapi.hangs
    started = time.monotonic()
    assert dom0(tree).pool_view(300) is None
    assert time.monotonic() - started < 8


@pytest.mark.parametrize(
    "behaviour, expected",
    [(answers(""), "done"), (fault("HA_IS_ENABLED"), "failed"), (says(b""), "unknown"), (says(b"x"), "unknown")],
)
def test_acts_on_the_local_session_alone(tree, xapi, behaviour, expected):
    port = dom0(tree)
    for method in ("pool.emergency_transition_to_master", "pool.emergency_reset_master"):
        xapi.behaviours[method] = behaviour
    assert port.promote(1000).outcome == expected
    assert port.repoint("10.0.0.2", 1000).outcome == expected
    assert [m for m in xapi.methods() if m != LOCAL_LOGIN] == [
        "pool.emergency_transition_to_master",
        "pool.emergency_reset_master",
    ]
    assert xapi.calls[-1][1][1:] == ["10.0.0.2"]


def test_an_act_that_hangs_is_unknown(tree, xapi):
    xapi.behaviours["pool.emergency_transition_to_master"] = xapi.hangs
    assert dom0(tree).promote(200).outcome == "unknown"


def test_pool_conf_is_written_for_an_ip_literal_only(tree):
    port = dom0(tree)
    assert "no IP literal" in port.write_member_conf("master.example")
    assert port.write_member_conf("10.0.0.2") == "" and port.role() == (host_now.MEMBER, "10.0.0.2")
    os.unlink(tree.path("etc/xensource/pool.conf"))
    os.rmdir(tree.path("etc/xensource"))
    assert "cannot be written" in port.write_member_conf("10.0.0.2")


# ---------------------------------------------------------------------------------------------- systemctl

NEW = "mkdir -p $ROOT/proc; (exec sleep 60) & ln -sfn /proc/$! $ROOT/proc/$!; echo $! > $ROOT/var/run/xapi.pid"


@pytest.fixture
def restartable(tree):
    """A tree whose xapi is replaced by systemctl; the processes are ended afterwards."""
    (tree.root / "var/run").mkdir(parents=True, exist_ok=True)
    port = dom0(tree)
    port.load_state()
    yield port
    for link in (tree.root / "proc").glob("[0-9]*"):
        if link.is_symlink() and b"sleep" in (link / "cmdline").read_bytes():
            os.kill(int(link.name), 9)


def test_a_restart_is_one_call_and_a_new_process(tree, restartable):
    tree.systemctl(NEW)
    before = restartable.process()
    assert tuple(restartable.restart_xapi(5000)) == ("done", "systemctl restart xapi.service")
    assert tree.calls() == ["restart xapi.service"]
    assert restartable.process() not in (before, host_now.NO_PROCESS)


def test_a_child_of_systemctl_that_keeps_its_output_open_does_not_hold_us(tree, restartable):
    """NEW leaves a process that has inherited systemctl's stderr, as a daemon may."""
    tree.systemctl(NEW)
    started = time.monotonic()
    assert restartable.restart_xapi(20000).outcome == "done"
    assert time.monotonic() - started < 15


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, outcome, words",
    [
        ("echo 'no such unit' >&2; exit 5", "failed", "ended with 5: no such unit"),
        ("exec sleep 30", "unknown", "has not ended"),
        ("exit 0", "unknown", "no new xapi process"),
    ],
)
def test_a_restart_that_does_not_work_says_so(tree, restartable, monkeypatch, script, outcome, words):
    monkeypatch.setattr(systemd, "NEW_PROCESS_S", 0.2)
    tree.systemctl(script)
    act = restartable.restart_xapi(700)
    assert act.outcome == outcome and words in act.text


def test_no_systemctl(tree, restartable):
    assert restartable.restart_xapi(500).outcome == "failed"
    tree.put("usr/bin/systemctl", "not executable")
    assert restartable.restart_xapi(500).outcome == "failed"


def test_no_lock_no_restart(tree, restartable):
    tree.systemctl(NEW)
    os.unlink(tree.path("var/lib/poolwarden/state.0"))
    assert restartable.restart_xapi(500).outcome == "failed" and tree.calls() == []


def test_a_restart_that_is_still_under_way_is_waited_for_and_not_repeated(tree, restartable):
    """We were killed while systemctl ran; it goes on without us, and holds the lock."""
    tree.systemctl("while [ ! -e $ROOT/go ]; do sleep 0.02; done; " + NEW)
    first = threading.Thread(target=restartable.restart_xapi, args=(20000,))
    first.start()
    until(tree.calls)
    acts = []
    second = threading.Thread(target=lambda: acts.append(dom0(tree).restart_xapi(20000)))
    second.start()
    assert dom0(tree).restart_xapi(200).outcome == "unknown"
    tree.put("go", "")
    first.join()
    second.join()
    assert acts[0].outcome == "done" and "earlier" in acts[0].text
    assert tree.calls() == ["restart xapi.service"]


def test_a_suspended_machines_sleep_is_counted_and_a_jump_of_the_wall_clock_is_not(tree, monkeypatch):
    """Else an order that lay in a buffer while this host slept would still be young."""
    port, real = dom0(tree), time.clock_gettime
    before = port.mono_ms()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert port.mono_ms() - before < 60000
    monkeypatch.setattr(time, "clock_gettime", lambda clock: real(clock) + 3600 * (clock == 7))
    assert port.mono_ms() - before >= 3600000
