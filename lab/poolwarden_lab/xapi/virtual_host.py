"""One machine of a virtual pool: what it is made of, and what its log lines look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from poolwarden_lab.xapi.actions import Door, Event, PeerResult
from poolwarden_lab.xapi.hypervisor import Domains
from poolwarden_lab.xapi.model import XapiModel
from poolwarden_lab.xapi.trees import MemoryDisk

OnReply = Callable[[PeerResult], None]


@dataclass(frozen=True, slots=True)
class LogEntry:
    ms: int
    host: str
    event: Event

    def __str__(self) -> str:
        return f"{self.ms:>9} {self.host} {self.event}"


@dataclass(eq=False)
class VirtualHost:
    """One machine. Read it freely; change it through `VirtualPool` only."""

    name: str
    uuid: str
    address: str
    disk: MemoryDisk
    domains: Domains
    power: bool = False
    frozen: bool = False
    boot: int = 0
    pid: int = 0  # of xapi; 0: none
    started_ms: int = 0  # of that process
    model: XapiModel | None = None
    doors: set[Door] = field(default_factory=set)
    conns: dict[int, tuple[str | None, OnReply]] = field(default_factory=dict)  # conn -> (caller's host, sink)
    silent: list[tuple[str, OnReply]] = field(default_factory=list)  # connections open when the power went
    inbox: list[Callable[[], None]] = field(default_factory=list)  # held while frozen
    filtered: set[tuple[Door, str]] = field(default_factory=set)  # connects of this host ("*": any) are dropped
    closed: set[tuple[Door, str]] = field(default_factory=set)  # they are refused by the firewall
    up_at: int = 0  # when this boot's kernel begins to answer on the network
    last_pid: int = 1000
    wanted: bool = True  # systemd is to run xapi
    held: bool = False  # the hold: systemd starts no xapi, in this boot and in every later one
    gated: bool = True  # this boot's first start has not been let through yet
    opened: int = 0  # in which boot local root has opened the boot gate
    let_wait: tuple[int, str] = (0, "")  # of which boot, and why a collector let its gate wait (a note in /run)
    stuck: bool = False  # fault: no signal ends xapi's process
    late: XapiModel | None = None  # the process that systemd has begun to stop and that did not end at once
