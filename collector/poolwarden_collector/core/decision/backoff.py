"""For how long nothing new is begun in a pool: the boot grace of a master, the cool-down, the pause after aborts.

What it holds up is said in permission.py.
"""

from __future__ import annotations

from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.alert_topic import Matter
from poolwarden_collector.core.state.live_slices import Backoff
from poolwarden_collector.core.state.transaction import Transaction

# Alerts that tell of a change of master that is over, or that was given up: nothing else ends them.
OF_THE_PAST = (Matter.DONE, Matter.GAVE_UP_THE_ROLE)


def begin_grace(tx: Transaction) -> None:
    """A master may be booting now: for a time it is let win unless its power reads OFF."""
    tx.change(Backoff, grace_until=tx.now + tx.policy.boot_grace)


def cool_down(tx: Transaction, since: Ms) -> None:
    """A failover was made, or the journal says so to a new run."""
    tx.change(Backoff, cooldown_until=since + tx.policy.cooldown)


def end_cooldown(tx: Transaction, why: str) -> None:
    """The cool-down is over, and with it what was told of the failovers before it."""
    end_told(tx, OF_THE_PAST, why)
    tx.change(Backoff, cooldown_until=None)


def end_told(tx: Transaction, matters: tuple[Matter, ...], why: str) -> None:
    """End the alerts of these matters."""
    for topic in tx.open_topics:
        if topic.matter in matters:
            tx.resolve_alert(topic, why)


def aborted(tx: Transaction) -> None:
    """A failover has ended without a promotion: another one in this row."""
    tx.change(Backoff, aborted_at=tx.now, aborts=tx.live.backoff.aborts + 1)


def end_aborts(tx: Transaction) -> None:
    """The row of aborts is over: a promotion, or long health."""
    tx.change(Backoff, aborts=0)
