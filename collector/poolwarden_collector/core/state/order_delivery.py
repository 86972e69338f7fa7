"""Having an order carried out for as long as facts show that its effect is not there.

Rules
-----
* Every attempt has an id of its own, journaled as an intent before it is first sent; a lost answer is asked for with
  the same id, which the gate answers with its stored result.
* A refusal does not use up an id: nothing was done under it.
"""

from __future__ import annotations

from typing import Any

from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.order_results import OWN_RULES, OrderOutcome, Outcome
from poolwarden_collector.core.model.orders import OrderKind, Preconditions, RestartXapi, SetTombstone
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state.live import AgentState, Sent
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ORDER_VALID_MS: Ms = 15_000
RESEND_AFTER_MS: Ms = 5_000
REFUSED_HERE_MS: Ms = 60_000
ATTEMPT_MS: Ms = 30_000
# systemd waits TimeoutStopSec (90 s) for ExecStop, and again after SIGTERM, before it kills a xapi that hangs
# (systemd.service(5); xapi: scripts/xapi.service): 180 s, and a report.
STOP_LIMIT_MS: Ms = 200_000


def pursue(
    tx: Transaction, base: str, agent: AgentState, kind: OrderKind, intent: Kind, text: str, **data: Any
) -> None:
    """Have this order carried out, with a new id for every attempt that ended without its effect.

    The caller has seen by facts that the effect is not there. Each id is journaled before it is first sent.
    """
    number = 1
    while (sent := tx.sent(order_ids.OrderId(base, number).text)) is not None and _spent(tx, sent):
        number += 1
    order_id, host = order_ids.OrderId(base, number).text, agent.hello.host
    if not due(tx, order_id, agent):
        return
    failover = tx.failover
    known = failover is not None and failover.members.repointing.get(host) == order_id
    if tx.sent(order_id) is None and not known:
        again = f" (attempt {number})" if number > 1 else ""
        of = failover.id if failover is not None and order_ids.parse(base).is_of(failover.id) else ""
        facts = {"host": host, "order": order_id, **data}
        tx.write(Entry(intent, text + again, facts, of, tx.record.term))
    member = (Role.MEMBER,) if isinstance(kind, RestartXapi) else ()
    pre = Preconditions(ha_off=not isinstance(kind, SetTombstone), pool_conf_in=member)
    tx.send(order_id, host, kind, ORDER_VALID_MS, pre)


def _spent(pool: Snapshot, sent: Sent) -> bool:
    """Did this attempt end, long enough ago for its effect to show? A refusal does not use up the id."""
    ended = sent.result is not None and sent.result.outcome is not Outcome.REFUSED
    return ended and pool.now - (sent.answered_at or sent.at) >= ATTEMPT_MS


def due(pool: Snapshot, order_id: str, agent: AgentState) -> bool:
    """Is this order to be sent (again)? Never sent on this stream, refused a while ago, or unanswered for long."""
    sent = pool.sent(order_id)
    if sent is None:
        return True
    if sent.result is None:
        return sent.stream != agent.stream or pool.now - sent.at >= ORDER_VALID_MS + RESEND_AFTER_MS
    # What the host's own rules refuse is the same a few seconds later: an operator has been told of it.
    wait = REFUSED_HERE_MS if sent.result.reason in OWN_RULES else RESEND_AFTER_MS
    return sent.result.outcome is Outcome.REFUSED and pool.now - (sent.answered_at or sent.at) >= wait


def answer_of(pool: Snapshot, host: HostId, order_id: str) -> OrderOutcome | None:
    """The host's answer to this order: heard in this run, or kept by its agent over a lost stream or a restart."""
    sent, agent = pool.sent(order_id), pool.agent(host)
    if sent is not None and sent.result is not None:
        return sent.result
    kept = agent.hello.last_results if agent is not None else ()
    return next((result for result in kept if result.order_id == order_id), None)
