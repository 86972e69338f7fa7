"""Where a member of etcd on this machine keeps its data, and on what that lies. Linux; nothing is written.

Its directory is read from the running process's words (proc(5)), then from Debian's /etc/default/etcd, then the unit's
default is taken if it is there. A filesystem is judged by its type, a block device by its path in sysfs: below an iSCSI
session or a Fibre Channel port it is not of this machine.
"""

from __future__ import annotations

from pathlib import Path

_DEFAULTS = Path("/etc/default/etcd")
_UNIT = Path("/var/lib/etcd/default")  # of Debian's etcd.service
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "9p", "ocfs2", "gfs2", "afs", "lustre", "beegfs")
_SAN = ("/session", "/rport-")


def data_directory(proc: Path = Path("/proc"), defaults: Path = _DEFAULTS, unit: Path = _UNIT) -> Path | None:
    """None: it cannot be told."""
    for process in sorted(proc.glob("[0-9]*")):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if Path(words[0]).name == "etcd" and (named := _option(words)):
                return (process / "cwd").readlink() / named if not named.startswith("/") else Path(named)
        except OSError:
            continue
    try:
        lines = defaults.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = next((line.partition("=")[2].strip("\"' ") for line in lines if line.startswith("ETCD_DATA_DIR=")), "")
    return Path(named) if named.startswith("/") else unit if unit.exists() else None


def _option(words: list[str]) -> str:
    for at, word in enumerate(words):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == "data-dir":
            return value if equals else "".join(words[at + 1 : at + 2])
    return ""


def network_storage(folder: Path, mounts: Path = Path("/proc/self/mountinfo"), sysfs: Path = Path("/sys")) -> str:
    """What it lies on, where that is not of this machine, or gone with its restart; empty: it is."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, device, kind = "", "", ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        parts, types = fields.split(), rest.split()
        if len(parts) > 4 and types and _below(folder, parts[4]) and len(parts[4]) >= len(best):
            best, device, kind = parts[4], parts[2], types[0]
    if kind in NETWORK or kind.startswith("fuse."):
        return f"network storage ({kind} at {best})"
    if kind in ("tmpfs", "ramfs"):
        return f"memory ({kind} at {best})"
    return "storage of a network (iSCSI or Fibre Channel)" if _is_san(device, sysfs) else ""


def _below(folder: Path, mount: str) -> bool:
    return mount == "/" or str(folder) == mount or str(folder).startswith(mount + "/")


def _is_san(device: str, sysfs: Path) -> bool:
    """Is this device, or one that it is made of, reached through a network?"""
    start = (sysfs / "dev" / "block" / device).resolve()
    below = [start, *(each.resolve() for each in start.glob("slaves/*")), *(each for each in [start.parent])]
    below += [part.resolve() for each in below for part in each.glob("slaves/*")]
    return any(mark in str(each) for each in below for mark in _SAN)
