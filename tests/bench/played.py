"""Agents played by hand: real TLS, real gRPC, the contract's messages; only the host behind them is made up.

They say what agents of a healthy pool say, at the same pace (a report each 2 s, evenly staggered, deltas after a full
first one), and answer orders as agents do that find the old master silent: after the limit of a probe. When the last
of them lets its answer to the last look go, the collector has been given all the evidence that it needs. 64 real agents
would not fit on the machine that measures; what an agent costs is measured elsewhere, here it is the collector's turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import grpc

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden.v1 import agent_link_pb2_grpc as rpc
from poolwarden_collector.shell.config import certificates

POOL = "aaaaaaaa-0000-4000-8000-0000000000bb"
REPORT_S = 2.0
PROBE_LIMIT_S = 1.5  # the policy's probe_timeout: a dead master is found silent after it
CAPABILITIES = ("claim", "probe_now", "promote", "repoint", "restart_xapi", "set_tombstone", "collect_evidence")
GENERATION = 50
_GIB = 1 << 30


def mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def uuid(number: int) -> str:
    return f"{number:08d}-0000-4000-8000-0000000000bb"


def address(number: int) -> str:
    return f"10.98.0.{number}"


@dataclass
class Scene:
    """What all played agents know: how many there are, whether the master (number 1) is gone, what was stamped."""

    hosts: int
    look_s: float = PROBE_LIMIT_S  # how long an agent takes to look at the dead master
    last_look_s: float = PROBE_LIMIT_S  # the same of the last host
    cut_ms: int = 0
    last_evidence: float = 0.0  # ms on CLOCK_MONOTONIC
    order_arrived: float = 0.0
    promoted: asyncio.Event = field(default_factory=asyncio.Event)

    def probe(self, target: str, now: int) -> pb.Probe:
        """Of any host's xapi: all answer but the master after the cut."""
        gone = bool(self.cut_ms) and target == uuid(1)
        probe = pb.Probe(host_uuid=target, address=address(int(target[:8])), probed_mono_ms=now)
        probe.outcome = pb.Probe.NO_ANSWER if gone else pb.Probe.ANSWERED
        probe.answered_mono_ms = self.cut_ms if gone else now
        probe.unanswered_since_mono_ms = self.cut_ms + 1 if gone else 0
        return probe


class PlayedAgent:
    """One agent from its Hello to the end of its stream."""

    def __init__(self, scene: Scene, number: int, port: int, files: dict[str, bytes]) -> None:
        self._scene, self._number = scene, number
        credentials = grpc.ssl_channel_credentials(files["ca.pem"], files["key.pem"], files["cert.pem"])
        options = [("grpc.ssl_target_name_override", certificates.COLLECTOR_DNS), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options)
        self._sequence = 0
        self._targets: list[str] = []
        self._stream: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._writing = asyncio.Lock()

    async def start(self) -> None:
        """Say Hello and everything else; then go on by itself."""
        self._stream = rpc.AgentLinkStub(self._channel).Attach()
        await self._send(hello=self._hello())
        await self._send(report=self._report(full=True))
        self._tasks = [asyncio.create_task(self._hear()), asyncio.create_task(self._report_for_ever())]

    async def stop(self) -> None:
        """Gone without a word."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()

    # ------------------------------------------------------------------------------------------ saying

    async def _send(self, **body: Any) -> None:
        async with self._writing:
            self._sequence += 1
            await self._stream.write(pb.AgentMessage(sequence=self._sequence, mono_ms=mono_ms(), **body))

    async def _report_for_ever(self) -> None:
        await asyncio.sleep(REPORT_S * self._number / self._scene.hosts)
        while True:
            await self._send(report=self._report(full=False))
            await asyncio.sleep(REPORT_S)

    def _hello(self) -> pb.Hello:
        number = self._number
        return pb.Hello(
            agent_version="0.1.0",
            protocol_version=1,
            capabilities=CAPABILITIES,
            host_uuid=uuid(number),
            pool_uuid=POOL,
            boot_id=f"boot-{number}",
            machine=pb.MachineIdentity(system_uuid=f"dmi-{number}", system_serial=str(number)),
            host_name=f"host-{number}",
            management_address=address(number),
            python_version="3.6.8",
        )

    def _report(self, full: bool) -> pb.Report:
        now, master = mono_ms(), self._number == 1
        report = pb.Report(full=full)
        report.freshness.CopyFrom(
            pb.Freshness(host_mono_ms=now, xapi_mono_ms=now, probes_mono_ms=now, pool_view_mono_ms=now if master else 0)
        )
        report.probes.probes.extend(self._scene.probe(target, now) for target in self._targets)
        if full:
            self._fill(report, now, master)
        return report

    def _fill(self, report: pb.Report, now: int, master: bool) -> None:
        """The sections that do not change in a healthy pool."""
        kind = pb.RoleFacts.MASTER if master else pb.RoleFacts.MEMBER
        leader = "" if master else address(1)
        answers = pb.XapiFacts.ANSWERS
        report.role.CopyFrom(
            pb.RoleFacts(pool_conf=kind, master_address=leader, running=kind, running_master_address=leader)
        )
        report.role.serves_as_master = master
        report.xapi.CopyFrom(
            pb.XapiFacts(
                liveness=answers, liveness_since_mono_ms=now, socket_liveness=answers, socket_since_mono_ms=now
            )
        )
        report.xapi.MergeFrom(
            pb.XapiFacts(pid=100 + self._number, start_ticks=1000, emergency=pb.NO, startup_cookie=True)
        )
        report.database.CopyFrom(
            pb.DatabaseFacts(generation=GENERATION, loaded_from="var/lib/xcp/state.db", changed_mono_ms=now)
        )
        report.database.ha_armed = report.database.rolling_upgrade = pb.NO
        report.disks.disks.add(
            mount="/", total_bytes=18 * _GIB, free_bytes=10 * _GIB, total_inodes=1000, free_inodes=900, own_mount=True
        )
        report.memory.total_bytes, report.memory.available_bytes = 4 * _GIB, 2 * _GIB
        report.domains.readable = True
        report.software.product_brand, report.software.product_version = "XCP-ng", "8.3"
        report.software.xapi_version = "26.1.3"
        report.management_address = address(self._number)
        if master:
            report.pool_view.CopyFrom(_pool_view(self._scene.hosts))

    # ------------------------------------------------------------------------------------------ hearing

    async def _hear(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            while (message := await self._stream.read()) is not grpc.aio.EOF:
                arrived = time.monotonic_ns() / 1e6
                await self._take(message, arrived)

    async def _take(self, message: pb.CollectorMessage, arrived: float) -> None:
        kind = message.WhichOneof("body")
        if kind in ("welcome", "settings"):
            settings = message.welcome.settings if kind == "welcome" else message.settings
            self._targets = [target.host_uuid for target in settings.probe_targets]
        elif kind == "challenge":
            answer = pb.ChallengeAnswer(nonce=message.challenge.nonce, boot_id=f"boot-{self._number}")
            await self._send(challenge_answer=answer)
        elif kind == "full_report_request":
            await self._send(report=self._report(full=True))
        elif kind == "order":
            self._tasks.append(asyncio.create_task(self._obey(message.order, arrived)))

    async def _obey(self, order: pb.Order, arrived: float) -> None:
        scene, kind = self._scene, order.WhichOneof("kind") or ""
        result = pb.OrderResult(order_id=order.order_id, kind=kind, outcome=pb.OrderResult.DONE, term=order.term)
        if kind == "promote":
            scene.order_arrived = arrived
            scene.promoted.set()
            return  # what a promotion does to xapi is another figure
        if kind in ("claim", "probe_now"):
            await asyncio.sleep(scene.last_look_s if self._number == scene.hosts else scene.look_s)
        if kind == "claim":
            result.claim.last_look.CopyFrom(scene.probe(order.claim.old_master.host_uuid, mono_ms()))
            result.claim.placements.readable = True
            result.claim.placements.generation = GENERATION
            result.claim.placements.source = "var/lib/xcp/state.db"
        if kind == "probe_now":
            now = mono_ms()
            result.nonce = order.probe_now.nonce
            result.probes.probes.extend(scene.probe(target.host_uuid, now) for target in order.probe_now.targets)
            scene.last_evidence = time.monotonic_ns() / 1e6
        await self._send(order_result=result)


def _pool_view(hosts: int) -> pb.PoolView:
    view = pb.PoolView(pool_uuid=POOL, pool_name="bench", master_uuid=uuid(1), ha_enabled=pb.NO, rolling_upgrade=pb.NO)
    for number in range(1, hosts + 1):
        view.hosts.add(host_uuid=uuid(number), name=f"host-{number}", address=address(number), enabled=True, live=True)
    return view
