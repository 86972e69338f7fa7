"""The wall clock of a driver without one: dates from milliseconds alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poolwarden_lab.xapi.model import XapiModel


def wall(model: XapiModel) -> str:
    """Now, UTC, as XenAPI writes it: ``20260821T02:00:00Z``."""
    days, second = divmod((model.config.wall_zero_ms + model.engine.now) // 1000, 86_400)
    return f"{_date(days)}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def _date(days: int) -> str:
    """The date so many days after 1970-01-01, as YYYYMMDD; years begin in March here, so that a leap day ends one."""
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day += 1 - (153 * month + 2) // 5
    month += 3 if month < 10 else -9
    return f"{400 * era + year + (month <= 2):04}{month:02}{day:02}"
