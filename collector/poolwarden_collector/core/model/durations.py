"""Durations as people read them in sentences."""

from __future__ import annotations

from poolwarden_collector.core.model.values import Ms

UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"))


def span(ms: Ms) -> str:
    """A duration in one unit, to its nearest whole number: `0 s`, `78 s`, `3 min`, `5 h`, `12 d`."""
    for size, unit in UNITS:
        if ms >= 2 * size:
            return f"{(ms + size // 2) // size} {unit}"
    return f"{ms // 1000} s"


def in_words(ms: Ms) -> str:
    """A duration that somebody has set, all of it: `2 h`, `1 h 30 min`, `31 d`; whole seconds."""
    parts = []
    for size, unit in (*UNITS, (1_000, "s")):
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 s"
