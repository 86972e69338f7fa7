"""Figures as people read them, and words that several commands share."""

# The steps that a drill can have, as --steps names them, in the order in which they are walked.
DRILL_STEPS = ("fence", "restart", "hold", "switchover", "power-loss")
UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"))


def span(ms: int) -> str:
    """A duration in milliseconds, in one unit: `0.8 s`, `14 s`, `3 min`, `5 h`, `12 d`."""
    for size, unit in UNITS:
        if ms >= 2 * size:
            return f"{ms // size} {unit}"
    return f"{ms / 1000:.1f} s" if ms < 10_000 else f"{ms // 1000} s"


def size(count: int) -> str:
    """Bytes in binary units: `512 B`, `3.4 GiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def joined(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def activation(epoch: int) -> int:
    """The count of activations in an epoch; its low 20 bits are drawn at random and say nothing to people."""
    return epoch >> 20 or epoch
