"""This host at one instant, as the gate looks at it: its role by pool.conf, its xapi's process, what it can do."""

from typing import NamedTuple, Optional, Tuple

MASTER = "master"
MEMBER = "member"
BROKEN = "broken"
UNREADABLE = ""
Process = NamedTuple("Process", [("pid", int), ("start_ticks", int)])
NO_PROCESS = Process(0, 0)


class HostNow(NamedTuple):
    """This host at one instant."""

    mono_ms: int
    host: str
    pool: str
    boot_id: str
    pool_conf: str
    pool_conf_address: str
    ha_armed: Optional[bool]
    process: Process
    root_free_bytes: Optional[int]
    address: str
    settled: bool = False  # the running xapi has the role that pool.conf says
    able: Tuple[str, ...] = ()  # the kinds that this host can carry out: empty: none is named
    restore: Optional[int] = None  # generation of the restore_db.db that is there; None: there is none
