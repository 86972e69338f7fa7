"""Fence agents that this host runs for others: each order once, one at a time per device, a few at once.

Rules
-----
* An order is remembered for as long as it could be delivered again. Delivered twice it is never run twice: while its
  run is under way the answer is *unknown*, afterwards it is the same result again.
* What an agent before this one was told is not known here, so an order that echoes an instant from before this agent's
  start is refused: its run may be under way, and the collector waits that out (contract: an off without a result).
* Before an ``off`` that names the host's address, its xapi is probed once more, and after that the numbers are asked
  again: a host that answers is not switched off, nor one about which something newer has been decided meanwhile.
* Parameters are kept nowhere: not in the durable slots, the log, the spool or the answer.
* Runs are bounded: each costs memory that this dom0 lends the agent.
"""

import hashlib
import threading
from typing import Callable, Dict, Optional, Tuple

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import addresses, fence_order, kind_rules, order_kinds, orders, probe_rules
from poolwarden_agent.host_port import TLS_PORT, FenceRun, HostPort

MOST_RUNS = 3
MOST_REMEMBERED = 256
LONGEST_SAID = 4096
PROBE_LIMIT_MS = 1500


class Fences(object):
    """The fence runs of this agent's life."""

    def __init__(self, port: HostPort) -> None:
        self._port = port
        self._since_ms = port.mono_ms()
        self._lock = threading.Lock()
        self._running = 0
        self._expected: Dict[str, int] = {}  # order id: when it was let pass
        self._known: Dict[str, Tuple[int, Optional[pb.OrderResult]]] = {}  # order id: since when, and how it ended

    def carry_out(
        self,
        order: orders.Order,
        answer: pb.OrderResult,
        overtaken: Callable[[], Optional[kind_rules.Refuse]],
    ) -> pb.OrderResult:
        """Run what the order asks for; ``answer`` is what is common to all answers. The gate has let it pass.

        ``overtaken``: does the gate refuse its numbers now?
        """
        wanted, parameters = order.body, order.body.parameters
        refusal = self._admit(order, wanted, parameters, answer)
        if refusal is not None:
            return refusal
        why = self._spares(wanted) or overtaken()
        if why is not None:
            # safety: certain, because nothing was run; a redelivery is refused likewise.
            with self._lock:
                self._running -= 1
                self._known[order.order_id] = (self._port.mono_ms(), _refused(answer, why.reason, why.text))
            return answer
        began, run = self._port.mono_ms(), FenceRun(True, None, "", "", "it broke off")
        try:
            # safety: at most once per order id, for another host, an executable of this host's own configuration.
            run = self._run(wanted, parameters)
        finally:
            _tell(answer, run, wanted, parameters)
            answer.fence_run.began_mono_ms, answer.fence_run.ended_mono_ms = began, self._port.mono_ms()
            with self._lock:
                self._running -= 1
                self._known[order.order_id] = (began, answer)
        return answer

    def expects(self, order_id: str) -> None:
        """This order was let pass by this host's own rules."""
        with self._lock:
            self._expected[order_id] = self._port.mono_ms()

    def knows(self, order_id: str) -> bool:
        """Is this an order that comes again: one that is remembered, or was too early and found this agent busy?"""
        with self._lock:
            now = self._port.mono_ms()
            self._forget(now)
            return order_id in self._known or order_id in self._expected

    def _spares(self, wanted: orders.FenceProxy) -> Optional[kind_rules.Refuse]:
        """Is this an ``off`` of a host whose xapi answers at this instant?"""
        if wanted.action != "off" or not addresses.is_address(wanted.target_address):
            return None
        probe = self._port.alive_peer(wanted.target_address, PROBE_LIMIT_MS, TLS_PORT)
        if probe.outcome != probe_rules.ANSWERED:
            return None
        return kind_rules.Refuse(
            "precondition", "the xapi of the host that it would switch off answers at %.60s" % wanted.target_address
        )

    def _run(self, wanted: orders.FenceProxy, parameters: Dict[str, str]) -> FenceRun:
        port, name, action, limit_ms = self._port, wanted.agent, wanted.action, wanted.limit_ms
        secrets = fence_order.secret_values(parameters, wanted.secrets)
        if action in (fence_order.IDENTITY, fence_order.INVENTORY):
            return port.identify_device(name, parameters, limit_ms, action == fence_order.INVENTORY, secrets)
        return port.run_fence(name, fence_order.stdin_of(parameters, action), limit_ms, secrets)

    def _admit(
        self, order: orders.Order, wanted: orders.FenceProxy, parameters: Dict[str, str], answer: pb.OrderResult
    ) -> Optional[pb.OrderResult]:
        """Why it is not run; None: it is, and is remembered from here on."""
        now = self._port.mono_ms()
        with self._lock:
            self._forget(now)
            if order.order_id in self._known:
                return _again(self._known[order.order_id][1], answer)
            if order.echo_mono_ms < self._since_ms:
                return _refused(answer, "expired", "it is from before this agent's start")
            why = fence_order.refusal(
                wanted.agent, wanted.action, parameters, wanted.limit_ms, self._port.fence_agents()
            )
            if why:
                return _refused(answer, "precondition", why)
            if self._running >= MOST_RUNS or len(self._known) >= MOST_REMEMBERED:
                return _refused(answer, "busy", "%d fence agents run here already" % self._running)
            self._running += 1
            self._known[order.order_id] = (now, None)
        return None

    def _forget(self, now: int) -> None:
        """Let go of what can no longer be delivered again."""
        # safety: sooner than what has run, so that no id is new here and not counted.
        self._expected = {i: at for i, at in self._expected.items() if now - at < orders.LONGEST_VALID_MS}
        over = now - 2 * orders.LONGEST_VALID_MS
        for order_id in [i for i, (at, ended) in self._known.items() if ended is not None and at < over]:
            del self._known[order_id]


def lane(wanted: orders.FenceProxy) -> str:
    """Orders of one lane run one after the other: one at a time per fence agent and device."""
    device = repr((wanted.agent, sorted(wanted.parameters.items()))).encode("utf-8")
    return "%s %s" % (order_kinds.FENCE_PROXY, hashlib.sha256(device).hexdigest())


def _again(before: Optional[pb.OrderResult], answer: pb.OrderResult) -> pb.OrderResult:
    if before is None:
        answer.outcome, answer.reason = pb.OrderResult.UNKNOWN, "busy"
        answer.text = "this very run is under way"
    else:
        answer.CopyFrom(before)
    answer.replayed = True
    return answer


def _refused(answer: pb.OrderResult, reason: str, text: str) -> pb.OrderResult:
    answer.outcome, answer.reason, answer.text = pb.OrderResult.REFUSED, reason, text
    return answer


def _tell(answer: pb.OrderResult, run: FenceRun, wanted: orders.FenceProxy, parameters: Dict[str, str]) -> None:
    """How it ended. What the fence agent printed goes to the collector alone, without secrets."""

    secrets = fence_order.secret_values(parameters, wanted.secrets)

    def clean(text: str) -> str:
        return fence_order.cleaned(text, secrets)[:LONGEST_SAID]

    what = "%s %s for %s" % (wanted.agent, wanted.action, wanted.host)
    if not run.started:
        answer.outcome, answer.reason, answer.text = pb.OrderResult.FAILED, "storage", clean(run.text)
    elif run.code is None or run.code < 0:
        answer.outcome, answer.reason, answer.text = pb.OrderResult.UNKNOWN, "timeout", "%s was cut off" % what
    else:
        answer.outcome, answer.text = pb.OrderResult.DONE, "%s: exit status %d" % (what, run.code)
    told = answer.fence_run
    told.code = run.code if run.code is not None else 0
    told.output, told.errors, told.text = clean(run.output), clean(run.errors), clean(run.text)
