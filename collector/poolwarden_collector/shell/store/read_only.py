"""A connection that can read a database of the collector's and nothing else, beside the one that writes it.

Whoever asks for people gives it a time: a question that takes longer is ended, wherever it stands.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

BUSY_S = 2.0
_STEPS = 10_000  # of SQLite's machine between two looks at the clock


@contextlib.contextmanager
def read_only(path: Path, within_s: float | None = None) -> Iterator[sqlite3.Connection]:
    """The file as of each statement's beginning; the writer waits for none of them.

    Raises sqlite3.Error; "interrupted" after ``within_s``.
    """
    address = f"{path.resolve().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None)) as db:
        db.execute("PRAGMA query_only = ON")
        if within_s is not None:
            until = time.monotonic() + within_s
            db.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
        yield db
