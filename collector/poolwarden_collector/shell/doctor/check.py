"""One thing that was looked at, what was found, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, FAULT, UNCHECKED = "ok", "warning", "fault", "unchecked"


@dataclass(frozen=True, slots=True)
class Check:
    """``level``: ok, warning (look at it), fault (it will fail when it is needed), unchecked (and why)."""

    name: str
    level: str
    text: str
    next_step: str = ""


def days(name: str, left: float, text: str, step: str) -> Check:
    """What is valid for so many days still."""
    if left < 0:
        return Check(name, FAULT, f"{text} ended {-left:.0f} days ago", step)
    level = FAULT if left < 7 else WARNING if left < 30 else OK
    return Check(name, level, f"{text} is valid for {left:.0f} days", step if level != OK else "")
