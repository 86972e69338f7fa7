"""A collector's operator API with answers made up by the test, behind a real gRPC server on a Unix socket."""

import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from poolwarden.v1 import enrolment_pb2 as enrolment
from poolwarden.v1 import enrolment_pb2_grpc, operator_pb2_grpc
from poolwarden.v1 import operator_pb2 as api

POOL = "11111111-0000-4000-8000-000000000001"
HOSTS = [f"22222222-0000-4000-8000-00000000000{number}" for number in (1, 2, 3)]


class FakeCollector(operator_pb2_grpc.OperatorServicer, enrolment_pb2_grpc.EnrolmentsServicer):
    """Answers by the attributes; `failure` (code, details) makes every call fail; requests are kept in `asked`."""

    def __init__(self) -> None:
        self.status = healthy_status()
        self.pages = False  # true: it knows overviews and pages; an older collector tells everything whole
        self.explanation = api.ExplainReply()
        self.readiness = api.ReadinessReply()
        self.plan = api.PlanReply()
        self.advice = api.AdviseReply()
        self.reply = api.CommandReply(accepted=True, text="done")
        self.entries: list[api.HistoryEntry] = []
        self.late: list[api.LateEntry] = []
        self.kept: list[api.KeptCapsule] = []
        self.calls: list[api.AuditEntry] = []
        self.alerts: list[api.Alert] = []
        self.found = api.FindFenceReply()
        self.tried = api.TryFenceReply()
        self.condition = api.DoctorReply()
        self.trial = api.TestAlertsReply()
        self.token = enrolment.CreateTokenReply(
            token="pwt-abc", id="0badcafe", ca_fingerprint="ab" * 32, address="192.0.2.5:7445", expires_wall_ms=1
        )
        self.authority = enrolment.AuthorityReply(ca_fingerprint="ab" * 32, address="192.0.2.5:7445", mode="observe")
        self.tokens: list[enrolment.Token] = []
        self.keys: list[enrolment.HostKey] = []
        self.decided = enrolment.EnrolmentReply(accepted=True, text="done")
        self.collectors = api.CollectorsReply(collector="hall-a", text="hall-a is the only collector")
        self.ids: list[str] = []  # of commands
        self.outcome: api.OutcomeReply | None = None  # None: it is of an older release
        self.outcomes_asked: list[str] = []
        self.failure: tuple[grpc.StatusCode, str] | None = None
        self.asked: list[Any] = []
        self.hold_stream = threading.Event()
        self.hold_stream.set()

    def _begin(self, request: Any, context: grpc.ServicerContext) -> None:
        self.asked.append(request)
        if self.failure is not None:
            context.abort(*self.failure)

    def Status(self, request: api.StatusRequest, context: grpc.ServicerContext) -> api.StatusReply:
        self._begin(request, context)
        reply = api.StatusReply()
        reply.CopyFrom(self.status)
        if not self.pages or not request.overview:
            reply.ClearField("overview")
        elif len(reply.pools) > request.few:
            del reply.pools[:]
        if self.pages and request.limit and not request.overview:
            rest = sorted((pool for pool in self.status.pools if pool.pool_uuid > request.after), key=by_uuid)
            del reply.pools[:]
            reply.pools.extend(rest[: request.limit])
            reply.next = reply.pools[-1].pool_uuid if len(rest) > request.limit else ""
        if request.pool:
            kept = [pool for pool in reply.pools if request.pool in (pool.name, pool.pool_uuid)]
            if not kept:
                context.abort(grpc.StatusCode.NOT_FOUND, f"no pool is called {request.pool!r}; known: demo")
            del reply.pools[:]
            reply.pools.extend(kept)
        return reply

    def Explain(self, request: api.ExplainRequest, context: grpc.ServicerContext) -> api.ExplainReply:
        self._begin(request, context)
        return self.explanation

    def Readiness(self, request: api.ReadinessRequest, context: grpc.ServicerContext) -> api.ReadinessReply:
        self._begin(request, context)
        return self.readiness

    def Advise(self, request: api.AdviseRequest, context: grpc.ServicerContext) -> api.AdviseReply:
        self._begin(request, context)
        return self.advice

    def Plan(self, request: api.PlanRequest, context: grpc.ServicerContext) -> api.PlanReply:
        self._begin(request, context)
        return self.plan

    def Command(self, request: api.CommandRequest, context: grpc.ServicerContext) -> api.CommandReply:
        self.ids.append(request.id)
        request.ClearField("id")  # another one each time
        self._begin(request, context)
        return self.reply

    def Collectors(self, request: api.CollectorsRequest, context: grpc.ServicerContext) -> api.CollectorsReply:
        self._begin(request, context)
        return self.collectors

    def Outcome(self, request: api.OutcomeRequest, context: grpc.ServicerContext) -> api.OutcomeReply:
        if self.outcome is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        self.outcomes_asked.append(request.id)
        return self.outcome

    def FindFence(self, request: api.FindFenceRequest, context: grpc.ServicerContext) -> api.FindFenceReply:
        self._begin(request, context)
        return self.found

    def TryFence(self, request: api.TryFenceRequest, context: grpc.ServicerContext) -> api.TryFenceReply:
        self._begin(request, context)
        return self.tried

    def Authority(self, request: enrolment.AuthorityRequest, context: grpc.ServicerContext) -> enrolment.AuthorityReply:
        self._begin(request, context)
        return self.authority

    def CreateToken(self, request: Any, context: grpc.ServicerContext) -> enrolment.CreateTokenReply:
        self._begin(request, context)
        return self.token

    def ListTokens(self, request: Any, context: grpc.ServicerContext) -> enrolment.ListTokensReply:
        self._begin(request, context)
        return enrolment.ListTokensReply(tokens=self.tokens)

    def ListKeys(self, request: Any, context: grpc.ServicerContext) -> enrolment.ListKeysReply:
        self._begin(request, context)
        return enrolment.ListKeysReply(keys=self.keys)

    def _decide(self, request: Any, context: grpc.ServicerContext) -> enrolment.EnrolmentReply:
        self._begin(request, context)
        return self.decided

    RevokeToken = DecideKey = DenyCertificate = _decide

    def TestAlerts(self, request: api.TestAlertsRequest, context: grpc.ServicerContext) -> api.TestAlertsReply:
        self._begin(request, context)
        return self.trial

    def Doctor(self, request: api.DoctorRequest, context: grpc.ServicerContext) -> api.DoctorReply:
        self._begin(request, context)
        return self.condition

    def History(self, request: api.HistoryRequest, context: grpc.ServicerContext) -> api.HistoryReply:
        self._begin(request, context)
        return api.HistoryReply(entries=self.entries)

    def Follow(self, request: api.HistoryRequest, context: grpc.ServicerContext) -> Iterator[api.HistoryEntry]:
        self._begin(request, context)
        yield from self.entries
        self.hold_stream.wait(10)

    def Audit(self, request: api.AuditRequest, context: grpc.ServicerContext) -> api.AuditReply:
        self._begin(request, context)
        return api.AuditReply(entries=self.calls)

    def ListCapsules(self, request: api.ListCapsulesRequest, context: grpc.ServicerContext) -> api.ListCapsulesReply:
        self._begin(request, context)
        return api.ListCapsulesReply(capsules=self.kept)

    def Late(self, request: api.LateRequest, context: grpc.ServicerContext) -> api.LateReply:
        self._begin(request, context)
        return api.LateReply(entries=self.late)

    def Alerts(self, request: api.AlertsRequest, context: grpc.ServicerContext) -> api.AlertsReply:
        self._begin(request, context)
        wanted = [alert for alert in self.alerts if not (request.open_only and alert.resolved_at)]
        return api.AlertsReply(alerts=wanted)


def serve(
    fake: FakeCollector, address: str, credentials: grpc.ServerCredentials | None = None
) -> tuple[grpc.Server, int]:
    """Start a server for the fake; returns it and its port (1 for a Unix socket)."""
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    operator_pb2_grpc.add_OperatorServicer_to_server(fake, server)
    enrolment_pb2_grpc.add_EnrolmentsServicer_to_server(fake, server)
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    return server, port


def socket_of(folder: Path) -> str:
    """The address of the fake's socket in that folder."""
    return f"unix:{folder / 'c.sock'}"


def a_host(number: int, role: str = "member", **changes: Any) -> api.HostStatus:
    """A healthy host of the pool `demo`, with changes."""
    facts: dict[str, Any] = {
        "host_uuid": HOSTS[number - 1], "name": f"host-{number}", "address": f"10.0.0.{number}", "role": role,
        "agent_connected": True, "agent_age_ms": 900, "ever_heard": True, "xapi": "answers", "emergency": "no",
        "enabled": "yes", "power": "on", "fence_device": "bound", "generation": 4711, "running_vms": 3,
        "running_vms_known": True, "agent_version": "0.1.0", "product": "XCP-ng 8.3.0", "boot_id": "b" * 36,
        "memory_total_bytes": 8 << 30, "memory_available_bytes": 5 << 30, "pool_name": "demo", "pool_uuid": POOL,
        "heard": True, "place": role,
        "disks": [api.DiskStatus(mount="/", total_bytes=18 << 30, free_bytes=9 << 30, used_percent=50)],
    }  # fmt: skip
    return api.HostStatus(**{**facts, **changes})


def by_uuid(pool: api.PoolStatus) -> str:
    return str(pool.pool_uuid)


def healthy_status() -> api.StatusReply:
    """One healthy pool of three hosts."""
    pool = api.PoolStatus(
        pool_uuid=POOL,
        name="demo",
        verdict="Healthy",
        sentence="host-1 serves as master, 2 members are attached",
        verdict_age_ms=65_000,
        master_uuid=HOSTS[0],
        master_name="host-1",
        master_address="10.0.0.1",
        term=3,
        mode="auto",
        hosts=[a_host(1, "master"), a_host(2), a_host(3)],
        situation=api.Situation(
            headline="healthy: host-1 is master", level="good", age_ms=65_000, vms="9 run on host-1, host-2, host-3"
        ),
    )
    return api.StatusReply(collector_name="watch-1", version="0.1.0", epoch=2, up_ms=3_700_000, pools=[pool])
