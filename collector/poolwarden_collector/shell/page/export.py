"""The entries of a failover, or of the history, as a file to keep: JSON for programs, CSV for a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable

from poolwarden.v1 import operator_pb2 as pb

COLUMNS = (
    "seq",
    "at",
    "mono_ms",
    "epoch",
    "term",
    "pool_uuid",
    "pool_name",
    "failover",
    "kind",
    "actor",
    "text",
    "data",
    "collector",
    "copied",
)
# With those that a spreadsheet of East Asia takes for the same.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def as_json(entries: Iterable[pb.HistoryEntry]) -> tuple[str, bytes]:
    """A list of objects; ``data`` is the entry's own JSON as an object."""
    told = []
    for entry in entries:
        row = {name: getattr(entry, name) for name in COLUMNS}
        told.append({**row, "data": json.loads(entry.data) if entry.data else {}})
    return "application/json", json.dumps(told, indent=1, ensure_ascii=False).encode("utf-8", "replace")


def as_csv(entries: Iterable[pb.HistoryEntry]) -> tuple[str, bytes]:
    """RFC 4180 with a head. What a spreadsheet would take for a formula has an apostrophe before it."""
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(COLUMNS)
    for entry in entries:
        values = (str(getattr(entry, name)) for name in COLUMNS)
        rows.writerow([f"'{value}" if value.startswith(_FORMULA) else value for value in values])
    return "text/csv", out.getvalue().encode("utf-8", "replace")


FORMS: dict[str, Callable[[Iterable[pb.HistoryEntry]], tuple[str, bytes]]] = {"json": as_json, "csv": as_csv}
