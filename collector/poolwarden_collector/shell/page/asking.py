"""The operator's interface, asked in this process for somebody who looks at the page.

Rules
-----
* safety: what is asked goes by the same table of roles and pools as every operator's call (operators/access.py), and is
  served as his call: pools that are not his are in no answer, by no other code than the command line's.
* safety: only what looks is asked here. The list is closed, and a method that changes something is refused even if
  somebody adds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc

from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.operators import access
from poolwarden_collector.shell.operators.access import Call, Caller, Denied, Rights
from poolwarden_collector.shell.operators.api import OperatorApi

LOOKS = frozenset({"Status", "Explain", "Readiness", "Plan", "History", "Alerts", "Collectors"})


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks: ``rights`` gives what he may now; ``name`` is shown to himself; ``session``: of a user, "" for a
    certificate."""

    caller: Caller
    rights: Callable[[], Rights]
    name: str
    session: str = ""

    @property
    def scope(self) -> frozenset[PoolId] | None:
        """The pools that are there for him now; None: all. Whoever has the same one is shown the same."""
        return self.rights().seen()


class Refused(Exception):
    """The interface has refused it; ``status`` as HTTP has it, the text is one sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


_STATUS = {
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 404,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 503,
    grpc.StatusCode.ABORTED: 503,  # of several collectors one that matters does not answer
}


class _Context:
    """What the interface's methods need of a gRPC call: a way to end it."""

    async def abort(self, code: grpc.StatusCode, text: str) -> NoReturn:
        raise Refused(_STATUS.get(code, 500), text)


class Asking:
    """Asks ``api``."""

    def __init__(self, api: OperatorApi) -> None:
        self.api = api

    def admit(self, viewer: Viewer) -> None:
        """May he look at anything? Raises Refused, with a sentence that names him: for his eyes alone."""
        _call(viewer, "Status")

    async def ask(self, viewer: Viewer, method: str, request: Any) -> Any:
        """The reply to a method of the contract, with names as they are typed. Raises Refused."""
        with access.serving(_call(viewer, method)):
            return await self.api.quoted(await getattr(self.api, method)(request, _Context()))


def _call(viewer: Viewer, method: str) -> Call:
    """The call, as it would be the viewer's own. Raises Refused."""
    try:
        call = access.admitted(viewer.caller, viewer.rights(), f"{access.OPERATOR}/{method}", method)
        if method not in LOOKS or call.rule.changes:
            raise Denied(f"{method} is not asked by the page")
    except Denied as error:
        raise Refused(403, str(error)) from None
    call.renew = viewer.rights
    return call
