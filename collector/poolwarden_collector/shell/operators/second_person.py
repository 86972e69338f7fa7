"""What needs two persons: one asks, another one says so too, then it is ordered in both names.

Rules
-----
* safety: the second is another person: another user of this machine or another certificate, and of another name. root
  and the collector's own user are one person, whoever came to be that. Who says that he is the first (by sudo) is taken
  at that word, and so is the first who says that he is the second.
* Both type the host's name. Nothing is decided by the first word but that it waits: when the second one comes it is
  ordered as if it were asked now, so everything is checked again. A yes waits for the question that it was said to, and
  for no later one.
* A first word ends with the role of the certificate that said it.
* It waits for ``WAITS_MS``, over a restart of the collector too, and not over one of its machine (store/audit.py).
* Waiting, withdrawal and end are in the pool's history with who it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.core.operator.drill import USUAL, argument
from poolwarden_collector.core.state.drill_record import POWER, Part, StepState
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.shell.operators import access, calls
from poolwarden_collector.shell.operators.access import Call
from poolwarden_collector.shell.operators.names import Names, Unknown
from poolwarden_collector.shell.operators.wrong import Wrong
from poolwarden_collector.shell.store.audit import Waiting
from poolwarden_collector.shell.store.journal import Journal, JournalError
from poolwarden_collector.shell.store.silences import Clock

if TYPE_CHECKING:
    from poolwarden_collector.shell.loop.service import Service

WAITS_MS = 15 * 60_000
MOST = 16  # of one pool
CODE = "second-person"
_LOOK_S = 1.0  # how late an end may be told
_COMMAND = f"{access.OPERATOR}/Command"

_log = logging.getLogger(__name__)


class SecondPerson:
    """Keeps what waits; what it holds is what the journal holds."""

    def __init__(self, service: Service, journal: Journal) -> None:
        self._service = service
        self._journal = journal
        self._waiting: dict[str, Waiting] = {}
        self._one = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what waited when the last run ended. Raises JournalError."""
        self._waiting = {each.id: each for each, _ in await self._service.write(self._journal.seconded)}
        self._service.on_pools(self._pools_have_changed)
        self._looking = asyncio.ensure_future(self._look())

    async def _pools_have_changed(self) -> None:
        """What waits comes and goes with its pool."""
        async with self._one:
            self._waiting = {each.id: each for each, _ in await self._service.write(self._journal.seconded)}

    def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    def shown(self) -> dict[PoolId, list[pb.Seconded]]:
        """What waits, by its pool."""
        now, found = self._now(), dict[PoolId, list[pb.Seconded]]()
        for each in self._waiting.values():
            if left := each.left_ms(now):
                shown = pb.Seconded(
                    id=each.id,
                    what=each.what,
                    by=each.actor,
                    age_ms=max(0, now.now - each.asked_ms),
                    left_ms=left,
                    command=f"poolwarden second {each.id}",
                )
                found.setdefault(each.pool, []).append(shown)
        return found

    # ------------------------------------------------------------------------------------------------ the first word

    async def ask(self, pool: Pool, request: pb.CommandRequest, call: Call) -> pb.CommandReply:
        """One person wants this. Raises Wrong where the host's name was not typed, JournalError."""
        kept = _pinned(pool, request)
        if isinstance(kept, pb.CommandReply):
            return kept
        host = _host_of(pool, kept)
        _typed(pool, host, _name_field(kept).typed_name)
        what = f"{calls.said_as(_COMMAND, kept)} {pool.record.name_of(host)}"
        async with self._one:
            now, same = self._now(), _comparable(kept)
            there = [each for each in self._waiting.values() if each.pool == pool.record.pool and each.left_ms(now)]
            for each in there:
                if _comparable(_request(each)) == same:
                    return _waits(each, now)
            if len(there) >= MOST:
                return _refused("too-many", f"{MOST} commands wait for a second person in this pool already")
            waiting = Waiting(
                id=secrets.token_hex(3),
                pool=pool.record.pool,
                what=what,
                request=kept.SerializeToString().hex(),
                actor=call.caller.name,
                person=_person(call.caller),
                source=calls.source_of(call.caller, call.claim),
                asked_ms=now.now,
                expires_ms=now.now + WAITS_MS,
                clock=now.name,
            )
            text = f"{call.caller.name} asks for {what}: it waits for a second person"
            data = {"id": waiting.id, "what": what, "for_ms": WAITS_MS}
            if self._service.roster.one_of_several:  # its next owner keeps it, from this entry
                data |= {"request": waiting.request, "person": waiting.person, "source": waiting.source}
            entry = Entry(Kind.SECOND_AWAITED, text, data, actor=call.caller.name)
            rows = await self._service.record(waiting.pool, (entry,), (), self._journal.second_waits, waiting, entry)
            self._waiting[waiting.id] = waiting
            self._service.publish(rows)
            return _waits(waiting, now)

    # ------------------------------------------------------------------------------------------------ the second one

    async def seconded(
        self, names: Names, pools: Mapping[PoolId, Pool], request: pb.CommandRequest, call: Call
    ) -> pb.CommandRequest | pb.CommandReply:
        """The command in both names, which waits no more; or why it is not to be ordered. Raises Unknown, Wrong."""
        waiting, wanted = self._named(names, request.second.id), pb.CommandRequest()
        if refusal := _same_person(waiting, call):
            return refusal
        if self._has_left(waiting, call):
            text = f"{waiting.actor}, who asked for {waiting.what}, has no right to it any more"
            return _refused("too-late", text, f"poolwarden second {waiting.id} --withdraw")
        wanted = _request(waiting)
        pool = pools[waiting.pool]
        host = _host_of(pool, wanted)
        if host not in pool.record.hosts:
            return _refused("too-late", f"{waiting.what}: that is not asked any more", "poolwarden status")
        _typed(pool, host, request.second.typed_name)
        async with self._one:
            text = f"{call.caller.name} is the second person for {waiting.what}, which {waiting.actor} asked for"
            if not await self._over(waiting, text, call.caller.name):
                return _refused("too-late", f"{waiting.what} does not wait any more")
        _name_field(wanted).typed_name = request.second.typed_name.strip()
        wanted.actor = f"{waiting.actor} and {call.caller.name}"
        return wanted

    def _has_left(self, waiting: Waiting, call: Call) -> bool:
        """Was the first one's certificate deprived of its role meanwhile? Of a user only his connection tells it."""
        first = access.Caller(waiting.actor, waiting.person, "")
        if waiting.person != f"certificate {waiting.actor}":
            return False
        has = access.rights_of(first, self._service.roster.config.operators.entries).role_in(waiting.pool)
        return has is None or has < call.rule.role

    async def withdraw(self, names: Names, request: pb.CommandRequest, call: Call) -> pb.CommandReply:
        """It is not to be done; whoever may ask for it may say so."""
        waiting = self._named(names, request.second.id)
        async with self._one:
            text = f"{waiting.what}, which {waiting.actor} asked for, is withdrawn by {call.caller.name}"
            if not await self._over(waiting, text, call.caller.name):
                return _refused("too-late", f"{waiting.what} does not wait any more")
        return pb.CommandReply(accepted=True, text=f"withdrawn: {waiting.what}; nothing was done")

    def pool_of(self, names: Names, wanted: str) -> PoolId:
        """The pool in which something waits under this id. Raises Unknown."""
        return self._named(names, wanted).pool

    def _named(self, names: Names, wanted: str) -> Waiting:
        """What waits under this id in a pool of the caller's. Raises Unknown, and Denied where he may not do it."""
        now = self._now()
        there = {each.id: each for each in self._waiting.values() if each.pool in names.pools and each.left_ms(now)}
        found = there.get(wanted.strip())
        if found is None:
            known = "; ".join(f"{each.id}: {each.what}, asked for by {each.actor}" for each in there.values())
            raise Unknown(f"nothing waits for a second person under {wanted!r}; there is: {known or 'nothing'}")
        names.granted(found.pool)
        return found

    # ------------------------------------------------------------------------------------------------ its end

    async def _over(self, waiting: Waiting, text: str, actor: str = "poolwarden") -> bool:
        """It waits no more; False: it did not. Raises JournalError."""
        entry = Entry(Kind.SECOND_OVER, text, {"id": waiting.id, "what": waiting.what}, actor=actor)
        rows = await self._service.record(waiting.pool, (entry,), (), self._journal.second_over, waiting, entry)
        self._waiting.pop(waiting.id, None)
        self._service.publish(rows or [])
        return rows is not None

    async def _look(self) -> None:
        """End what nobody has seconded in time."""
        while True:
            now = self._now() if self._waiting else None
            for each in [each for each in self._waiting.values() if now is not None and not each.left_ms(now)]:
                with contextlib.suppress(JournalError):  # it is over all the same, and is told once it can be
                    async with self._one:
                        await self._over(each, f"{each.what}, which {each.actor} asked for, found no second person")
            await asyncio.sleep(_LOOK_S)

    def _now(self) -> Clock:
        return Clock(self._journal.epoch)


def _pinned(pool: Pool, request: pb.CommandRequest) -> pb.CommandRequest | pb.CommandReply:
    """The command as it is kept: about this very host, or this very question."""
    kept = pb.CommandRequest()
    kept.CopyFrom(request)
    if kept.WhichOneof("command") == "approve":
        question = pool.record.question
        if question is None:
            return _refused("nothing-asked", "nothing is asked of an operator now", "poolwarden status")
        if kept.approve.id not in (question.id, pool.record.pool, pool.record.name):
            return _refused("wrong-question", f"{kept.approve.id} is not what is asked now", "poolwarden status")
        kept.approve.id = question.id
        return kept
    command = _name_field(kept)
    assert not isinstance(command, pb.Approve)
    command.host = next(host.host for host in pool.record.hosts.values() if _is_called(pool, host.host, command.host))
    return kept


def _is_called(pool: Pool, host: HostId, text: str) -> bool:
    return text.rpartition("/")[2] in (host, pool.record.name_of(host))


def _name_field(request: pb.CommandRequest) -> pb.ConfirmFenced | pb.FenceCommand | pb.Approve:
    """The part of the command that holds the host's name as it was typed."""
    found: pb.ConfirmFenced | pb.FenceCommand | pb.Approve = getattr(request, str(request.WhichOneof("command")))
    return found


def _host_of(pool: Pool, request: pb.CommandRequest) -> HostId:
    """The host whose name is typed; empty where the question that it was about is gone."""
    command = _name_field(request)
    if not isinstance(command, pb.Approve):
        return command.host
    question, failover = pool.record.question, pool.record.failover
    if question is None or question.id != command.id:
        return ""
    # As the engine finds it (core/operator/answers.py), which compares the name again.
    return failover.old_master if failover is not None and question.failover else question.host


def _typed(pool: Pool, host: HostId, typed: str) -> None:
    """Raises Wrong unless this is the host's name."""
    name = pool.record.name_of(host)
    # safety: two who say yes to what neither of them has looked at are no more than one.
    if typed.strip() not in (name, host):
        text = f"typed {typed!r}, the host's name is {name!r}: type it exactly"
        raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, text)


def _person(caller: access.Caller) -> str:
    """Who is kept as the first one."""
    # safety: another collector may own the pool when the second one comes, and there the number of this one's own user
    # tells nothing: whoever runs a collector's machine is kept as what he is at each of them (on_behalf.py).
    return "uid 0" if access.is_the_machines(caller) else caller.person


def _same_person(waiting: Waiting, call: Call) -> pb.CommandReply | None:
    """Why this is not another person than the first one."""
    caller, shared = call.caller, {"uid 0", f"uid {os.geteuid()}"}
    first, second = {waiting.actor.lower()}, {caller.name.lower(), call.claim.lower()}
    if waiting.person in shared:
        # By sudo the first one is root: who sudo says it was cannot be the second under his own name.
        first.add(calls.claim_in(waiting.source).lower())
    both = waiting.person in shared and caller.person in shared  # root can become the collector's user
    if both or caller.person == waiting.person or first & second - {""}:
        text = f"{waiting.what} was asked for by {waiting.actor}, who cannot be the second person as well"
        return _refused("same-person", text, f"Another operator: poolwarden second {waiting.id}")
    return None


def _comparable(request: pb.CommandRequest) -> bytes:
    """What makes two commands the same: all but who, why and how a name was typed."""
    kept = pb.CommandRequest()
    kept.CopyFrom(request)
    kept.ClearField("actor")
    kept.ClearField("reason")
    command = _name_field(kept)
    command.ClearField("typed_name")
    if not isinstance(command, pb.Approve):
        command.ClearField("how")
    return kept.SerializeToString(deterministic=True)


def _request(waiting: Waiting) -> pb.CommandRequest:
    return pb.CommandRequest.FromString(bytes.fromhex(waiting.request))


def _waits(waiting: Waiting, now: Clock) -> pb.CommandReply:
    minutes = max(1, round(waiting.left_ms(now) / 60_000))
    text = f"{waiting.what}, asked for by {waiting.actor}, waits for a second person; nothing was done yet"
    step = f"Another operator, within {minutes} min: poolwarden second {waiting.id}"
    return _refused(CODE, text, step)


def drill_refusal(pool: Pool, said: OperatorSaid, needs_two: frozenset[str]) -> pb.CommandReply | None:
    """Where `fence off` needs two persons no drill of one switches a host off; None: this command does not."""
    if "fence off" not in needs_two or not _switches_off(pool, said):
        return None
    # safety: a step that switches a host off is `fence off` by another name.
    why = "fence off needs two persons here, and a drill is walked by one: it switches no host off"
    step = f"poolwarden drill {pool.record.display_name} --steps restart,hold,switchover"
    return _refused(CODE, why, step)


def _switches_off(pool: Pool, said: OperatorSaid) -> bool:
    if said.verb == "drill-begin":
        wanted = [part for part in Part if said.arg(argument(part))] or USUAL
        return any(part in POWER for part in wanted)
    drill = pool.record.drill
    if said.verb != "drill-step" or drill is None:
        return False
    asked = said.arg("step")
    named = int(asked) if asked.isdecimal() else 0
    meant = drill.steps[named - 1 : named] if named else drill.steps
    return any(step.part in POWER for step in meant if step.state is StepState.PLANNED)


def _refused(code: str, text: str, next_step: str = "") -> pb.CommandReply:
    return pb.CommandReply(accepted=False, code=code, text=text, next_step=next_step)
