"""Signed content: what its envelope must say before anything in it is looked at, and how far numbers may go. Pure.

Rules
-----
* Content counts only for the host and the pool that its envelope names; a host that does not know its pool yet takes
  any.
* An order and a gate answer repeat the envelope; a difference means that somebody has put them together. Their boot,
  numbers and expiry are judged by their own gates, which know what a redelivered order gets.
* Any other content is for one boot and dies as an order does.
* An epoch or a term is a claim. Unsigned it may lie one leap above what is stored here: as far as a collector that
  works all its life goes (2**20 activations, 2**24 terms). Signed it may be any number that a durable state can count
  on from.
"""

from typing import NamedTuple

from poolwarden_agent.core.orders import LONGEST_VALID_MS

CONTEXT = b"poolwarden signed content v1\0"
UNSIGNED, BAD_SIGNATURE = "unsigned", "bad-signature"
EPOCH_LEAP = 1 << 40
TERM_LEAP = 1 << 24
MOST_EPOCH = (1 << 63) - 1
MOST_TERM = (1 << 53) - 1


class Envelope(NamedTuple):
    """What signed content says of itself: whose it is, and until when."""

    pool: str
    host: str
    boot_id: str
    epoch: int
    term: int
    echo_mono_ms: int
    valid_for_ms: int


class Here(NamedTuple):
    """This host at this instant; ``pool`` is empty where it does not know its own."""

    pool: str
    host: str
    boot_id: str
    mono_ms: int


def wrong(envelope: Envelope, inside: Envelope, judged_inside: bool, here: Here) -> str:
    """Why this content is not for this host now, in words; empty: it is.

    ``judged_inside``: it is an order or a gate answer, which says the same once more (``inside``).
    """
    if envelope.host != here.host:
        return "it is signed for host %.40s" % envelope.host
    if here.pool and envelope.pool != here.pool:
        return "it is signed for pool %.40s, this host is in %s" % (envelope.pool, here.pool)
    if judged_inside:
        return "" if inside == envelope else "its content says another thing than its envelope"
    if envelope.boot_id != here.boot_id:
        return "it is signed for another boot of this host"
    if not 1 <= envelope.valid_for_ms <= LONGEST_VALID_MS or envelope.echo_mono_ms > here.mono_ms:
        return "its validity of %d ms from %d is none" % (envelope.valid_for_ms, envelope.echo_mono_ms)
    late = here.mono_ms - envelope.echo_mono_ms - envelope.valid_for_ms
    return "it is %d ms too late on this host's own clock" % late if late > 0 else ""


def implausible(stored_epoch: int, stored_term: int, epoch: int, term: int, signed: bool) -> str:
    """Why these numbers are not taken, in words; empty: they are."""
    most_epoch = MOST_EPOCH if signed else min(MOST_EPOCH, stored_epoch + EPOCH_LEAP)
    most_term = MOST_TERM if signed else min(MOST_TERM, stored_term + TERM_LEAP)
    if epoch > most_epoch:
        return "epoch %d cannot be: at most %d is taken here" % (epoch, most_epoch)
    if term > most_term:
        return "term %d cannot be: at most %d is taken here" % (term, most_term)
    return ""
