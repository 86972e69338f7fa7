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


# ------------------------------------------------------------------------------------------------ several collectors

REVISION_BITS = 36
HIGHEST_GENERATION = (HIGHEST >> REVISION_BITS >> LOT_BITS) - 1


def of_ownership(generation: int, revision: int, lot: int) -> int:
    """The epoch of an ownership that etcd created at ``revision``; grows strictly with it, and with ``generation``.

    From generation 1 on it is above every epoch that was counted (``after``). ``generation`` is raised by a person when
    etcd was restored, which hands out old revisions again. Raises OverflowError.
    """
    if not 1 <= generation <= HIGHEST_GENERATION:
        raise OverflowError(f"{generation} is no generation; they go from 1 to {HIGHEST_GENERATION}")
    if not 1 <= revision < 1 << REVISION_BITS:
        raise OverflowError(f"revision {revision} of etcd is beyond {REVISION_BITS} bits")
    return (generation << REVISION_BITS | revision) << LOT_BITS | lot & ((1 << LOT_BITS) - 1)


def generation_above(highest: int) -> int:
    """The lowest generation whose every ownership has an epoch above this one. Raises OverflowError."""
    generation = max(1, (highest >> LOT_BITS >> REVISION_BITS) + 1)
    if generation > HIGHEST_GENERATION:
        raise OverflowError(f"no generation is left above epoch {highest}")
    return generation
