"""Which hardware a management interface stands on, and who answers on its network."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading

import pytest

from poolwarden_agent.core import boot_gate, gate_state, host_now
from poolwarden_agent.dom0.system import boot_findings, neighbours, openvswitch
from poolwarden_agent.dom0.system.surroundings import Reader

from . import tree as trees

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


def link(tree, path, to):
    place = tree.root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(to, str(place))


def nic(tree, name, carrier, master="", device=True):
    """A network interface as the kernel shows it."""
    base = "sys/devices/pci/net/" + name
    tree.put(base + "/carrier", "%d\n" % carrier)
    tree.put(base + "/speed", "1000\n" if carrier else "-1\n")
    if device:
        tree.put(base + "/device/vendor", "0x8086\n")
    if master:
        link(tree, base + "/master", "../../../virtual/net/" + master)
    link(tree, "sys/class/net/" + name, "../../devices/pci/net/" + name)


def bridge(tree, name, carrier=1):
    tree.put("sys/devices/virtual/net/%s/carrier" % name, "%d\n" % carrier)
    link(tree, "sys/class/net/" + name, "../../devices/virtual/net/" + name)


@pytest.fixture
def switched(tree):
    """Four interfaces of Open vSwitch, one bridge for each, and the device of a VM."""
    bridge(tree, "ovs-system", 0)
    for number in range(4):
        nic(tree, "eth%d" % number, 1, "ovs-system")
        bridge(tree, "xenbr%d" % number)
    nic(tree, "vif3.0", 1, "ovs-system")
    for name in ("xapi0", "xapi7", "xapi8", "xapi9"):
        bridge(tree, name)
    return tree


@pytest.fixture
def database(switched, short):
    """A real ovsdb-server with the bridges of the tree; xapi0 stands on a bond, xapi7 is a VLAN on xenbr0."""
    folder = switched.root / "var/run/openvswitch"
    folder.mkdir(parents=True)
    where = str(short / "ovs")
    os.symlink(str(folder), where)
    subprocess.check_call(["ovsdb-tool", "create", where + "/conf.db", SCHEMA])
    server = subprocess.Popen(
        ["ovsdb-server", where + "/conf.db", "--remote=punix:%s/db.sock" % where, "--unixctl=none"]
    )
    try:
        trees.until(lambda: (folder / "db.sock").exists())
        words = ["ovs-vsctl", "--retry", "--timeout=30", "--db=unix:%s/db.sock" % where, "--no-wait", "init"]
        for number in range(4):
            words += ["--", "add-br", "xenbr%d" % number]
        for number in (0, 3):
            words += ["--", "add-port", "xenbr%d" % number, "eth%d" % number]
        words += ["--", "add-br", "xapi0", "--", "add-bond", "xapi0", "bond0", "eth1", "eth2"]
        words += ["--", "add-br", "xapi7", "xenbr0", "7", "--", "add-port", "xapi7", "vif3.0"]
        # A VLAN on the bond, an interface of the host's own, and a private network that tunnels over it (SDN).
        words += ["--", "add-br", "xapi8", "xapi0", "8", "--", "add-port", "xenbr0", "own0"]
        words += ["--", "set", "Interface", "own0", "type=internal", "--", "add-br", "xapi9"]
        words += ["--", "set", "Port", "bond0", "bond_mode=balance-tcp", "lacp=active"]
        for bridge_, name, kind in (("xapi9", "vx0", "vxlan"), ("xenbr0", "gre0", "gre"), ("xenbr0", "p0", "patch")):
            words += ["--", "add-port", bridge_, name, "--", "set", "Interface", name, "type=" + kind]
        subprocess.check_call(words)
        yield switched
    finally:
        server.kill()
        server.wait(10)


def cable(tree, name, carrier):
    tree.put("sys/devices/pci/net/%s/carrier" % name, "%d\n" % carrier)


def up(tree, name):
    return boot_findings.link_up(str(tree.root), name)


def network(tree, name):
    return Reader(str(tree.root), {}).read({"MANAGEMENT_INTERFACE": name}).network


@pytest.mark.slow
@pytest.mark.needs("ovsdb-server")
def test_an_open_vswitch_bridge_has_the_link_of_its_own_hardware(database):
    assert up(database, "xenbr0") and up(database, "xapi0") and up(database, "xapi7")
    cable(database, "eth0", 0)
    assert not up(database, "xenbr0") and not up(database, "xapi7"), "a bridge's device always has a carrier"
    assert up(database, "xapi0") and up(database, "xenbr3") and not up(database, "xenbr1"), "no hardware below it"
    cable(database, "eth1", 0)
    assert up(database, "xapi0") and up(database, "xapi8"), "half a bond is a link"
    cable(database, "eth2", 0)
    assert not up(database, "xapi0") and not up(database, "xapi8"), "a VLAN has the link of the bond that it lies on"
    assert network(database, "xapi8").link is False
    assert network(database, "xapi9").link is None and not up(database, "xapi9"), "a tunnel is no hardware"
    found = network(database, "xenbr0")
    assert found.link is False
    assert [(n.name, n.link, n.bond) for n in found.nics] == [
        ("eth0", False, ""),
        ("eth1", False, "bond0"),
        ("eth2", False, "bond0"),
        ("eth3", True, ""),
    ], "ovs-system is no bond, a VM's interface no hardware"


@pytest.mark.parametrize(("cables", "link"), [("1100", True), ("0100", False), ("0000", False)])
def test_without_its_database_a_bridge_is_known_by_its_name(switched, cables, link):
    for number, there in enumerate(cables):
        cable(switched, "eth%d" % number, int(there))
    assert up(switched, "xenbr0") is link
    assert network(switched, "xenbr0").link is link and {n.bond for n in network(switched, "xenbr0").nics} == {""}
    known = {"0000": False}.get(cables)
    assert not up(switched, "xapi0") and network(switched, "xapi0").link is known, "unknown counts as no"


def test_without_its_database_what_all_cables_say_holds_for_every_bridge(switched):
    assert up(switched, "xapi0") and up(switched, "xapi7"), "whichever of them it stands on"
    cable(switched, "eth3", 0)
    assert network(switched, "xapi0").link is None and not up(switched, "xapi0")
    for number in range(3):
        cable(switched, "eth%d" % number, 0)
    assert network(switched, "xapi0").link is False


def test_without_its_database_a_bridge_of_a_nic_that_is_not_renamed_is_known_by_that_name(tree):
    bridge(tree, "ovs-system", 0)
    for name in ("enp3s0", "enp4s0"):
        nic(tree, name, 1, "ovs-system")
        bridge(tree, "br" + name)
    bridge(tree, "xenbr1")
    cable(tree, "enp4s0", 0)
    assert up(tree, "brenp3s0") and network(tree, "brenp4s0").link is False
    assert network(tree, "xenbr1").link is None, "its position does not say which NIC it is"
    assert [(n.name, n.link, n.bond) for n in network(tree, "brenp3s0").nics] == [
        ("enp3s0", True, ""),
        ("enp4s0", False, ""),
    ]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"{",
        b'{"result": null}',
        b'{"result": [{"rows": [{}]}, {"rows": []}, {"rows": []}]}',
        b"[1, 2]",
        b"\xff}",
        None,
    ],
)
def test_a_database_that_answers_nonsense_or_nothing_is_not_known(switched, short, monkeypatch, said):
    monkeypatch.setattr(openvswitch, "LIMIT_S", 0.2)
    folder = switched.root / "var/run/openvswitch"
    folder.mkdir(parents=True)
    os.symlink(str(folder), str(short / "o"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(short / "o/db.sock"))
        server.listen(1)

        def answer():
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                if said is None:
                    peer.recv(4096)  # until it gives up
                else:
                    peer.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        assert openvswitch.read(str(switched.root)) is None
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def bridged(tree):
    """Bridges of Linux's: eth0, a bond, a VLAN on each, one without hardware; VMs and a tunnel on them all."""
    ports = {"xenbr0": ["eth0"], "xapi0": ["bond0"], "xapi1": ["eth0.7"], "xapi2": ["bond0.8"], "xapi3": []}
    for number in range(3):
        nic(tree, "eth%d" % number, 1, "bond0" if number else "xenbr0")
    bridge(tree, "bond0")
    tree.put("sys/devices/virtual/net/bond0/bonding/mode", "active-backup 1\n")
    for name, on in (("eth0.7", "eth0"), ("bond0.8", "bond0")):
        bridge(tree, name)
        link(tree, "sys/devices/virtual/net/%s/lower_%s" % (name, on), "../" + on)
    for name in ("vif1.0", "tap1.0", "gretap1"):
        bridge(tree, name)
    for name, hardware in ports.items():
        bridge(tree, name)
        for port in hardware + ["vif1.0", "tap1.0", "gretap1"]:
            tree.put("sys/devices/virtual/net/%s/brif/%s/state" % (name, port), "3\n")
    return tree


def carry(tree, name, carrier):
    tree.put("sys/devices/virtual/net/%s/carrier" % name, "%d\n" % carrier)


def test_a_bridge_of_linux_has_the_carrier_of_its_hardware(bridged):
    assert all(up(bridged, name) for name in ("xenbr0", "xapi0", "xapi1", "xapi2")) and not up(bridged, "xenbr9")
    assert not up(bridged, "xapi3") and network(bridged, "xapi3").link is None, "VMs and tunnels are always up"
    cable(bridged, "eth0", 0)
    carry(bridged, "eth0.7", 0)
    assert not up(bridged, "xenbr0") and not up(bridged, "xapi1") and up(bridged, "xapi2")
    carry(bridged, "bond0", 0)
    carry(bridged, "bond0.8", 0)
    assert not up(bridged, "xapi0") and not up(bridged, "xapi2")
    assert {n.name: n.bond for n in network(bridged, "xapi0").nics} == {"eth0": "", "eth1": "bond0", "eth2": "bond0"}


def test_virtual_functions_of_a_nic_are_none_of_the_hosts_nics(tree):
    nic(tree, "eth0", 1)
    for number in range(70):
        nic(tree, "eth0v%d" % number, 1)
        link(tree, "sys/devices/pci/net/eth0v%d/device/physfn" % number, "../../0000:01:00.0")
    assert [each.name for each in network(tree, "eth0").nics] == ["eth0"]


# ------------------------------------------------------------------------------------------ who answers

ROUTES = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n"
    "xenbr0\t00000000\tFE00007F\t0003\t0\t0\t0\t00000000\n"
)
ARP = "IP address HW type Flags HW address Mask Device\n127.0.0.254 0x1 %s 00:16:3e:00:00:01 * xenbr0\n"


def test_the_gateway_is_there_if_it_answers_arp(tree):
    root = tree.path("")
    assert neighbours.gateway(root, "xenbr0") is None, "none is configured"
    tree.put("proc/net/route", ROUTES)
    tree.put("proc/net/arp", ARP % "0x0")
    assert neighbours.gateway(root, "xenbr0") is False
    tree.put("proc/net/arp", ARP % "0x2")
    assert neighbours.gateway(root, "xenbr0") is True


def test_a_gateway_on_another_interface_says_nothing_of_the_management_network(tree):
    root = tree.path("")
    tree.put("proc/net/arp", ARP % "0x2")
    tree.put("proc/net/route", ROUTES.replace("xenbr0", "xenbr1"))
    assert neighbours.gateway(root, "xenbr0") is None and neighbours.gateway(root, "") is None
    both = ROUTES + ROUTES.splitlines()[1] + "\n"
    tree.put("proc/net/route", both.replace("xenbr0", "xenbr1", 1))
    assert neighbours.gateway(root, "xenbr0") is True
    tree.put("proc/net/route", "")
    row = "%s 00 %s 00 fd00%s 00000400 00000001 00000000 00000003 %8s\n"
    tree.put("proc/net/ipv6_route", row % ("0" * 32, "0" * 32, "0" * 27 + "1", "xenbr1"))
    assert neighbours.gateway(root, "xenbr0") is None and neighbours.gateway(root, "xenbr1") is False


def test_an_entry_that_somebody_made_has_never_answered(tree):
    tree.put("proc/net/route", ROUTES)
    tree.put("proc/net/arp", ARP % "0x6")
    assert neighbours.gateway(tree.path(""), "xenbr0") is False


def test_without_a_gateway_any_host_of_the_pool_shows_the_network(tree):
    root = tree.path("")
    tree.put("proc/net/arp", ARP % "0x2")
    assert neighbours.answers(root, ["127.0.0.7", "127.0.0.254"]) and not neighbours.answers(root, ["127.0.0.7"])
    assert not neighbours.answers(root, []) and not neighbours.answers(root, ["no address"])
    tree.put("proc/net/arp", ARP % "0x0")
    assert not neighbours.answers(root, ["127.0.0.254"])


IPV6 = """
import json
from poolwarden_agent.dom0.system import neighbours
print(json.dumps([neighbours.gateway("/", "d0"), [neighbours.answers("/", ["fd00::%d" % n]) for n in (2, 3, 4, 5)]]))
"""


@pytest.mark.slow
@pytest.mark.needs("namespaces", "unshare", "ip")
def test_ipv6_hosts_by_the_kernels_own_table():
    lines = [
        "ip link set lo up; ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up",
        "ip -6 addr add fd00::1/64 dev d0 nodad",
        "ip -6 neigh add fd00::2 lladdr 02:00:00:00:00:02 dev d0 nud reachable",
        "ip -6 neigh add fd00::3 dev d0 nud failed",
        "ip -6 neigh add fd00::5 lladdr 02:00:00:00:00:05 dev d0 nud permanent",
        "%s -c '%s'" % (sys.executable, IPV6),
        "ip -6 neigh add fe80::9 lladdr 02:00:00:00:00:09 dev d0 nud reachable",
        "ip -6 route add default via fe80::9 dev d0",
        "%s -c '%s'" % (sys.executable, IPV6),
    ]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    said = subprocess.check_output([shutil.which("unshare"), "-n", "sh", "-ec", "\n".join(lines)], env=env, timeout=60)
    before, after = [json.loads(line) for line in said.decode().splitlines()]
    assert before == [None, [True, False, False, False]] and after == [True, [True, False, False, False]]


@pytest.mark.parametrize(
    ("gateway", "heard", "opens"), [(True, False, True), (False, True, False), (None, True, True), (None, False, False)]
)
def test_a_link_alone_opens_no_gate(gateway, heard, opens):
    members = (boot_gate.Member("10.0.0.2", boot_gate.SILENT),)
    now = boot_gate.BootNow(
        "b", "10.0.0.1", host_now.MASTER, 2, False, "", None, True, members, True, True, gateway, heard, 300000
    )
    assert (boot_gate.decide(gate_state.EMPTY, now).state == boot_gate.OPEN) is opens
