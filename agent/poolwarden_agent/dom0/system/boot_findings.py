"""How this boot found the host, for its boot gate: files, links and the gateway, below a root.

The gate is there where xapi.service has our drop-in, whose ExecStartPre runs `poolwarden-agent gate wait`. That program
leaves a mark in /run (gone with the boot) when it lets xapi start, so that restarts within a boot are not gated.

What pool.conf says before anybody can have changed it is noted once per boot, by the first of three that comes by: the
oneshot `poolwarden-boot.service` as soon as the file systems are there, the gate's own wait, the agent.
"""

import json
import os
import socket
from typing import Dict, List, Optional, Tuple

from poolwarden_agent.core.addresses import is_address
from poolwarden_agent.dom0.system import files
from poolwarden_agent.dom0.xapi import database

DROP_IN = "usr/lib/systemd/system/xapi.service.d/50-poolwarden.conf"
RUN = "var/run/poolwarden"
STARTED = RUN + "/xapi-started"
FOUND = RUN + "/found"
LET_WAIT = RUN + "/let-wait"
_GATEWAY_UP = 0x3  # RTF_UP | RTF_GATEWAY (linux/route.h)
_COMPLETE = 0x2  # ATF_COM (linux/if_arp.h)
_DISCARD = 9  # a datagram there makes the kernel ask for the gateway's address


def gated(root: str) -> bool:
    """Does systemd ask us before it starts xapi here?"""
    return os.path.isfile(os.path.join(root, DROP_IN))


def started(root: str, boot_id: str) -> bool:
    """Was xapi let start in this boot?"""
    return bool(boot_id) and files.read(root, STARTED) == boot_id


def mark_started(root: str, boot_id: str) -> None:
    """:raises OSError: /run cannot be written."""
    put(root, STARTED, boot_id)


def let_wait(root: str, boot_id: str) -> str:
    """Why a collector let this boot's gate wait when it was last heard; empty: it did not."""
    words = (files.read(root, LET_WAIT) or "").split(None, 1)
    return words[1] if len(words) == 2 and boot_id and words[0] == boot_id else ""


def found(root: str, boot_id: str) -> Optional[Tuple[str, str]]:
    """Role and master address that this boot found in pool.conf; None if nobody has noted it yet."""
    try:
        noted = json.loads(files.read(root, FOUND) or "")
        if boot_id and noted["boot_id"] == boot_id:
            return str(noted["role"]), str(noted["master"])
    except (ValueError, KeyError, TypeError):
        pass
    return None


def note_found(root: str, boot_id: str) -> Tuple[str, str]:
    """What this boot found in pool.conf; noted now if nobody has, unless that is too late to tell.

    :raises OSError: /run cannot be written.
    """
    noted = found(root, boot_id)
    if noted is not None:
        return noted
    role = files.pool_conf(root)
    if boot_id and not started(root, boot_id):
        put(root, FOUND, json.dumps({"boot_id": boot_id, "role": role[0], "master": role[1]}, sort_keys=True))
    return role


def put(root: str, path: str, text: str) -> None:
    """Write a small file in /run whole or not at all. :raises OSError: it cannot be written."""
    target = os.path.join(root, path)
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    with open(target + ".new", "w") as file:
        file.write(text)
    os.rename(target + ".new", target)


class Peers(object):
    """The other hosts of the pool by the database that xapi would load; parsed once per generation."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._of: Optional[Tuple[str, int]] = None
        self._found: Optional[Tuple[Tuple[str, str], ...]] = None

    def addresses(self, host: str) -> Tuple[Tuple[str, ...], bool]:
        """Of every host but this one, and whether that is the whole pool."""
        of = database.loads(self._root)
        if of != self._of:
            self._of, self._found = of, database.hosts(self._root)
        if self._found is None:
            return (), False
        others = [address for uuid, address in self._found if uuid != host]
        known = tuple(address for address in others if is_address(address))
        # safety: a host without an address, or a file without this one, must not make the pool look like a smaller one.
        return known, len(known) == len(others) < len(self._found)


def link_up(root: str, interface: str) -> bool:
    """Has the management interface a carrier? A bridge is asked through its ports; unreadable counts as no."""
    ports = _ports(root, interface)
    return any(files.read(root, "sys/class/net/%s/carrier" % name) == "1" for name in ports or [interface])


def _ports(root: str, bridge: str) -> List[str]:
    try:
        found = sorted(os.listdir(os.path.join(root, "sys/class/net", bridge, "brif")))
    except OSError:
        return []  # no bridge of Linux's: a plain interface, or Open vSwitch, whose bridge has a carrier of its own
    return [name for name in found if not name.startswith(("vif", "tap"))]


def gateway(root: str) -> Optional[bool]:
    """Does the default gateway answer ARP? None: none is configured (IPv6 alone counts as none)."""
    address = _default_gateway(files.read(root, "proc/net/route") or "")
    if not address:
        return None
    # Always: what once answered counts as complete until the kernel has asked in vain, which it does only for traffic.
    _knock(address)
    return bool(_arp(root).get(address, 0) & _COMPLETE)


def _default_gateway(routes: str) -> str:
    for line in routes.splitlines()[1:]:
        words = line.split()
        if len(words) > 3 and words[1] == "00000000" and int(words[3], 16) & _GATEWAY_UP == _GATEWAY_UP:
            return socket.inet_ntoa(bytes.fromhex(words[2])[::-1])
    return ""


def _arp(root: str) -> Dict[str, int]:
    found = {}
    for line in (files.read(root, "proc/net/arp") or "").splitlines()[1:]:
        words = line.split()
        if len(words) > 2:
            found[words[0]] = int(words[2], 16)
    return found


def _knock(address: str) -> None:
    """Make the kernel look for it; its answer is there at the next question."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
        try:
            knock.sendto(b"", (address, _DISCARD))
        except OSError:
            pass
