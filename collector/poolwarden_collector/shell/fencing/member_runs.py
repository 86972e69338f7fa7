"""Fence agents run by members for the collector: orders out, one answer each. It is fed with events and the time.

Rules
-----
* A run has exactly one end: what the member says of it, or that its order was lost, its stream ended, its time is over.
  Of a run that ends in another way than by its member's word nobody knows what it still does: it is *cut off*.
* A member that refuses has not run anything, and that is certain.
* Parameters go with the order and are kept no longer than its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_collector.core.devices.device_runner import LANDING_MS, VALID_MS
from poolwarden_collector.core.model.effects import Through, Unable
from poolwarden_collector.core.model.events import AgentGone, Event, OrderAnswered
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome
from poolwarden_collector.core.model.orders import FenceProxy, Order, Preconditions
from poolwarden_collector.core.model.power import Trouble
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.shell.fencing.agent_run import AgentRun

Send = Callable[[Order], bool]  # False: that host has no stream


@dataclass(frozen=True, slots=True)
class Ended:
    """How a member's run ended; ``trouble`` where that is not the device's."""

    run: AgentRun
    trouble: Trouble = Trouble.NONE


@dataclass(slots=True)
class _Run:
    through: Through
    until: Ms
    done: Callable[[Ended], None]


class Proxies:
    """The runs of one collector that are under way at members."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._runs: dict[str, _Run] = {}

    def begin(
        self,
        order_id: str,
        through: Through,
        wanted: FenceProxy,
        now: Ms,
        done: Callable[[Ended], None],
        valid_until: Ms = 0,
    ) -> None:
        """Order a run; ``done`` is called once, perhaps before this returns. ``valid_until``: as an order's."""
        before = Preconditions(ha_off=through.ha_off)
        order = Order(order_id, through.host, through.boot_id, through.term, wanted, VALID_MS, before, valid_until)
        until = now + VALID_MS + wanted.limit_ms + LANDING_MS
        self._runs[order_id] = _Run(through, until, done)
        if not self._send(order):
            self._end(order_id, _never(f"{through.name}, which was to run it, is not connected", Trouble.FAILED))

    def heard(self, event: Event, now: Ms) -> None:
        """An event of any host may be an answer, or the end of a stream; time ends what was never answered."""
        if isinstance(event, OrderAnswered) and event.result.order_id in self._runs:
            run = self._runs[event.result.order_id]
            # safety: an answer counts from the member alone that was asked.
            if run.through.host == event.host:
                self._end(event.result.order_id, _ended(run.through, event.result))
        elif isinstance(event, AgentGone):
            self._lost(event.host)
        for order_id in [each for each, run in self._runs.items() if now >= run.until]:
            self._end(order_id, _cut_off(f"{self._runs[order_id].through.name} did not say how it ended"))

    def forget(self, order_id: str) -> None:
        """Nobody waits for this one any more."""
        self._runs.pop(order_id, None)

    def _lost(self, host: HostId) -> None:
        for order_id in [each for each, run in self._runs.items() if run.through.host == host]:
            self._end(order_id, _cut_off(f"{self._runs[order_id].through.name} was lost while it ran it"))

    def _end(self, order_id: str, ended: Ended) -> None:
        self._runs.pop(order_id).done(ended)


def not_run(by: Unable) -> Ended:
    """Nobody could be asked."""
    return _never(by.why, Trouble.FAILED if by.allowed else Trouble.AGENT)


def _never(text: str, trouble: Trouble) -> Ended:
    return Ended(AgentRun(None, False, "", "", text), trouble)


def _cut_off(text: str) -> Ended:
    return Ended(AgentRun(None, True, "", "", text), Trouble.FAILED)


def _ended(through: Through, result: OrderOutcome) -> Ended:
    """A member's answer as a run of ours."""
    said = result.fence_run
    if result.outcome is Outcome.REFUSED:
        missing = Trouble.AGENT if result.reason in ("precondition", "unknown-order") else Trouble.FAILED
        return _never(f"{through.name} does not run it: {result.text}", missing)
    if said is None:
        return _cut_off(f"{through.name}: {result.text or 'no word of how it ended'}")
    if result.outcome is Outcome.DONE and said.code >= 0:
        return Ended(AgentRun(said.code, True, said.output, said.errors, said.text))
    if result.outcome is Outcome.FAILED:
        return _never(f"{through.name}: {said.text}", Trouble.AGENT)
    return Ended(AgentRun(None, True, said.output, said.errors, said.text))
