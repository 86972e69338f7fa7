"""The collectors themselves: who is there, which pools each owns and how etcd is; ``move`` and ``drain``.

Rules
-----
* What is shown of the others is what they say now, each of itself, beside what stands in etcd: who does not answer is
  there as long as its lease is, with what etcd has of it and how old that is, and says nothing else.
* A pool that a caller may not see is in no list and in no count, and its hosts' agents are in none either; etcd's
  endpoints, and what they answered, are shown to who may see all pools.
* A pool is moved by its owner alone, which knows whether anything goes on there: the refusal says what does.
* A collector that drains gives up what may be given up, and goes on with the rest until that may be.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.shell.cluster.assignment import Overview
from poolwarden_collector.shell.cluster.etcd import CREDENTIALS, Denied, EtcdError, Health
from poolwarden_collector.shell.cluster.membership import Member
from poolwarden_collector.shell.operators import access
from poolwarden_collector.shell.operators.names import Names
from poolwarden_collector.shell.operators.neighbours import Part

if TYPE_CHECKING:
    from poolwarden_collector.shell.agents.roster import Roster
    from poolwarden_collector.shell.operators.several import Several

ALONE = "{} is the only collector: it keeps its records in SQLite, and there is no other one to take its pools"
_UNSAID = "whoever runs the collectors knows more"
_LOOK_AT_ETCD = "Look at etcd's members and the way to them: etcdctl endpoint status, journalctl -u etcd"
_SHOWN = 5  # pools without an owner that the sentence names


class Collectors:
    """Answers for one collector; without ``several`` it is alone."""

    def __init__(self, roster: Roster, several: Several | None, version: str) -> None:
        self._roster = roster
        self._version = version
        self._several = several

    async def reply(self) -> pb.CollectorsReply:
        """Who is there."""
        name = self._roster.config.name
        if self._several is None:
            own = self._own(pb.Asked(collector=name, answered=True, pools=len(self._shown())), [])
            own.pools.extend(pb.OwnedPool(pool_uuid=pool, name=self._name(pool)) for pool in self._shown())
            return pb.CollectorsReply(collector=name, collectors=[own], text=ALONE.format(name))
        if access.current().relayed:
            return pb.CollectorsReply(several=True, collector=name, collectors=[self._of_itself()])
        return await self._whole(self._several)

    # ------------------------------------------------------------------------------------------------ looking

    async def _whole(self, several: Several) -> pb.CollectorsReply:
        neighbours, trouble, step = several.neighbours, "", ""
        try:
            seen = await neighbours.look()
        except EtcdError as error:
            seen, trouble = neighbours.overview() or Overview({}, {}, {}), str(error)
            step = CREDENTIALS if isinstance(error, Denied) else _LOOK_AT_ETCD
            if access.current().scoped:
                trouble = _UNSAID
        parts = await several.parts("Collectors", pb.CollectorsRequest(), self._own_part)
        reply = pb.CollectorsReply(
            several=True,
            collector=neighbours.me,
            assigner=neighbours.assigner(),
            looked_age_ms=neighbours.looked_age_ms(),
            trouble=trouble,
        )
        if not access.current().scoped:
            reply.etcd.extend(_endpoint(each) for each in await neighbours.health())
        told = {part.collector: part for part in parts}
        for name in sorted({*seen.members, neighbours.me}):
            reply.collectors.append(self._one(several, seen, told.get(name, Part(name)), seen.members.get(name)))
        free = several.unowned()
        reply.unowned.extend(pb.OwnedPool(pool_uuid=pool, advised=seen.advised.get(pool, "")) for pool in free)
        _sentence(reply, step)
        return reply

    async def _own_part(self, _request: pb.CollectorsRequest) -> pb.CollectorsReply:
        return pb.CollectorsReply(collectors=[self._of_itself()])

    def _of_itself(self) -> pb.CollectorStatus:
        """What a collector says of itself, whoever asks."""
        assert self._several is not None
        neighbours, seen = self._several.neighbours, self._several.neighbours.overview()
        own = self._own(pb.Asked(collector=self._roster.config.name), list(self._roster.stalls))
        right = neighbours.right()
        own.right, own.right_left_ms = right.why_not, neighbours.right_left_ms()
        if not access.current().scoped:
            own.agents = neighbours.agents()
        for pool in self._shown():
            advised = seen.advised.get(pool, "") if seen is not None else ""
            elsewhere = advised if advised != neighbours.me else ""
            stays = neighbours.why_stays(pool) if elsewhere else ""
            own.pools.append(pb.OwnedPool(pool_uuid=pool, name=self._name(pool), advised=elsewhere, stays=stays))
        return own

    def _own(self, asked: pb.Asked, in_doubt: list[str]) -> pb.CollectorStatus:
        roster = self._roster
        scoped, now = access.current().scoped, roster.now()
        asked.stalled = access.NOT_RECORDED if roster.stalled and scoped else roster.stalled
        asked.version = self._version
        asked.blind = "" if scoped else roster.blind
        shown = set(self._shown())
        return pb.CollectorStatus(
            asked=asked,
            lag_ms=roster.behind_ms,
            up_ms=now - roster.started_at,
            machine=socket.gethostname(),
            in_doubt=[pool for pool in in_doubt if pool in shown],
        )

    def _one(self, several: Several, seen: Overview, part: Part, member: Member | None) -> pb.CollectorStatus:
        """What it says, beside what stands in etcd."""
        found = pb.CollectorStatus()
        if part.reply is not None and part.reply.collectors:
            found.CopyFrom(part.reply.collectors[0])
        found.asked.collector = part.collector
        found.asked.answered = part.reply is not None
        found.asked.why_not = "" if found.asked.answered else part.why_not or "it is not among the collectors any more"
        if member is not None:
            found.asked.address, found.draining = member.operators, member.draining
            if not access.current().scoped and not found.asked.answered:
                found.agents = member.load
        if not found.asked.answered:
            found.told_age_ms = several.neighbours.told_age_ms(part.collector)
        names = {each.pool_uuid: each for each in found.pools}
        owned = several.owned(part.collector)
        del found.pools[:]
        for pool in owned:
            advised = seen.advised.get(pool, "")
            goes = advised if advised != part.collector else ""
            told = names.get(pool, pb.OwnedPool(pool_uuid=pool, name=self._name(pool), advised=goes))
            found.pools.append(told)
        found.asked.pools = len(owned)
        return found

    # ------------------------------------------------------------------------------------------------ commands

    async def command(self, request: pb.CommandRequest, names: Names) -> pb.CommandReply:
        """``move`` of a pool of its own, or its own ``drain``. Raises Unknown, Denied."""
        if self._several is None:
            text = ALONE.format(self._roster.config.name)
            return pb.CommandReply(code="alone", text=text, next_step="Several collectors: docs/collectors.md")
        if request.WhichOneof("command") == "drain":
            return self._drain(self._several, request.drain)
        return await self._move(self._several, names.pool(request.move.pool), request.move.collector)

    def _drain(self, several: Several, request: pb.Drain) -> pb.CommandReply:
        neighbours = several.neighbours
        neighbours.drain(not request.end)
        if request.end:
            return pb.CommandReply(accepted=True, text=f"collector {neighbours.me} takes pools again")
        seen, count = neighbours.overview(), len(several.owned(neighbours.me))
        takers = [
            name
            for name, each in (seen.members if seen is not None else {}).items()
            if name != neighbours.me and not each.draining
        ]
        pools = f"{count} pool{'s' if count != 1 else ''}"
        text = f"collector {neighbours.me} takes no pool any more, and gives its {pools} up"
        if not takers:
            text += "; there is no other collector to take them, so it goes on with them"
        step = f"How far it is: poolwarden collectors; to end it: poolwarden drain {neighbours.me} --end"
        return pb.CommandReply(accepted=True, text=text, next_step=step)

    async def _move(self, several: Several, pool: str, to: str) -> pb.CommandReply:
        neighbours, name = several.neighbours, self._name(pool) or pool
        if to == neighbours.me:
            return pb.CommandReply(accepted=True, text=f"{name} is collector {to}'s already; nothing was done")
        if several.member(to).draining:
            step = f"poolwarden drain {to} --end"
            return pb.CommandReply(
                code="draining", text=f"collector {to} gives its pools up and takes none", next_step=step
            )
        if why := neighbours.why_stays(pool) or await neighbours.give(pool, to):
            text = f"{name} stays with collector {neighbours.me}: {why}"
            step = f"Once that is over: poolwarden move {name} {to}"
            return pb.CommandReply(code="stays", text=text, next_step=step)
        text = f"{name} was given up, and collector {to} takes it over"
        return pb.CommandReply(accepted=True, text=text, next_step="poolwarden collectors")

    # ------------------------------------------------------------------------------------------------ pools

    def _shown(self) -> list[str]:
        seen = access.current().rights.seen()
        return sorted(pool for pool in self._roster.pools if seen is None or pool in seen)

    def _name(self, pool: str) -> str:
        known = self._roster.pools.get(pool)
        return known.record.name if known is not None else ""


def _endpoint(told: Health | EtcdError) -> pb.EtcdMember:
    if isinstance(told, EtcdError):
        return pb.EtcdMember(text=str(told))
    healthy = bool(told.leader) and not told.troubles
    return pb.EtcdMember(
        endpoint=told.endpoint,
        healthy=healthy,
        text="; ".join(told.troubles) or ("" if told.leader else "it knows of no leader"),
        version=told.version,
        leader=told.leader == told.member and bool(told.leader),
        bytes=told.bytes,
    )


def _sentence(reply: pb.CollectorsReply, step: str) -> None:
    """How they stand, the worst first, and what to do; ``step``: about etcd, where that is the trouble."""
    silent = [each.asked for each in reply.collectors if not each.asked.answered]
    cannot = [each for each in reply.collectors if each.right]
    if reply.trouble:
        reply.text = f"etcd cannot be looked at, so nobody is known to act: {reply.trouble}"
        reply.next_step = step
    elif reply.unowned:
        few = ", ".join(each.pool_uuid for each in reply.unowned[:_SHOWN])
        more = f" and {len(reply.unowned) - _SHOWN} more" if len(reply.unowned) > _SHOWN else ""
        count = f"{len(reply.unowned)} pool{'s' if len(reply.unowned) != 1 else ''}"
        reply.text = f"nobody is in charge of {count}: {few}{more}"
        reply.next_step = "In 20 s another collector takes them; if none does: poolwarden doctor"
    elif cannot:
        reply.text = f"collector {cannot[0].asked.collector} may not act: {cannot[0].right}"
        reply.next_step = "Others take its pools when its lease ends; how etcd is stands below"
    elif silent:
        reply.text = f"collector {silent[0].collector} does not answer: {silent[0].why_not}"
        reply.next_step = f"On its machine: systemctl status poolwarden-collector; it is reached at {silent[0].address}"
    elif len(reply.collectors) == 1:
        reply.text = f"{reply.collector} is the only collector here now: nobody takes its pools if it ends"
        reply.next_step = "Start the others: systemctl start poolwarden-collector on their machines"
    else:
        pools = sum(each.asked.pools for each in reply.collectors)
        reply.text = f"{len(reply.collectors)} collectors are in charge of {pools} pool{'s' if pools != 1 else ''}"
