"""Commands by their ids: each is obeyed once, and what came of it can be asked for when its answer was lost.

Rules
-----
* A command that comes a second time under its id is not obeyed again: it gets the answer of the first one.
* safety: what came of a command is asked for only when its answer is missed. One that has not come by then is not
  obeyed any more when it does: whoever has asked was told that nothing was done.
* An id is its caller's: nobody else hears what came of it.
* What is remembered is remembered since the start, ``KEPT`` commands at most; from when on is told, so that a collector
  that was restarted in between is not taken to say that nothing was done.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.shell.operators.wrong import Wrong

KEPT = 2_000
FORBIDDEN = "nothing was done: what came of this command was asked for before it arrived"
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STEP = "Look whether it is still needed, and give it again: poolwarden status"


@dataclass(frozen=True, slots=True)
class _Forbidden:
    at: Ms


@dataclass(frozen=True, slots=True)
class _Given:
    at: Ms
    task: asyncio.Task[pb.CommandReply]


class Outcomes:
    """Those of one collector; ``now`` is its monotonic clock (ms)."""

    def __init__(self, now: Callable[[], Ms]) -> None:
        self._now = now
        self._since = now()
        self._known: dict[tuple[str, str], _Given | _Forbidden] = {}

    async def once(self, person: str, wanted: str, obey: Callable[[], Awaitable[pb.CommandReply]]) -> pb.CommandReply:
        """Obey it, unless that was done under this id. What ``obey`` raises is raised to each that asks."""
        if not wanted:
            return await obey()
        known = self._known.get((person, checked(wanted)))
        if isinstance(known, _Forbidden):
            return pb.CommandReply(accepted=False, code="asked-before", text=FORBIDDEN, next_step=_STEP)
        if known is None:
            # A task of its own: it comes to its end also where whoever gave it is gone, and so does its outcome.
            known = _Given(self._now(), asyncio.ensure_future(_obeyed(obey)))
            self._keep((person, wanted), known)
        reply = pb.CommandReply()
        reply.CopyFrom(await asyncio.shield(known.task))
        return reply

    async def of(self, person: str, wanted: str) -> pb.OutcomeReply:
        """What came of it; where it has not come it is not obeyed any more."""
        at = person, checked(wanted)
        known = self._known.get(at)
        if isinstance(known, _Given):
            if not known.task.done():
                return pb.OutcomeReply(state="running")
            if known.task.cancelled() or (error := known.task.exception()) is None:
                return pb.OutcomeReply(state="done", reply=None if known.task.cancelled() else known.task.result())
            said = pb.CommandReply(accepted=False, code="refused", text=f"refused: {error}")
            return pb.OutcomeReply(state="done", reply=said)
        if known is None:
            self._keep(at, _Forbidden(self._now()))
        return pb.OutcomeReply(state="unknown", remembers_ms=self._now() - self._since)

    def _keep(self, at: tuple[str, str], what: _Given | _Forbidden) -> None:
        while len(self._known) >= KEPT:
            oldest = next(iter(self._known))
            self._since = max(self._since, self._known.pop(oldest).at + 1)
        self._known[at] = what


async def _obeyed(obey: Callable[[], Awaitable[pb.CommandReply]]) -> pb.CommandReply:
    return await obey()


def checked(wanted: str) -> str:
    """The id. Raises Wrong where it is none."""
    if not _ID.fullmatch(wanted):
        raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, "the command's id is no UUID in small letters")
    return wanted
