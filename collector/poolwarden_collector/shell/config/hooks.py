"""The table [hooks]: programs that are run when the master changes, and when there are two.

Rules
-----
* Without ``directory`` none is run.
* ``limit`` is what one run may take; then its whole process group is killed.
* What lies in the directory is looked at each time, not here: shell/hooks/trust.py says what is run of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from poolwarden_collector.shell.config.toml_table import Table

DEFAULT_LIMIT_MS = 30_000
LONGEST_LIMIT_MS = 600_000


@dataclass(frozen=True, slots=True)
class HookSettings:
    """Where hooks lie, and how long one may run."""

    directory: Path | None = None
    limit_ms: int = DEFAULT_LIMIT_MS


def read_hooks(table: Table) -> HookSettings:
    """Raises ConfigError."""
    if not table.has("directory") and table.keys():
        raise table.wrong("directory", "is missing", 'the folder of the hooks, e.g. "/etc/poolwarden/hooks.d"')
    directory = table.path("directory") if table.has("directory") else None
    limit = table.duration("limit", DEFAULT_LIMIT_MS)
    if not 1_000 <= limit <= LONGEST_LIMIT_MS:
        raise table.wrong("limit", f"is {limit / 1000:g} s", 'a time from "1s" to "10m"')
    table.done()
    return HookSettings(directory, limit)
