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
    """One thing on a timeline; ``lane``: which row, from 0; ``tone``: a class of page.css; ``copied``: it came with
    its pool from another collector, and stands where it came."""

    number: int
    at_ms: int
    lane: int
    tone: str
    said: str
    copied: bool = False


_LEFT, _ACROSS, _ROW = 110.0, 880.0, 26.0


def rails(marks: Sequence[Mark], lanes: Sequence[str], said: str) -> Markup:
    """A timeline up to its marks: lanes over time, ms from the first one. To be followed by each ``mark`` and the end
    of the SVG, part by part: a failover that stood for days has thousands."""
    high = _ROW * len(lanes) + 24
    out = [
        Markup('<svg class="timeline" viewBox="0 0 1000 {h:.0f}" role="img" aria-label="{said}">').format(
            h=high, said=printable(said)
        )
    ]
    for number, lane in enumerate(lanes):
        y = _ROW * number + _ROW / 2
        out.append(
            Markup(
                '<text class="lane" x="6" y="{t:.0f}">{lane}</text>'
                '<line class="rail" x1="{l}" x2="{r}" y1="{y}" y2="{y}"/>'
            ).format(t=y + 4, lane=lane, l=_LEFT, r=_LEFT + _ACROSS, y=y)
        )
    last = lasts_ms(marks)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        out.append(
            Markup('<text class="tick" x="{x:.0f}" y="{y:.0f}" text-anchor="{a}">{s:.1f} s</text>').format(
                x=_LEFT + _ACROSS * share, y=high - 4, s=last * share / 1000, a="end" if share == 1 else "middle"
            )
        )
    return Markup("").join(out)


def lasts_ms(marks: Sequence[Mark]) -> int:
    """How long the whole of it is."""
    return max([1, *(mark.at_ms for mark in marks)])


def mark(each: Mark, last_ms: int, upto: int) -> Markup:
    """One on its lane; faint where it is after the entry ``upto`` (0: none is)."""
    faint = " later" if upto and each.number > upto else ""
    return Markup(
        '<circle class="mark {tone}{faint}{copied}" data-seq="{n}" cx="{x:.1f}" cy="{y:.1f}" r="6">'
        "<title>{said}</title></circle>"
    ).format(
        tone=each.tone,
        faint=faint,
        copied=" copied" if each.copied else "",
        n=each.number,
        x=_LEFT + _ACROSS * each.at_ms / last_ms,
        y=_ROW * each.lane + _ROW / 2,
        said=printable(each.said),
    )
