"""What the BMC tells its own dom0: asked by a child, never waited for."""

import os

from poolwarden_agent.dom0.fencing.bmc import ASK_EVERY_S, LIMIT_S, Bmc, Known

from .tree import Tree, until

LAN = """Set in Progress         : Set Complete
IP Address Source       : DHCP Address
IP Address              : 192.0.2.17
Subnet Mask             : 255.255.255.0
MAC Address             : 0c:c4:7a:00:00:01
"""
GUID = "System GUID  : 4C4C4544-0051-3310-8052-B4C04F4D4E32\nTimestamp    : 07/31/2010 12:00:00\n"


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def board(tmp_path, lan="cat <<E\n%sE" % LAN, guid="cat <<E\n%sE" % GUID):
    tree = Tree(tmp_path)
    tree.put("dev/ipmi0", "")
    script = '#!/bin/sh\necho "$*" >>%s/asked\ncase "$1" in\nlan)\n%s\n;;\nmc)\n%s\n;;\nesac\n' % (tmp_path, lan, guid)
    path = tree.put("usr/bin/ipmitool", script)
    os.chmod(str(tmp_path / "usr/bin/ipmitool"), 0o755)
    clock = Clock()
    return Bmc(str(tmp_path), clock), clock, path


def test_address_and_guid_are_learnt_without_waiting(tmp_path):
    bmc, _, _ = board(tmp_path)
    assert bmc.look() == Known("", "")
    until(lambda: bmc.look() == Known("192.0.2.17", "4c4c4544-0051-3310-8052-b4c04f4d4e32"))
    assert (tmp_path / "asked").read_text().splitlines() == ["lan print", "mc guid"]
    for _ in range(5):
        bmc.look()
    assert len((tmp_path / "asked").read_text().splitlines()) == 2


def test_it_is_asked_again_after_hours(tmp_path):
    bmc, clock, _ = board(tmp_path)
    until(lambda: bmc.look().guid)
    clock.now += ASK_EVERY_S + 1
    until(lambda: bmc.look() and (tmp_path / "asked").read_text().count("mc guid") == 2)


def test_a_bmc_without_lan_or_guid_is_not_known(tmp_path):
    bmc, _, _ = board(tmp_path, lan="echo 'IP Address              : 0.0.0.0'", guid="echo broken; exit 1")
    until(lambda: bmc.look() is not None and (tmp_path / "asked").exists() and _done(bmc))
    assert bmc.look() == Known("", "")


def test_a_hanging_bmc_costs_one_child_and_no_wait(tmp_path):
    bmc, clock, _ = board(tmp_path, lan="echo $$ >%s/pid; exec sleep 600" % tmp_path)
    bmc.look()
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()))
    for _ in range(100):
        bmc.look()
    assert (tmp_path / "asked").read_text().splitlines() == ["lan print"]
    clock.now += LIMIT_S
    until(lambda: bmc.look() is not None and not os.path.exists("/proc/%d" % pid))
    assert bmc.look() == Known("", "")


def test_a_machine_without_a_bmc_is_not_asked(tmp_path):
    bmc, _, _ = board(tmp_path)
    os.unlink(str(tmp_path / "dev/ipmi0"))
    assert Bmc(str(tmp_path), Clock()).look() == Known("", "")
    assert not (tmp_path / "asked").exists()
    assert bmc is not None


def _done(bmc):
    return bmc._child is None and not bmc._left
