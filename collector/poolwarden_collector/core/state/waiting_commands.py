"""Commands that wait for evidence, each until its time: kept here, tried again by operator/commands.py."""

from __future__ import annotations

from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.live import PoolLive
from poolwarden_collector.core.state.transaction import Transaction


def wait(tx: Transaction, said: OperatorSaid, for_ms: Ms) -> None:
    """What this command rests on is being read: it is tried again for so long."""
    tx.change(PoolLive, pending=(*tx.live.pending, (said, tx.now + for_ms)))


def take_all(tx: Transaction) -> tuple[tuple[OperatorSaid, Ms], ...]:
    """All that wait, each with its end; none waits any more."""
    waiting = tx.live.pending
    tx.change(PoolLive, pending=())
    return waiting


def until_as_before(tx: Transaction, said: OperatorSaid, until: Ms) -> None:
    """The newest is one that has waited before: as it was said then, and no longer than till then."""
    tx.change(PoolLive, pending=(*tx.live.pending[:-1], (said, until)))
