"""The operator's interface: gRPC on a Unix socket, and with mutual TLS on an address where one is configured.

Rules
-----
* On the socket who calls is known from the kernel (front.py), on the address from the operator's certificate (tls.py).
  What he may is looked up before any method here is called (admission.py, access.py).
* Whatever is shown or named is of the caller's pools: names go through ``_names``, lists through ``_shown``.
* Reading never changes anything and holds up nothing: of the journal it is done in threads of its own, beside the
  connection that writes, within 5 s and for at most 10,000 rows a call; more is asked for page by page.
* What changes something becomes an ``OperatorSaid`` event and is answered by the engine, in its turn, after it is
  durable. What concerns the telling of alerts only is not the engine's (alert_marks.py).
* One of several collectors gives the whole answer (several.py), unless another one of them has asked.
* A mistake of the operator is one sentence: NOT_FOUND lists what there is, FAILED_PRECONDITION lists the candidates
  of an ambiguous name, INVALID_ARGUMENT says what is missing. A refusal by the engine is no error but an answer with
  a reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc

from poolwarden.v1 import enrolment_pb2_grpc as enrolment_rpc
from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.report.explain import explain
from poolwarden_collector.core.report.journal_view import JournalView
from poolwarden_collector.core.report.plan import plan
from poolwarden_collector.core.report.weaknesses import readiness
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.agents.doorkeeper import Doorkeeper
from poolwarden_collector.shell.agents.port import credentials
from poolwarden_collector.shell.doctor.check import FAULT, WARNING
from poolwarden_collector.shell.doctor.enrolment import own_certificates
from poolwarden_collector.shell.doctor.etcd_checks import etcd_weaknesses
from poolwarden_collector.shell.doctor.running import all_checks
from poolwarden_collector.shell.loop.self_check import guards_its_own_host
from poolwarden_collector.shell.operators import (
    access,
    alert_trials,
    calls,
    pool_views,
    requests,
    second_person,
    together,
)
from poolwarden_collector.shell.operators import replies as messages
from poolwarden_collector.shell.operators import tls as operator_tls
from poolwarden_collector.shell.operators.access import Denied
from poolwarden_collector.shell.operators.admission import Admission, Stranger
from poolwarden_collector.shell.operators.advice import advised
from poolwarden_collector.shell.operators.capsules import CapsuleCalls
from poolwarden_collector.shell.operators.collectors import Collectors
from poolwarden_collector.shell.operators.command_call import CommandCall
from poolwarden_collector.shell.operators.enrolments import EnrolmentsApi
from poolwarden_collector.shell.operators.fence_setup import FenceSetup
from poolwarden_collector.shell.operators.front import Front
from poolwarden_collector.shell.operators.journal_reader import JournalReader, instant
from poolwarden_collector.shell.operators.names import Ambiguous, Names, Unknown, is_uuid
from poolwarden_collector.shell.operators.naming import Naming
from poolwarden_collector.shell.operators.neighbours import Links
from poolwarden_collector.shell.operators.outcomes import Outcomes
from poolwarden_collector.shell.operators.quoting import Quoting
from poolwarden_collector.shell.operators.several import Several
from poolwarden_collector.shell.operators.status_call import StatusCall
from poolwarden_collector.shell.operators.turns import Turns
from poolwarden_collector.shell.operators.wire import in_bytes
from poolwarden_collector.shell.operators.wrong import Wrong
from poolwarden_collector.shell.store.journal import MOST_ROWS, Journal, JournalError, Row, TooLong

if TYPE_CHECKING:
    from poolwarden_collector.shell.alerts.outbox import Outbox
    from poolwarden_collector.shell.config.config import Tls
    from poolwarden_collector.shell.loop.performer import Replies
    from poolwarden_collector.shell.loop.service import Service
    from poolwarden_collector.shell.operators.neighbours import Neighbours
    from poolwarden_collector.shell.queue.inbox import Inbox
    from poolwarden_collector.shell.reload import Reloaded
    from poolwarden_collector.shell.store.capsules import Capsules
    from poolwarden_collector.shell.store.telemetry import Telemetry

# Entries that end a change of master, or a drill.
CHANGES = (Kind.CLOSED.value, Kind.DESIGNATE_RESULT.value, Kind.DRILL_ENDED.value)
PAST_CHANGES = 10
LATE_LIMIT = 1_000
_FOLLOW_QUEUE = 4_096
_SHUT = "{} connections to the operators' address were shut: so many came, and said nothing"


Ending = tuple[tuple[str, str], ...]  # what ends soon, and what mends it
_Q = TypeVar("_Q")
_A = TypeVar("_A")
_MISTAKES = (Unknown, Ambiguous, Wrong, Denied, JournalError)
_CODES: dict[type[Exception], grpc.StatusCode] = {
    Unknown: grpc.StatusCode.NOT_FOUND,
    Ambiguous: grpc.StatusCode.FAILED_PRECONDITION,
    Denied: grpc.StatusCode.PERMISSION_DENIED,
    TooLong: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


async def _refuse(context: Any, error: Exception) -> NoReturn:
    """End the call with the status of a mistake; ``abort`` raises."""
    code = error.code if isinstance(error, Wrong) else _CODES.get(type(error), grpc.StatusCode.INTERNAL)
    # The journal's own sentence may name a pool that the caller must not know of.
    text = access.not_recorded(error) if isinstance(error, JournalError) else str(error)
    await context.abort(code, text)
    raise AssertionError("grpc's abort does not return")


def _answered(method: Callable[[OperatorApi, _Q], Awaitable[_A]]) -> Callable[[OperatorApi, _Q, Any], Awaitable[_A]]:
    """A method of the contract from one that answers or raises a mistake."""

    @functools.wraps(method)
    async def call(self: OperatorApi, request: _Q, context: Any) -> _A:
        try:
            local = functools.partial(method, self)
            if self._several is None or access.current().relayed:
                return await local(request)
            own = functools.partial(self._own_part, local)
            answer: _A = await self._several.serve(method.__name__, request, own)
            return answer
        except _MISTAKES as error:
            await _refuse(context, error)

    return call


class OperatorApi(rpc.OperatorServicer):
    """Serves ``Operator`` for one service."""

    def __init__(
        self,
        service: Service,
        journal: Journal,
        inbox: Inbox,
        replies: Replies,
        version: str,
        outbox: Outbox,
        telemetry: Telemetry | None = None,
        reload: Callable[[str], Awaitable[Reloaded]] | None = None,
        enrolments: EnrolmentsApi | None = None,
        capsules: Capsules | None = None,
    ) -> None:
        self._enrolments = enrolments
        self._telemetry = telemetry
        self._capsules = CapsuleCalls(capsules, service.roster)
        self._outbox = outbox
        self._reload = reload
        self._service = service
        self._roster = service.roster
        self._journal = journal
        self._inbox = inbox
        self._fence_setup = FenceSetup(self._roster)
        self._trying_channels = asyncio.Lock()
        self._examining = asyncio.Lock()  # the journal is read to its end for it: once at a time
        self._views = pool_views.PoolViews(self._roster)
        self._quoting = Quoting(self._roster)
        self._journals = JournalReader(journal)
        self._seconds = second_person.SecondPerson(service, journal)
        self._status = StatusCall(self._views, self._journals, self._seconds, outbox, inbox, version)
        self._ledger = calls.Ledger(service, journal, clock.mono_ms)
        self._commands = CommandCall(
            service, journal, inbox, replies, self._views, self._seconds, self._names, self._explain,
            lambda: self._collectors,
        )  # fmt: skip
        self._naming = Naming(self._names, journal, self._seconds)
        self._outcomes = Outcomes(clock.mono_ms)
        self._several: Several | None = None  # None: this collector is alone
        self._collectors = Collectors(self._roster, None, version)
        self._version = version
        self._servers: list[grpc.aio.Server] = []
        self._doorkeeper: asyncio.Task[None] | None = None
        self.front: Front | None = None
        self.port = 0

    def join(self, neighbours: Neighbours) -> None:
        """Be one of several collectors, which are asked as well from now on."""
        self._several = Several(neighbours, Links(lambda: self._roster.config.tls), self._naming)
        self._collectors = Collectors(self._roster, self._several, self._version)
        if self._enrolments is not None:
            self._enrolments.join(self._several)

    @property
    def several(self) -> bool:
        """Is this one of several collectors?"""
        return self._several is not None

    async def start(self, path: Path) -> None:
        """Serve on a Unix socket with mode 0660. Raises OSError where that is impossible."""
        front = Front(path, self._roster.warn, self._roster.config.operator_group)
        front.prepare()

        def who(context: Any) -> access.Caller:
            if (found := front.caller(context.peer())) is not None:
                return found
            raise Stranger("nobody is known to be at the other end of this connection")

        admission = self._admission(who, "the operators' socket")
        server = grpc.aio.server(interceptors=(admission,), options=operator_tls.BOUNDS)
        self._add_to(server)
        try:
            server.add_insecure_port(f"unix:{front.inner}")
        except RuntimeError as error:
            raise OSError(f"{front.inner}: cannot be listened on ({error})") from error
        await server.start()
        self._servers.append(server)
        await self._seconds.start()
        await front.start()
        self.front = front

    def _admission(self, who: Callable[[Any], access.Caller], where: str) -> Admission:
        entries = lambda: self._roster.config.operators.entries  # noqa: E731
        return Admission(who, entries, self._ledger, self._roster.warn, where, self._typed)

    async def _typed(self, reply: Any) -> Any:
        """The reply with names as they have to be typed in the commands that it suggests; a long one as its bytes."""
        return await in_bytes(await self.quoted(reply), self.turns())

    async def quoted(self, reply: Any) -> Any:
        """The reply, in place, with names as they have to be typed in the commands that it suggests."""
        if access.current().typed:
            return reply
        return await self._quoting.typed(reply, self.turns())

    async def _own_part(self, local: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
        """This collector's own part of an answer, quoted as by itself: the others have quoted theirs."""
        reply, call = await self._quoting.typed(await local(request), self.turns()), access.current()
        call.typed = True
        return reply

    async def start_network(self, listen: str, tls: Tls) -> None:
        """Serve operators' certificates on an address too. Raises OSError where it or the certificate cannot be used.

        Certificates are read at every handshake, as the gateway's are.
        """

        def who(context: Any) -> access.Caller:
            return operator_tls.caller(context, self._several.knows if self._several is not None else None)

        admission = self._admission(who, "the operators' address")
        server = grpc.aio.server(interceptors=(admission,), options=operator_tls.OPTIONS)
        self._add_to(server)
        try:
            self.port = server.add_secure_port(listen, credentials(tls))
        except RuntimeError as error:
            raise OSError(f"{listen}: cannot be listened on ({error})") from error
        await server.start()
        self._servers.append(server)
        # safety: whoever reaches this port without a certificate must not use up the files that agents need.
        keeper = Doorkeeper(admission.speaking, lambda count: self._roster.warn(_SHUT.format(count), _SHUT))
        self._doorkeeper = asyncio.ensure_future(keeper.watch(self.port))

    def _add_to(self, server: grpc.aio.Server) -> None:
        rpc.add_OperatorServicer_to_server(self, server)
        if self._enrolments is not None:
            enrolment_rpc.add_EnrolmentsServicer_to_server(self._enrolments, server)

    async def stop(self) -> None:
        """End every call on every address."""
        await asyncio.gather(*(server.stop(0.2) for server in self._servers))
        if self._doorkeeper is not None:
            self._doorkeeper.cancel()
        if self._several is not None:
            await self._several.close()
        await self._journals.stop()
        self._seconds.stop()
        if self.front is not None:
            await self.front.stop()

    # ------------------------------------------------------------------------------------------------ reading

    @_answered
    async def Status(self, request: pb.StatusRequest) -> pb.StatusReply:
        among = [self._names().pool(request.pool)] if request.pool else self._shown()
        return await self._status.reply(request, among, self._shown(), self.turns())

    @_answered
    async def Explain(self, request: pb.ExplainRequest) -> pb.ExplainReply:
        return self._explain(request.pool)

    def _explain(self, text: str) -> pb.ExplainReply:
        uuid = self._names().pool(text)
        pool = self._roster.pools[uuid]
        found = messages.explanation(pool, explain(pool, self._roster.shown_at(), self._views.site(uuid)))
        found.seconded.extend(self._seconds.shown().get(uuid, ()))
        return found

    @_answered
    async def Readiness(self, request: pb.ReadinessRequest) -> pb.ReadinessReply:
        uuids = [self._names().pool(request.pool)] if request.pool else self._shown()
        reply, turns, own = pb.ReadinessReply(), self.turns(), await self._own_ending()
        etcd = () if access.current().scoped else await etcd_weaknesses(self._roster)
        for each in uuids:
            past, pool = replace(await self._past(each, own), etcd=etcd), self._roster.pools[each]
            reasons = readiness(Snapshot(pool, self._roster.shown_at(), self._views.site_if_lost(each)), past)
            reply.pools.append(messages.readiness(pool, reasons))
            await turns.rest()
        return reply

    @_answered
    async def Plan(self, request: pb.PlanRequest) -> pb.PlanReply:
        uuid = self._names().pool(request.pool)
        past, pool = await self._past(uuid, await self._own_ending()), self._roster.pools[uuid]
        return messages.plan(pool, plan(pool, self._roster.shown_at(), self._views.site_if_lost(uuid), past))

    @_answered
    async def Advise(self, request: pb.AdviseRequest) -> pb.AdviseReply:
        return advised(request, self._names(), self._roster, self._views)

    async def _past(self, uuid: str, own: Ending) -> JournalView:
        """What the journal knows of a pool's earlier changes of master."""
        rows = await self._journals.read(self._journal.newest, uuid, CHANGES, PAST_CHANGES)
        inside = guards_its_own_host([self._roster.pools[uuid]])
        several = self._roster.config.several
        return messages.journal_view(rows, clock.wall_ms(), inside[0] if inside else "", several, own)

    async def _own_ending(self) -> Ending:
        """Which of the collector's own certificates end soon, and what mends it: no matter of one pool's."""
        if access.current().scoped:
            return ()
        own = await own_certificates(self._roster.config, self._enrolments.of if self._enrolments else None)
        return tuple((check.text, check.next_step) for check in own if check.level in (WARNING, FAULT))

    @_answered
    async def History(self, request: pb.HistoryRequest) -> pb.HistoryReply:
        return await self._history_reply(request)

    async def _history_reply(self, request: pb.HistoryRequest) -> pb.HistoryReply:
        rows = await self._history(request)
        reply: pb.HistoryReply = await self._journals.search(
            lambda: pb.HistoryReply(entries=[self._entry(row) for row in rows])
        )
        await self._mark_copied(reply.entries)
        return reply

    async def _mark_copied(self, entries: Collection[pb.HistoryEntry]) -> None:
        if self._several is not None and entries:
            together.mark_copied(entries, await self._journals.read(self._journal.copied))

    async def _history(self, request: pb.HistoryRequest) -> list[Row]:
        return await self._journals.history(request, self._pool_of(request), access.current().among)

    def _pool_of(self, request: pb.HistoryRequest | pb.AlertsRequest | pb.ListCapsulesRequest | pb.AuditRequest) -> str:
        """The pool whose past is asked for; one of several has that of pools, too, which another one owns now."""
        known, call = self._roster.pools, access.current()
        if self._several is not None and is_uuid(request.pool) and request.pool not in known:
            call.require(request.pool)
            return request.pool
        return self._names().pool(request.pool) if request.pool else ""

    async def Follow(self, request: pb.HistoryRequest, context: Any) -> AsyncIterator[pb.HistoryEntry]:  # noqa: N802
        """What is stored first, then live; nothing twice, nothing left out."""
        try:
            own = self._follow
            entries = own(request)
            if self._several is not None and not access.current().relayed:
                entries = self._several.follow(request, own, self._history_reply)
            async with contextlib.aclosing(entries):
                async for entry in entries:
                    yield entry
        except _MISTAKES as error:
            await _refuse(context, error)

    async def _follow(self, request: pb.HistoryRequest) -> AsyncGenerator[pb.HistoryEntry, None]:
        """This collector's own part."""
        queue: asyncio.Queue[list[Row]] = asyncio.Queue(_FOLLOW_QUEUE)
        lost = asyncio.Event()

        def follower(rows: list[Row]) -> None:
            try:
                queue.put_nowait(rows)
            except asyncio.QueueFull:
                lost.set()

        stop = self._service.follow(follower)
        try:
            if request.until:
                raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, "until: what is followed has no end")
            pool = self._pool_of(request)
            last = request.after_seq
            async with contextlib.aclosing(self._journals.followed(request, pool, queue)) as parts:
                async for rows in parts:
                    if lost.is_set():
                        break
                    among = access.current().still()  # rights end with the configuration that gave them
                    wanted = []
                    for row in rows:
                        asked = pool in ("", row.pool) and request.failover in ("", row.failover)
                        if row.seq > last and asked and (among is None or row.pool in among):
                            wanted.append(self._entry(row))
                        last = max(last, row.seq)
                    await self._mark_copied(wanted)
                    for entry in wanted:
                        yield entry
            raise Wrong(grpc.StatusCode.RESOURCE_EXHAUSTED, "too slow to follow; go on with the last number you have")
        finally:
            stop()

    @_answered
    async def Alerts(self, request: pb.AlertsRequest) -> pb.AlertsReply:
        pool = self._pool_of(request)
        call, limit = access.current(), min(request.limit, MOST_ROWS)
        found = await self._journals.search(self._journal.alerts, pool, request.open_only, limit, call.among)
        if call.scoped:  # channels are the collector's own
            found = [{**row, "deliveries": ()} for row in found]
        reply, turns = pb.AlertsReply(), self.turns()
        for row in found:
            reply.alerts.append(messages.alert(row, self._pool_name(row["pool"])))
            await turns.rest()
        return reply

    @_answered
    async def Decision(self, request: pb.DecisionRequest) -> pb.DecisionReply:
        row: Row | None = await self._journals.search(self._journal.decision, request.id)
        among = access.current().among
        if row is None or (among is not None and row.pool not in among):
            text = f"no decision {request.id!r} has a stored input; history shows the numbers of those that have"
            raise Wrong(grpc.StatusCode.NOT_FOUND, text)
        return messages.decision(row)

    @_answered
    async def Late(self, request: pb.LateRequest) -> pb.LateReply:
        pool, host = self._late_of(request.host)
        if self._telemetry is None:
            return pb.LateReply()
        limit = min(request.limit or LATE_LIMIT, MOST_ROWS)
        try:
            found = await asyncio.to_thread(self._telemetry.told_late, host, request.samples, limit)
        except sqlite3.Error as error:
            raise Wrong(grpc.StatusCode.INTERNAL, f"telemetry cannot be read: {error}") from error
        if (among := access.current().among) is not None:  # what it told as a host of another pool is that pool's
            found = [row for row in found if (row["pool"] == pool if pool else row["pool"] in among)]
        return pb.LateReply(entries=[messages.late_entry(row) for row in found])

    def _late_of(self, text: str) -> tuple[str, str]:
        """The host with its pool; one of several has words of hosts, too, whose pool another one owns now ("")."""
        if self._several is not None and is_uuid(text) and not self._roster.pools.of(text):
            return "", text
        return self._names().host(text)

    @_answered
    async def ListCapsules(self, request: pb.ListCapsulesRequest) -> pb.ListCapsulesReply:  # noqa: N802
        pool = self._pool_of(request)
        return await self._capsules.listed(request, pool, self.turns())

    async def ReadCapsule(  # noqa: N802
        self, request: pb.ReadCapsuleRequest, context: Any
    ) -> AsyncIterator[pb.CapsuleBytes]:
        """One of them, a piece at a time, for as long as the caller may see its pool."""
        try:
            own = functools.partial(self._capsules.pieces, request)
            whole = own()
            if self._several is not None and not access.current().relayed:
                whole = self._several.capsule(request, own)
            async with contextlib.aclosing(whole) as pieces:
                async for piece in pieces:
                    yield piece
        except _MISTAKES as error:
            await _refuse(context, error)

    @_answered
    async def Doctor(self, request: pb.DoctorRequest) -> pb.DoctorReply:
        async with self._examining:
            channels = await self._journals.read(self._journal.channels)
            enrolments = self._enrolments.of if self._enrolments else None
            found = await all_checks(self._roster, channels, enrolments)
        checks = [pb.Check(name=c.name, level=c.level, text=c.text, next_step=c.next_step) for c in found]
        return pb.DoctorReply(checks=checks)

    @_answered
    async def Audit(self, request: pb.AuditRequest) -> pb.AuditReply:
        among = access.current().among
        if request.pool:
            among = frozenset({self._pool_of(request)})
        bounds = (instant("since", request.since), instant("until", request.until))
        rows = await asyncio.to_thread(self._journal.calls, among, *bounds, request.limit)
        reply, turns = pb.AuditReply(), self.turns()
        for row in rows:
            reply.entries.append(messages.audit_entry(row, self._pool_name(row["pool"])))
            await turns.rest()
        return reply

    # ------------------------------------------------------------------------------------------------ commands

    @_answered
    async def TestAlerts(self, request: pb.TestAlertsRequest) -> pb.TestAlertsReply:  # noqa: N802
        actor = requests.actor(request)
        async with self._trying_channels:
            return await alert_trials.try_channels(
                self._service, self._journal, self._outbox, request.channel.strip(), actor
            )

    @_answered
    async def Reload(self, request: pb.ReloadRequest) -> pb.ReloadReply:  # noqa: N802
        """The configuration's file, taken as a whole or refused as a whole."""
        actor, ours = requests.actor(request), self._roster.config.file
        if self._reload is None:
            raise Wrong(grpc.StatusCode.UNIMPLEMENTED, "this collector reads its configuration at its start alone")
        named = request.file.replace("\0", "?")
        if named and Path(named).resolve() != ours.resolve():
            text = f"this collector runs with {ours.resolve()}, not with {named[:2_000]}"
            step = f"poolwarden-collector reload --config {ours.resolve()}"
            return pb.ReloadReply(accepted=False, text=text, next_step=step)
        done = await self._reload(actor)
        return pb.ReloadReply(
            accepted=not done.refused,
            text=done.refused or f"{done.file}: {'reloaded' if done.changes else 'nothing in it has changed'}",
            next_step=done.next_step,
            changes=done.changes,
            warnings=done.warnings,
            file_is_wrong=done.wrong,
        )

    async def Command(self, request: pb.CommandRequest, context: Any) -> pb.CommandReply:
        """Obeyed once under its id, by whoever it concerns."""
        try:
            person = access.current().caller.person
            return await self._outcomes.once(person, request.id, functools.partial(self._obey, request))
        except _MISTAKES as error:
            await _refuse(context, error)

    async def _obey(self, request: pb.CommandRequest) -> pb.CommandReply:
        if self._several is not None and not access.current().relayed:
            return await self._several.command(request, functools.partial(self._own_part, self._commands.reply))
        return await self._commands.reply(request)

    @_answered
    async def Collectors(self, request: pb.CollectorsRequest) -> pb.CollectorsReply:
        return await self._collectors.reply()

    @_answered
    async def Where(self, request: pb.WhereRequest) -> pb.WhereReply:
        if request.command.WhichOneof("command") is None:
            raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, "the request holds no command that this collector knows")
        return await self._naming.where(request.command)

    async def Outcome(self, request: pb.OutcomeRequest, context: Any) -> pb.OutcomeReply:
        """What came of a command; of one that has not come: it is not obeyed any more."""
        own = self._outcome
        try:
            if self._several is not None and not access.current().relayed:
                return await self._several.outcome(request, own)
            return await own(request)
        except _MISTAKES as error:
            await _refuse(context, error)

    async def _outcome(self, request: pb.OutcomeRequest) -> pb.OutcomeReply:
        found = await self._outcomes.of(access.current().caller.person, request.id)
        found.collector = self._roster.config.name if found.state == "done" else ""
        return found

    @_answered
    async def FindFence(self, request: pb.FindFenceRequest) -> pb.FindFenceReply:  # noqa: N802
        """What answers at a host's BMC."""
        pool, host = self._names().host(request.host)
        return await self._fence_setup.find(pool, host, request)

    @_answered
    async def TryFence(self, request: pb.TryFenceRequest) -> pb.TryFenceReply:  # noqa: N802
        """Whether a proposed fence device is this host's."""
        pool, host = self._names().host(request.host)
        return await self._fence_setup.attempt(pool, host, request)

    def turns(self) -> Turns:
        """Of one answer."""
        return Turns(self._inbox.__len__)

    # ------------------------------------------------------------------------------------------------ names

    def _names(self) -> Names:
        """Names of the caller's pools; one that is found must be one in which he has the method's role."""
        call, shown = access.current(), self._shown()
        pools = {uuid: self._roster.pools[uuid] for uuid in shown}
        aliases = {pool: special.name for pool, special in self._roster.config.pools.items() if pool in pools}
        return Names(pools, aliases, call.require)

    def _shown(self) -> list[str]:
        """The pools that are there for the caller."""
        # safety: the one place where a customer's pools are told from another's.
        seen = access.current().rights.seen()
        return [uuid for uuid in self._roster.pools if seen is None or uuid in seen]

    def _pool_name(self, uuid: str) -> str:
        pool = self._roster.pools.get(uuid)
        return pool.record.name if pool is not None else ""

    def _entry(self, row: Row) -> pb.HistoryEntry:
        return messages.history_entry(row, self._pool_name(row.pool))
