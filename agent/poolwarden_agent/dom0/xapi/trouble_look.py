"""A look at why xapi does not start: the ends of its logs, and what the host shows at the same moment.

It costs some tens of milliseconds of a dom0's CPU at most, as it reads at most 400 KiB, and is taken when a process of
xapi's has ended, a start takes too long, or somebody asks.
"""

import os
import time

from poolwarden.xapi_causes import Trouble
from poolwarden_agent.core.xapi_trouble import NEEDED, Around, judge
from poolwarden_agent.dom0.system import files, log_tail, mounts
from poolwarden_agent.dom0.system.surroundings import BUNDLE, INACTIVE, VERIFIES, Reader

LOCK = "var/lock/subsys/xapi"
BLOCK = ("etc/xensource/xapi_block_startup", "etc/xensource/boot_time_info_updated")  # both: xapi's scripts/xapi-init
CERTIFICATES = ("etc/xensource/xapi-pool-tls.pem", "etc/xensource/xapi-ssl.pem")
LEAST_FREE = 16 * 1024 * 1024


def look(root: str, reader: Reader, ended_pid: int, running: bool) -> Trouble:
    """Why xapi is not there, or not up.

    ``ended_pid``: of the process whose end is asked about, 0: not known; ``running``: what is asked about is the
    process that is there.
    """
    foreign = _foreign(root)
    there = running and not foreign
    log = log_tail.tail(root, log_tail.XENSOURCE, log_tail.LONG)
    others = log_tail.tail(root, log_tail.DAEMON, log_tail.SHORT) + log_tail.tail(root, log_tail.KERNEL, log_tail.SHORT)
    return judge(log, others, _around(root, reader, ended_pid, there, foreign))


def _around(root: str, reader: Reader, ended_pid: int, running: bool, foreign: int) -> Around:
    top = next((disk for disk in mounts.disks(root) if disk.mount == "/"), None)
    inventory = files.inventory(root)
    states = dict(reader.services())
    return Around(
        running=running,
        ended_pid=ended_pid,
        pid=files.xapi_process(root)[0] if running else 0,
        root_full=top is not None and (top.free_bytes < LEAST_FREE or (top.total_inodes > 0 and not top.free_inodes)),
        root_read_only=top is not None and top.read_only,
        blocked=all(os.path.exists(os.path.join(root, path)) for path in BLOCK),
        foreign_pid=foreign,
        no_interface=inventory.get("MANAGEMENT_INTERFACE") == "",
        stopped=tuple(name for name in NEEDED if states.get(name) == INACTIVE),
        certificates=tuple("/" + path for path in CERTIFICATES if log_tail.empty(root, path)),
        no_bundle=files.exists(root, VERIFIES) and _bundle_is_missing(root),
        year=time.gmtime().tm_year,
    )


def _bundle_is_missing(root: str) -> bool:
    """Is what other hosts of the pool are verified with empty, or not there where it should be?"""
    path = os.path.join(root, BUNDLE)
    return log_tail.empty(root, BUNDLE) or (os.path.isdir(os.path.dirname(path)) and not os.path.lexists(path))


def _foreign(root: str) -> int:
    """The living process that xapi's start script takes for a xapi although it is none; 0: there is none."""
    if not os.path.exists(os.path.join(root, LOCK)):
        return 0
    pid, _ = files.xapi_process(root)
    if not pid:
        return 0
    # Of a process that has ended meanwhile nothing can be read, and that is no other program.
    name = files.read(root, "proc/%d/comm" % pid)
    if name is None or "xapi" in name:
        return 0
    words = files.read(root, "proc/%d/cmdline" % pid)  # it may wait as long as that process does
    return 0 if words is None or "xapi" in words else pid
