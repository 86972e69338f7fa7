"""Epochs: which of several collectors agents obey. The high bits count activations, the low ones are drawn at random.

Counting alone is not enough: two collectors that were started from copies of one journal, or from none at all, would
count to the same number, and an agent's gate, which refuses only lower epochs, would obey both.
"""

LOT_BITS = 20
HIGHEST = (1 << 64) - 1  # what the contract can say, and an agent can keep


def after(highest: int, lot: int) -> int:
    """The epoch that follows ``highest``; ``lot`` is random, of at most LOT_BITS bits. Raises OverflowError."""
    if not after_fits(highest):
        raise OverflowError(f"no epoch is left above {highest}")
    return ((highest >> LOT_BITS) + 1) << LOT_BITS | lot & ((1 << LOT_BITS) - 1)


def after_fits(highest: int) -> bool:
    """Is there an epoch left above this one?"""
    return (highest >> LOT_BITS) + 1 <= HIGHEST >> LOT_BITS


def name(epoch: int) -> str:
    """An epoch for people, e.g. ``3-0b2f1``."""
    return f"{epoch >> LOT_BITS}-{epoch & ((1 << LOT_BITS) - 1):05x}"
