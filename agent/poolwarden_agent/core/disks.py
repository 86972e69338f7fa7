"""The disk guard's rules: how full a file system is, how fast it fills, when it will be full. Pure.

Rules
-----
* Space and inodes are judged alike and the worse of the two is the level: a ``/`` without inodes stops xapi's writes as
  surely as one without bytes. Levels have a way in and a lower way out, so that one log line more or less is no news.
* Growth counts only if it is steady, that is if both halves of a window grew: a file that was copied once is no trend,
  and what logrotate took away is none either. Two windows are looked at, one of minutes (a log flood) and one of two
  hours (a slow leak); the faster steady growth is the one that is told.
* A file system that would be full within four hours is a warning although it is not yet 85 % full. It must be half full
  for that: a forecast for an empty disk is of no use.
* What cannot be read is no disk, never an empty or a full one.
"""

from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

OK, WARNING, CRITICAL, FULL = "ok", "warning", "critical", "full"
ORDER = (OK, WARNING, CRITICAL, FULL)
IN = {WARNING: 85.0, CRITICAL: 95.0, FULL: 99.0}  # percent used from which the level holds
OUT = {WARNING: 82.0, CRITICAL: 93.0, FULL: 98.0}  # percent used below which it does not hold any more
SOON_MS = 4 * 3600 * 1000
NOT_SOON_MS = 8 * 3600 * 1000
HALF = 50.0

SAMPLE_EVERY_MS = 30 * 1000
KEPT = 241  # two hours
SHORT_MS, LONG_MS = 4 * 60 * 1000, 2 * 3600 * 1000
HOUR_MS = 3600 * 1000
NEVER = 0  # of full_in_ms: it does not grow

Sample = Tuple[int, int, int]  # when (ms), bytes used, inodes used


class Use(NamedTuple):
    """One file system now. ``total_inodes`` 0: it has none to run out of."""

    mount: str
    total_bytes: int
    free_bytes: int
    total_inodes: int
    free_inodes: int

    @property
    def percent(self) -> float:
        """Of space or of inodes, whichever is the fuller."""
        space = _percent(self.total_bytes, self.free_bytes)
        return max(space, _percent(self.total_inodes, self.free_inodes))


class Standing(NamedTuple):
    """What is known of one file system: level, since when, growth (bytes an hour) and time until it is full (ms)."""

    level: str = OK
    since_ms: int = 0
    growth: int = 0
    full_in_ms: int = NEVER
    soon: bool = False
    samples: Tuple[Sample, ...] = ()


def _percent(total: int, free: int) -> float:
    return 100.0 * (total - free) / total if total > 0 else 0.0


def level(percent: float, before: str, soon: bool = False) -> str:
    """The level at that use, if the level until now was ``before``."""
    held = [
        name for name in ORDER[1:] if percent >= (OUT[name] if ORDER.index(before) >= ORDER.index(name) else IN[name])
    ]
    reached = held[-1] if held else OK
    return WARNING if soon and reached == OK else reached


def steady(samples: Iterable[Sample], window_ms: int, field: int) -> float:
    """Growth per ms that both halves of the last ``window_ms`` show; 0: it does not grow, or too little is known."""
    found = list(samples)
    if not found:
        return 0.0
    end = found[-1][0]
    inside = [sample for sample in found if end - sample[0] <= window_ms]
    if end - inside[0][0] < window_ms // 2 or len(inside) < 3:
        return 0.0
    middle = min(inside, key=lambda sample: abs(sample[0] - (inside[0][0] + end) // 2))
    return max(0.0, min(_slope(inside[0], middle, field), _slope(middle, inside[-1], field)))


def _slope(first: Sample, last: Sample, field: int) -> float:
    return float(last[field] - first[field]) / (last[0] - first[0]) if last[0] > first[0] else 0.0


def look(before: Optional[Standing], use: Use, now_ms: int) -> Standing:
    """The standing of a file system after one more look at it."""
    known = before if before is not None else Standing(since_ms=now_ms)
    samples = _sampled(known.samples, use, now_ms)
    growth = max(steady(samples, SHORT_MS, 1), steady(samples, LONG_MS, 1))
    inodes = max(steady(samples, SHORT_MS, 2), steady(samples, LONG_MS, 2)) if use.total_inodes else 0.0
    left = [free / rate for free, rate in ((use.free_bytes, growth), (use.free_inodes, inodes)) if rate > 0]
    full_in = max(1, int(min(left))) if left else NEVER
    soon = full_in != NEVER and use.percent >= HALF and full_in < (NOT_SOON_MS if known.soon else SOON_MS)
    now = level(use.percent, known.level, soon)
    since = known.since_ms if now == known.level else now_ms
    return Standing(now, since, rounded(int(growth * HOUR_MS)), rounded(full_in), soon, samples)


def _sampled(samples: Tuple[Sample, ...], use: Use, now_ms: int) -> Tuple[Sample, ...]:
    """With this sample, where it is due: one each half minute is enough for a trend."""
    if samples and now_ms - samples[-1][0] < SAMPLE_EVERY_MS:
        return samples
    used = use.total_bytes - use.free_bytes
    return (samples + ((now_ms, used, use.total_inodes - use.free_inodes),))[-KEPT:]


def rounded(value: int) -> int:
    """Two figures: a trend is an estimate, and each small change of it would be sent as news."""
    unit = int("1" + "0" * max(0, len(str(value)) - 2))
    return value // unit * unit


def watched(before: Dict[str, Standing], uses: Iterable[Use], now_ms: int) -> Dict[str, Standing]:
    """All file systems after one more look; one that is not seen any more is forgotten."""
    return {use.mount: look(before.get(use.mount), use, now_ms) for use in uses}


def crossed(before: Dict[str, Standing], after: Dict[str, Standing]) -> List[str]:
    """Mounts whose level has risen: what fills them is to be looked for."""
    return [mount for mount, now in sorted(after.items()) if _rank(now) > _rank(before.get(mount))]


def _rank(standing: Optional[Standing]) -> int:
    return ORDER.index(standing.level) if standing is not None else 0


def worst(standings: Dict[str, Standing]) -> str:
    """The worst level of all."""
    return max((standing.level for standing in standings.values()), key=ORDER.index) if standings else OK
