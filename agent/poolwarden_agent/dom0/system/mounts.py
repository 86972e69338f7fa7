"""The file systems of a dom0. None is asked that could hang: a network storage that is away blocks stat and statvfs for
as long as it is away, and with them the whole report.

Which file systems there are is psutil's mount table, which is the kernel's memory (procfs.py). Their use is statvfs and
not psutil's disk_usage, because that has neither inodes nor what is kept for root.

``/var/log`` is a partition of its own on most installations and not on all (small disks, upgrades of very old ones), so
it is always told, with whether it is one (host-installer: backend.py).
"""

import os
from typing import Dict, List, NamedTuple, Tuple

from poolwarden_agent.dom0.system import procfs
from poolwarden_agent.host_port import Disk

MOUNTS = ("/", "/var/log")  # always told
MORE_MOUNTS = ("/boot/efi", "/run", "/tmp", "/var/lib/xcp", "/var/crash")  # told where they are mounts of their own
# On a disk of this machine or in its memory: statvfs waits for no server. No other type of file system is asked.
LOCAL = ("btrfs", "ext2", "ext3", "ext4", "f2fs", "iso9660", "overlay", "ramfs", "rootfs", "squashfs", "tmpfs", "vfat",
         "xfs", "zfs")  # fmt: skip
MOST_LINKS = 8


class _Plan(NamedTuple):
    """Which directories are asked, worked out from this table and these links."""

    top: str
    table: Dict[str, str]
    links: Tuple[Tuple[str, str], ...]  # path, target; empty: it is no link
    asked: Tuple[Tuple[str, str, bool], ...]  # mount, its directory, whether it is a mount of its own


_plans: Dict[str, _Plan] = {}  # root -> the last one; an agent has one root


def disks(root: str) -> List[Disk]:
    """The file systems below ``root``; what cannot be read, or might not answer, is left out."""
    try:
        table = procfs.mount_points()
    except OSError:
        return []
    found = []
    for mount, path, own in _plan(root, table).asked:
        try:
            s = os.statvfs(path)
        except OSError:
            continue
        size, free = s.f_blocks * s.f_frsize, s.f_bfree * s.f_frsize
        found.append(Disk(mount, size, free, s.f_files, s.f_ffree, own, bool(s.f_flag & os.ST_RDONLY)))
    return found


def _plan(root: str, table: Dict[str, str]) -> _Plan:
    """The last one where the table and every link on the way are as they were, else a new one."""
    known, top = _plans.get(root), os.path.realpath(root) if root != "/" else root
    same = known is not None and (known.top, known.table) == (top, table)
    if known is None or not same or any(_target(path) != target for path, target in known.links):
        _plans.clear()
        _plans[root] = known = _made(top, table)
    return known


def _made(top: str, table: Dict[str, str]) -> _Plan:
    beneath = _mount_point(top, table)
    links: List[Tuple[str, str]] = []
    asked = []
    for mount in MOUNTS + MORE_MOUNTS:
        path = _resolved(os.path.normpath(os.path.join(top, mount.lstrip("/"))), table, links)
        point = _mount_point(path, table)
        own = mount == "/" or point != beneath
        # The agent itself lies on the file system of the root: it is asked whatever its type.
        if (own or mount in MOUNTS) and (point == beneath or _local(point, table)):
            asked.append((mount, path, own))
    return _Plan(top, dict(table), tuple(links), tuple(asked))


def _mount_point(path: str, table: Dict[str, str]) -> str:
    """Where the file system that holds this path is mounted, from the table alone."""
    while path not in table and path != "/":
        path = os.path.dirname(path)
    return path


def _local(point: str, table: Dict[str, str]) -> bool:
    return table.get(point, "") in LOCAL


def _resolved(path: str, table: Dict[str, str], links: List[Tuple[str, str]]) -> str:
    """The directory behind a symbolic link; a link is only read where it lies on a local file system."""
    for _ in range(MOST_LINKS):
        if path in table or not _local(_mount_point(path, table), table):
            break
        target = _target(path)
        links.append((path, target))
        if not target:
            break
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return path


def _target(path: str) -> str:
    """Where a link leads; empty: it is none, or cannot be read."""
    try:
        return os.readlink(path)
    except OSError:
        return ""
