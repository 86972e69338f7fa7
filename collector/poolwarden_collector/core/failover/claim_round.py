"""One round of claims: its number, since when, and who has answered what (claims.py says what follows from it)."""

from __future__ import annotations

from poolwarden_collector.core.model.order_results import ClaimOutcome
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.live_slices import ClaimRound
from poolwarden_collector.core.state.transaction import Transaction


def begin(tx: Transaction) -> None:
    """A new round: answers to an earlier one do not count in it."""
    tx.change(ClaimRound, since=tx.now, answers={}, number=tx.serial())


def expire(tx: Transaction) -> None:
    """The present round has grown old: the next look at the claims begins another."""
    tx.change(ClaimRound, since=None)


def forget(tx: Transaction) -> None:
    """What was answered so far counts no more, and the next look at the claims begins another round."""
    tx.change(ClaimRound, answers={}, since=None)


def note(tx: Transaction, host: HostId, claim: ClaimOutcome) -> None:
    """This host has stored the term, and says what it saw and has."""
    tx.change(ClaimRound, answers={**tx.live.claims.answers, host: claim})


def ask_again(tx: Transaction, host: HostId) -> None:
    """What this host answered is of another database than it has now."""
    claims = {h: c for h, c in tx.live.claims.answers.items() if h != host}
    tx.change(ClaimRound, answers=claims, asked_again={**tx.live.claims.asked_again, host: tx.now})
