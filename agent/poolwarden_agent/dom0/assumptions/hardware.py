"""The machine and its network as dom0 shows them: inventory, bridges, Open vSwitch, DMI, the BMC's device, multipath.

Of DMI it is only said whether it names a machine; which one a fence device switches is judged by the collector.
"""

import errno
import glob
import os
import re
from typing import Optional

from poolwarden.machine_identity import names_no_machine
from poolwarden_agent.core.findings import Seen, fails, familiar, holds, not_seen, private
from poolwarden_agent.dom0.assumptions.scene import Scene, is_socket, listed, read
from poolwarden_agent.dom0.fencing import bmc
from poolwarden_agent.dom0.system import files, links, mounts, openvswitch, plain_files

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_DMI = "sys/class/dmi/id"
_NET = "sys/class/net"
_USUAL = r"lo|(?:xenbr|xapi|eth|bond|virbr)[0-9]{1,4}|en[op][0-9]{1,4}(?:s[0-9]{1,3})?(?:f[0-9]{1,2})?"


def interface(name: str) -> str:
    """An interface's name: those of the kernel and the toolstack are told, others may name somebody."""
    return familiar(name, _USUAL)


# ---------------------------------------------------------------------------------------------- inventory


def inventory_form(scene: Scene) -> Seen:
    found = read(scene.root, files.INVENTORY)
    if found.text is None:
        return fails("there is none") if found.gone else not_seen(found.why)
    uuid = scene.inventory.get("INSTALLATION_UUID", "")
    if not uuid:
        return fails("it has no INSTALLATION_UUID")
    if not _UUID.match(uuid):
        return fails("its INSTALLATION_UUID is no UUID: %s" % private(uuid))
    return holds("%d keys; INSTALLATION_UUID is a UUID" % len(scene.inventory))


def inventory_management(scene: Scene) -> Seen:
    name = scene.inventory.get("MANAGEMENT_INTERFACE", "")
    if not name:
        return not_seen("it names none: management is disabled, or not set up yet")
    if not listed(scene.path(_NET)):
        return not_seen("the interfaces cannot be listed")
    if os.path.isdir(scene.path(_NET, name)):
        return holds("it names %s" % interface(name))
    if not scene.settled():
        return not_seen("%s is not there yet" % interface(name))
    return fails("it names %s, and there is no such interface" % interface(name))


# ---------------------------------------------------------------------------------------------- network


def _switch(scene: Scene) -> Optional[openvswitch.Switch]:
    return scene.once("switch", lambda: openvswitch.read(scene.root))


def management_hardware(scene: Scene) -> Seen:
    name = scene.inventory.get("MANAGEMENT_INTERFACE", "")
    if not name or not os.path.isdir(scene.path(_NET, name)):
        return not_seen("there is no management interface to look at")
    switch = _switch(scene) if openvswitch.used(scene.root) else None
    if _no_ports(scene, name):
        return fails("%s is a bridge without a port" % interface(name))
    link = links.link(scene.root, name, switch)
    if link is not None:
        return holds("%s: %s" % (interface(name), "a link" if link else "no link"))
    if switch is not None and switch.below(name) == ():
        return fails("%s has no port in Open vSwitch" % interface(name))
    return not_seen("whether %s has a link cannot be read" % interface(name))


def _no_ports(scene: Scene, name: str) -> bool:
    """Is it a bridge of Linux's below which there is nothing but VMs?"""
    try:
        return all(port.startswith(links.VMS) for port in os.listdir(scene.path(_NET, name, "brif")))
    except OSError:
        return False


def openvswitch_database(scene: Scene) -> Seen:
    if not openvswitch.used(scene.root):
        return not_seen("Open vSwitch is not used here")
    switch, name = _switch(scene), scene.inventory.get("MANAGEMENT_INTERFACE", "")
    if switch is None:
        return _no_switch(scene)
    if not name:
        return holds("it answers: %d bridges" % len(switch.bridges))
    if switch.below(name) is not None:
        return holds("it knows %s" % interface(name))
    if os.path.isdir(scene.path(_NET, name, "brif")) or os.path.exists(scene.path(_NET, name, "device")):
        return not_seen("%s is none of its bridges" % interface(name))
    return fails("it answers, and knows no bridge %s" % interface(name))


def _no_switch(scene: Scene) -> Seen:
    there = is_socket(scene.path(openvswitch.SOCKET))
    if there is False and scene.settled():
        return fails("there is no socket of ovsdb-server")
    return not_seen("ovsdb-server did not answer in time")


def icmp(scene: Scene) -> Seen:
    try:
        opened, raw = scene.machine.icmp()
    except PermissionError:
        if scene.machine.privileged:
            return fails("it may not: operation not permitted")
        return not_seen("only root may, and this is another user")
    except OSError as error:
        return not_seen("it cannot be tried: %s" % os.strerror(error.errno or errno.EIO).lower())
    opened.close()
    return holds("a raw socket" if raw else "a datagram socket")


# ---------------------------------------------------------------------------------------------- machine


def dmi_readable(scene: Scene) -> Seen:
    if not listed(scene.path(_DMI)):
        return not_seen("there is no %s here" % _DMI)
    for name in ("product_uuid", "product_serial"):
        found = read(scene.root, os.path.join(_DMI, name))
        if found.text is None:
            return fails("there is no %s" % name) if found.gone else not_seen("%s: %s" % (name, found.why))
        if not found.text:
            return fails("%s is empty" % name)
    return holds("product_uuid and product_serial")


def dmi_own(scene: Scene) -> Seen:
    uuid = read(scene.root, _DMI + "/product_uuid").text
    serial = read(scene.root, _DMI + "/product_serial").text
    if not uuid or not serial:
        return not_seen("they cannot be read")
    wrong = ["product_uuid"] if names_no_machine(uuid) else []
    wrong += ["product_serial"] if names_no_machine(serial) else []
    if wrong:
        return fails("left in place by the vendor: %s" % " and ".join(wrong))
    return holds("neither is a placeholder")


def ipmi_device(scene: Scene) -> Seen:
    there = [path for path in bmc.DEVICES if os.path.exists(scene.path(path))]
    if not there:
        return not_seen("no /dev/ipmi0 here: no BMC, or no driver of it")
    if os.access(scene.path(bmc.PROGRAM), os.X_OK):
        return holds("/%s and ipmitool" % there[0])
    if not listed(scene.path("usr/bin")):
        return not_seen("/usr/bin cannot be listed")
    return fails("/%s is there, and ipmitool is not" % there[0])


def multipath(scene: Scene) -> Seen:
    paths, states = 0, []  # type: int, List[str]
    for uuid in sorted(glob.glob(scene.path("sys/block/dm-*/dm/uuid")))[:1024]:
        if not _begins(uuid, b"mpath-"):
            continue
        base = os.path.dirname(os.path.dirname(uuid))
        paths += len(glob.glob(os.path.join(base, "slaves/*")))
        states += glob.glob(os.path.join(base, "slaves/*/device/state"))
    if not paths:
        return not_seen("no multipath map here")
    if not states:
        return fails("%d paths, and none has a device/state" % paths)
    return holds("%d paths, %d with a state" % (paths, len(states)))


def _begins(path: str, text: bytes) -> bool:
    try:
        with os.fdopen(plain_files.to_read(path), "rb") as file:
            return file.read(len(text)) == text
    except OSError:
        return False


def var_log(scene: Scene) -> Seen:
    found = {disk.mount: disk for disk in mounts.disks(scene.root)}
    if "/" not in found:
        return not_seen("the file systems cannot be read")
    log = found.get("/var/log")
    if log is None:
        gone = scene.settled() and listed(scene.path("var")) and not os.path.lexists(scene.path("var/log"))
        return fails("there is no /var/log") if gone else not_seen("its use cannot be read")
    if not log.own_mount:
        return holds("it lies on /")
    return holds("a file system of its own, %d MiB" % (log.total_bytes >> 20))
