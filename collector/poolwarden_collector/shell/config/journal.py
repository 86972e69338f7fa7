"""The table [journal]: how long its entries are kept. Absent: a year and a month, and two years.

Rules
-----
* ``keep_history``: entries that inform and decide nothing, such as verdicts and deliveries of alerts.
* ``keep_decisions``: what decisions were made from, with which ``replay`` makes them again. The decisions themselves,
  and everything that a pool's record is folded from, stay for ever (shell/store/retention.py).
* Both are days; neither is shorter than what a quarterly drill and its report look back on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.shell.config.toml_table import Table

DAY_MS: Ms = 86_400_000
SHORTEST, LONGEST = 92 * DAY_MS, 3_660 * DAY_MS
_DAYS = re.compile(r"([0-9]{1,6})\s*d")


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """How long entries that decide nothing, and the inputs of decisions, are kept."""

    keep_history: Ms = 400 * DAY_MS
    keep_decisions: Ms = 731 * DAY_MS


def read_journal(table: Table) -> JournalSettings:
    """Raises ConfigError."""
    default = JournalSettings()
    settings = JournalSettings(
        _days(table, "keep_history", default.keep_history), _days(table, "keep_decisions", default.keep_decisions)
    )
    table.done()
    return settings


def _days(table: Table, key: str, default: Ms) -> Ms:
    text = table.text(key, f"{default // DAY_MS}d")
    match = _DAYS.fullmatch(text.strip())
    kept = int(match[1]) * DAY_MS if match is not None else -1
    if not SHORTEST <= kept <= LONGEST:
        hint = f'days from "{SHORTEST // DAY_MS}d" to "{LONGEST // DAY_MS}d"'
        raise table.wrong(key, f"is {text!r}", hint)
    return kept
