"""A copy of the collector's state, taken while it runs: SQLite's own backup, page by page, as of one instant.

A restored journal is older than the world. The collector finds that out from what the agents know, raises its term and
epoch above all of it, and is quiet for five minutes (core/evidence/journal_gap.py); nothing more has to be done.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from poolwarden_collector.shell.store import journal, telemetry

FILES = (journal.FILE, telemetry.FILE)
ORDER_KEY = "order-key.pem"  # shell/agents/order_key.py: without it every host has to be enrolled anew
PAGE_USERS = "page-users.json"  # shell/page/users.py
_PAGES = 1_000  # at a time: the disk is the writer's in between
_BUSY_S = 10.0


class BackupError(Exception):
    """Nothing was copied that could be mistaken for a whole backup; the text says why."""


def back_up(state: Path, target: Path) -> list[Path]:
    """Copy the journal and, where they are there, telemetry, order key and the page's users into ``target``.

    Raises BackupError.

    Each file is checked and then put in place whole: one that is cut off leaves the last backup as it was. A collector
    that began a moment ago has no telemetry yet: the journal alone is a whole backup.
    """
    if not (state / journal.FILE).exists():
        raise BackupError(f"{state / journal.FILE} is not there: is this the collector's state_dir?")
    copied = []
    try:
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in FILES:
            if (state / name).exists():
                _copy(state / name, target / name)
                copied.append(target / name)
        for name in (ORDER_KEY, PAGE_USERS):
            if (state / name).exists():
                _copy_whole(state / name, target / name)
                copied.append(target / name)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"{target}: {error}") from error
    return copied


def _copy(source: Path, target: Path) -> None:
    half = target.with_name(f"{target.name}.new")
    half.unlink(missing_ok=True)
    half.touch(mode=0o600)
    address = f"{source.resolve().as_uri()}?mode=ro"
    with (
        contextlib.closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as read,
        contextlib.closing(sqlite3.connect(half)) as written,
    ):
        # One state of the file from the first page to the last: else each commit of the collector's begins the copy
        # anew, and that of a large journal never ends. The log keeps what is written meanwhile.
        read.execute("BEGIN").execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        read.backup(written, pages=_PAGES, sleep=0.01)
        (verdict,) = written.execute("PRAGMA integrity_check").fetchone()
        written.execute("PRAGMA journal_mode=DELETE")
    if verdict != "ok":
        raise BackupError(f"the copy of {source} is not sound: {verdict}")
    half.replace(target)


def _copy_whole(source: Path, target: Path) -> None:
    half = target.with_name(f"{target.name}.new")
    half.unlink(missing_ok=True)
    half.touch(mode=0o600)
    half.write_bytes(source.read_bytes())
    half.replace(target)


def stamp() -> str:
    """A directory's name for a backup taken now, UTC."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
