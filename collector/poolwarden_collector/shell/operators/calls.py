"""The record of operators' calls: who, from where, in which role, what, and what came of it.

Rules
-----
* Every call that changes, runs or sends something is recorded before it is served, refused ones too. What cannot be
  recorded is not done; of a command that is the engine's word, which does nothing that it cannot journal.
* No secret is in a record: parameters of a fence device, tokens and keys are named and left out.
* safety: who does not stop cannot fill the disk: beyond ``REFUSALS`` refused calls of one caller, and one a minute, the
  next record says how many there were.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.operators import access
from poolwarden_collector.shell.operators.access import Call, Caller, Rights
from poolwarden_collector.shell.store.audit import Called

if TYPE_CHECKING:
    from poolwarden_collector.shell.loop.service import Service
    from poolwarden_collector.shell.store.journal import Journal

REFUSALS = 60  # of one caller in a row, each with a record of its own
_REFUSAL_EVERY_MS = 60_000  # after which one more has
_CALLERS = 1_000  # whose refusals are counted
LONGEST, LONGEST_REFUSED = 4_000, 500  # characters of a request
_NOT_KEPT = "(not kept)"
_SAYS = "; says it is "
_SECRETS = frozenset({"parameters", "token", "password", "secret", "csr", "key"})
_WHO = frozenset({"actor", "reason"})
_FENCE_ACTIONS = frozenset({"test", "on", "off", "bind"})


_TYPED = {
    "CreateToken": "token create",
    "RevokeToken": "token revoke",
    "DenyCertificate": "certificate deny",
}


def said_as(method: str, request: Any) -> str:
    """The call as it is typed: "pause", "fence off", "token create"; one that is not typed by its method's name."""
    name = method.rpartition("/")[2]
    if name == "DecideKey":
        return "enrolment accept" if request.accept else "enrolment refuse"
    if name in _TYPED:
        return _TYPED[name]
    if access.key_of(method, request).partition(":")[0] != f"{access.OPERATOR}/Command":
        return name
    verb = request.WhichOneof("command") or ""
    if verb == "fence":
        return f"fence {request.fence.action}" if request.fence.action in _FENCE_ACTIONS else "fence"
    shoots = verb == "approve" and request.approve.shoot
    return "approve --shoot" if shoots else verb.replace("_", "-") or name


def reason_of(request: Any) -> str:
    """Why, as the caller says: the call's reason, else that of its command, or how something was made sure."""
    found = str(getattr(request, "reason", ""))
    if not found and "command" in request.DESCRIPTOR.oneofs_by_name:
        command = getattr(request, request.WhichOneof("command") or "", None)
        found = str(getattr(command, "reason", "") or getattr(command, "how", ""))
    return found[:LONGEST]


def request_text(request: Any, longest: int = LONGEST) -> str:
    """The request as JSON, without secrets and without who and why."""
    found = MessageToDict(request, preserving_proto_field_name=True)
    text = json.dumps({key: _kept(key, value) for key, value in found.items() if key not in _WHO}, ensure_ascii=False)
    if not text.isprintable():  # as JSON escapes it, so that it stays JSON
        text = "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)
    return text if len(text) <= longest else json.dumps({"begins": text[:longest]}, ensure_ascii=False)


def _kept(key: str, value: Any) -> Any:
    if key in _SECRETS:
        return dict.fromkeys(value, _NOT_KEPT) if isinstance(value, dict) else _NOT_KEPT
    if isinstance(value, dict):
        return {name: _kept(name, each) for name, each in value.items()}
    return value


def came_of(reply: Any) -> str:
    """One sentence: what the caller was answered."""
    if "accepted" not in reply.DESCRIPTOR.fields_by_name:
        return "done"
    text = str(getattr(reply, "text", ""))[:LONGEST]
    if reply.accepted:
        return f"done: {text}" if text else "done"
    code = str(getattr(reply, "code", ""))
    return f"refused{f' ({code})' if code else ''}: {text}"


class TooMany(Exception):
    """One caller asks for more than is done for one; the text is one sentence."""


class Allowance:
    """So many in a row of one person, and one more in every ``every_ms``; ``persons``: how many are remembered."""

    def __init__(
        self, most: int, every_ms: int, now: Callable[[], int] = clock.mono_ms, persons: int = _CALLERS
    ) -> None:
        self._most = most
        self._every_ms = every_ms
        self._now = now
        self._persons = persons
        self._left: dict[str, tuple[float, int]] = {}  # how many there are yet, as of when

    def take(self, person: str) -> None:
        """One more. Raises TooMany."""
        if not self.may(person):
            every = self._every_ms // 1000
            raise TooMany(f"{self._most} calls that change something came in a row: one more in {every} s from now on")

    def left(self, person: str) -> float:
        """How many there are yet."""
        now = self._now()
        left, at = self._left.get(person, (float(self._most), now))
        return min(float(self._most), left + (now - at) / self._every_ms)

    def may(self, person: str) -> bool:
        """One more, if there is one."""
        now, left = self._now(), self.left(person)
        self._left.pop(person, None)
        if len(self._left) >= self._persons:
            del self._left[next(iter(self._left))]
        self._left[person] = (left - 1 if left >= 1 else left, now)
        return left >= 1


class Ledger:
    """Writes the record; raises JournalError where that is impossible."""

    def __init__(self, service: Service, journal: Journal, now: Callable[[], int]) -> None:
        self._service = service
        self._journal = journal
        self._allowed = Allowance(REFUSALS, _REFUSAL_EVERY_MS, now)
        self._unrecorded: dict[str, int] = {}

    async def begins(self, call: Call, request: Any) -> int:
        """A call is about to be served; the number of its record."""
        called = Called(
            call.caller.name,
            source_of(call.caller, call.claim),
            call.rights.words,
            call.what,
            request_text(request),
            reason_of(request),
        )
        return int(await self._service.write(self._journal.call_begins, called))

    async def ended(self, call: Call, row: int, result: str) -> None:
        """What came of it."""
        await self._service.write(self._journal.call_ended, row, call.pool, result[:LONGEST] or "done")

    async def refused(self, caller: Caller, rights: Rights, what: str, request: Any, claim: str, why: str) -> None:
        """A call was refused before it was served."""
        skipped = self._unrecorded.get(caller.person, 0)
        if not self._allowed.may(caller.person):
            if len(self._unrecorded) < _CALLERS or skipped:
                self._unrecorded[caller.person] = skipped + 1
            return
        more = f" (and {skipped} refused calls before it, which have no record of their own)" if skipped else ""
        self._unrecorded.pop(caller.person, None)
        called = Called(
            caller.name,
            source_of(caller, claim),
            rights.words,
            what,
            request_text(request, LONGEST_REFUSED),
            reason_of(request)[:LONGEST_REFUSED],
            result=f"refused: {why}{more}",
        )
        await self._service.write(self._journal.call_begins, called)


def source_of(caller: Caller, claim: str) -> str:
    """From where, and beside it who the caller says it is: that is nobody's word but its own."""
    return f"{caller.source}{_SAYS}{claim!r}" if claim else caller.source


def claim_in(source: str) -> str:
    """Who the caller said it was, of what ``source_of`` has made; empty where it said nothing else."""
    found = source.partition(_SAYS)[2]
    try:
        return str(ast.literal_eval(found)) if found else ""
    except (ValueError, SyntaxError):
        return ""
