"""What surrounds xapi: read from files of a tree, never by a fork, unknown where it cannot be read."""

import contextlib
import os
import random
import subprocess
import time

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import host_now, probe_rules
from poolwarden_agent.core.certificate import expires
from poolwarden_agent.dom0.system.surroundings import Reader, certificate_paths
from poolwarden_agent.host.conversation import MARKS_EVERY
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.messages import surroundings

from . import tree as trees
from .fake_port import FakePort


def read(tree, certificates=None, inventory=None):
    return Reader(str(tree.root), certificates or {}).read(inventory or {})


# ------------------------------------------------------------------------------------------ certificates


@pytest.mark.needs("openssl")
def test_the_end_of_a_certificate_as_openssl_reads_it(certificates):
    for name in ("host.pem", "ca.pem", "collector.pem"):
        path = str(certificates / name)
        text = subprocess.check_output(["openssl", "x509", "-in", path, "-noout", "-enddate"]).decode()
        want = subprocess.check_output(["date", "-u", "-d", text.split("=")[1].strip(), "+%s"])
        with open(path) as file:
            assert expires(file.read()) == int(want)


@pytest.mark.needs("openssl")
def test_an_end_after_2049_and_a_key_before_it(short):
    where = ["-keyout", str(short / "k.pem"), "-out", str(short / "c.pem"), "-days", "20000"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    trees.openssl("req", "-x509", "-subj", "/CN=x", *(where + curve))
    both = (short / "k.pem").read_text() + (short / "c.pem").read_text()
    assert 20000 * 86400 - 60 <= expires(both) - time.time() <= 20000 * 86400


@pytest.mark.needs("openssl")
def test_what_is_cut_off_or_changed_is_an_error_and_nothing_worse(certificates):
    import base64

    text = (certificates / "host.pem").read_text()
    der = base64.b64decode("".join(text.split("-----")[2].split()))
    good = expires(text)
    for at in range(0, min(len(der), 220)):
        for changed in (der[:at], der[:at] + bytes([der[at] ^ 0xFF]) + der[at + 1 :]):
            pem = "-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % base64.b64encode(changed).decode()
            with contextlib.suppress(ValueError):
                assert isinstance(expires(pem), int)
    assert good > 1.7e9


@pytest.mark.parametrize("text", ["", "x" * 1000, "-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----"])
def test_no_certificate(text):
    with pytest.raises(ValueError):
        expires(text)


def test_certificates_that_cannot_be_read_say_why(tree):
    tree.put("etc/xensource/xapi-ssl.pem", "no pem")
    paths = certificate_paths(str(tree.root), "/nowhere/cert.pem", "/nowhere/ca.pem")
    found = {c.name: c for c in read(tree, paths).certificates}
    assert sorted(found) == ["agent", "collector's authority", "xapi"]
    assert "No such file" in found["agent"].text and "no certificate" in found["xapi"].text
    assert found["xapi"].expires_s == 0


def test_the_bundle_of_the_pools_certificates_is_told_where_it_is_needed_and_not_there(tree, certificates):
    assert read(tree).certificates == ()
    tree.put("var/xapi/verify-certificates", "")
    (missing,) = read(tree).certificates
    assert missing.name == "pool's bundle" and "No such file" in missing.text and missing.expires_s == 0
    tree.put("etc/stunnel/xapi-pool-ca-bundle.pem", "")
    assert "no certificate" in read(tree).certificates[0].text
    tree.put("etc/stunnel/xapi-pool-ca-bundle.pem", (certificates / "host.pem").read_text())
    assert read(tree).certificates == ()


# ------------------------------------------------------------------------------------------ services


def unit(tree, name, slice_="control.slice", procs="12\n", group="sys/fs/cgroup/systemd"):
    tree.put("usr/lib/systemd/system/%s" % name.replace("@xapi", "@"), "")
    tree.put("%s/system.slice/cgroup.procs" % group, "")
    if procs is not None:
        tree.put("%s/%s/%s/cgroup.procs" % (group, slice_, name), procs)


def test_services_by_their_control_groups(tree):
    unit(tree, "xapi.service")
    unit(tree, "xenopsd-xc.service", procs="")
    unit(tree, "sshd.service", "system.slice")
    unit(tree, "stunnel@xapi.service", "system.slice/system-stunnel.slice")
    unit(tree, "forkexecd.service", procs=None)
    assert dict(read(tree).services) == {
        "xapi.service": "active",
        "xenopsd-xc.service": "inactive",
        "sshd.service": "active",
        "stunnel@xapi.service": "active",
        "forkexecd.service": "inactive",
    }


@pytest.mark.parametrize(
    "path",
    ["etc/init.d/ha-lizard", "etc/init.d/ha-lizard-watchdog", "etc/cron.d/ha-lizard", "etc/ha-lizard/ha-lizard.conf"],
)
def test_another_tool_is_told_by_its_files_whatever_starts_it(tree, path):
    assert "ha-lizard.service" not in dict(read(tree).services)
    tree.put(path, "")
    assert "ha-lizard.service" in dict(read(tree).services)


@pytest.mark.parametrize("path", ["etc/crontab", "var/spool/cron/root", "etc/cron.d/own", "etc/cron.hourly/own"])
def test_another_tool_that_cron_starts_is_told(tree, path):
    tree.put(path, "PATH=/bin\n# */5 * * * * root /opt/ha-lizard/ha-lizard.sh\n")
    assert not read(tree).services
    tree.put(path, "PATH=/bin\n*/5 * * * * root /opt/ha-lizard/ha-lizard.sh\n")
    assert [name for name, _ in read(tree).services] == ["ha-lizard.service"]


def test_services_with_cgroup_2_and_without_any(tree):
    unit(tree, "xapi.service", "system.slice", group="sys/fs/cgroup")
    assert read(tree).services == (("xapi.service", "active"),)
    tree.put("usr/lib/systemd/system/sshd.service", "")
    import shutil

    shutil.rmtree(tree.path("sys/fs/cgroup"))
    assert {state for _, state in read(tree).services} == {"unknown"}


# ------------------------------------------------------------------------------------------ network, multipath, rest


def nic(tree, name, carrier=None, speed="", state="up", physical=True, bond=""):
    if physical:
        tree.put("sys/class/net/%s/device/x" % name, "")
    if carrier is not None:
        tree.put("sys/class/net/%s/carrier" % name, carrier)
    tree.put("sys/class/net/%s/speed" % name, speed)
    tree.put("sys/class/net/%s/operstate" % name, state)
    if bond:
        os.symlink("../%s" % bond, tree.path("sys/class/net/%s/master" % name))


def test_nics_and_the_management_link(tree):
    nic(tree, "eth0", "1", "10000", bond="bond0")
    nic(tree, "eth1", "0", "-1", bond="bond0")
    nic(tree, "eth2", None, "", "down")
    nic(tree, "vif1.0", "1", physical=False)
    nic(tree, "bond0", "1", physical=False)
    tree.put("sys/class/net/bond0/bonding/mode", "802.3ad 4")
    nic(tree, "xenbr0", "1", physical=False)
    network = read(tree, inventory={"MANAGEMENT_INTERFACE": "xenbr0"}).network
    assert network.link is True and [tuple(n) for n in network.nics] == [
        ("eth0", True, 10000, "bond0"),
        ("eth1", False, 0, "bond0"),
        ("eth2", False, 0, ""),
    ]
    assert read(tree, inventory={"MANAGEMENT_INTERFACE": "../../etc"}).network.link is None
    assert read(tree).network.interface == ""


def mpath(tree, number, states, name="3600a", uuid="mpath-3600a"):
    import shutil

    base = "sys/block/dm-%d" % number
    shutil.rmtree(tree.path(base), ignore_errors=True)
    tree.put(base + "/dm/uuid", uuid)
    tree.put(base + "/dm/name", name)
    for index, state in enumerate(states):
        tree.put("%s/slaves/sd%d/device/state" % (base, index), state)


def test_paths_that_are_lost_are_remembered(tree):
    reader = Reader(str(tree.root), {})
    mpath(tree, 0, ["running", "running", "running", "running"])
    mpath(tree, 1, ["running"], "lv", "LVM-x")
    assert [tuple(m) for m in reader.read({}).maps] == [("3600a", 4, 4, 4)]
    mpath(tree, 0, ["running", "offline"])
    assert [tuple(m) for m in reader.read({}).maps] == [("3600a", 1, 2, 4)]
    mpath(tree, 0, [], uuid="LVM-y")
    assert reader.read({}).maps == ()


def test_swap_and_versions(tree):
    tree.memory(SwapTotal=1000, SwapFree=250)
    tree.put("sys/hypervisor/version/major", "4\n")
    tree.put("sys/hypervisor/version/minor", "17\n")
    tree.put("sys/hypervisor/version/extra", ".5-3\n")
    tree.put("proc/sys/kernel/osrelease", "4.19.0+1\n")
    seen = read(tree, inventory={"BUILD_NUMBER": "cloud"})
    assert (seen.swap, seen.xen, seen.kernel, seen.build) == ((1024000, 256000), "4.17.5-3", "4.19.0+1", "cloud")


def test_an_empty_tree_knows_nothing(short):
    seen = Reader(str(short / "none"), {}).read({})
    assert (seen.services, seen.maps, seen.swap, seen.xen, seen.network.nics) == ((), (), (0, 0), "", ())


# ------------------------------------------------------------------------------------------ on the wire


def test_sections_and_what_they_say(tree):
    unit(tree, "xapi.service")
    nic(tree, "eth0", "1", "1000")
    mpath(tree, 0, ["running"])
    seen = read(tree, {"agent": "/none"})
    sections = {name: make(seen, "10.0.0.5") for name, make in surroundings.SECTIONS}
    assert sorted(sections) == ["certificates", "multipath", "network", "services"]
    assert sections["network"].nics[0].link == pb.YES and sections["network"].management_address == "10.0.0.5"
    assert sections["multipath"].maps[0].most_paths == 1


def test_marks_tell_how_far_each_section_has_come(port, side):
    opened = side.conversation.link_up()[1].report
    first = {mark.section: mark.changes for mark in opened.marks}
    number = pb.Report.DESCRIPTOR.fields_by_name["disks"].number
    assert first[number] == 1 and set(first.values()) == {1}
    port.free -= 10**6
    changed = side.conversation.report().report
    assert {m.section: m.changes for m in changed.marks} == {number: 2}, "of what it brings, and of nothing else"
    told = [bool(side.conversation.report().report.marks) for _ in range(MARKS_EVERY)]
    assert told.count(True) == 1, "seldom while nothing changes"


def test_a_section_that_is_asked_for_comes_although_it_has_not_changed(port, side):
    side.conversation.link_up()
    number = pb.Report.DESCRIPTOR.fields_by_name["disks"].number
    request = pb.CollectorMessage(full_report_request=pb.FullReportRequest(sections=[number]))
    (answer,), work = side.conversation.receive(request)
    assert work is None and answer.report.HasField("disks") and not answer.report.full
    assert not answer.report.HasField("xapi")
    assert {m.section: m.changes for m in answer.report.marks}[number] == 1
    (answer,), _ = side.conversation.receive(pb.CollectorMessage(full_report_request=pb.FullReportRequest()))
    assert answer.report.full and answer.report.HasField("xapi")


CHANGES = (
    {"free": 5 * 10**8}, {"free": 4 * 10**8}, {"conf": (host_now.MEMBER, "10.0.0.2")},
    {"conf": (host_now.MASTER, "")},
    {"domain_list": ["vm-1", "vm-2"]}, {"domain_list": None}, {"address": "10.0.0.6"}, {"armed": True}, {"armed": None},
    {"source": ("var/lib/xcp/state.db", 43)}, {"xapi": host_now.Process(501, 9100)}, {"tcp": probe_rules.NO_ANSWER},
    {},
)  # fmt: skip


def test_a_report_is_the_same_whether_or_not_what_it_is_made_of_is_remembered(tmp_path):
    """A hundred rounds of random changes: the sections that are told, and those that are left out, are the same."""
    draw = random.Random(7)
    ports = FakePort(), FakePort()
    remembering, forgetful = (HostSide(port) for port in ports)
    for side in (remembering, forgetful):
        side.conversation.link_up()
    for _ in range(100):
        change, later = draw.choice(CHANGES), draw.choice((0, 2000, 61000))
        for port in ports:
            port.now += later
            for name, value in change.items():
                setattr(port, name, value)
        for side in (remembering, forgetful):
            side.observer.look_at_xapi(False, 5000)
        forgetful.conversation._made_of.clear()
        full = draw.random() < 0.05
        told, other = remembering.conversation.report(full=full).report, forgetful.conversation.report(full=full).report
        told.wall_ms = other.wall_ms
        assert told == other
