"""What a played host says: pools of healthy hosts at the pace of the shipped agent, and what they do when told to.

As the shipped agent tells it (agent: host/conversation.py, host/report.py, messages/reports.py): a Hello and a full
report, then at each interval of the collector's settings a delta. On a host that runs there is always something new in
it: memory and the disks' free space, and on a member the probe of its master's xapi; so each delta has those sections,
the freshness of all, and the marks of what it brings, every fifteenth message those of all sections. Every third report
of a master has another database generation.

Orders are obeyed as the agent obeys them, but xapi is made up: a promoted host runs as master with a new process of
xapi half a second later, a repointed member follows it, a lost host says nothing any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.host.conversation import MARKS_EVERY

_GIB = 1 << 30
PROBE_LIMIT_MS = 1_500
CAPABILITIES = (
    "claim", "probe_now", "promote", "repoint", "restart_xapi", "set_tombstone", "collect_evidence", "signed_orders",
)  # fmt: skip
_SOURCE = "var/lib/xcp/state.db"
_TAG_REPORT = b"\x22"  # AgentMessage.report
_STILL = (
    "role", "xapi", "database", "domains", "tombstone", "xapi_trouble", "software", "machine", "services", "network",
    "certificates", "multipath", "hold", "storage",
)  # fmt: skip
_NUMBERS = {name: pb.Report.DESCRIPTOR.fields_by_name[name].number for name in (*_STILL, "pool_view")}
_CHANGING = tuple(pb.Report.DESCRIPTOR.fields_by_name[name].number for name in ("disks", "memory", "probes"))


def mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def pool_uuid(pool: int) -> str:
    return f"{pool:08d}-0000-4000-8000-00000000b17a"


def host_uuid(pool: int, number: int) -> str:
    """Host ``number`` (from 1) of a pool; number 1 is its first master."""
    return f"{pool:08d}-{number:04d}-4000-8000-00000000b17b"


def _octets(pool: int, number: int) -> str:
    return f"{pool >> 8 & 255}.{pool & 255}.{number}"


def address(pool: int, number: int) -> str:
    return f"10.{_octets(pool, number)}"


def source(pool: int, number: int) -> str:
    """Where its connection comes from: an address of this machine's loopback, another one for each host."""
    return f"127.{_octets(pool, number)}"


def _vms(host: str) -> list[str]:
    """What runs there."""
    return [f"{host[:-1]}{n}" for n in range(5)]


def _length(size: int) -> bytes:
    """A varint (protobuf's encoding)."""
    out = bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out)


@dataclass
class Pool:
    """What the hosts of a pool share."""

    number: int
    hosts: int
    master: int = 1
    lost: set[int] = field(default_factory=set)
    lost_ms: int = 0
    answered: Callable[[], object] = lambda: None  # an answer to an order of one of its hosts has left

    def uuids(self) -> list[str]:
        """Of all its hosts."""
        return [host_uuid(self.number, n + 1) for n in range(self.hosts)]

    def number_of(self, host: str) -> int:
        return int(host[9:13])

    def probe(self, host: str, now: int) -> pb.Probe:
        """Of the xapi of one of its hosts."""
        number = self.number_of(host)
        probe = pb.Probe(host_uuid=host, address=address(self.number, number), probed_mono_ms=now)
        if number in self.lost:
            probe.outcome = pb.Probe.NO_ANSWER
            probe.answered_mono_ms, probe.unanswered_since_mono_ms = self.lost_ms, self.lost_ms + 1
        else:
            probe.outcome, probe.answered_mono_ms = pb.Probe.ANSWERED, now
        return probe


class Host:
    """One host: what it sends next. ``later`` calls something after so many seconds."""

    def __init__(self, pool: Pool, number: int, later: Callable[[float, Callable[[], None]], None]) -> None:
        self.pool, self.number = pool, number
        self.uuid = host_uuid(pool.number, number)
        self.interval_s = 2.0
        self.reports = 0
        self._later = later
        self._send: Callable[[bytes], None] = lambda _: None
        self._sequence = 0
        self._targets: list[str] = []
        self._process = 1_000
        self._epoch = self._term = 0
        self._marks = b""

    # ------------------------------------------------------------------------------------------------ saying

    def open(self, send: Callable[[bytes], None]) -> None:
        """A stream is up."""
        self._send, self._sequence, self._targets = send, 0, []
        self._say(hello=self._hello())
        self.report(full=True)

    def report(self, full: bool = False) -> int:
        """Send the next one; its number, which its memory says as well."""
        self.reports += 1
        now, master = mono_ms(), self.number == self.pool.master
        report = pb.Report(full=full, wall_ms=time.time_ns() // 1_000_000)
        freshness = report.freshness
        freshness.host_mono_ms = freshness.xapi_mono_ms = freshness.probes_mono_ms = now
        report.memory.total_bytes = 4 * _GIB
        report.memory.available_bytes = self.marker()
        root = report.disks.disks.add(mount="/", total_bytes=18 * _GIB, free_bytes=10 * _GIB - 4096 * self.reports)
        root.total_inodes, root.free_inodes, root.own_mount = 1_200_000, 1_000_000, True
        report.probes.probes.extend(self.pool.probe(target, now) for target in self._targets)
        if master:
            freshness.pool_view_mono_ms = now
        if full or (master and self.reports % 3 == 0):
            self._database(report.database)
        if full:
            self._fill(report, now, master)
        every = full or self._sequence % MARKS_EVERY == 0
        self._frame(report.SerializeToString() + self._told_marks(master, every))
        return self.reports

    def marker(self) -> int:
        """How much memory is available, which tells the number of the report."""
        return 2 * _GIB + 4096 * self.reports

    def _told_marks(self, master: bool, every: bool) -> bytes:
        """How often each section has changed: those that each report brings, or all of them."""
        told = pb.Report()
        for number in _CHANGING:
            told.marks.add(section=number, changes=self.reports)
        if not every:
            return told.SerializeToString()
        if not self._marks:
            still = pb.Report()
            for name in (*_STILL, "pool_view") if master else _STILL:
                still.marks.add(section=_NUMBERS[name], changes=1)
            self._marks = still.SerializeToString()
        return told.SerializeToString() + self._marks

    def _frame(self, report: bytes) -> None:
        self._sequence += 1
        head = pb.AgentMessage(sequence=self._sequence, mono_ms=mono_ms()).SerializeToString()
        self._send(head + _TAG_REPORT + _length(len(report)) + report)

    def _say(self, **body: Any) -> None:
        self._sequence += 1
        self._send(pb.AgentMessage(sequence=self._sequence, mono_ms=mono_ms(), **body).SerializeToString())

    def _hello(self) -> pb.Hello:
        return pb.Hello(
            agent_version="0.1.0",
            protocol_version=1,
            capabilities=CAPABILITIES,
            host_uuid=self.uuid,
            pool_uuid=pool_uuid(self.pool.number),
            boot_id=f"boot-{self.uuid}",
            machine=self._machine(),
            highest_epoch=self._epoch,
            highest_term=self._term,
            host_name=f"p{self.pool.number}-h{self.number}",
            management_address=address(self.pool.number, self.number),
            python_version="3.6.8",
        )

    def _machine(self) -> pb.MachineIdentity:
        return pb.MachineIdentity(system_uuid=self.uuid, system_serial=self.uuid, vendor="bench", model="played")

    def _fill(self, report: pb.Report, now: int, master: bool) -> None:
        self._role(report, now, master)
        report.domains.readable = True
        report.domains.vm_uuids.extend(_vms(self.uuid))
        for name in (
            "tombstone",
            "xapi_trouble",
            "hold",
            "storage",
            "services",
            "network",
            "certificates",
            "multipath",
        ):
            getattr(report, name).SetInParent()
        report.machine.CopyFrom(self._machine())
        software = report.software
        software.product_brand, software.product_version, software.xapi_version = "XCP-ng", "8.3.0", "26.1.3"
        report.management_address = address(self.pool.number, self.number)
        if master:
            self._view(report.pool_view)

    def _role(self, report: pb.Report, now: int, master: bool) -> None:
        kind = pb.RoleFacts.MASTER if master else pb.RoleFacts.MEMBER
        leader = "" if master else address(self.pool.number, self.pool.master)
        role = pb.RoleFacts(pool_conf=kind, master_address=leader, running=kind, running_master_address=leader)
        role.serves_as_master = master
        report.role.CopyFrom(role)
        answers = pb.XapiFacts.ANSWERS
        xapi = pb.XapiFacts(liveness=answers, socket_liveness=answers, emergency=pb.NO, startup_cookie=True)
        xapi.pid, xapi.start_ticks, xapi.health = self._process, 10 * self._process, pb.XapiFacts.HEALTH_ANSWERS
        xapi.liveness_since_mono_ms = xapi.socket_since_mono_ms = now
        report.xapi.CopyFrom(xapi)

    def _database(self, database: pb.DatabaseFacts) -> None:
        database.generation, database.loaded_from = 1_000, _SOURCE
        if self.number == self.pool.master:
            database.generation += self.reports // 3
        database.changed_mono_ms = mono_ms()
        database.ha_armed = database.rolling_upgrade = pb.NO

    def _view(self, view: pb.PoolView) -> None:
        pool = self.pool
        view.pool_uuid, view.pool_name = pool_uuid(pool.number), f"pool-{pool.number}"
        view.master_uuid, view.ha_enabled, view.rolling_upgrade = host_uuid(pool.number, pool.master), pb.NO, pb.NO
        for number in range(1, pool.hosts + 1):
            view.hosts.add(
                host_uuid=host_uuid(pool.number, number),
                name=f"p{pool.number}-h{number}",
                address=address(pool.number, number),
                enabled=True,
                live=number not in pool.lost,
            )

    # ------------------------------------------------------------------------------------------------ hearing

    def hear(self, data: bytes) -> None:
        """A message of the collector's."""
        message = pb.CollectorMessage.FromString(data)
        kind = message.WhichOneof("body")
        if kind == "signed":  # this host has pinned no key
            content = pb.SignedContent.FromString(message.signed.payload)
            kind = content.WhichOneof("body")
            self._take(str(kind), getattr(content, str(kind)))
        elif kind:
            self._take(kind, getattr(message, kind))

    def _take(self, kind: str, body: Any) -> None:
        if kind == "welcome":
            self._epoch = max(self._epoch, body.epoch)
            self._settle(body.settings)
        elif kind == "settings":
            self._settle(body)
        elif kind == "challenge":
            self._say(challenge_answer=pb.ChallengeAnswer(nonce=body.nonce, boot_id=f"boot-{self.uuid}"))
        elif kind == "full_report_request":
            self.report(full=True)
        elif kind == "order":
            self._obey(body)

    def _settle(self, settings: pb.Settings) -> None:
        self.interval_s = (settings.report_interval_ms or 2_000) / 1000
        self._targets = [target.host_uuid for target in settings.probe_targets]

    def _obey(self, order: pb.Order) -> None:
        kind = str(order.WhichOneof("kind"))
        self._term = max(self._term, order.term)
        result = pb.OrderResult(order_id=order.order_id, kind=kind, outcome=pb.OrderResult.DONE, term=order.term)
        result.epoch = self._epoch
        after = 0.0
        if kind in ("claim", "probe_now"):
            gone = self.pool.lost
            after = PROBE_LIMIT_MS / 1000 if gone else 0.0
        if kind in ("promote", "repoint", "restart_xapi"):
            after = 0.5
        self._later(after, lambda: self._done(kind, order, result))

    def _done(self, kind: str, order: pb.Order, result: pb.OrderResult) -> None:
        now = mono_ms()
        if kind == "claim":
            result.claim.last_look.CopyFrom(self.pool.probe(order.claim.old_master.host_uuid, now))
            placed = result.claim.placements
            placed.readable, placed.generation, placed.source = True, 1_000, _SOURCE
            for host in self.pool.uuids():
                placed.host_uuids.append(host)
                for vm in _vms(host):
                    placed.placements.add(vm_uuid=vm, host_uuid=host)
        elif kind == "probe_now":
            result.nonce = order.probe_now.nonce
            result.probes.probes.extend(self.pool.probe(target.host_uuid, now) for target in order.probe_now.targets)
        elif kind == "promote":
            self.pool.master, self._marks = self.number, b""
        self._say(order_result=result)
        self.pool.answered()
        if kind in ("promote", "repoint", "restart_xapi"):
            self._process += 1
            self.report(full=True)
