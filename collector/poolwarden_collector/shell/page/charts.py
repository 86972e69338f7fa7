"""Charts as SVG, made here of numbers and escaped names; no script draws anything.

Each has a title and a sentence for who does not see it. Colours are classes of page.css, which has them for light, dark
and paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from poolwarden_collector.cli.layout import printable

_WIDE, _HIGH = 120.0, 28.0


def trend(points: Sequence[tuple[int, int]], total: int, said: str) -> Markup:
    """The used part of a file system over time; ``points``: (when, free bytes) in order; ``total`` bytes."""
    if len(points) < 2 or total <= 0:
        return Markup("")
    first, last = points[0][0], points[-1][0]
    across = max(1, last - first)
    line = " ".join(
        f"{_WIDE * (at - first) / across:.1f},{_HIGH * min(total, max(0, free)) / total:.1f}" for at, free in points
    )
    return Markup(
        '<svg class="trend" viewBox="0 0 {w:.0f} {h:.0f}" role="img" aria-label="{said}">'
        '<polygon class="area" points="0,{h:.0f} {line} {w:.0f},{h:.0f}"/>'
        '<polyline class="line" points="{line}"/></svg>'
    ).format(w=_WIDE, h=_HIGH, said=printable(said), line=line)


def bar(percent: float, level: str, said: str) -> Markup:
    """How full something is."""
    full = min(100.0, max(0.0, percent))
    return Markup(
        '<svg class="bar {level}" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{said}">'
        '<rect class="all" width="100" height="8"/><rect class="used" width="{full:.1f}" height="8"/></svg>'
    ).format(level=level, said=printable(said), full=full)


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing on a timeline; ``lane``: which row, from 0; ``tone``: a class of page.css."""

    number: int
    at_ms: int
    lane: int
    tone: str
    said: str


def timeline(marks: Sequence[Mark], lanes: Sequence[str], said: str, upto: int) -> Markup:
    """Marks in lanes over time, ms from the first one; those after the entry ``upto`` are faint (0: none is)."""
    if not marks:
        return Markup("")
    left, wide, row = 110.0, 880.0, 26.0
    high = row * len(lanes) + 24
    last = max(1, max(mark.at_ms for mark in marks))
    out = [
        Markup('<svg class="timeline" viewBox="0 0 1000 {h:.0f}" role="img" aria-label="{said}">').format(
            h=high, said=printable(said)
        )
    ]
    for number, lane in enumerate(lanes):
        y = row * number + row / 2
        out.append(
            Markup(
                '<text class="lane" x="0" y="{t:.0f}">{lane}</text>'
                '<line class="rail" x1="{l}" x2="{r}" y1="{y}" y2="{y}"/>'
            ).format(t=y + 4, lane=lane, l=left, r=left + wide, y=y)
        )
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + wide * share
        out.append(
            Markup('<text class="tick" x="{x:.0f}" y="{y:.0f}" text-anchor="{a}">{s:.1f} s</text>').format(
                x=x, y=high - 4, s=last * share / 1000, a="end" if share == 1 else "middle"
            )
        )
    for mark in marks:
        faint = " later" if upto and mark.number > upto else ""
        out.append(
            Markup(
                '<circle class="mark {tone}{faint}" data-seq="{n}" cx="{x:.1f}" cy="{y:.1f}" r="6">'
                "<title>{said}</title></circle>"
            ).format(
                tone=mark.tone,
                faint=faint,
                n=mark.number,
                x=left + wide * mark.at_ms / last,
                y=row * mark.lane + row / 2,
                said=printable(mark.said),
            )
        )
    return Markup("").join([*out, Markup("</svg>")])
