"""By what a host reaches disks and networks, from sysfs: HBAs, iSCSI, the disks below ``/``, its NICs' addresses.

For people who install a host anew. Nothing here forks or asks a device: sysfs and proc answer from memory.

Rules
-----
* The disks below ``/`` are found from its device number (proc/self/mountinfo) through the ``slaves`` of device mapper
  and RAID. A disk is reached by Fibre Channel if its SCSI host is one of class fc_host (FCoE is, too), by iSCSI if its
  host or session is of iSCSI's classes, by NVMe over a network if its controller's ``transport`` is not ``pcie``. On
  another SCSI, virtio or MMC host, or a NVMe of PCIe, it is local. Of any other device nothing is
  known (nbd, drbd, rbd, loop).
* A NIC's address is the one that the toolstack takes for its PIF: the permanent one in a bond of the kernel, whose
  members have the bond's, else the present one (xapi: ocaml/networkd/bin/network_server.ml, get_mac).
* Of the initiator's name it is told that there is one, and not which.
"""

import glob
import os
import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from poolwarden_agent.dom0.system import files, links

UNKNOWN, LOCAL, FIBRE_CHANNEL, ISCSI, NVME_FABRIC = "", "local", "fibre channel", "iscsi", "nvme fabric"
MOST = 64
MOST_DEVICES = 256  # that are looked at below "/"
MOUNTS_BYTES = 1024 * 1024
INITIATOR = "etc/iscsi/initiatorname.iscsi"
_SCSI_HOST = re.compile(r"host[0-9]{1,6}\Z")
_SESSION = re.compile(r"session[0-9]{1,9}\Z")
_LOCAL = re.compile(r"(?:virtio[0-9]{1,6}|mmc[0-9]{1,4}|vbd-[0-9]{1,9})\Z")  # of KVM's, of cards, of Xen's own
_NVME = re.compile(r"nvme(?:-subsys)?[0-9]{1,6}\Z")
_DEVICE = re.compile(r"[0-9]{1,6}:[0-9]{1,8}\Z")

FcPort = NamedTuple("FcPort", [("name", str), ("wwpn", str), ("state", str)])
RootDisk = NamedTuple("RootDisk", [("name", str), ("transport", str)])
NicAddress = NamedTuple("NicAddress", [("name", str), ("mac", str)])


class Adapters(NamedTuple):
    """All of it; ``initiator``: has this host a name for Open-iSCSI, ``root_disks`` empty: not known."""

    fc_ports: Tuple[FcPort, ...]
    iscsi_hosts: int
    iscsi_targets: Tuple[str, ...]
    initiator: Optional[bool]
    root_disks: Tuple[RootDisk, ...]
    nics: Tuple[NicAddress, ...]


def read(root: str) -> Optional[Adapters]:
    """Now; None: there is no sysfs to be read."""
    if not os.path.isdir(os.path.join(root, "sys/class")):
        return None
    targets = {files.read(root, path) or "" for path in _glob(root, "sys/class/iscsi_session/session*/targetname")}
    return Adapters(
        _fc_ports(root),
        len(_glob(root, "sys/class/iscsi_host/host*")),
        tuple(sorted(target[:200] for target in targets if target)[:MOST]),
        _initiator(root),
        root_disks(root),
        tuple(NicAddress(name, mac(root, name)) for name in links.hardware(root)[:MOST]),
    )


def _glob(root: str, pattern: str) -> List[str]:
    """Paths below the root, in order."""
    return [os.path.relpath(path, root) for path in sorted(glob.glob(os.path.join(root, pattern)))[:1024]]


def _fc_ports(root: str) -> Tuple[FcPort, ...]:
    found = []
    for place in _glob(root, "sys/class/fc_host/host*"):
        wwpn, state = (files.read(root, "%s/%s" % (place, name)) or "" for name in ("port_name", "port_state"))
        found.append(FcPort(os.path.basename(place), wwpn[:40], state[:40]))
    return tuple(found[:MOST])


def _initiator(root: str) -> Optional[bool]:
    text = files.read(root, INITIATOR)
    if text is None:
        return None if os.path.lexists(os.path.join(root, INITIATOR)) else False
    return any(re.match(r"\s*InitiatorName\s*=\s*\S", line) for line in text.splitlines())


# ------------------------------------------------------------------------------------------ NICs


def mac(root: str, name: str) -> str:
    """A NIC's own address in small letters; empty: it cannot be read."""
    bond = links.bond(root, name, None)
    if not bond:
        return (files.read(root, "sys/class/net/%s/address" % name) or "").lower()[:40]
    member = ""
    for line in (files.read(root, "proc/net/bonding/%s" % bond) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "Slave Interface":
            member = value.strip()
        elif key.strip() == "Permanent HW addr" and member == name:
            return value.strip().lower()[:40]
    return ""


# ------------------------------------------------------------------------------------------ the disks below "/"


def root_disks(root: str) -> Tuple[RootDisk, ...]:
    """The disks that the file system of ``/`` lies on, and by what they are reached; empty: not known."""
    number = _root_device(root)
    start = os.path.join(root, "sys/dev/block", number) if _DEVICE.match(number) else ""
    if not start or not os.path.isdir(start):
        return ()
    found: Dict[str, str] = {}
    for path in _leaves(os.path.realpath(start)):
        found[os.path.basename(path)[:40]] = _transport(root, path)
    return tuple(RootDisk(name, found[name]) for name in sorted(found)[:MOST])


def _root_device(root: str) -> str:
    """``major:minor`` of what is mounted at ``/``, the last of them if several are; empty: not known."""
    number = ""
    for line in (files.read(root, "proc/self/mountinfo", MOUNTS_BYTES) or "").splitlines():
        words = line.split()
        if len(words) > 4 and words[4] == "/":
            number = words[2]
    return number


def _leaves(start: str) -> Iterator[str]:
    """The devices below this one that have none below them; of a partition its disk."""
    ahead = [start]
    seen: Set[str] = set()
    while ahead and len(seen) < MOST_DEVICES:
        path = ahead.pop()
        if os.path.exists(os.path.join(path, "partition")):
            path = os.path.dirname(path)
        if path in seen:
            continue
        seen.add(path)
        below = sorted(glob.glob(os.path.join(path, "slaves", "*")))
        ahead.extend(os.path.realpath(each) for each in below)
        if not below:
            yield path


def _transport(root: str, path: str) -> str:
    top = os.path.realpath(root).rstrip("/")
    names = path[len(top) :].split("/") if path.startswith(top + "/") else []
    for at, name in enumerate(names):
        if _SCSI_HOST.match(name):
            return _of_scsi_host(root, name, names)
        if _LOCAL.match(name):
            return LOCAL
        if _NVME.match(name):
            return _of_nvme(os.path.join(top, *names[: at + 1]))
    return UNKNOWN


def _of_scsi_host(root: str, host: str, names: List[str]) -> str:
    if os.path.exists(os.path.join(root, "sys/class/fc_host", host)) or any(n.startswith("rport-") for n in names):
        return FIBRE_CHANNEL
    of_iscsi = os.path.exists(os.path.join(root, "sys/class/iscsi_host", host))
    return ISCSI if of_iscsi or any(_SESSION.match(name) for name in names) else LOCAL


def _of_nvme(place: str) -> str:
    """Of one controller, or of a subsystem with several (nvme_core: multipath)."""
    paths = [os.path.join(place, "transport"), *sorted(glob.glob(os.path.join(place, "nvme*", "transport")))]
    words = {files.read("/", path) for path in paths} - {None, ""}
    return UNKNOWN if not words else LOCAL if words == {"pcie"} else NVME_FABRIC
