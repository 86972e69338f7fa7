"""Orders that this run has sent, with their answers: the one place where they are kept and forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.live import PoolLive, Sent

if TYPE_CHECKING:
    from poolwarden_collector.core.state.transaction import Transaction

ORDERS_KEPT = 512


def add(tx: Transaction, sent: Sent) -> None:
    """This order goes out now, for the first time or again."""
    tx.change(PoolLive, sent={**tx.live.sent, sent.order_id: sent})


def answered(tx: Transaction, sent: Sent, result: OrderOutcome) -> None:
    """The answer to an order has come."""
    add(tx, replace(sent, result=result, answered_at=tx.now))


def forget(tx: Transaction, host: HostId, kind: str) -> None:
    """Orders of this kind to this host, and what they brought, count no more."""
    kept = {s.order_id: s for s in tx.live.sent.values() if (s.host, s.kind) != (host, kind)}
    if len(kept) != len(tx.live.sent):
        tx.change(PoolLive, sent=kept)


def keep_newest(tx: Transaction) -> None:
    """Where there are more than ``ORDERS_KEPT``, the newest half of that stays."""
    if len(tx.live.sent) > ORDERS_KEPT:
        newest = sorted(tx.live.sent.values(), key=lambda s: s.at)[-ORDERS_KEPT // 2 :]
        tx.change(PoolLive, sent={s.order_id: s for s in newest})
