"""HBAs, iSCSI, the disks below "/" and NICs' addresses, read from a tree as sysfs has them; else not known."""

import os

import pytest

from poolwarden_agent.dom0.system import adapters
from poolwarden_agent.dom0.system.adapters import FIBRE_CHANNEL, ISCSI, LOCAL, NVME_FABRIC, UNKNOWN
from poolwarden_agent.messages.installation import installation

PCI = "sys/devices/pci0000:00/0000:00:1f.2/"
BY = {
    "sata": (PCI + "ata1/host0/target0:0:0/0:0:0:0/block/sda", LOCAL),
    "raid controller": (PCI + "host2/target2:2:0/2:2:0:0/block/sda", LOCAL),
    "fibre channel": (PCI + "host1/rport-1:0-3/target1:0:3/1:0:3:0/block/sdb", FIBRE_CHANNEL),
    "fcoe without a port": (PCI + "host7/target7:0:0/7:0:0:0/block/sdc", FIBRE_CHANNEL),
    "open-iscsi": ("sys/devices/platform/host3/session1/target3:0:0/3:0:0:0/block/sdd", ISCSI),
    "iscsi hba": (PCI + "host9/target9:0:0/9:0:0:0/block/sde", ISCSI),
    "virtio": (PCI + "virtio1/block/vda", LOCAL),
    "xen": ("sys/devices/vbd-51712/block/xvda", LOCAL),
    "nvme": (PCI + "nvme/nvme0/nvme0n1", LOCAL),
    "nvme over tcp": ("sys/devices/virtual/nvme-fabrics/ctl/nvme3/nvme3n1", NVME_FABRIC),
    "nvme subsystem": ("sys/devices/virtual/nvme-subsystem/nvme-subsys4/nvme4n1", NVME_FABRIC),
    "drbd": ("sys/devices/virtual/block/drbd0", UNKNOWN),
    "rbd": ("sys/devices/rbd/0/block/rbd0", UNKNOWN),
}


def disk(tree, path, number="8:0", slaves=(), partition=""):
    """A block device at its place; ``slaves``: places of those below it; ``partition``: the one that is meant."""
    tree.put(path + "/size", "1")
    for each in slaves:
        where = tree.path(path + "/slaves/" + os.path.basename(each))
        os.makedirs(os.path.dirname(where), exist_ok=True)
        os.symlink(tree.path(each), where)
    if partition:
        path += "/" + partition
        tree.put(path + "/partition", "1")
    link = tree.path("sys/dev/block/" + number)
    os.makedirs(os.path.dirname(link), exist_ok=True)
    os.symlink(os.path.relpath(tree.path(path), os.path.dirname(link)), link)
    return path


def mounted(tree, number, more=""):
    line = "21 1 %s / / rw,relatime - ext3 /dev/x rw\n"
    tree.put("proc/self/mountinfo", more + line % number + "22 21 0:5 / /proc rw - proc proc rw\n")


def san(tree):
    """The classes that tell what a SCSI host or a controller is."""
    tree.put("sys/class/fc_host/host1/port_name", "0x21000024ff000001\n")
    tree.put("sys/class/fc_host/host1/port_state", "Online\n")
    tree.put("sys/class/fc_host/host7/port_name", "0x2000000000000007\n")
    tree.put("sys/class/iscsi_host/host9/x", "")
    tree.put("sys/class/iscsi_session/session1/targetname", "iqn.2001-05.com.example:lun1\n")
    tree.put(PCI + "nvme/nvme0/transport", "pcie\n")
    tree.put("sys/devices/virtual/nvme-fabrics/ctl/nvme3/transport", "tcp\n")
    tree.put("sys/devices/virtual/nvme-subsystem/nvme-subsys4/nvme4/transport", "rdma\n")


@pytest.mark.parametrize("name", sorted(BY))
def test_by_what_the_root_is_reached(tree, name):
    path, transport = BY[name]
    san(tree)
    disk(tree, path, partition=os.path.basename(path) + "1")
    mounted(tree, "8:0")
    assert adapters.root_disks(str(tree.root)) == ((os.path.basename(path), transport),)


def test_a_root_on_lvm_on_raid_on_two_disks_is_both_of_them(tree):
    san(tree)
    parts = [
        disk(tree, BY["sata"][0], "8:0", partition="sda2"),
        disk(tree, BY["fibre channel"][0], "8:16", partition="sdb2"),
    ]
    md = disk(tree, "sys/devices/virtual/block/md0", "9:0", parts)
    disk(tree, "sys/devices/virtual/block/dm-3", "253:3", [md])
    mounted(tree, "253:3", "20 1 0:1 / / rw - rootfs rootfs rw\n")
    assert adapters.root_disks(str(tree.root)) == (("sda", LOCAL), ("sdb", FIBRE_CHANNEL))


@pytest.mark.parametrize("number", ["", "0:44", "8:99", "../../x", "8:0"])
def test_a_root_that_is_on_no_device_is_not_known(tree, number):
    if number:
        mounted(tree, number)
    assert adapters.root_disks(str(tree.root)) == ()


def test_slaves_in_a_ring_end(tree):
    one, two = "sys/devices/virtual/block/dm-0", "sys/devices/virtual/block/dm-1"
    disk(tree, two, "253:1", [one])
    disk(tree, one, "253:0", [two])
    mounted(tree, "253:0")
    assert adapters.root_disks(str(tree.root)) == ()


def test_ports_and_sessions(tree):
    san(tree)
    seen = adapters.read(str(tree.root))
    assert [tuple(port) for port in seen.fc_ports] == [
        ("host1", "0x21000024ff000001", "Online"),
        ("host7", "0x2000000000000007", ""),
    ]
    assert (seen.iscsi_hosts, seen.iscsi_targets) == (1, ("iqn.2001-05.com.example:lun1",))


@pytest.mark.parametrize(
    "text, known",
    [
        ("InitiatorName=iqn.2010-04.com.example:h1\n", True),
        ("# InitiatorName=x\n", False),
        ("InitiatorName=\n", False),
        (None, False),
        ("x" * 70000, None),
    ],
)
def test_the_initiators_name_is_there_or_not_and_never_told(tree, text, known):
    tree.put("sys/class/x", "")
    if text is not None:
        tree.put(adapters.INITIATOR, text)
    seen = adapters.read(str(tree.root))
    assert seen.initiator is known and "com.example" not in str(seen)


def test_macs_are_the_nics_own_in_a_bond_too(tree):
    for name, mac, bond in (("eth0", "AA:00", ""), ("eth1", "BB:00", "bond0"), ("eth2", "BB:00", "bond0")):
        tree.put("sys/class/net/%s/device/x" % name, "")
        tree.put("sys/class/net/%s/address" % name, mac + "\n")
        if bond:
            os.symlink("../" + bond, tree.path("sys/class/net/%s/master" % name))
    tree.put("sys/class/net/bond0/bonding/mode", "active-backup 1")
    tree.put("sys/class/net/vif1.0/address", "fe:ff")
    member = "\nSlave Interface: %s\nMII Status: up\nPermanent HW addr: %s\n"
    tree.put("proc/net/bonding/bond0", "Bonding Mode: x\n" + member % ("eth1", "BB:01"))
    assert [tuple(nic) for nic in adapters.read(str(tree.root)).nics] == [
        ("eth0", "aa:00"),
        ("eth1", "bb:01"),
        ("eth2", ""),
    ], "the address that a bond lends is not eth2's own"


def test_without_sysfs_nothing_is_known(short):
    assert adapters.read(str(short / "none")) is None
    assert not installation(None, None).HasField("adapters")


def test_on_the_wire(tree):
    san(tree)
    disk(tree, BY["nvme"][0])
    mounted(tree, "8:0")
    told = installation(adapters.read(str(tree.root)), None)
    assert told.adapters.root_disks[0].name == "nvme0n1"
    assert told.adapters.root_disks[0].transport == told.adapters.root_disks[0].LOCAL
    assert len(told.adapters.fc_ports) == 2 and not told.HasField("records")
