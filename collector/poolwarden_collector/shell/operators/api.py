"""The operator's interface: gRPC on a Unix socket, and with mutual TLS on an address where one is configured.

Rules
-----
* On the socket the file's permissions are the access control, and the caller says who gives a command. On the address
  the operator's certificate is both (tls.py).
* Reading never changes anything. What changes something becomes an ``OperatorSaid`` event and is answered by the
  engine, in its turn, after it is durable.
* A mistake of the operator is one sentence: NOT_FOUND lists what there is, FAILED_PRECONDITION lists the candidates
  of an ambiguous name, INVALID_ARGUMENT says what is missing. A refusal by the engine is no error but an answer with
  a reason.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import socket
import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.core.followups.power_switch import test_limit
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.report.explain import explain
from poolwarden_collector.core.report.status import lost_vms, status
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.shell.agents.gateway import credentials
from poolwarden_collector.shell.fencing import setup
from poolwarden_collector.shell.loop.self_check import guards_its_own_host
from poolwarden_collector.shell.operators import replies as messages
from poolwarden_collector.shell.operators import requests
from poolwarden_collector.shell.operators import tls as operator_tls
from poolwarden_collector.shell.operators.names import Ambiguous, Names, Unknown
from poolwarden_collector.shell.store.journal import Journal, JournalError, Row

if TYPE_CHECKING:
    from poolwarden_collector.shell.config.config import Tls
    from poolwarden_collector.shell.loop.performer import Replies
    from poolwarden_collector.shell.loop.service import Service
    from poolwarden_collector.shell.queue.inbox import Inbox
    from poolwarden_collector.shell.store.telemetry import Telemetry

ANSWER_WITHIN_S = 10.0
SOCKET_MODE = 0o660
LATE_LIMIT, LATE_MOST = 1_000, 20_000
_FOLLOW_QUEUE = 4_096
_TEXT_LIMIT = 2_000


class Wrong(Exception):
    """The request cannot be served: a status and one sentence."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


_Q = TypeVar("_Q")
_A = TypeVar("_A")
_MISTAKES = (Unknown, Ambiguous, Wrong, JournalError)


async def _refuse(context: Any, error: Exception) -> NoReturn:
    """End the call with the status of a mistake; ``abort`` raises."""
    codes = {Unknown: grpc.StatusCode.NOT_FOUND, Ambiguous: grpc.StatusCode.FAILED_PRECONDITION}
    code = error.code if isinstance(error, Wrong) else codes.get(type(error), grpc.StatusCode.INTERNAL)
    await context.abort(code, str(error))
    raise AssertionError("grpc's abort does not return")


def _answered(method: Callable[[OperatorApi, _Q], Awaitable[_A]]) -> Callable[[OperatorApi, _Q, Any], Awaitable[_A]]:
    """A method of the contract from one that answers or raises a mistake."""

    @functools.wraps(method)
    async def call(self: OperatorApi, request: _Q, context: Any) -> _A:
        try:
            return await method(self, request)
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
        telemetry: Telemetry | None = None,
    ) -> None:
        self._telemetry = telemetry
        self._service = service
        self._roster = service.roster
        self._journal = journal
        self._inbox = inbox
        self._replies = replies
        self._version = version
        self._setting_up = asyncio.Lock()  # one guide at a time: each runs programs
        self._servers: list[grpc.aio.Server] = []
        self.port = 0

    async def start(self, path: Path) -> None:
        """Serve on a Unix socket with mode 0660. Raises OSError where that is impossible."""
        _make_way(path)
        server = grpc.aio.server()
        rpc.add_OperatorServicer_to_server(self, server)
        mask = os.umask(0o777 & ~SOCKET_MODE)  # from its first instant nobody else may connect
        try:
            server.add_insecure_port(f"unix:{path}")
            await server.start()
        except RuntimeError as error:
            raise OSError(f"{path}: cannot be listened on ({error})") from error
        finally:
            os.umask(mask)
        path.chmod(SOCKET_MODE)
        self._servers.append(server)

    async def start_network(self, listen: str, tls: Tls) -> None:
        """Serve operators' certificates on an address too. Raises OSError where it or the certificate cannot be used.

        Certificates are read at every handshake, as the gateway's are.
        """
        admission = operator_tls.Admission(self._roster.warn)
        server = grpc.aio.server(interceptors=(admission,), options=operator_tls.OPTIONS)
        rpc.add_OperatorServicer_to_server(self, server)
        try:
            self.port = server.add_secure_port(listen, credentials(tls))
        except RuntimeError as error:
            raise OSError(f"{listen}: cannot be listened on ({error})") from error
        await server.start()
        self._servers.append(server)

    async def stop(self) -> None:
        """End every call on every address."""
        await asyncio.gather(*(server.stop(0.2) for server in self._servers))

    # ------------------------------------------------------------------------------------------------ reading

    @_answered
    async def Status(self, request: pb.StatusRequest) -> pb.StatusReply:
        pools = [self._names().pool(request.pool)] if request.pool else list(self._roster.pools)
        return await self._status(pools)

    async def _status(self, pools: list[str]) -> pb.StatusReply:
        roster, now = self._roster, self._roster.now()
        quiet = max((roster.quiet_until(uuid) for uuid in pools), default=now) - now
        reply = pb.StatusReply(
            collector_name=roster.config.name,
            version=self._version,
            epoch=roster.epoch,
            up_ms=now - roster.started_at,
            quiet_ms=max(0, quiet),
            blind=roster.blind,
            outbox_pending=await self._service.write(self._journal.pending),
            warnings=self._warnings(),
        )
        shown = roster.shown_at()
        reply.pools.extend(messages.pool_status(status(roster.pools[uuid], shown, roster.site(uuid))) for uuid in pools)
        return reply

    def _warnings(self) -> list[str]:
        found = []
        if self._roster.stalled:
            age = (self._roster.now() - self._roster.shown_at()) / 1000
            why = self._roster.stalled
            found.append(f"nothing is decided or done, and what is shown is {age:.0f} s old: {why}")
        found.extend(guards_its_own_host(self._roster.pools.values()))
        return [*found, *self._roster.warnings()]

    @_answered
    async def Explain(self, request: pb.ExplainRequest) -> pb.ExplainReply:
        return self._explain(request.pool)

    def _explain(self, text: str) -> pb.ExplainReply:
        uuid = self._names().pool(text)
        pool = self._roster.pools[uuid]
        return messages.explanation(pool, explain(pool, self._roster.shown_at(), self._roster.site(uuid)))

    @_answered
    async def History(self, request: pb.HistoryRequest) -> pb.HistoryReply:
        rows = await self._history(request)
        return pb.HistoryReply(entries=[self._entry(row) for row in rows])

    async def _history(self, request: pb.HistoryRequest) -> list[Row]:
        pool = self._names().pool(request.pool) if request.pool else ""
        rows: list[Row] = await self._service.write(
            self._journal.history, pool, request.after_seq, request.limit, request.failover
        )
        return rows

    async def Follow(self, request: pb.HistoryRequest, context: Any) -> AsyncIterator[pb.HistoryEntry]:  # noqa: N802
        """What is stored first, then live; nothing twice, nothing left out."""
        queue: asyncio.Queue[list[Row]] = asyncio.Queue(_FOLLOW_QUEUE)
        lost = asyncio.Event()

        def follower(rows: list[Row]) -> None:
            try:
                queue.put_nowait(rows)
            except asyncio.QueueFull:
                lost.set()

        stop = self._service.follow(follower)
        try:
            pool = self._names().pool(request.pool) if request.pool else ""
            rows, last = await self._history(request), request.after_seq
            while not lost.is_set():
                for row in rows:
                    wanted = pool in ("", row.pool) and request.failover in ("", row.failover)
                    if row.seq > last and wanted:
                        yield self._entry(row)
                    last = max(last, row.seq)
                rows = await queue.get()
            raise Wrong(grpc.StatusCode.RESOURCE_EXHAUSTED, "too slow to follow; go on with the last number you have")
        except _MISTAKES as error:
            await _refuse(context, error)
        finally:
            stop()

    @_answered
    async def Alerts(self, request: pb.AlertsRequest) -> pb.AlertsReply:
        pool = self._names().pool(request.pool) if request.pool else ""
        found = await self._service.write(self._journal.alerts, pool, request.open_only, request.limit)
        return pb.AlertsReply(alerts=[messages.alert(row, self._pool_name(row["pool"])) for row in found])

    @_answered
    async def Decision(self, request: pb.DecisionRequest) -> pb.DecisionReply:
        row: Row | None = await self._service.write(self._journal.decision, request.id)
        if row is None:
            text = f"no decision {request.id!r} has a stored input; history shows the numbers of those that have"
            raise Wrong(grpc.StatusCode.NOT_FOUND, text)
        return messages.decision(row)

    @_answered
    async def Late(self, request: pb.LateRequest) -> pb.LateReply:
        _, host = self._names().host(request.host)
        if self._telemetry is None:
            return pb.LateReply()
        limit = min(request.limit or LATE_LIMIT, LATE_MOST)
        try:
            found = await asyncio.to_thread(self._telemetry.told_late, host, request.samples, limit)
        except sqlite3.Error as error:
            raise Wrong(grpc.StatusCode.INTERNAL, f"telemetry cannot be read: {error}") from error
        return pb.LateReply(entries=[messages.late_entry(row) for row in found])

    # ------------------------------------------------------------------------------------------------ commands

    @_answered
    async def Command(self, request: pb.CommandRequest) -> pb.CommandReply:
        if request.WhichOneof("command") == "dry_run":
            plan = self._explain(request.dry_run.pool)
            text = plan.refused[0] if plan.refused else "nothing stands against it"
            return pb.CommandReply(accepted=True, text=text, next_step=plan.next_step, plan=plan)
        uuid, said = self._said(request)
        reply = await self._ask_engine(uuid, said)
        if said.verb in ("start-lost", "declare-dead"):
            found = lost_vms(Snapshot(self._roster.pools[uuid], self._roster.shown_at(), self._roster.site(uuid)))
            reply.lost_vms.extend(messages.lost_vm(vm) for vm in found)
        return reply

    def _said(self, request: pb.CommandRequest) -> tuple[str, OperatorSaid]:
        """The pool and the event of a command."""
        names, actor = self._names(), request.actor.strip()
        if not actor:
            raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, "the actor is missing: who gives this command?")
        request_id = str(uuid.uuid4())
        verb = request.WhichOneof("command")
        if verb == "pause":
            args = (("reason", _short("the reason", request.pause.reason)),)
            return names.pool(request.pause.pool), OperatorSaid(request_id, actor, "pause", "", args)
        if verb == "resume":
            return names.pool(request.resume.pool), OperatorSaid(request_id, actor, "resume")
        if verb == "restart_xapi":
            pool, host = names.host(request.restart_xapi.host)
            return pool, OperatorSaid(request_id, actor, "restart-xapi", host)
        if verb == "confirm_fenced":
            return self._confirmed(names, request_id, actor, request.confirm_fenced)
        if verb in requests.VERBS:
            return requests.VERBS[verb](names, request_id, actor, getattr(request, verb))
        raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, "the request holds no command that this collector knows")

    def _confirmed(
        self, names: Names, request_id: str, actor: str, command: pb.ConfirmFenced
    ) -> tuple[str, OperatorSaid]:
        pool, host = names.host(command.host)
        name = self._roster.pools[pool].record.name_of(host)
        # safety: a person who cannot spell out the host's name has not looked which one it is; the engine checks too.
        if command.typed_name not in (name, host):
            text = f"typed {command.typed_name!r}, the host's name is {name!r}: type it exactly"
            raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, text)
        args = (
            ("typed_name", command.typed_name),
            ("how", _short("how it was made safe", command.how)),
            ("despite_power_on", "yes" if command.despite_power_on else ""),
        )
        return pool, OperatorSaid(request_id, actor, "confirm-fenced", host, args)

    @_answered
    async def FindFence(self, request: pb.FindFenceRequest) -> pb.FindFenceReply:  # noqa: N802
        """What answers at a host's BMC."""
        pool, host = self._names().host(request.host)
        agent = self._roster.pools[pool].live.agents.get(host)
        address = request.address or (agent.hello.machine.bmc_address if agent is not None else "")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            text = f"{address!r} is no IP address" if address else "its dom0 does not know its BMC's address"
            raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, f"{text}: give it by --address") from None
        async with self._setting_up:
            found = await setup.look(address)
        items = [
            pb.FoundFence(
                agent=each.agent,
                answers=each.answers,
                installed=setup.installed(each.agent) is not None,
                text=each.text,
                parameters=each.parameters,
            )
            for each in found
        ]
        return pb.FindFenceReply(address=address, found=items)

    @_answered
    async def TryFence(self, request: pb.TryFenceRequest) -> pb.TryFenceReply:  # noqa: N802
        """Whether a proposed fence device is this host's."""
        pool, host = self._names().host(request.host)
        failover = self._roster.pools[pool].record.failover
        if failover is not None and failover.open and failover.old_master == host:
            text = f"failover {failover.id} decides about this host: its BMC is not disturbed now"
            raise Wrong(grpc.StatusCode.FAILED_PRECONDITION, text)
        async with self._setting_up:
            trial = await setup.attempt(
                self._roster.pools[pool], host, request.agent, dict(request.parameters), request.limit_ms
            )
        steps = [pb.TryStep(name=name, good=good, text=text, next_step=step) for name, good, text, step in trial.steps]
        return pb.TryFenceReply(
            good=trial.good, steps=steps, path=trial.path, tells=trial.tells, parameters=trial.parameters
        )

    async def _ask_engine(self, pool: str, said: OperatorSaid) -> pb.CommandReply:
        future = self._replies.expect(said.request_id)
        self._inbox.post(pool, said)
        within = ANSWER_WITHIN_S
        if said.verb == "fence-test":
            within = max(within, test_limit(self._roster.pools[pool].devices.get(said.host, ())) / 1000 + 2)
        try:
            reply = await asyncio.wait_for(future, within)
        except TimeoutError:
            text = f"no answer within {within:.0f} s; whether it was obeyed is in the history"
            return pb.CommandReply(accepted=False, code="no-answer", text=text, next_step="poolwarden history POOL")
        finally:
            self._replies.forget(said.request_id)
        return pb.CommandReply(accepted=reply.accepted, text=reply.text, code=reply.code, next_step=reply.next_step)

    # ------------------------------------------------------------------------------------------------ names

    def _names(self) -> Names:
        return Names(self._roster.pools, {pool: special.name for pool, special in self._roster.config.pools.items()})

    def _pool_name(self, uuid: str) -> str:
        pool = self._roster.pools.get(uuid)
        return pool.record.name if pool is not None else ""

    def _entry(self, row: Row) -> pb.HistoryEntry:
        return messages.history_entry(row, self._pool_name(row.pool))


def _short(what: str, text: str) -> str:
    if len(text) > _TEXT_LIMIT:
        raise Wrong(
            grpc.StatusCode.INVALID_ARGUMENT, f"{what} has {len(text)} characters, at most {_TEXT_LIMIT} are kept"
        )
    return text


def _make_way(path: Path) -> None:
    """Make the socket's folder, and remove a socket that nobody serves any more. Raises OSError if somebody does."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not path.is_socket():
        if path.exists():
            raise OSError(f"{path}: is in the way and no socket")
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise OSError(f"{path}: another collector serves on this socket")
