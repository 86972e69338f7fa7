"""Looks at a dom0 in the forms that real ones show: each holds, and has a contrary and something that hides it."""

import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

import pytest

from poolwarden import assumptions as table
from poolwarden_agent.core import findings
from poolwarden_agent.core.findings import FAILS, HOLDS, NOT_SEEN
from poolwarden_agent.dom0.assumptions import scene, static
from poolwarden_agent.host.looking_on.happenings import LEARNED

from .dom0_forms import HEAD, INVENTORIES, Dom0

UNIT_IDS = ("xapi-unit", "xapi-unit-restart", "xapi-unit-type", "xapi-unit-stop-limit", "gate-no-start-limit")
SERVICE_GROUP = "sys/fs/cgroup/systemd/system.slice/xenstored.service/cgroup.procs"


@pytest.fixture
def dom0(short):
    made = Dom0(short / "h")
    yield made
    made.close()


def of(found, finding):
    return {name for name, seen in found.items() if seen.finding == finding}


def unit(**values):
    return lambda dom0: dom0.unit.update(values)


def machine(**values):
    return lambda dom0: dom0.machine.update(values)


def put(path, text):
    return lambda dom0: dom0.put(path, text)


def gone(path):
    return lambda dom0: dom0.gone(path)


def unreadable(path):
    return lambda dom0: dom0.unreadable(path)


def both(*acts):
    def act(dom0):
        for each in acts:
            each(dom0)

    return act


def refused():
    raise PermissionError(1, "Operation not permitted")


def not_possible():
    raise OSError(97, "Address family not supported by protocol")


def elsewhere(dom0):
    """/var/lib/xcp on another file system."""
    there = tempfile.mkdtemp(dir="/dev/shm")
    dom0.elsewhere = there
    shutil.rmtree(dom0.tree.path("var/lib/xcp"))
    for name, text in (("state.db", "<database/>"), ("state.db.generation", "1"), ("local.db", "<config/>")):
        Path(there, name).write_text(text)
    os.symlink(there, dom0.tree.path("var/lib/xcp"))
    dom0.serve("var/lib/xcp/xapi", lambda connection: None)


def sparse(dom0):
    """A database that fills a third of the file system, as far as its size tells."""
    about = os.statvfs(str(dom0.tree.root))
    with open(dom0.tree.path("var/lib/xcp/state.db"), "r+b") as file:
        file.truncate(about.f_blocks * about.f_frsize // 3)


def old_restore(dom0):
    path = dom0.put("var/lib/xcp/restore_db.db", "<database/>")
    os.utime(str(path), (time.time() - 8000, time.time() - 8000))


def closed_443(dom0):
    dom0.tls.close()


def unanswered_443(dom0):
    """A port that takes no connection and refuses none: its queue is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    full = [socket.socket() for _ in range(4)]
    for each in full:
        each.setblocking(False)
        each.connect_ex(listener.getsockname())
    dom0.tls_port, dom0.kept = listener.getsockname()[1], (listener, full)


def slow_unit(dom0):
    dom0.put("usr/bin/systemctl", "#!/bin/sh\nexec sleep 60\n", 0o755)


def silent(dom0):
    dom0.speaks = False


def reversed_answers(dom0):
    dom0.ordered = False


def no_answer(dom0):
    dom0.answers = None


def bridge_without_ports(dom0):
    dom0.bridges["xenbr0"] = ["xenbr0"]


def no_bridge(dom0):
    dom0.bridges = {"xenbr1": ["eth0"]}


def no_switch(dom0):
    shutil.rmtree(dom0.tree.path("sys/class/net/ovs-system"))
    os.unlink(dom0.tree.path("sys/class/net/eth0/master"))


CONTRARY = {
    "xapi-unit": unit(LoadState="not-found"),
    "xapi-unit-restart": unit(Restart="no"),
    "xapi-unit-type": unit(Type="notify"),
    "xapi-unit-stop-limit": unit(TimeoutStopUSec="infinity"),
    "gate-drop-in": unit(DropInPaths="/etc/systemd/system/xapi.service.d/limits.conf"),
    "gate-no-start-limit": unit(TimeoutStartUSec="1min 30s"),
    "xapi-pid-file": gone("var/run/xapi.pid"),
    "xapi-socket": gone("var/lib/xcp/xapi"),
    "xapi-port-443": closed_443,
    "pool-conf-form": put("etc/xensource/pool.conf", "Master"),
    "local-db-form": put("var/lib/xcp/local.db", "<config><row key="),
    "databases-named": put("etc/xensource/db.conf", "[/mnt/other/state.db]\nmode:no_limit\n"),
    "database-generation": gone("var/lib/xcp/state.db.generation"),
    "database-on-root": elsewhere,
    "root-size": sparse,
    "no-restore-db": both(old_restore, put("var/lib/xcp/restore_db.db.generation", "1")),
    "xenstored-answers": gone("var/run/xenstored/socket"),
    "xenstored-in-order": reversed_answers,
    "inventory-form": put("etc/xensource-inventory", "INSTALLATION_UUID='h1'\nMANAGEMENT_INTERFACE='xenbr0'\n"),
    "inventory-management": both(
        put("etc/xensource-inventory", INVENTORIES["XCP-ng 8.3"].replace("'xenbr0'", "'xenbr7'")), no_switch
    ),
    "management-hardware": bridge_without_ports,
    "openvswitch-database": no_bridge,
    "icmp-socket": machine(icmp=refused, privileged=True),
    "dmi-readable": gone("sys/class/dmi/id/product_serial"),
    "dmi-own": put("sys/class/dmi/id/product_uuid", "03000200-0400-0500-0006-000700080009\n"),
    "ipmi-device": gone("usr/bin/ipmitool"),
    "cgroup-xapi": put("sys/fs/cgroup/systemd/control.slice/xapi.service/cgroup.procs", "501\n"),
    "cgroup-services": gone(SERVICE_GROUP),
    "multipath-sysfs": gone("sys/block/dm-0/slaves/sda/device/state"),
    "var-log": lambda dom0: shutil.rmtree(dom0.tree.path("var/log")),
    "wall-clock": machine(wall_s=1000000.0),
    "kernel": put("proc/sys/kernel/osrelease", "2.6.32-431.el6\n"),
    "python": machine(python=(3, 5, 9)),
    "glibc": machine(glibc="glibc 2.12"),
    "protobuf-compiled": machine(protobuf="python"),
    "agent-memory": put("own/41/smaps_rollup", "Pss: 90000 kB\n"),
    "agent-memory-limit": put(
        "sys/fs/cgroup/memory/system.slice/poolwarden-agent.service/memory.oom_control", "oom_kill 3\n"
    ),
    "agent-cpu": put("own/41/stat", "41 (python3) S 0%s 99999999 0 0 0 20 0 1 0 1 0 0" % (" 0" * 9)),
}
HIDDEN = {
    "xapi-unit": slow_unit,
    "xapi-unit-restart": slow_unit,
    "xapi-unit-type": gone("usr/bin/systemctl"),
    "xapi-unit-stop-limit": put("usr/bin/systemctl", "#!/bin/sh\nexit 1\n"),
    "gate-drop-in": gone("usr/lib/systemd/system/xapi.service.d/50-poolwarden.conf"),
    "gate-no-start-limit": slow_unit,
    "xapi-pid-file": unreadable("var/run/xapi.pid"),
    "xapi-socket": both(gone("var/lib/xcp/xapi"), no_answer),
    "xapi-port-443": unanswered_443,
    "pool-conf-form": unreadable("etc/xensource/pool.conf"),
    "local-db-form": unreadable("var/lib/xcp/local.db"),
    "databases-named": unreadable("etc/xensource/db.conf"),
    "database-generation": unreadable("var/lib/xcp/state.db.generation"),
    "database-on-root": lambda dom0: shutil.rmtree(dom0.tree.path("var/lib/xcp")),
    "root-size": unreadable("var/lib/xcp/state.db"),
    "no-restore-db": both(old_restore, lambda dom0: setattr(dom0, "placed", None)),
    "xenstored-answers": silent,
    "xenstored-in-order": silent,
    "inventory-form": unreadable("etc/xensource-inventory"),
    "inventory-management": lambda dom0: shutil.rmtree(dom0.tree.path("sys/class/net")),
    "management-hardware": gone("sys/class/net/eth0/carrier"),
    "openvswitch-database": no_switch,
    "icmp-socket": machine(icmp=not_possible),
    "dmi-readable": unreadable("sys/class/dmi/id/product_uuid"),
    "dmi-own": unreadable("sys/class/dmi/id/product_serial"),
    "ipmi-device": gone("dev/ipmi0"),
    "cgroup-xapi": lambda dom0: shutil.rmtree(dom0.tree.path("sys/fs/cgroup/systemd")),
    "cgroup-services": lambda dom0: shutil.rmtree(dom0.tree.path("sys/fs/cgroup/systemd")),
    "multipath-sysfs": lambda dom0: shutil.rmtree(dom0.tree.path("sys/block")),
    "var-log": both(
        lambda dom0: shutil.rmtree(dom0.tree.path("var/log")), lambda dom0: os.symlink("log", dom0.tree.path("var/log"))
    ),
    "wall-clock": None,
    "kernel": unreadable("proc/sys/kernel/osrelease"),
    "python": machine(python=(3, 9, 18)),
    "glibc": machine(glibc=""),
    "protobuf-compiled": machine(protobuf=""),
    "agent-memory": gone("own/41/smaps_rollup"),
    "agent-memory-limit": gone("sys/fs/cgroup/memory/system.slice/poolwarden-agent.service/memory.oom_control"),
    "agent-cpu": gone("own/42/stat"),
}


def test_every_assumption_is_seen_the_way_its_row_says():
    how = {way: {each.id for each in table.TABLE if each.how == way} for way in ("static", "passive", "drill")}
    assert set(static.LOOKS) == how["static"] == set(CONTRARY) == set(HIDDEN)
    assert set(LEARNED) == how["passive"]
    assert all(set(each.rests) <= set(table.CAPABILITIES) and each.rests for each in table.TABLE)


@pytest.mark.parametrize("release", sorted(INVENTORIES))
def test_what_real_hosts_show_holds(short, release):
    dom0 = Dom0(short / "h", release)
    try:
        for _ in range(20):
            found, said = dom0.look()
            if "in time" not in found["openvswitch-database"].evidence:  # its limit is short for a busy machine
                break
    finally:
        dom0.close()
    assert of(found, FAILS) == set()
    assert of(found, NOT_SEEN) == set(), {name: found[name] for name in of(found, NOT_SEEN)}
    version = {"XCP-ng 8.3": "XCP-ng 8.3.0", "XenServer 8": "XenServer 8.4.0", "XenServer 7": "XenServer 7.0.0"}
    assert said == version[release] + ", xapi 26.1.3"


@pytest.mark.parametrize("name", sorted(CONTRARY))
def test_a_contrary_makes_exactly_it_fail(dom0, name):
    CONTRARY[name](dom0)
    try:
        found, _ = dom0.look()
    finally:
        if hasattr(dom0, "elsewhere"):
            shutil.rmtree(dom0.elsewhere)
    assert of(found, FAILS) == {name}
    assert findings.shown(found[name].evidence)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(name for name in HIDDEN if HIDDEN[name] is not None))
def test_what_cannot_be_looked_at_is_not_seen(dom0, name, monkeypatch):
    monkeypatch.setattr(scene, "SYSTEMCTL_LIMIT_S", 0.2)
    HIDDEN[name](dom0)
    found, _ = dom0.look()
    assert found[name].finding == NOT_SEEN
    assert of(found, FAILS) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "said",
    ["master", "master\n", "slave:10.0.0.1\n", "slave: 10.0.0.1", "slave:fd00::1", "slave:xen1.example.org", "broken"],
)
def test_forms_of_pool_conf(dom0, said):
    dom0.put("etc/xensource/pool.conf", said)
    assert dom0.look()[0]["pool-conf-form"].finding == HOLDS


@pytest.mark.slow
@pytest.mark.parametrize("said", ["", "\n", "slave:", "Master", "\0\0\0\0", "slave:10.0.0.1\nslave:10.0.0.2"])
def test_what_is_no_pool_conf(dom0, said):
    dom0.put("etc/xensource/pool.conf", said)
    assert dom0.look()[0]["pool-conf-form"].finding == FAILS


@pytest.mark.slow
@pytest.mark.parametrize(
    "values, finding",
    [
        ({"Restart": "always"}, HOLDS),
        ({"Restart": "on-failure", "SuccessExitStatus": "123"}, FAILS),
        ({"Restart": "on-failure", "RestartPreventExitStatus": "1 123"}, FAILS),
        ({"Restart": "no", "RestartForceExitStatus": "123"}, HOLDS),
        ({"Restart": "no", "RestartForceExitStatus": "[unprintable]"}, NOT_SEEN),
        ({"Restart": "sometimes"}, NOT_SEEN),
    ],
)
def test_what_starts_xapi_anew(dom0, values, finding):
    dom0.unit.update(values)
    assert dom0.look()[0]["xapi-unit-restart"].finding == finding


def test_a_contrary_counts_only_when_it_is_seen_twice(dom0):
    """A file that is being replaced is none."""
    dom0.put("etc/xensource/pool.conf", "")
    mended = lambda span: dom0.put("etc/xensource/pool.conf", "master")  # noqa: E731
    found, _ = static.look(dom0.scene, mended)
    assert found["pool-conf-form"].finding == HOLDS


def test_what_comes_with_the_boot_is_not_missed_before(dom0):
    dom0.put("proc/uptime", "42.00 10.00\n")
    dom0.gone("var/run/xenstored/socket")
    assert dom0.look()[0]["xenstored-answers"].finding == NOT_SEEN


def test_a_look_that_fails_itself_has_seen_nothing(dom0, monkeypatch):
    monkeypatch.setitem(static.LOOKS, "kernel", lambda each: 1 // 0)
    found, _ = dom0.look()
    assert found["kernel"].finding == NOT_SEEN and of(found, FAILS) == set()


def test_memory_that_cannot_be_read_whole_is_bounded_by_what_is_resident(dom0):
    dom0.gone("own/42/smaps_rollup")
    dom0.put("own/42/statm", "1 100 1 1 0 1 0\n")
    assert dom0.look()[0]["agent-memory"].finding == HOLDS
    dom0.put("own/42/statm", "1 99999 1 1 0 1 0\n")
    assert dom0.look()[0]["agent-memory"].finding == NOT_SEEN


def refuses(dom0):
    """A socket's file behind which nobody listens."""
    dom0.gone("var/run/xenstored/socket")
    left = socket.socket(socket.AF_UNIX)
    left.bind(dom0.tree.path("var/run/xenstored/socket"))
    left.close()


def babbles(dom0):
    def speak(connection):
        connection.recv(65536)
        connection.sendall(b"\xff" * 64)
        connection.recv(1)

    dom0.gone("var/run/xenstored/socket")
    dom0.serve("var/run/xenstored/socket", speak)


def knows_nobody(dom0):
    """As one that was started anew, and as each until xen-init-dom0 has told it of domain 0."""

    def speak(connection):
        while connection.recv(65536):
            connection.sendall(HEAD.pack(16, 0, 0, 7) + b"ENOENT\0")

    dom0.gone("var/run/xenstored/socket")
    dom0.serve("var/run/xenstored/socket", speak)


@pytest.mark.parametrize("uptime, finding", [("42.00", NOT_SEEN), ("864000.00", FAILS)])
def test_that_xenstored_knows_no_domain_is_no_contrary_while_the_host_boots(dom0, uptime, finding):
    knows_nobody(dom0)
    dom0.put("proc/uptime", "%s 10.00\n" % uptime)
    assert dom0.look()[0]["xenstored-answers"].finding == finding


@pytest.mark.parametrize("act", [refuses, babbles])
def test_other_contraries_of_xenstored(dom0, act):
    act(dom0)
    assert of(dom0.look()[0], FAILS) == {"xenstored-answers"}


@pytest.mark.slow
def test_a_systemctl_that_never_stops_talking_is_ended(dom0, monkeypatch):
    monkeypatch.setattr(scene, "SYSTEMCTL_LIMIT_S", 0.3)
    dom0.put("usr/bin/systemctl", "#!/bin/sh\nwhile :; do echo LoadState=not-found; done\n", 0o755)
    began = time.monotonic()
    found, _ = dom0.look()
    assert time.monotonic() - began < 20
    assert all(found[name].finding == NOT_SEEN for name in UNIT_IDS)


def test_the_version_of_xapi_is_told_only_where_all_hosts_have_the_same(dom0):
    text = Path(dom0.tree.path("var/lib/xcp/state.db")).read_text()
    row = text[text.index("<row") : text.rindex("/>") + 2]
    both_versions = text.replace("</table>", row.replace("26.1.3", "26.0.1"))
    dom0.put("var/lib/xcp/state.db", both_versions + "</table></database>")
    assert dom0.look()[1] == "XCP-ng 8.3.0, xapi unknown"
