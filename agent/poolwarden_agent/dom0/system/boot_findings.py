"""How this boot found the host, for its boot gate: files and links, below a root.

The gate is there where xapi.service has our drop-in, whose ExecStartPre runs `poolwarden-agent gate wait`. That program
leaves a mark in /run (gone with the boot) when it lets xapi start, so that restarts within a boot are not gated.

What pool.conf says before it can have been changed is noted once per boot, by the first of three to run: the
oneshot `poolwarden-boot.service` as soon as the file systems are there, the gate's own wait, the agent.
"""

import errno
import json
import os
from typing import Optional, Tuple

from poolwarden_agent.core.addresses import is_address
from poolwarden_agent.dom0.system import files, links, openvswitch, plain_files
from poolwarden_agent.dom0.xapi import database

DROP_IN = "usr/lib/systemd/system/xapi.service.d/50-poolwarden.conf"
RUN = "var/run/poolwarden"
STARTED = RUN + "/xapi-started"
FOUND = RUN + "/found"
LET_WAIT = RUN + "/let-wait"


def gated(root: str) -> bool:
    """Does systemd ask the gate before it starts xapi here?"""
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
    """Role and master address that this boot found in pool.conf; None if it is not noted yet."""
    try:
        noted = json.loads(files.read(root, FOUND) or "")
        if boot_id and noted["boot_id"] == boot_id:
            return str(noted["role"]), str(noted["master"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def note_found(root: str, boot_id: str) -> Tuple[str, str]:
    """What this boot found in pool.conf; noted now if it is not yet, unless that is too late to tell.

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
    shared = plain_files.own_directory(os.path.dirname(target))
    if shared:
        raise OSError(errno.EPERM, shared)
    with plain_files.new(target + ".new", 0o644) as file:
        file.write(text.encode("utf-8"))
    os.rename(target + ".new", target)


class Peers(object):
    """The other hosts of the pool by the database that xapi would load; parsed once per generation."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._of: Optional[Tuple[str, int]] = None
        self._found: Optional[Tuple[Tuple[str, str], ...]] = None

    def hosts(self) -> Optional[Tuple[Tuple[str, str], ...]]:
        """(UUID, address) of every host in it; None: it cannot be read."""
        of = database.loads(self._root)
        if of != self._of or self._found is None:
            self._of, self._found = of, database.hosts(self._root)
        return self._found

    def addresses(self, host: str) -> Tuple[Tuple[str, ...], bool]:
        """Of every host but this one, and whether that is the whole pool."""
        found = self.hosts()
        if found is None:
            return (), False
        others = [address for uuid, address in found if uuid != host]
        known = tuple(address for address in others if is_address(address))
        # safety: a host without an address, or a file without this one, must not make the pool look like a smaller one.
        return known, len(known) == len(others) < len(found)


def link_up(root: str, interface: str) -> bool:
    """Has the management interface a link? What cannot be known counts as no."""
    switch = openvswitch.read(root) if openvswitch.used(root) else None
    return links.link(root, interface, switch) is True
