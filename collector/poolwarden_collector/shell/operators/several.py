"""Operators with several collectors: whichever is asked gives the whole answer, and has a pool's owner obey.

Rules
-----
* What is of all pools is asked of all collectors at once (together.py), each in the operator's own name (on_behalf.py);
  ``asked`` says who has answered, who has not and why, and how many pools are missing by that.
* What is about one pool goes to whoever has it: its name is looked up at all (naming.py), by its UUID it is certain.
* safety: a command goes to one collector and once, under an id (outcomes.py). Where a collector that is there does not
  say whether it has something of that name, a name is not enough, and what is enough is told.
* An answer that is lost is asked for, never sent for again. If it stays lost that is what is said.
* A pool that has gone elsewhere meanwhile is refused, with who owns it now.
* Whoever is asked by another collector answers for itself alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.nearest import did_you_mean
from poolwarden_collector.shell.cluster.etcd import EtcdError
from poolwarden_collector.shell.cluster.membership import Member
from poolwarden_collector.shell.operators import access, on_behalf, together
from poolwarden_collector.shell.operators.access import Denied
from poolwarden_collector.shell.operators.names import Ambiguous, Unknown
from poolwarden_collector.shell.operators.naming import Naming
from poolwarden_collector.shell.operators.neighbours import Ask, Neighbours, NotAnswered, Part
from poolwarden_collector.shell.operators.wrong import Wrong

LOOK_S = 4.0  # for another one's part of an answer; the command line waits 10 s
DOCTOR_S = 45.0
COMMAND_S = 12.0  # an owner answers within 10 s, if only that it does not know
OUTCOME_S = 2.0
ASK_AGAIN_S = 0.5
LOST_S = 8.0  # for what came of a command whose answer was lost
STOOD_DOWN = "stood-down"  # a refusal's code: that collector is in charge of the pool no more (loop/engine_loop.py)
AGAIN = "Type it again: it goes to whoever owns the pool then."
GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_WRONG = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)
# Methods about one pool, and what of their requests names it: a pool, or a host.
_OF_POOL = {"Explain": "pool", "Plan": "pool", "Advise": "pool"}

_PRESENT = ("Status", "Readiness")
NOBODY = "nobody is in charge at the moment; another collector takes over within seconds"
UNKNOWN_OTHERS = "the other collectors are not known: this one has not been able to look at etcd yet"
_PAST = ("History", "Alerts", "ListCapsules", "Audit")  # of a pool, which may have had several owners
_OWNERS_ALONE = ("FindFence", "TryFence")

Local = Callable[[Any], Awaitable[Any]]


class NotSure(Wrong):
    """Whether that is what is meant cannot be said while a collector does not answer."""

    def __init__(self, text: str, step: str) -> None:
        super().__init__(grpc.StatusCode.ABORTED, f"{text}\n\n{step}")


class Several:
    """Answers for all collectors, where an operator has asked this one."""

    def __init__(self, neighbours: Neighbours, links: Ask, naming: Naming) -> None:
        self.neighbours = neighbours
        self._links = links
        self._naming = naming

    def knows(self, collector: str) -> bool:
        """Is that another collector of this etcd now?"""
        seen = self.neighbours.overview()
        return seen is not None and collector in seen.members and collector != self.neighbours.me

    async def serve(self, method: str, request: Any, local: Local) -> Any:
        """The whole answer. ``local`` gives this collector's own part. Raises what the interface raises."""
        if method == "Decision":
            return await self._decision(request, local)
        if method in _OF_POOL:
            return await self._of_pool(method, request, local)
        if method in together.MERGES:
            return await self._of_all(method, request, local)
        if method in _OWNERS_ALONE:
            await self._must_be_own(method, request)
        return await local(request)

    async def _must_be_own(self, method: str, request: Any) -> None:
        """Raises Wrong where another collector has the host: with a device's password that one itself is asked."""
        collector, place = await self.place(pb.CommandRequest(host_why=pb.HostWhy(host=request.host)))
        if collector != self.neighbours.me:
            text = f"{place.host_name or place.host_uuid} is a host of a pool that collector {collector} owns"
            step = f"ask that one itself: --collector {self.member(collector).operators}"
            raise Wrong(grpc.StatusCode.FAILED_PRECONDITION, f"{text}\n\n{step}")

    # ------------------------------------------------------------------------------------------------ all of them

    async def _of_all(self, method: str, request: Any, local: Local) -> Any:
        wanted, places = together.asked_for(method, request), list[str]()
        if getattr(request, "host", "") and method == "Late":
            _, place = await self.place(pb.CommandRequest(host_why=pb.HostWhy(host=request.host)))
            wanted.host = place.host_uuid
        elif getattr(request, "pool", "") and not (method in _PAST and self._is_known(request.pool)):
            collector, place = await self.place(pb.CommandRequest(dry_run=pb.DryRun(pool=request.pool)))
            wanted.pool = place.pool_uuid
            places = [collector] if method in ("Status", "Readiness") else []
        limit = DOCTOR_S if method == "Doctor" else LOOK_S
        # As it was when they were asked: who does not answer may have lost its pools by the time that is known.
        seen = self.neighbours.overview()
        owned = {name: len(self.owned(name)) for name in (seen.members if seen is not None else ())}
        free = self.unowned()
        parts = await self.parts(method, wanted, local, limit, places)
        if isinstance(request, pb.HistoryRequest) and places == []:
            parts = [_of_history(part) for part in parts]
        self._alone(parts)
        # In a thread: of thousands of entries it takes a while, in which the engine goes on.
        reply = await asyncio.to_thread(together.MERGES[method], request, parts, self.owner)
        if not places:
            reply.asked.extend(self.asked(parts, owned))
        if not places and self.neighbours.overview() is None:
            reply.asked.append(pb.Asked(why_not=UNKNOWN_OTHERS))
        if not places and method in _PRESENT and free:
            reply.asked.append(pb.Asked(pools=len(free), why_not=NOBODY))
        return reply

    def _is_known(self, pool: str) -> bool:
        """Is that the UUID of a pool of which etcd knows, whoever owns it now?"""
        seen = self.neighbours.overview()
        return seen is not None and (pool in seen.owners or pool in seen.advised)

    def _alone(self, parts: list[Part]) -> None:
        """Raises what a question has come to that nobody has answered."""
        if any(part.reply is not None for part in parts):
            return
        worst = next((part for part in parts if part.code in _WRONG), parts[0])
        raise Wrong(worst.code, worst.why_not)

    async def parts(
        self, method: str, request: Any, local: Local, limit_s: float = LOOK_S, places: list[str] | None = None
    ) -> list[Part]:
        """What each collector answers, this one's first; of those in ``places`` only, where that names any."""
        seen = self.neighbours.overview()
        others = [] if seen is None else [each for name, each in sorted(seen.members.items())]
        others = [each for each in others if each.collector != self.neighbours.me]
        if places:
            others = [each for each in others if each.collector in places]
        asked = [self.part(each, method, _for(each.collector, request), limit_s) for each in others]
        if not places or self.neighbours.me in places:
            asked.insert(0, self._own(_for(self.neighbours.me, request), local))
        return list(await asyncio.gather(*asked))

    async def _own(self, request: Any, local: Local) -> Part:
        try:
            return Part(self.neighbours.me, await local(request))
        except Unknown as error:  # another one may know it
            return Part(self.neighbours.me, None, grpc.StatusCode.NOT_FOUND, str(error))

    async def part(self, member: Member, method: str, request: Any, limit_s: float = LOOK_S) -> Part:
        """What another collector answers to the operator who has asked this one."""
        call = access.current()
        try:
            said = on_behalf.statement(call)
            reply = await self._links.ask(member, method, _in_his_name(request), said, limit_s)
        except NotAnswered as error:
            return Part(member.collector, None, error.code, str(error))
        except on_behalf.TooMuch as error:
            return Part(member.collector, None, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return Part(member.collector, reply)

    def asked(self, parts: list[Part], owned: Mapping[str, int]) -> list[pb.Asked]:
        """Who was asked for a part, and what has become of that; ``owned``: how many pools each had then."""
        seen = self.neighbours.overview()
        members = seen.members if seen is not None else {}
        told = []
        for part in parts:
            status = part.reply if isinstance(part.reply, pb.StatusReply) else pb.StatusReply()
            told.append(
                pb.Asked(
                    collector=part.collector,
                    address=members[part.collector].operators if part.collector in members else "",
                    answered=part.reply is not None,
                    why_not=part.why_not,
                    pools=owned.get(part.collector, 0),
                    version=status.version,
                    stalled=status.stalled,
                    shown_age_ms=status.shown_age_ms,
                    blind=status.blind,
                )
            )
        return told

    def owned(self, collector: str) -> list[str]:
        """The pools that it owns, of those that the caller may see."""
        seen, may_see = self.neighbours.overview(), access.current().rights.seen()
        if seen is None:
            return []
        mine = [pool for pool, held in seen.owners.items() if held.by == collector]
        return sorted(pool for pool in mine if may_see is None or pool in may_see)

    def unowned(self) -> list[str]:
        """The pools of which nobody is in charge, of those that the caller may see."""
        seen, may_see = self.neighbours.overview(), access.current().rights.seen()
        if seen is None:
            return []
        free = [pool for pool in seen.pools if pool not in seen.owners or seen.owners[pool].by not in seen.members]
        return [pool for pool in free if may_see is None or pool in may_see]

    def owner(self, pool: str) -> str:
        """Who owns it, as of the newest look at etcd; empty: nobody, or it is not known."""
        seen = self.neighbours.overview()
        held = seen.owners.get(pool) if seen is not None else None
        return held.by if held is not None else ""

    # ------------------------------------------------------------------------------------------------ one pool

    async def _of_pool(self, method: str, request: Any, local: Local) -> Any:
        host = str(getattr(request, "host", ""))
        command = pb.CommandRequest(dry_run=pb.DryRun(pool=request.pool))
        if host and not request.pool:
            command = pb.CommandRequest(host_why=pb.HostWhy(host=host))
        collector, place = await self.place(command)
        wanted = type(request)()
        wanted.CopyFrom(request)
        if request.pool:
            wanted.pool = place.pool_uuid
        else:
            wanted.host = place.host_uuid
        return await self._asked_of(collector, method, wanted, local)

    async def _asked_of(self, collector: str, method: str, request: Any, local: Local) -> Any:
        """Raises Wrong where that collector does not answer."""
        if collector == self.neighbours.me:
            return await local(request)
        part = await self.part(self.member(collector), method, request)
        if part.reply is None:
            raise self._not_told(part)
        return part.reply

    def _not_told(self, part: Part) -> Wrong:
        if part.code in GONE:
            return NotSure(f"collector {part.collector} has not answered: {part.why_not}", "poolwarden collectors")
        return Wrong(part.code, part.why_not)

    async def _decision(self, request: pb.DecisionRequest, local: Local) -> Any:
        """In the journal that is named, else in whichever has one of that number."""
        if request.collector:
            return await self._asked_of(request.collector, "Decision", request, local)
        parts = await self.parts("Decision", request, _or_unknown(local))
        found = [part for part in parts if part.reply is not None]
        if len({part.reply.pool_uuid for part in found}) > 1 or len({part.reply.input for part in found}) > 1:
            names = " or ".join(part.collector for part in found)
            text = f"{request.id!r} is a number in the journals of {len(found)} collectors"
            raise Wrong(grpc.StatusCode.FAILED_PRECONDITION, f"{text}\n\nname one: --from {names}")
        if not found:
            self._alone(parts)
        return found[0].reply

    # ------------------------------------------------------------------------------------------------ names

    async def place(self, command: pb.CommandRequest, *, changes: bool = False) -> tuple[str, pb.Place]:
        """Who has what the command is about. Raises Unknown, Ambiguous, Denied, and NotSure where ``changes``."""
        me, own = self.neighbours.me, await self._naming.where(command)
        if sure := [place for place in own.found if place.sure]:
            return me, sure[0]
        parts = await self.parts("Where", pb.WhereRequest(command=command), lambda _: _given(own))
        found = self._by_owner([(part.collector, place) for part in parts if part.reply for place in part.reply.found])
        found = [each for each in found if each[1].sure] or found
        silent = [f"collector {part.collector} does not answer: {part.why_not}" for part in parts if part.reply is None]
        if self.neighbours.overview() is None:
            silent.append(UNKNOWN_OTHERS)
        if free := self.unowned():
            silent.append(f"of {len(free)} pool{'s' if len(free) != 1 else ''} {NOBODY}")
        if len(found) > 1:
            places = ", ".join(f"{place.typed} (at {collector})" for collector, place in found)
            raise Ambiguous(f"{_named(command)!r} names {len(found)}; use one of: {places}")
        if found:
            if changes and silent and not found[0][1].sure:
                raise _may_be_another(command, found[0], silent)
            return found[0]
        if silent:
            raise _nobody_knows(command, silent)
        raise Unknown(_unknown(command, own, [part.reply for part in parts]))

    def _by_owner(self, found: list[tuple[str, pb.Place]]) -> list[tuple[str, pb.Place]]:
        """What two collectors have at once, on its way from one to the other, is its owner's."""
        best: dict[tuple[str, str, str], tuple[str, pb.Place]] = {}
        for collector, place in found:
            # What is the collector's own (an alert of no pool) is another thing at each of them.
            at = (place.pool_uuid, place.host_uuid, place.typed) if place.pool_uuid else (collector, "", place.typed)
            if at not in best or self.owner(place.pool_uuid) == collector:
                best[at] = (collector, place)
        return list(best.values())

    def member(self, collector: str) -> Member:
        """Raises Unknown."""
        seen = self.neighbours.overview()
        members = seen.members if seen is not None else {}
        if collector not in members:
            near = did_you_mean(collector, members)
            there = ", ".join(sorted(members)) or "none: etcd has not been looked at yet"
            raise Unknown(f"there is no collector {collector!r}{near}; there is: {there}\n\npoolwarden collectors")
        return members[collector]

    # ------------------------------------------------------------------------------------------------ commands

    async def command(self, request: pb.CommandRequest, local: Local) -> pb.CommandReply:
        """Have it obeyed by whoever it concerns, once."""
        if request.WhichOneof("command") == "drain":
            collector, place = self.member(request.drain.collector).collector, pb.Place()
        else:
            collector, place = await self.place(request, changes=access.current().rule.changes)
        if collector == self.neighbours.me:
            reply: pb.CommandReply = await self._told(collector, place, await local(request))
        else:
            reply = await self._order(self.member(collector), place, request)
        reply.collector = collector
        return reply

    async def _order(self, member: Member, place: pb.Place, request: pb.CommandRequest) -> pb.CommandReply:
        wanted, sent = _pinned(request, place), time.monotonic()
        # safety: always under an id, so that what is lost here is asked for and never given a second time; the caller's
        # own, so that he can ask another collector for it where this one is gone.
        wanted.id = request.id or str(uuid.uuid4())
        part = await self.part(member, "Command", wanted, COMMAND_S)
        if part.reply is not None:
            return await self._told(member.collector, place, part.reply)
        if part.code in GONE or part.code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL):
            return await self._lost(member, part, wanted.id, sent)
        if part.code is grpc.StatusCode.NOT_FOUND and (moved := await self._moved(member.collector, place)) is not None:
            return moved
        raise Wrong(part.code, part.why_not)

    async def _told(self, collector: str, place: pb.Place, reply: pb.CommandReply) -> pb.CommandReply:
        if reply.accepted or reply.code != STOOD_DOWN:
            return reply
        return await self._moved(collector, place) or reply

    async def _moved(self, collector: str, place: pb.Place) -> pb.CommandReply | None:
        """The refusal of who owned this pool until now; None: he owns it."""
        if not place.pool_uuid:
            return None
        with contextlib.suppress(EtcdError):
            await self.neighbours.look()
        owner, name = self.owner(place.pool_uuid), place.pool_name or place.pool_uuid
        if owner == collector:
            return None
        now = f"collector {owner} owns it now" if owner else "nobody owns it at the moment"
        text = f"nothing was done: {name} is not collector {collector}'s any more, {now}"
        return pb.CommandReply(accepted=False, code="moved", text=text, next_step=AGAIN)

    async def _lost(self, member: Member, part: Part, wanted: str, sent: float) -> pb.CommandReply:
        """What came of a command whose answer was lost."""
        ends = time.monotonic() + LOST_S
        while time.monotonic() < ends:
            asked = await self.part(member, "Outcome", pb.OutcomeRequest(id=wanted), OUTCOME_S)
            told: pb.OutcomeReply | None = asked.reply
            if told is not None and told.state == "done":
                return told.reply
            if told is not None and told.state == "unknown":
                if told.remembers_ms >= (time.monotonic() - sent) * 1000:
                    text = f"nothing was done: collector {member.collector} has not had the command ({part.why_not})"
                    return pb.CommandReply(accepted=False, code="not-reached", text=text, next_step=AGAIN)
                break  # it was started again meanwhile: it may have obeyed before
            await asyncio.sleep(ASK_AGAIN_S)
        text = (
            f"no answer from collector {member.collector} ({part.why_not}); whether it has obeyed is not known: it was "
            "told once, and is not told again"
        )
        step = "Before it is given again: poolwarden history POOL, and poolwarden audit"
        return pb.CommandReply(accepted=False, code="no-answer", text=text, next_step=step)

    async def outcome(self, request: pb.OutcomeRequest, local: Local) -> pb.OutcomeReply:
        """What came of a command that was given to this collector, or to another one that is gone."""
        own: pb.OutcomeReply = await local(request)
        if own.state != "unknown":
            return own
        for part in await self.parts("Outcome", request, lambda _: _given(own)):
            if part.reply is not None and part.reply.state != "unknown":
                return pb.OutcomeReply.FromString(part.reply.SerializeToString())
        return own

    # ------------------------------------------------------------------------------------------------ streams

    async def follow(
        self, request: pb.HistoryRequest, local: Callable[[Any], AsyncGenerator[Any, None]], stored: Local
    ) -> AsyncGenerator[pb.HistoryEntry, None]:
        """What is stored with all, in order; then what comes, as it comes."""
        asked = pb.HistoryRequest()
        asked.CopyFrom(request)
        if request.pool:
            _, place = await self.place(pb.CommandRequest(dry_run=pb.DryRun(pool=request.pool)))
            asked.pool = place.pool_uuid
        parts = await self.parts("History", asked, stored)
        ends = {part.collector: part.reply.entries[-1].seq for part in parts if part.reply and part.reply.entries}
        for entry in together.history(asked, parts, self.owner).entries:
            yield entry
        queue: asyncio.Queue[pb.HistoryEntry | NotAnswered] = asyncio.Queue(1_000)
        tasks = [self._following(part.collector, asked, ends, local, queue) for part in parts]
        running = [asyncio.ensure_future(task) for task in tasks]
        try:
            while True:
                told = await queue.get()
                if isinstance(told, NotAnswered):
                    raise Wrong(told.code, str(told))
                yield told
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _following(
        self,
        collector: str,
        request: pb.HistoryRequest,
        ends: dict[str, int],
        local: Callable[[Any], AsyncGenerator[Any, None]],
        queue: asyncio.Queue[pb.HistoryEntry | NotAnswered],
    ) -> None:
        wanted = pb.HistoryRequest(pool=request.pool, failover=request.failover)
        wanted.after_seq = max(ends.get(collector, 0), _for(collector, request).after_seq)
        try:
            if collector == self.neighbours.me:
                entries = local(wanted)
            else:
                said = on_behalf.statement(access.current())
                entries = self._links.stream(self.member(collector), "Follow", wanted, said)
            async with contextlib.aclosing(entries):
                async for entry in entries:
                    entry.collector = collector
                    await queue.put(entry)
        except NotAnswered as error:
            text = f"collector {collector} does not tell any more: {error}"
            await queue.put(NotAnswered(error.code if error.code not in GONE else grpc.StatusCode.ABORTED, text))
        except (Unknown, Denied, Wrong) as error:
            code = error.code if isinstance(error, Wrong) else grpc.StatusCode.PERMISSION_DENIED
            await queue.put(NotAnswered(code, str(error)))

    async def capsule(
        self, request: pb.ReadCapsuleRequest, local: Callable[[], AsyncGenerator[Any, None]]
    ) -> AsyncGenerator[pb.CapsuleBytes, None]:
        """From whoever keeps it; here first."""
        missing: Wrong | None = None
        try:
            async with contextlib.aclosing(local()) as pieces:
                async for piece in pieces:
                    yield piece
            return
        except Wrong as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
            missing = error
        seen, said = self.neighbours.overview(), on_behalf.statement(access.current())
        for member in seen.members.values() if seen is not None else ():
            if member.collector == self.neighbours.me:
                continue
            try:
                async with contextlib.aclosing(self._links.stream(member, "ReadCapsule", request, said)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except NotAnswered as error:
                if error.code is not grpc.StatusCode.NOT_FOUND:
                    raise Wrong(grpc.StatusCode.ABORTED, f"collector {member.collector}: {error}") from None
        raise missing

    async def close(self) -> None:
        """Ask the others nothing any more."""
        await self._links.close()


def _of_history(part: Part) -> Part:
    """A collector that never had the pool has no part of its past."""
    if part.code is not grpc.StatusCode.NOT_FOUND:
        return part
    return Part(part.collector, pb.HistoryReply())


def _for(collector: str, request: Any) -> Any:
    """A history's request with where this collector's own journal has been read to."""
    if not isinstance(request, pb.HistoryRequest) or not (request.before or request.after):
        return request
    wanted = pb.HistoryRequest()
    wanted.CopyFrom(request)
    for position in request.before:
        if position.collector == collector:
            wanted.before_seq = position.seq
    for position in request.after:
        if position.collector == collector:
            wanted.after_seq = position.seq
    wanted.ClearField("before")
    wanted.ClearField("after")
    return wanted


def _in_his_name(request: Any) -> Any:
    """With who he says he is, where that is another name: the one who is asked records both."""
    call = access.current()
    if not call.claim or "actor" not in request.DESCRIPTOR.fields_by_name:
        return request
    wanted = type(request)()
    wanted.CopyFrom(request)
    wanted.actor = call.claim
    return wanted


def _pinned(request: pb.CommandRequest, place: pb.Place) -> pb.CommandRequest:
    """The command with what it was found to be about in the place of a name."""
    wanted = pb.CommandRequest()
    wanted.CopyFrom(request)
    part: Any = getattr(wanted, str(wanted.WhichOneof("command")))
    fields = part.DESCRIPTOR.fields_by_name
    if "topic" in fields:
        part.topic = place.typed
    elif "id" in fields:
        part.id = place.typed
    elif "pool" in fields:
        part.pool = place.pool_uuid
    elif "host" in fields:
        part.host = place.host_uuid
    return wanted


def _named(command: pb.CommandRequest) -> str:
    part: Any = getattr(command, str(command.WhichOneof("command")))
    fields = part.DESCRIPTOR.fields_by_name
    return str(next((getattr(part, name) for name in ("topic", "pool", "host", "id") if name in fields), ""))


def _may_be_another(command: pb.CommandRequest, found: tuple[str, pb.Place], silent: list[str]) -> NotSure:
    _, place = found
    text = f"nothing was done: there may be another {_named(command)!r}, for {'; '.join(silent)}"
    return NotSure(text, f"name it by what no other has: {place.typed}")


def _nobody_knows(command: pb.CommandRequest, silent: list[str]) -> NotSure:
    text = f"{_named(command)!r} is known to no collector that answers: {'; '.join(silent)}"
    return NotSure(text, "who is there: poolwarden collectors")


def _unknown(command: pb.CommandRequest, own: pb.WhereReply, replies: list[pb.WhereReply]) -> str:
    known = sorted({text for reply in replies for text in reply.known})
    fields = getattr(command, str(command.WhichOneof("command"))).DESCRIPTOR.fields_by_name
    if not known or "topic" in fields:
        return f"{own.why_not}; nor is it known to the other collectors"
    what, text = ("pool" if "pool" in fields else "host"), _named(command)
    return f"there is no {what} {text!r}{did_you_mean(text, known)}; there is: {', '.join(known[:20])}"


def _or_unknown(local: Local) -> Local:
    """What a number in no journal comes to: another collector's may have it."""

    async def asked(request: Any) -> Any:
        try:
            return await local(request)
        except Wrong as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
            raise Unknown(str(error)) from None

    return asked


async def _given(reply: Any) -> Any:
    return reply
