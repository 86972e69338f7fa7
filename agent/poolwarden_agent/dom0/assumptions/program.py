"""What the agent itself runs on and what it costs: Python, C library, protobuf, memory, processor, clock, kernel.

Memory is PSS (Linux: Documentation/filesystems/proc.txt, smaps_rollup). The link side runs as another user, whose maps
root without CAP_SYS_PTRACE may not read: what is resident bounds it then.
"""

import os
import re
from typing import Optional, Tuple

from poolwarden_agent.core.findings import Seen, fails, familiar, holds, not_seen
from poolwarden_agent.dom0.assumptions.scene import Scene, read
from poolwarden_agent.dom0.assumptions.toolstack import groups_of
from poolwarden_agent.dom0.system import files
from poolwarden_agent.dom0.xapi import database

AGENT = "poolwarden-agent.service"
PACKAGED = ((3, 6), (3, 11), (3, 12))
GLIBC, KERNEL = (2, 17), (3, 10)
MOST_MB, MOST_PERCENT, LONG_ENOUGH_S = 55.0, 0.5, 3600.0
EARLIEST_S = 1704067200.0  # 2024-01-01
SKEW_S = 3600.0
_KERNEL = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_GLIBC = re.compile(r"glibc (\d+)\.(\d+)")
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.M)
_KILLS = re.compile(r"^oom_kill (\d+)$", re.M)
_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


def python(scene: Scene) -> Seen:
    version = scene.machine.python
    said = "%d.%d.%d" % version
    if version[:2] in PACKAGED:
        return holds(said)
    if version[:2] < (3, 6):
        return fails("%s is older than 3.6" % said)
    return not_seen("%s has no package of its own" % said)


def glibc(scene: Scene) -> Seen:
    match = _GLIBC.match(scene.machine.glibc)
    if match is None:
        return not_seen("the C library does not say")
    found = int(match.group(1)), int(match.group(2))
    return (holds if found >= GLIBC else fails)("glibc %d.%d" % found)


def protobuf(scene: Scene) -> Seen:
    backend = scene.machine.protobuf
    if backend in ("cpp", "upb"):
        return holds(backend)
    return fails("the one in Python") if backend == "python" else not_seen("it does not say")


def kernel(scene: Scene) -> Seen:
    found = read(scene.root, "proc/sys/kernel/osrelease")
    match = _KERNEL.match(found.text or "")
    if match is None:
        return not_seen("it does not say")
    said = match.group(0)
    return (holds if (int(match.group(1)), int(match.group(2))) >= KERNEL else fails)(said)


def clock(scene: Scene) -> Seen:
    now = scene.machine.wall_s
    if now < EARLIEST_S:
        return fails("it is before 2024")
    for path in (os.path.join(database.DIRECTORY, "state.db"), files.INVENTORY):
        written = files.modified(scene.root, path)
        if written is not None and written > now + SKEW_S:
            return fails("/%s was written %d h after now" % (path, (written - now) // 3600))
    return holds("it is after 2024, and after its files")


# ---------------------------------------------------------------------------------------------- cost


def _pids(scene: Scene) -> Tuple[int, ...]:
    return scene.machine.pids or groups_of(scene, AGENT)[1]


def memory(scene: Scene) -> Seen:
    pids = _pids(scene)
    if len(pids) < 2:
        return not_seen("its two processes are not known here")
    sizes = [_pss(scene.machine.proc, pid) for pid in pids]
    exact = all(size is not None for size in sizes)
    bounds = [size if size is not None else _resident(scene.machine.proc, pid) for size, pid in zip(sizes, pids)]
    if any(bound is None for bound in bounds):
        return not_seen("it cannot be read")
    total = sum(bound for bound in bounds if bound is not None)
    said = "%s%.0f MB" % ("" if exact else "at most ", total)
    if total < MOST_MB:
        return holds(said)
    return fails(said) if exact else not_seen(said)


def _pss(proc: str, pid: int) -> Optional[float]:
    text = read(proc, "%d/smaps_rollup" % pid).text
    match = _PSS.search(text or "")
    return int(match.group(1)) / 1000.0 * 1.024 if match is not None else None


def _resident(proc: str, pid: int) -> Optional[float]:
    fields = (read(proc, "%d/statm" % pid).text or "").split()
    return int(fields[1]) * _PAGE / 1e6 if len(fields) > 1 and fields[1].isdigit() else None


def memory_limit(scene: Scene) -> Seen:
    places = (
        "sys/fs/cgroup/memory/system.slice/%s/memory.oom_control" % AGENT,
        "sys/fs/cgroup/system.slice/%s/memory.events" % AGENT,
    )
    for place in places:
        match = _KILLS.search(read(scene.root, place).text or "")
        if match is not None:
            kills = int(match.group(1))
            return fails("the kernel has killed for it %d times" % kills) if kills else holds("no kill")
    return not_seen("its control group does not say")


def processor(scene: Scene) -> Seen:
    pids, proc = _pids(scene), scene.machine.proc
    times = [_time(proc, pid, scene.machine.up_s) for pid in pids]
    if not times or any(each is None for each in times):
        return not_seen("its processes are not known here")
    used = sum(each[0] for each in times if each is not None)
    age = min(each[1] for each in times if each is not None)
    if age < LONG_ENOUGH_S:
        return not_seen("it has not run for an hour yet")
    percent = 100.0 * used / age
    said = "%.2f %% over %d h" % (percent, age // 3600)
    return holds(said) if percent < MOST_PERCENT else fails(said)


def _time(proc: str, pid: int, up_s: float) -> Optional[Tuple[float, float]]:
    """Seconds of processor time that a process has used, and its age."""
    fields = (read(proc, "%d/stat" % pid).text or "").rpartition(")")[2].split()
    if len(fields) < 20:
        return None
    return (int(fields[11]) + int(fields[12])) / _TICKS, max(0.0, up_s - int(fields[19]) / _TICKS)


def release(scene: Scene, build: str) -> str:
    """Brand, version and xapi's version in one line, as a result carries it; private where it is not as known ones."""
    brand = scene.inventory.get("PRODUCT_BRAND", "") or "unknown"
    version = scene.inventory.get("PRODUCT_VERSION", "") or "unknown"
    brand = familiar(brand, "XCP-ng|XenServer|Citrix Hypervisor|Hypervisor|unknown")
    version = familiar(version, r"[0-9]{1,3}([.][0-9]{1,4}){1,3}|unknown")
    return "%s %s, xapi %s" % (brand, version, build or "unknown")
