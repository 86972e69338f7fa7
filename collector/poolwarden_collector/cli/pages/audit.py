"""`poolwarden audit`: two lines for each call, the date once for each day."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from poolwarden_collector.cli.layout import Line, Page
from poolwarden_collector.cli.pages.journal import clock

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

_NO_RESULT = "no result: the collector ended before it knew one"


def audit_page(entries: Iterable["api.AuditEntry"]) -> Page:
    """The calls in their order."""
    page: Page = []
    day = ""
    for entry in entries:
        at = clock(entry.at)
        if at[:10] != day:
            day = at[:10]
            page.append(Line(day, "dim"))
        page += _entry(entry, at[11:])
    return page


def _entry(entry: "api.AuditEntry", at: str) -> Page:
    pool = f" of {entry.pool_name or entry.pool_uuid}" if entry.pool_uuid else ""
    role = f"{entry.role}, " if entry.role else "no role, "
    page: Page = [
        Line(f"{entry.method}{pool}, by {entry.actor} ({role}{entry.source})", label=f"{at:<12}  "),
        Line(entry.result or _NO_RESULT, "" if entry.result.startswith("done") else "warn", indent=14),
    ]
    if entry.request not in ("", "{}"):
        page.append(Line(entry.request, "dim", indent=14))
    if entry.reason:
        page.append(Line(entry.reason, indent=14, label="reason: "))
    return page
