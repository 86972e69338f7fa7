"""dom0's memory: how near it is to the kernel ending something, and how fast it gets there. Pure.

A dom0 has a fixed share of its host's memory. When it is used up the kernel ends the process that frees most of it
(mm/oom_kill.c): xapi, or a tapdisk or device model with the VM that hangs on it.

Rules
-----
* What counts is what the kernel itself calls available (proc(5), MemAvailable: free, and what can be given back at
  once), and beside it the free swap. Little available memory is a warning: dom0 begins to swap. *critical* is when
  there is little of both together: nothing is left to fall back on.
* Little is a share, and on a large dom0 an amount: half a GiB, a quarter of one. Levels have a way in and a further way
  out, so that one process more or less is no news.
* A decline counts as for disks (core/disks.py): only if both halves of a window show it, over minutes or two hours.
  What would be used up within four hours is a warning, if half of it is gone already.
* What cannot be read is no level, never a good or a bad one.
"""

from typing import NamedTuple, Optional, Tuple

from poolwarden_agent.core.disks import (
    CRITICAL,
    KEPT,
    LONG_MS,
    NEVER,
    NOT_SOON_MS,
    OK,
    SAMPLE_EVERY_MS,
    SHORT_MS,
    SOON_MS,
    WARNING,
    Sample,
    rounded,
    steady,
)

MIB = 1 << 20
_SHARE = {WARNING: (0.10, 512 * MIB), CRITICAL: (0.05, 256 * MIB)}  # of the memory, and at most so much
_WAY_OUT = 1.4


class Use(NamedTuple):
    """Memory and swap now, bytes."""

    total: int
    available: int
    swap_total: int
    swap_free: int

    @property
    def left(self) -> int:
        """What can be had before the kernel ends something."""
        return self.available + self.swap_free


class User(NamedTuple):
    """A process and the memory that is its own or shared with others, bytes."""

    name: str
    pid: int
    bytes: int


class Standing(NamedTuple):
    """What is known of dom0's memory: level, since when, and time until it is used up (ms)."""

    level: str = OK
    since_ms: int = 0
    empty_in_ms: int = NEVER
    soon: bool = False
    samples: Tuple[Sample, ...] = ()


def look(before: Optional[Standing], use: Use, now_ms: int) -> Optional[Standing]:
    """The standing after one more look; None: it could not be read."""
    if use.total <= 0:
        return None
    known = before if before is not None else Standing(since_ms=now_ms)
    samples = _sampled(known.samples, use, now_ms)
    rate = max(steady(samples, SHORT_MS, 1), steady(samples, LONG_MS, 1))
    empty_in = max(1, int(use.left / rate)) if rate > 0 else NEVER
    limit = NOT_SOON_MS if known.soon else SOON_MS
    soon = empty_in != NEVER and empty_in < limit and 2 * use.left < use.total + use.swap_total
    now = _level(use, known.level, soon)
    return Standing(now, known.since_ms if now == known.level else now_ms, rounded(empty_in), soon, samples)


def _level(use: Use, before: str, soon: bool) -> str:
    if _little(use.left, use.total, CRITICAL, before == CRITICAL):
        return CRITICAL
    if soon or _little(use.available, use.total, WARNING, before != OK):
        return WARNING
    return OK


def _little(amount: int, total: int, level: str, held: bool) -> bool:
    share, most = _SHARE[level]
    return amount < min(total * share, most) * (_WAY_OUT if held else 1)


def _sampled(samples: Tuple[Sample, ...], use: Use, now_ms: int) -> Tuple[Sample, ...]:
    """With this sample, where it is due."""
    if samples and now_ms - samples[-1][0] < SAMPLE_EVERY_MS:
        return samples
    return (samples + ((now_ms, use.total + use.swap_total - use.left, 0),))[-KEPT:]
