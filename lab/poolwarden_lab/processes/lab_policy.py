"""How the lab's policy differs from production, and how the lab says so.

Only waiting is shortened, so that a story fits into a minute. What a proof rests on is not: the gap between two power
readings, the times until suspicion and until silence counts, and the agents' own timers are those of production.
"""

from __future__ import annotations

from poolwarden_collector.core.model.policy import Policy, differences

SHORTENED: dict[str, int] = {
    "quiet_time": 3_000,
    "patience": 12_000,
    "xapi_hung_after": 12_000,
    "xapi_down_after": 10_000,
    "boot_grace": 10_000,
    "cooldown": 60_000,
}


def policy_settings(changes: dict[str, int | bool | str] | None = None) -> dict[str, int | bool | str]:
    """Settings by field name, durations in ms; ``changes`` win. Raises PolicyError for a contradiction."""
    settings: dict[str, int | bool | str] = {**SHORTENED, **(changes or {})}
    Policy(**settings)  # type: ignore[arg-type]
    return settings


def headline(settings: dict[str, int | bool | str], time_factor: float) -> str:
    """One line that says how this run differs from production."""
    words = [*differences(Policy(**settings)), f"xapi's clock {time_factor:g}x"]  # type: ignore[arg-type]
    return "lab policy: " + "; ".join(words)
