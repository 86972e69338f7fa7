"""Messages into the pools themselves: to the verified master's agent as an order, and its one answer back.

Rules
-----
* Only the one host that is known by fresh evidence to serve as its pool's master is asked, by an agent that can do it;
  where there is none, or this collector is behind or has stood down there, nothing is sent and the caller hears why.
* Each attempt is an order of its own id, and the message has the same key in each: the agent shows it once. So a short
  wait is enough: a healthy xapi answers in milliseconds, and of a slow one the next attempt learns that it is shown.
* No effect of the engine is such an order, and no answer to one is looked at by it: a message decides nothing.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable

from poolwarden_collector.core.evidence import mastership
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.events import AgentGone, Event, OrderAnswered
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome
from poolwarden_collector.core.model.orders import KIND_NAMES, Order, ShowMessage
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.shell.agents.roster import Roster

ANSWER_WITHIN_S = 3.0
VALID_MS = 6_000  # from the agent's last report on; its own limit for xapi is 10 s
_GRACE_S = 5.0


class NotShown(Exception):
    """The pool does not show it, as far as is known; one line that says why."""


class PoolMessages:
    """What is on its way; to be made in the event loop. ``send``: False where the host has no stream."""

    def __init__(
        self,
        roster: Roster,
        send: Callable[[PoolId, Order], bool],
        answer_within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        self._roster = roster
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._within_s = answer_within_s
        self._waiting: dict[str, tuple[HostId, asyncio.Future[OrderOutcome]]] = {}
        self._serial = 0

    def show(self, pool: PoolId, message: ShowMessage) -> None:
        """For a thread beside the event loop: ends within ``answer_within_s`` and a little. Raises NotShown.

        ``pool`` "": in every pool that is guarded, as a trial.
        """
        call = self._show(pool, message) if pool else self._show_everywhere(message)
        shown = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            shown.result(self._within_s + _GRACE_S)
        except (TimeoutError, concurrent.futures.CancelledError) as error:
            shown.cancel()
            raise NotShown("the collector stops, or is too busy") from error

    def heard(self, event: Event) -> None:
        """An event of any pool may be the answer, or the end of the stream on which it would have come."""
        if isinstance(event, OrderAnswered) and event.result.order_id in self._waiting:
            host, future = self._waiting[event.result.order_id]
            if host == event.host and not future.done():
                future.set_result(event.result)
        elif isinstance(event, AgentGone):
            for host, future in self._waiting.values():
                if host == event.host and not future.done():
                    future.set_exception(NotShown("the master's agent was lost before it answered"))

    async def _show_everywhere(self, message: ShowMessage) -> None:
        pools = list(self._roster.pools)
        ends = await asyncio.gather(*(self._show(pool, message) for pool in pools), return_exceptions=True)
        failed = [
            f"{self._roster.pools[pool].record.display_name}: {end}"
            for pool, end in zip(pools, ends, strict=True)
            if isinstance(end, Exception)
        ]
        if failed or not pools:
            raise NotShown("; ".join(failed) or "no pool is known yet")

    async def _show(self, pool: PoolId, message: ShowMessage) -> None:
        master, order = self._order(pool, message)
        future: asyncio.Future[OrderOutcome] = self._loop.create_future()
        self._waiting[order.order_id] = (order.host, future)
        try:
            if not self._send(pool, order):
                raise NotShown(f"the agent of {master} is not connected")
            async with asyncio.timeout(self._within_s):
                result = await future
        except TimeoutError:
            raise NotShown(f"{master} did not answer within {self._within_s:.0f} s") from None
        finally:
            del self._waiting[order.order_id]
        if result.outcome is not Outcome.DONE:
            raise NotShown(f"{master}: {result.text or result.reason or result.outcome.value}")

    def _order(self, pool: PoolId, message: ShowMessage) -> tuple[str, Order]:
        """The order and its host's name. Raises NotShown."""
        roster = self._roster
        if pool not in roster.pools:
            raise NotShown("no such pool is known")
        if roster.why_not_in_charge(pool):
            raise NotShown("this collector has stood down in that pool")
        if roster.told_behind:
            raise NotShown("this collector is behind what it hears")
        seen = Snapshot(roster.pools[pool], roster.now(), roster.site(pool))
        host = mastership.verified(seen)
        agent = seen.heard(host)
        if agent is None:
            raise NotShown("no verified master is heard")
        name, kind = seen.name(host), KIND_NAMES[ShowMessage]
        if kind not in agent.hello.capabilities:
            version = agent.hello.agent_version
            raise NotShown(f"the agent of {name} (version {version}) cannot show messages yet: update it")
        self._serial += 1
        order_id = order_ids.fresh(pool, kind, roster.charge(pool).epoch, self._serial).text
        return name, Order(order_id, host, agent.hello.boot_id, seen.record.term, message, VALID_MS)
