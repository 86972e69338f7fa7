"""On what a failover was decided, and what proved it, as its journal entries hold it (`data`).

An entry may be of an earlier release, or of another collector: what is not there, or is something else, is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.cli.layout import Line, Page, Piece, Table
from poolwarden_collector.cli.pages.explanation import VALUE_TONES
from poolwarden_collector.cli.words import span

_HEADERS = ("ABOUT", "SAYS", "AGE", "WITNESS", "DETAIL")
ROWS_MOST = 1_000  # of one look: a pool has 64 hosts


@dataclass(frozen=True, slots=True)
class Look:
    """What was known when this entry was written."""

    seq: int
    at: str
    title: str
    page: Page


def looks(entries: Iterable[pb.HistoryEntry]) -> list[Look]:
    """Of each entry that holds evidence or a proof, in their order."""
    found = []
    for entry in entries:
        if entry.kind not in ("decided", "verdict", "proof"):
            continue
        page = _page(entry)
        if page:
            found.append(Look(entry.seq, entry.at, f"{entry.kind}: {entry.text}", page))
    return found


def _page(entry: pb.HistoryEntry) -> Page:
    try:
        data = json.loads(entry.data) if entry.data else {}
    except ValueError:
        return []
    if entry.kind == "proof":
        return [Line(text, indent=2) for text in _readings(_of(data, "facts"))]
    rows = [_row(each) for each in _listed(data, "evidence")][:ROWS_MOST]
    return [Table(_HEADERS, rows)] if rows else []


def _row(told: dict[str, Any]) -> tuple[str | Piece, ...]:
    value, age = str(told.get("value", "")), told.get("age_ms")
    known = isinstance(age, int) and not isinstance(age, bool) and age >= 0
    return (
        str(told.get("subject", "")),
        Piece(value, VALUE_TONES.get(value, "")),
        span(age) if known and age is not None else "?",
        str(told.get("witness", "")),
        str(told.get("text", "")),
    )


def _readings(facts: dict[str, Any]) -> Iterator[str]:
    """Of a proof by power: what each device said, twice."""
    for each in _listed(facts, "readings"):
        first, second = _of(each, "first"), _of(each, "second")
        said = f"{first.get('power', '?')}, and {second.get('power', '?')}"
        texts = [str(one["text"]) for one in (first, second) if one.get("text")]
        ended = [one["ended_ms"] for one in (first, second) if isinstance(one.get("ended_ms"), int)]
        apart = f", {span(max(0, ended[1] - ended[0]))} apart" if len(ended) == 2 else ""
        more = f" ({'; '.join(texts)})" if texts else ""
        bound = f"; whose machine it switches: {each['bound']}" if each.get("bound") else ""
        yield f"{each.get('device', '?')} read {said}{apart}{more}{bound}"


def _of(told: object, name: str) -> dict[str, Any]:
    found = told.get(name) if isinstance(told, dict) else None
    return found if isinstance(found, dict) else {}


def _listed(told: object, name: str) -> list[dict[str, Any]]:
    found = told.get(name) if isinstance(told, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
