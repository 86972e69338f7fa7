"""The answer to ``Command``: which becomes the engine's event, the alerts' marks or a second person's word."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.followups.power_switch import test_limit
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.report.drill_report import drill_plan
from poolwarden_collector.core.report.status import lost_vms
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.shell.operators import (
    access,
    alert_marks,
    calls,
    hook_runs,
    pool_views,
    requests,
    second_person,
)
from poolwarden_collector.shell.operators import replies as messages
from poolwarden_collector.shell.operators.names import Names
from poolwarden_collector.shell.operators.wrong import Wrong
from poolwarden_collector.shell.store.silences import Asked

if TYPE_CHECKING:
    from poolwarden_collector.shell.loop.performer import Replies
    from poolwarden_collector.shell.loop.service import Service
    from poolwarden_collector.shell.operators.collectors import Collectors
    from poolwarden_collector.shell.queue.inbox import Inbox
    from poolwarden_collector.shell.store.journal import Journal

ANSWER_WITHIN_S = 10.0
_COMMAND = f"{access.OPERATOR}/Command"


class CommandCall:
    """Answers for one collector; ``names`` are the caller's, ``explain`` tells of a pool."""

    def __init__(
        self,
        service: Service,
        journal: Journal,
        inbox: Inbox,
        replies: Replies,
        views: pool_views.PoolViews,
        seconds: second_person.SecondPerson,
        names: Callable[[], Names],
        explain: Callable[[str], pb.ExplainReply],
        collectors: Callable[[], Collectors],
    ) -> None:
        self._service = service
        self._roster = service.roster
        self._journal = journal
        self._inbox = inbox
        self._replies = replies
        self._views = views
        self._seconds = seconds
        self._names = names
        self._explain = explain
        self._collectors = collectors
        self._alert_marks = alert_marks.AlertMarks(service, journal)

    async def reply(self, request: pb.CommandRequest) -> pb.CommandReply:
        if request.WhichOneof("command") in ("move", "drain"):
            return await self._collectors().command(request, self._names())
        if request.WhichOneof("command") == "dry_run":
            plan = self._explain(request.dry_run.pool)
            text = plan.refused[0] if plan.refused else "nothing stands against it"
            return pb.CommandReply(accepted=True, text=text, next_step=plan.next_step, plan=plan)
        if request.WhichOneof("command") in alert_marks.VERBS:
            asked = Asked(requests.actor(request), requests.short("the reason", alert_marks.reason_of(request)))
            return await self._alert_marks.command(request, asked)
        if request.WhichOneof("command") == "run_hook":
            pool, asked_by = self._names().pool(request.run_hook.pool), requests.actor(request)
            return await hook_runs.run_again(self._service, self._journal, pool, request.run_hook.hook, asked_by)
        if request.WhichOneof("command") == "second":
            return await self._second(request)
        if request.WhichOneof("command") == "drill" and request.drill.action == "plan":
            uuid, said = self._said(request, self._names())
            return messages.drill_plan(
                drill_plan(self._roster.pools[uuid], self._roster.shown_at(), self._views.site(uuid), said)
            )
        uuid, said = self._said(request, self._names())
        needs_two = self._roster.config.operators.second_person
        if (no := second_person.drill_refusal(self._roster.pools[uuid], said, needs_two)) is not None:
            return no
        if calls.said_as(_COMMAND, request) in needs_two:
            return await self._seconds.ask(self._roster.pools[uuid], request, access.current())
        return await self._ordered(uuid, said)

    async def _second(self, request: pb.CommandRequest) -> pb.CommandReply:
        """What one person has asked for, at another one's word; as if it were asked now, in both names."""
        names, call = self._names(), access.current()
        if request.second.withdraw:
            return await self._seconds.withdraw(names, request, call)
        wanted = await self._seconds.seconded(names, self._roster.pools, request, call)
        if isinstance(wanted, pb.CommandReply):
            return wanted
        return await self._ordered(*self._said(wanted, names))

    async def _ordered(self, uuid: str, said: OperatorSaid) -> pb.CommandReply:
        reply = await self._ask_engine(uuid, said)
        if said.verb in ("start-lost", "declare-dead"):
            found = lost_vms(Snapshot(self._roster.pools[uuid], self._roster.shown_at(), self._views.site(uuid)))
            reply.lost_vms.extend(messages.lost_vm(vm) for vm in found)
        return reply

    def _said(self, request: pb.CommandRequest, names: Names) -> tuple[str, OperatorSaid]:
        """The pool and the event of a command."""
        actor = requests.actor(request)
        request_id = str(uuid.uuid4())
        verb = request.WhichOneof("command")
        if verb == "pause":
            args = (
                ("reason", requests.short("the reason", request.pause.reason)),
                *requests.lasting(request.pause.for_ms),
            )
            return names.pool(request.pause.pool), OperatorSaid(request_id, actor, "pause", "", args)
        if verb == "resume":
            return names.pool(request.resume.pool), OperatorSaid(request_id, actor, "resume")
        if verb == "restart_xapi":
            pool, host = names.host(request.restart_xapi.host)
            return pool, OperatorSaid(request_id, actor, "restart-xapi", host)
        if verb in requests.VERBS:
            return requests.VERBS[verb](names, request_id, actor, getattr(request, verb))
        raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, "the request holds no command that this collector knows")

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
        text = reply.text
        if self._roster.stalled and access.current().scoped:  # why may name a pool that the caller must not know of
            text = text.replace(self._roster.stalled, access.NOT_RECORDED)
        return pb.CommandReply(accepted=reply.accepted, text=text, code=reply.code, next_step=reply.next_step)
