"""What stands before every method of the operator's interface, on the socket and on the network.

Rules
-----
* Who calls is found first, then what he may (access.py); what changes something is recorded before and after
  (calls.py). A method that is added to the contract is behind all of it from its first day.
* safety: the caller's name replaces the actor of any request that has one: nobody writes the journal in another's name.
  What stood there is kept beside it in the record of calls, as a claim.
* safety: nobody takes the collector's memory, disk or time from others: one person has ``AT_ONCE`` calls at a time,
  those whose answers he does not read among them; and who is no admin of all pools may change something ``CHANGES``
  times in a row, then once in ``CHANGE_EVERY_MS``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.shell.agents.doorkeeper import Peer, peer_of
from poolwarden_collector.shell.config.operators import Entry, Role
from poolwarden_collector.shell.operators import access, calls
from poolwarden_collector.shell.operators.access import Call, Caller, Denied
from poolwarden_collector.shell.store.journal import JournalError

AT_ONCE = 64  # calls of one person, followers of the history among them
CHANGES = 300  # recorded calls of one person in a row
CHANGE_EVERY_MS = 6_000  # after which there is one more
_CLAIM_LIMIT = 64
_T = TypeVar("_T")
_Method = Callable[[Any, Any], Awaitable[Any]]
_log = logging.getLogger(__name__)


class Stranger(Exception):
    """Nobody who may ask is at the other end; the text is one sentence that says who is."""


class Admission(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types here
    """Lets calls through to the methods behind it.

    ``who`` finds the caller from a call's context, or raises Stranger; ``entries`` are the configuration's, as they are
    now; ``warn`` tells operators of whom was refused at ``where``; ``typed`` gives back a reply with names quoted in
    the commands that it suggests (quoting.py), a long one as its bytes (wire.py).
    """

    def __init__(
        self,
        who: Callable[[Any], Caller],
        entries: Callable[[], tuple[Entry, ...]],
        ledger: calls.Ledger,
        warn: Callable[[str], None],
        where: str,
        typed: Callable[[Any], Awaitable[Any]],
    ) -> None:
        self._typed = typed
        self._who = who
        self._entries = entries
        self._ledger = ledger
        self._warn = warn
        self._where = where
        self._open: Counter[str] = Counter()
        self._speaking: Counter[Peer] = Counter()
        self._changes = calls.Allowance(CHANGES, CHANGE_EVERY_MS)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], call: Any) -> Any:
        """The method's handler behind the check; no handler where the contract has none."""
        handler = await continuation(call)
        if handler is None or handler.request_streaming:
            return None  # safety: no method takes a stream; one that did would bring its actors past this check
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(call.method, handler.unary_stream), handler.request_deserializer, _written(handler)
            )
        return grpc.unary_unary_rpc_method_handler(
            self._answer(call.method, handler.unary_unary), handler.request_deserializer, _written(handler)
        )

    def _answer(self, name: str, method: _Method) -> _Method:
        async def answer(request: Any, context: Any) -> Any:
            call = await self._admitted(name, request, context)
            with access.serving(call):
                if call.rule.changes:
                    return await self._typed(await self._recorded(call, method, request, context))
                return await self._typed(await method(request, context))

        return answer

    def _stream(self, name: str, method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            call = await self._admitted(name, request, context)
            # Closed with its reader, not when it is collected: until then it would go on being told of every entry.
            with access.serving(call):
                async with contextlib.aclosing(method(request, context)) as replies:
                    async for reply in replies:
                        yield await self._typed(reply)

        return stream

    async def _admitted(self, name: str, request: Any, context: Any) -> Call:
        """The call in the name of whoever is at the other end; ends it if he may not make it."""
        try:
            caller = self._who(context)
        except Stranger as error:
            _log.warning("refused at %s: %s: %s", self._where, context.peer(), error)
            self._warn(f"refused at {self._where}: {error}")
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        if isinstance(request, pb.CommandRequest) and request.WhichOneof("command") is None:
            text = "the request holds no command that this collector knows"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
        self._open[caller.person] += 1
        self._speaking[peer := peer_of(context.peer())] += 1
        context.add_done_callback(lambda _: self._closed(caller.person, peer))
        rights = access.rights_of(caller, self._entries())
        key, what = access.key_of(name, request), calls.said_as(name, request)
        claim = _put_in_name_of(caller, request)
        try:
            if self._open[caller.person] > AT_ONCE:
                raise calls.TooMany(f"{caller.name} has {AT_ONCE} calls open, which is the most for one person")
            call = access.admitted(caller, rights, key, what)
            if call.rule.changes and call.rights.where(Role.ADMIN) is not None:
                self._changes.take(caller.person)
        except (Denied, calls.TooMany) as error:
            if not rights.grants:
                self._warn(f"refused at {self._where}: {error}")
            rule = access.RULES.get(key)
            if rule is None or rule.changes:
                try:
                    await self._ledger.refused(caller, rights, what, request, claim, str(error))
                except JournalError as trouble:
                    _log.error("a refused call of %s has no record: %s", caller.name, trouble)
            too_many = isinstance(error, calls.TooMany)
            code = grpc.StatusCode.RESOURCE_EXHAUSTED if too_many else grpc.StatusCode.PERMISSION_DENIED
            await context.abort(code, str(error))
        call.claim = claim
        call.renew = lambda: access.rights_of(caller, self._entries())
        return call

    def speaking(self) -> set[Peer]:
        """The other ends that have a call open now."""
        return set(self._speaking)

    def _closed(self, person: str, peer: Peer) -> None:
        _one_less(self._open, person)
        _one_less(self._speaking, peer)

    async def _recorded(self, call: Call, method: _Method, request: Any, context: Any) -> Any:
        """Serve the call between the two halves of its record."""
        row: int | None = None
        try:
            row = await self._ledger.begins(call, request)
        except JournalError as error:
            _log.error("%s of %s cannot be recorded: %s", call.what, call.caller.name, error)
            if not isinstance(request, pb.CommandRequest):  # what cannot be journaled no command does by itself
                text = "nothing was done: the call cannot be recorded; poolwarden doctor tells more"
                await context.abort(grpc.StatusCode.INTERNAL, text)
        result = "no answer: whether it was obeyed is in the history"
        try:
            reply = await method(request, context)
            result = calls.came_of(reply)
            return reply
        except asyncio.CancelledError:
            raise
        except BaseException:
            if context.details():
                result = f"refused: {context.details()}"
            raise
        finally:
            # The caller may have gone; what came of it is recorded all the same.
            await asyncio.shield(asyncio.ensure_future(self._end(call, request, row, result)))

    async def _end(self, call: Call, request: Any, row: int | None, result: str) -> None:
        try:
            row = row if row is not None else await self._ledger.begins(call, request)
            await self._ledger.ended(call, row, result)
        except JournalError as error:
            _log.error("what came of %s by %s has no record: %s", call.what, call.caller.name, error)


def _written(handler: Any) -> Callable[[Any], bytes]:
    """How its replies are written out; one that is bytes already stays as it is."""
    return lambda reply: reply if isinstance(reply, bytes) else bytes(handler.response_serializer(reply))


def _one_less(counted: Counter[_T], what: _T) -> None:
    counted[what] -= 1
    if not counted[what]:
        del counted[what]


def _put_in_name_of(caller: Caller, request: Any) -> str:
    """Put the caller in the actor's place; who it says it is instead, empty where that is nobody else."""
    if "actor" not in request.DESCRIPTOR.fields_by_name:
        return ""
    claim = "".join(letter for letter in request.actor.strip() if letter.isprintable())[:_CLAIM_LIMIT]
    request.actor = caller.name
    return claim if claim != caller.name else ""
