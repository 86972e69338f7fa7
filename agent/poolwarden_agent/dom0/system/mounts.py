"""The file systems of a dom0. None is asked that could hang: a network storage that is away blocks stat and statvfs for
as long as it is away, and with them the whole report.

Which file systems there are is psutil's mount table, which is the kernel's memory (procfs.py). Their use is statvfs and
not psutil's disk_usage, because that has neither inodes nor what is kept for root.

``/var/log`` is a partition of its own on most installations and not on all (small disks, upgrades of very old ones), so
it is always told, with whether it is one (host-installer: backend.py).
"""

import os
from typing import Dict, List

from poolwarden_agent.dom0.system import procfs
from poolwarden_agent.host_port import Disk

MOUNTS = ("/", "/var/log")  # always told
MORE_MOUNTS = ("/boot/efi", "/run", "/tmp", "/var/lib/xcp", "/var/crash")  # told where they are mounts of their own
# On a disk of this machine or in its memory: statvfs waits for no server. No other type of file system is asked.
LOCAL = ("btrfs", "ext2", "ext3", "ext4", "f2fs", "iso9660", "overlay", "ramfs", "rootfs", "squashfs", "tmpfs", "vfat",
         "xfs", "zfs")  # fmt: skip
MOST_LINKS = 8


def disks(root: str) -> List[Disk]:
    """The file systems below ``root``; what cannot be read, or might not answer, is left out."""
    top = os.path.realpath(root)
    try:
        table = procfs.mount_points()
    except OSError:
        return []
    beneath = _mount_point(top, table)
    found = []
    for mount in MOUNTS + MORE_MOUNTS:
        path = _resolved(os.path.normpath(os.path.join(top, mount.lstrip("/"))), table)
        point = _mount_point(path, table)
        own = mount == "/" or point != beneath
        # The agent itself lies on the file system of the root: it is asked whatever its type.
        if (own or mount in MOUNTS) and (point == beneath or _local(point, table)):
            try:
                s = os.statvfs(path)
            except OSError:
                continue
            size, free = s.f_blocks * s.f_frsize, s.f_bfree * s.f_frsize
            found.append(Disk(mount, size, free, s.f_files, s.f_ffree, own, bool(s.f_flag & os.ST_RDONLY)))
    return found


def _mount_point(path: str, table: Dict[str, str]) -> str:
    """Where the file system that holds this path is mounted, from the table alone."""
    while path not in table and path != "/":
        path = os.path.dirname(path)
    return path


def _local(point: str, table: Dict[str, str]) -> bool:
    return table.get(point, "") in LOCAL


def _resolved(path: str, table: Dict[str, str]) -> str:
    """The directory behind a symbolic link; a link is only read where it lies on a local file system."""
    for _ in range(MOST_LINKS):
        if path in table or not _local(_mount_point(path, table), table):
            break
        try:
            target = os.readlink(path)
        except OSError:
            break
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return path
