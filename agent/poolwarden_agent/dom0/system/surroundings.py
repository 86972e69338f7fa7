"""What surrounds xapi in a dom0, from small files alone: services, network, certificates, multipath, swap, versions.

Nothing here forks, and nothing is read that could block: /proc and /sys answer from memory, and the one daemon that is
asked, Open vSwitch's database, within half a second or not at all. It is read each half minute, and what cannot be read
is said to be unknown.

Rules
-----
* A service runs if its control group holds a process. That is what systemd itself goes by, and it can be read without
  asking it (cgroup v1 below ``systemd``, v2 at the top); failed and stopped look alike from there.
* Multipath is read from sysfs: a path that multipathd has taken out is missing from its map, one that the kernel holds
  offline is there and not running. So the most paths ever seen are kept beside those of now.
* Interfaces are read from sysfs and not by psutil's net_if_stats: that asks every interface three times (6.5 ms where
  there are 300), and knows neither which are physical, nor their bonds, nor a link that is not known.
"""

import glob
import os
import re
from typing import Dict, NamedTuple, Optional, Tuple

from poolwarden_agent.core import certificate
from poolwarden_agent.dom0.system import adapters as reached_by
from poolwarden_agent.dom0.system import files, links, openvswitch, plain_files, procfs

SERVICES = (
    "xapi.service",
    "xenopsd-xc.service",
    "xcp-networkd.service",
    "message-switch.service",
    "forkexecd.service",
    "squeezed.service",
    "xcp-rrdd.service",
    "xenstored.service",
    "stunnel@xapi.service",
    "openvswitch.service",
    "ovs-vswitchd.service",
    "multipathd.service",
    "iscsid.service",
    "chronyd.service",
    "ntpd.service",
    "rsyslog.service",
    "sshd.service",
    "ha-lizard.service",
    "iscsi-ha.service",
)
# Other tools that fence and promote: any of these files shows that one is there, whatever starts it (an init script or
# its watchdog's), and so does a line of a crontab that names it. It is told like a service.
OTHER_TOOLS = {
    "ha-lizard.service": ("etc/init.d/ha-lizard", "etc/init.d/ha-lizard-watchdog", "etc/ha-lizard"),
    "iscsi-ha.service": ("etc/init.d/iscsi-ha", "etc/init.d/iscsi-ha-watchdog", "etc/iscsi-ha"),
}
_CRONTABS = ("etc/crontab", "var/spool/cron/root", "etc/cron.d/*", "etc/cron.hourly/*", "etc/cron.daily/*")
ACTIVE, INACTIVE, UNKNOWN = "active", "inactive", "unknown"
_UNITS = ("usr/lib/systemd/system", "etc/systemd/system", "lib/systemd/system")
GROUPS = ("sys/fs/cgroup/systemd", "sys/fs/cgroup")
SLICES = ("control.slice", "system.slice", os.path.join("system.slice", "system-*.slice"))
VERIFIES = "var/xapi/verify-certificates"  # xapi: ocaml/xapi-consts/constants.ml, verify_certificates_path
BUNDLE = "etc/stunnel/xapi-pool-ca-bundle.pem"  # xapi: ocaml/xapi/xapi_globs.ml; xapi removes one that is empty
_PHYSICAL = re.compile(r"[A-Za-z0-9._-]{1,15}\Z")
MOST = 64

Nic = NamedTuple("Nic", [("name", str), ("link", Optional[bool]), ("speed_mbit", int), ("bond", str)])
Network = NamedTuple("Network", [("interface", str), ("link", Optional[bool]), ("nics", Tuple[Nic, ...])])
Certificate = NamedTuple("Certificate", [("name", str), ("expires_s", int), ("text", str)])
Map = NamedTuple("Map", [("name", str), ("up", int), ("paths", int), ("most", int)])


class Surroundings(NamedTuple):
    """All of it, as it was read together."""

    services: Tuple[Tuple[str, str], ...]
    network: Network
    certificates: Tuple[Certificate, ...]
    maps: Tuple[Map, ...]
    swap: Tuple[int, int]  # total, free bytes
    xen: str
    kernel: str
    build: str
    adapters: Optional[reached_by.Adapters] = None


class Reader(object):
    """Reads them again and again; remembers the most paths of each map."""

    def __init__(self, root: str, certificates: Dict[str, str]) -> None:
        self._root = root
        self._certificates = certificates  # name -> path
        self._most: Dict[str, int] = {}

    def read(self, inventory: Dict[str, str]) -> Surroundings:
        """Now; the inventory names the management interface and the build."""
        return Surroundings(
            self.services(),
            self._network(inventory.get("MANAGEMENT_INTERFACE", "")),
            tuple(_certificate(name, path) for name, path in sorted(self._certificates.items())) + self._bundle(),
            self._maps(),
            procfs.swap(self._root),
            self._xen(),
            (files.read(self._root, "proc/sys/kernel/osrelease") or "")[:100],
            inventory.get("BUILD_NUMBER", "")[:100],
            reached_by.read(self._root),
        )

    def _path(self, *parts: str) -> str:
        return os.path.join(self._root, *parts)

    # ------------------------------------------------------------------------------------------ services

    def services(self) -> Tuple[Tuple[str, str], ...]:
        """The state of each known service that is installed."""
        jobs = self._cron_jobs()
        named = [name for name in OTHER_TOOLS if any(name.split(".")[0] in line for line in jobs)]
        there = [name for name in SERVICES if name in named or self._installed(name)]
        return tuple((name, self._state(name)) for name in there)

    def _cron_jobs(self) -> Tuple[str, ...]:
        """The lines of root's crontabs, without comments; with each the name of its file."""
        paths = [path for each in _CRONTABS for path in sorted(glob.glob(self._path(each)))[:MOST]]
        texts = [(os.path.basename(path), files.read(self._root, path) or "") for path in paths]
        lines = [line.strip() for name, text in texts for line in (name, *text.splitlines())]
        return tuple(line for line in lines if not line.startswith("#"))

    def _installed(self, name: str) -> bool:
        unit = re.sub("@.*[.]", "@.", name)
        found = [os.path.join(where, unit) for where in _UNITS]
        return any(os.path.exists(self._path(path)) for path in (*found, *OTHER_TOOLS.get(name, ())))

    def _state(self, name: str) -> str:
        known = False
        for group in GROUPS:
            if not os.path.isdir(self._path(group, "system.slice")):
                continue
            known = True
            for slice_ in SLICES:
                for path in glob.glob(self._path(group, slice_, name, "cgroup.procs")):
                    if _first_byte(path):
                        return ACTIVE
        return INACTIVE if known else UNKNOWN

    # ------------------------------------------------------------------------------------------ network

    def _network(self, interface: str) -> Network:
        switch = openvswitch.read(self._root) if openvswitch.used(self._root) else None
        nics = [self._nic(name, switch) for name in links.hardware(self._root) if _PHYSICAL.match(name)]
        link = links.link(self._root, interface, switch) if _PHYSICAL.match(interface) else None
        return Network(interface, link, tuple(nics[:MOST]))

    def _nic(self, name: str, switch: Optional[openvswitch.Switch]) -> Nic:
        speed = files.read(self._root, "sys/class/net/%s/speed" % name) or ""
        link = links.carrier(self._root, name)
        mbit = int(speed) if link and speed.isdigit() else 0
        return Nic(name, link, mbit, links.bond(self._root, name, switch))

    def _bundle(self) -> Tuple[Certificate, ...]:
        """What other hosts of the pool are verified with, where they are, and it holds no certificate.

        The end of one in it says nothing: those of hosts that have left the pool are among them.
        """
        if not files.exists(self._root, VERIFIES):
            return ()
        found = _certificate("pool's bundle", self._path(BUNDLE))
        return (found,) if found.text else ()

    # ------------------------------------------------------------------------------------------ multipath

    def _maps(self) -> Tuple[Map, ...]:
        found = []
        for path in sorted(glob.glob(self._path("sys/block/dm-*/dm/uuid")))[:1024]:
            base = os.path.dirname(os.path.dirname(path))
            if not _text(path).startswith("mpath-"):
                continue
            name = _text(os.path.join(base, "dm/name")) or os.path.basename(base)
            states = [_text(state) for state in glob.glob(os.path.join(base, "slaves/*/device/state"))]
            self._most[name] = max(self._most.get(name, 0), len(states))
            found.append(Map(name, states.count("running"), len(states), self._most[name]))
        self._most = {item.name: item.most for item in found}
        return tuple(found[:MOST])

    # ------------------------------------------------------------------------------------------ the rest

    def _xen(self) -> str:
        parts = [
            files.read(self._root, "sys/hypervisor/version/%s" % name) or "" for name in ("major", "minor", "extra")
        ]
        return ("%s.%s%s" % tuple(parts))[:100] if parts[0] and parts[1] else ""


def _certificate(name: str, path: str) -> Certificate:
    try:
        with os.fdopen(plain_files.to_read(path), "rb") as file:
            text = file.read(files.SMALL).decode("ascii", "replace")
        return Certificate(name, certificate.expires(text), "")
    except OSError as error:
        return Certificate(name, 0, "%s: %s" % (path, error.strerror))
    except ValueError as error:
        return Certificate(name, 0, "%s: %s" % (path, error))


def _first_byte(path: str) -> bytes:
    try:
        with os.fdopen(plain_files.to_read(path), "rb") as file:
            return file.read(1)
    except OSError:
        return b""


def _text(path: str) -> str:
    try:
        with os.fdopen(plain_files.to_read(path), "rb") as file:
            return file.read(256).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def certificate_paths(root: str, agent: str, authority: str) -> Dict[str, str]:
    """The certificates whose end matters: ours, the authority of ours, and those of xapi that are there."""
    found = {"agent": agent, "collector's authority": authority}
    for name, path in (("xapi", "etc/xensource/xapi-ssl.pem"), ("pool", "etc/xensource/xapi-pool-tls.pem")):
        if os.path.exists(os.path.join(root, path)):
            found[name] = os.path.join(root, path)
    return found
