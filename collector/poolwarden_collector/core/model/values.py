"""Values that every part of the core speaks of: time in milliseconds, ids, three-valued answers, roles, processes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

Ms = int


HostId = str


PoolId = str


class Tri(Enum):
    """Three-valued truth: an unreadable flag is unknown, never no."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Role(Enum):
    """A host's role, from pool.conf or from the running process (xapi: ocaml/xapi/pool_role.ml)."""

    MASTER = "master"
    MEMBER = "member"
    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ProcessId:
    """Identity of one xapi process: pid and start time in clock ticks since boot (proc(5), field 22 of stat)."""

    pid: int
    start_ticks: int

    def __bool__(self) -> bool:
        return self.pid != 0
