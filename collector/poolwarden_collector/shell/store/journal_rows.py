"""Rows of the journal's entries: as they are stored, and what they say.

Rules
-----
* An entry that this version does not know, or that is damaged, is an error that names the entry, its pool, what is
  unknown in it, which release wrote it and what to do.
* Each entry has a checksum (entry_checksum.py). One that does not match it is damaged, and the next start leaves it out
  as one that cannot be read (salvage.py). What was written before there were any has none.
* Epochs and terms are unsigned, as in the contract, and stored in SQLite's signed numbers bit by bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import HIGHEST
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.store import salvage
from poolwarden_collector.shell.store.entry_checksum import checksum, sound
from poolwarden_collector.shell.store.journal_file import JournalError

# The newest decision with a stored input, by its number or its failover: each by an index.
DECISION = """SELECT * FROM entries WHERE (seq = :seq OR (failover = :failover AND failover != ''))
              AND data LIKE '%"input":%' ORDER BY seq DESC LIMIT 1"""
_SIGN = 1 << 63
_KINDS = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it stands in the journal. ``at`` is wall time for people, ``mono_ms`` counts within one epoch."""

    seq: int
    at: str
    mono_ms: int
    epoch: int
    term: int
    pool: PoolId
    failover: str
    kind: str
    actor: str
    text: str
    data: str


def release() -> str:
    """The installed version; "unknown" where the package is not installed."""
    try:
        return metadata.version("poolwarden")
    except metadata.PackageNotFoundError:
        return "unknown"


def entry_of(path: Path, row: dict[str, Any], releases: dict[int, str]) -> Entry:
    """The entry of a stored row. Raises JournalError on one that is not known or is damaged."""
    if row["kind"] not in _KINDS:
        raise not_understood(path, row, releases, f"its kind {row['kind']!r} is unknown")
    try:
        data = json.loads(row["data"])
    except (ValueError, TypeError, RecursionError) as error:
        raise not_understood(path, row, releases, f"its data is no JSON ({error})") from error
    texts = (row["text"], row["failover"], row["actor"])
    if not isinstance(data, dict) or type(row["term"]) is not int or not all(isinstance(each, str) for each in texts):
        raise not_understood(path, row, releases, "its columns are not of their types")
    if not sound(row):
        salvage.suspect(path)
        which = f"entry {row['seq']} of pool {row['pool']} ({row['kind']})"
        raise JournalError(
            f"{path}: {which} is damaged: it does not match its checksum; restart the collector, which leaves it out, "
            "takes over the others and says what is lost"
        )
    return Entry(_KINDS[row["kind"]], row["text"], data, row["failover"], unsigned(row["term"]), row["actor"])


def not_understood(path: Path, row: dict[str, Any], releases: dict[int, str], why: str) -> JournalError:
    """The error that names the entry, who wrote it, what is unknown in it and what to do."""
    writer = releases.get(row["epoch"], "")
    if writer and writer != release():
        said, step = f", written by Poolwarden {writer}", f"install Poolwarden {writer} (this is {release()})"
    else:
        said, step = "", "install the release that wrote it, or restore the last backup if the file is damaged"
    which = f"entry {row['seq']} of pool {row['pool']} ({str(row['kind'])[:40]}{said})"
    return JournalError(f"{path}: {which} cannot be understood: {why}; {step}")


def stored(row: Row) -> dict[str, Any]:
    """The row as the table holds it."""
    values = {name: getattr(row, name) for name in Row.__slots__}
    values |= {"epoch": signed(row.epoch), "term": signed(row.term)}
    return values | {"checked": checksum(values)}


def row_of(values: dict[str, Any]) -> Row:
    """The row of what the table holds."""
    named = {name: values[name] for name in Row.__slots__}
    return Row(**{**named, "epoch": unsigned(values["epoch"]), "term": unsigned(values["term"])})


def signed(number: int) -> int:
    """The number of 64 bits without a sign as SQLite's with one. Raises OverflowError."""
    if not 0 <= number <= HIGHEST:
        raise OverflowError(f"{number} is no number of 64 bits")
    return number if number < _SIGN else number - 2 * _SIGN


def unsigned(number: int) -> int:
    """The number without a sign of what ``signed`` gave."""
    return number if number >= 0 else number + 2 * _SIGN
