"""The answer to ``Status``: pools whole, a page of them or all together, and what the collector tells of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.catalogue.hosts import HOOK_FAILED
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.loop.self_check import guards_its_own_host
from poolwarden_collector.shell.operators import access, pool_views, replies
from poolwarden_collector.shell.operators.journal_reader import JournalReader
from poolwarden_collector.shell.operators.second_person import SecondPerson
from poolwarden_collector.shell.operators.turns import Turns

if TYPE_CHECKING:
    from poolwarden_collector.shell.alerts.outbox import Outbox
    from poolwarden_collector.shell.queue.inbox import Inbox


class StatusCall:
    """Answers for one collector."""

    def __init__(
        self,
        views: pool_views.PoolViews,
        journals: JournalReader,
        seconds: SecondPerson,
        outbox: Outbox,
        inbox: Inbox,
        version: str,
    ) -> None:
        self._roster = views.roster
        self._views = views
        self._journals = journals
        self._seconds = seconds
        self._outbox = outbox
        self._inbox = inbox
        self._version = version

    async def reply(
        self, request: pb.StatusRequest, among: list[PoolId], seen: list[PoolId], turns: Turns
    ) -> pb.StatusReply:
        """What is asked of ``among``; ``seen``: all pools that the caller may see. Raises Wrong."""
        wanted = self._views.wanted(request, among)
        beside = await self._journals.read(self._journals.journal.hook_alerts, HOOK_FAILED.id)
        if request.overview:
            reply = await self._about_itself(wanted, seen, turns)
            seconded = self._seconds.shown()
            reply.overview.CopyFrom(await self._views.overview(wanted, beside, seconded, request, turns))
            if len(wanted) > request.few:
                return reply
        else:
            wanted, after = pool_views.page(wanted, request.after, request.limit)
            reply = await self._about_itself(wanted, seen, turns)
            reply.next = after
        await self._whole(reply, wanted, beside, turns)
        return reply

    async def _about_itself(self, pools: list[PoolId], seen: list[PoolId], turns: Turns) -> pb.StatusReply:
        """What the collector tells of itself to whoever asks for these pools."""
        roster, now = self._roster, self._roster.now()
        call = access.current()
        quiet = max((roster.quiet_until(uuid) for uuid in pools), default=now) - now
        return pb.StatusReply(
            collector_name=roster.config.name,
            version=self._version,
            epoch=roster.epoch,
            up_ms=now - roster.started_at,
            quiet_ms=max(0, quiet),
            blind=(pool_views.BLIND if call.scoped else roster.blind) if self._is_blind(pools) else "",
            outbox_pending=await self._journals.read(self._journals.journal.pending, call.among),
            warnings=await self._warnings(seen, turns),
            channels=() if call.scoped else self._outbox.sinks,
            stalled=self._stalled(),
            shown_age_ms=max(0, now - roster.shown_at()),
            behind_ms=roster.behind_ms,
            inbox_age_ms=self._inbox.age(),
            inbox_events=len(self._inbox),
            stood_down=[uuid for uuid in pools if uuid in roster.stood_down],
        )

    async def _whole(self, reply: pb.StatusReply, uuids: list[PoolId], beside: pool_views.Beside, turns: Turns) -> None:
        """Each pool as far as it is known, with what is the shell's: who seconds what, who sees to which alert."""
        seconded, marked = self._seconds.shown(), await self._journals.read(self._journals.journal.marked)
        async for pool in self._views.whole(uuids, beside, turns):
            pool.seconded.extend(seconded.get(pool.pool_uuid, ()))
            for alert in pool.alerts if marked else ():
                if alert.key in marked:
                    replies.mark_alert(alert, marked[alert.key])
            reply.pools.append(pool)

    async def _warnings(self, seen: list[PoolId], turns: Turns) -> list[str]:
        found = []
        if why := self._stalled():
            age = (self._roster.now() - self._roster.shown_at()) / 1000
            found.append(f"nothing is decided or done, and what is shown is {age:.0f} s old: {why}")
        for each in seen:
            found.extend(guards_its_own_host((self._roster.pools[each],)))
            await turns.rest()
        return found if access.current().scoped else [*found, *self._roster.warnings()]

    def _stalled(self) -> str:
        return access.NOT_RECORDED if self._roster.stalled and access.current().scoped else self._roster.stalled

    def _is_blind(self, pools: list[PoolId]) -> bool:
        """Does that concern the caller?"""
        if not access.current().scoped:
            return True
        return any(site.blind and not site.young for site in map(self._roster.site, pools))
