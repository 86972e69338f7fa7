"""Instants and durations as operators type them.

Rules
-----
* A time of day without a zone is UTC, as `history` prints it; the two can be compared by eye. `Z` or an offset
  (`+02:00`) may be added.
* Nothing is guessed: what cannot be read is refused with what can.
"""

import re
from datetime import UTC, datetime, timedelta

from poolwarden_collector.cli.errors import BadInput

UNITS = {"s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
INSTANTS = '2h or 3d (ago), 20:00, "yesterday 20:00", 2026-01-31, 2026-01-31T20:00, 2026-01-31T20:00:00+01:00'
_DURATION = re.compile(r"(?:(\d{1,6})\s*(min|[smhdw])\s*)+", re.IGNORECASE)
_PART = re.compile(r"(\d{1,6})\s*(min|[smhdw])", re.IGNORECASE)
_CLOCK = re.compile(
    r"(?:(today|yesterday)[ T]*)?(?:(\d{1,2}):(\d{2})(?::(\d{2}))?)?(Z|[+-]\d{2}:?\d{2})?", re.IGNORECASE
)


def duration_ms(text: str) -> int:
    """``90s``, ``30m`` or ``30min``, ``4h``, ``1d``, ``1h30m`` in milliseconds. Raises BadInput."""
    if _DURATION.fullmatch(text.strip()) is None:
        raise BadInput(f"{text!r} is no duration", "for example 30m, 4h or 1d")
    return sum(int(count) * UNITS[unit.lower()] for count, unit in _PART.findall(text))


def instant(option: str, text: str, now: datetime) -> datetime:
    """The instant that an option's text means at ``now`` (which has a zone). Raises BadInput."""
    text = text.strip()
    if text.lower() == "now":
        return now
    try:
        if _DURATION.fullmatch(text.lower().removesuffix("ago").strip()):
            return now - timedelta(milliseconds=duration_ms(text.lower().removesuffix("ago")))
        return _of_day(text, now) or _of_iso(text)
    except (ValueError, OverflowError):
        raise BadInput(f"{option}: {text!r} is no time", f"give one of: {INSTANTS}; without a zone it is UTC") from None


def _of_day(text: str, now: datetime) -> datetime | None:
    """A time of today or yesterday; None if the text is of another form."""
    found = _CLOCK.fullmatch(text)
    if found is None or not (found[1] or found[2]):
        return None
    zone = datetime.strptime(found[5].upper(), "%z").tzinfo if found[5] else UTC
    day = now.astimezone(zone) - timedelta(days=1 if (found[1] or "").lower() == "yesterday" else 0)
    return day.replace(hour=int(found[2] or 0), minute=int(found[3] or 0), second=int(found[4] or 0), microsecond=0)


def _of_iso(text: str) -> datetime:
    """Raises ValueError."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def rfc3339(at: datetime) -> str:
    """The instant for the collector."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def between(since: str, until: str) -> tuple[str, str]:
    """Both ends as the collector takes them, empty where none was given. Raises BadInput."""
    now = datetime.now(UTC)
    begin = instant("--since", since, now) if since else None
    end = instant("--until", until, now) if until else None
    if begin is not None and end is not None and begin > end:
        said = f"--since {since!r} is after --until {until!r}"
        raise BadInput(said, f"that is {rfc3339(begin)} and {rfc3339(end)}")
    return (rfc3339(begin) if begin else "", rfc3339(end) if end else "")
