"""Agents of a pool that another collector has: they are sent there, and are neither welcomed nor heard here.

Rules
-----
* Who has a pool says ``OwnerOf``. One collector has them all: ``ours``.
* An agent that can follow (capability ``elsewhere``) gets Elsewhere and has a moment to end its stream itself. Nothing
  that it says meanwhile is heard, and its stream is never that of its host: the host's stream here, if there is one,
  stands. Any other agent is refused, with the owner's name and address, and comes again.
* No epoch goes out with it: an agent that heard this collector's would from then on refuse its owner's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.agents import patience

CAPABILITY = "elsewhere"
FOLLOWS_WITHIN_S = 5.0  # from Elsewhere to the end of its stream, which is the agent's to make


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Which collector has a pool. ``address``: HOST:PORT for agents, IPv6 in brackets; empty: not known."""

    address: str
    collector: str
    reason: str = ""

    def message(self) -> pb.CollectorMessage:
        """What an agent is told."""
        said = pb.Elsewhere(address=self.address, collector=self.collector, reason=self.reason)
        return pb.CollectorMessage(elsewhere=said)

    def refusal(self) -> str:
        """What an agent is told that cannot follow."""
        at = f"{self.collector or 'another one'}{f' at {self.address}' if self.address else ''}"
        return (
            f"this collector does not have that pool; {at} has. This agent is too old to go there by itself: update it"
        )


OwnerOf = Callable[[PoolId], Elsewhere | None]


NOBODYS = Elsewhere("", "", "this collector does not own the pool, and knows not yet who does")


def ours(_: PoolId) -> Elsewhere | None:
    """Every pool is this collector's."""
    return None


async def send_on(context: Any, message: pb.CollectorMessage, heard: Callable[[], Awaitable[object]]) -> None:
    """Tell it, and wait until it ends its stream; ``heard``: its next message, None at the stream's end."""

    async def until_it_ends() -> None:
        while await heard() is not None:
            pass

    await context.write(message)
    try:
        await patience.within(FOLLOWS_WITHIN_S, until_it_ends())
    except TimeoutError:
        return
