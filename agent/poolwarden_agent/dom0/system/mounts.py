"""The file systems of a dom0, by statvfs alone: nothing that could hang on a network storage is asked about.

``/var/log`` is a partition of its own on most installations and not on all (small disks, upgrades of very old ones), so
it is always told, with whether it is one (host-installer: backend.py).
"""

import os
from typing import List

from poolwarden_agent.host_port import Disk

MOUNTS = ("/", "/var/log")  # always told
MORE_MOUNTS = ("/boot/efi", "/run", "/tmp", "/var/lib/xcp", "/var/crash")  # told where they are mounts of their own


def disks(root: str) -> List[Disk]:
    """The file systems below ``root``; what cannot be read is left out."""
    found = []
    try:
        device = os.stat(root).st_dev
    except OSError:
        return []
    for mount in MOUNTS + MORE_MOUNTS:
        path = os.path.join(root, mount.lstrip("/"))
        try:
            own = mount == "/" or os.stat(path).st_dev != device
            s = os.statvfs(path) if own or mount in MOUNTS else None
        except OSError:
            continue
        if s is not None:
            size, free = s.f_blocks * s.f_frsize, s.f_bfree * s.f_frsize
            found.append(Disk(mount, size, free, s.f_files, s.f_ffree, own, bool(s.f_flag & os.ST_RDONLY)))
    return found
