"""This host at one instant, as the learners compare it with the one before."""

import os
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from poolwarden_agent.core.findings import Seen
from poolwarden_agent.core.host_now import NO_PROCESS, Process
from poolwarden_agent.core.probe_rules import ANSWERS

TICKS = os.sysconf("SC_CLK_TCK")
STILL_THERE_MS = 180000  # the fuse is 10 s, systemd's own limits together 180 s
SETTLES_MS = 60000
FORGOTTEN_MS = 900000
# Orders that may end xapi's process, or change its role.
ACTING = ("promote", "repoint", "restart_xapi", "toolstack_fence", "toolstack_release", "set_tombstone")

Learned = Tuple[str, Seen]


class Now(NamedTuple):
    """This host at one instant. The callables are asked only where something depends on them."""

    ms: int
    conf: str
    master: str
    process: Process
    tcp: str
    socket: str
    flag: Optional[bool]
    code: str
    cookie: bool
    running: str
    running_master: str
    serves: bool
    orphaned: bool
    orphaned_since_ms: int
    source: str
    generation: int
    domains: Optional[Tuple[str, ...]]
    held: bool
    toolstack: Any  # a Toolstack while it is held, once it was looked at
    placed: bool
    started: Dict[str, Any]  # kind -> gate_state.Started
    results: Dict[str, Any]  # kind -> gate_state.Result
    view: Any  # a PoolView of the serving master
    own: Tuple[str, str]  # this host's UUID and management address
    connected: bool  # to the collector
    gate: str  # state of the boot gate; empty: there is none
    log: Tuple[int, int]  # where daemon.log ends
    allowed: Callable[[], bool]
    settled: Callable[[], bool]
    complete: Callable[[], bool]  # xapi_init_complete.cookie
    restore: Callable[[], Optional[int]]
    exit: Callable[[Tuple[int, int]], Tuple[str, str]]  # how xapi's process ended since: code, status; or nothing
    linked: Callable[[str], Optional[bool]]  # is a connection to this address established on TCP 443?

    @property
    def began_ms(self) -> int:
        """When xapi's process began."""
        return self.process.start_ticks * 1000 // TICKS

    @property
    def runs(self) -> bool:
        return self.process != NO_PROCESS

    @property
    def answers(self) -> bool:
        return self.runs and self.tcp == ANSWERS


def seconds(span_ms: int) -> str:
    return "%d s" % (max(0, span_ms) // 1000)
