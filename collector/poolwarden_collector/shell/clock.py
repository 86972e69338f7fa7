"""The collector's clocks: monotonic milliseconds for every decision, wall time for people only.

Linux' CLOCK_MONOTONIC stands still while a machine is suspended, CLOCK_BOOTTIME does not: their difference tells that
this collector has slept through something, which no monotonic stamp would show.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

_NS_PER_MS = 1_000_000


def mono_ms() -> int:
    """Milliseconds on CLOCK_MONOTONIC; comparable only within one boot of this machine."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // _NS_PER_MS


def boot() -> str:
    """Names this boot of the machine, in which ``mono_ms`` can be compared; empty where that cannot be told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def awake_or_not_ms() -> int:
    """Milliseconds on CLOCK_BOOTTIME: like ``mono_ms``, counting suspended time as well."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _NS_PER_MS


def slept_ms() -> int:
    """Milliseconds that this machine has been suspended since its boot, to about one."""
    return awake_or_not_ms() - mono_ms()


def wall_text() -> str:
    """The wall clock in RFC 3339 with milliseconds, UTC; for people, never compared."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text_of(wall_ms: int) -> str:
    """A stamp of ``wall_ms`` as ``wall_text`` would have said it."""
    at = datetime.fromtimestamp(wall_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def same_instant(text: str) -> str:
    """An instant in RFC 3339 as ``wall_text`` would write it. Raises ValueError for any other text."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} names no zone")
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms_of(text: str) -> int | None:
    """The stamp that ``wall_text`` said so; None for what is no such text."""
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return None


def wall_ms() -> int:
    """Milliseconds since 1970; only paces retries of alerts over a restart."""
    return time.time_ns() // _NS_PER_MS
